//! One console, many readers, one writer.
//!
//! The guest's output goes into a bounded history that every reader follows at its own pace: a
//! reader that falls behind by more than the history loses bytes and is told how many. Nothing a
//! reader does or fails to do makes [`Console::output`] wait, so no client can stall the domain.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// How much output is kept for readers, in bytes.
pub const HISTORY: usize = 4 << 20;
/// How much output a reader that attaches late is shown, in bytes.
pub const REPLAY: usize = 4096;
/// How much input waits for the guest, in bytes.
pub const INPUT: usize = 64 << 10;

/// A console.
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
    input_ready: EventFd,
}

struct State {
    output: VecDeque<u8>,
    /// Position in the whole stream just behind the last byte of `output`.
    end: u64,
    input: VecDeque<u8>,
    writer_taken: bool,
    closed: bool,
}

/// What a reader got.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// That many bytes of output.
    Data(usize),
    /// The reader was too slow: that many bytes are gone.
    Lost(u64),
    /// Nothing came in time.
    Idle,
    /// The console is closed and everything was read.
    Closed,
}

impl Console {
    /// A console nobody uses yet.
    pub fn new() -> std::io::Result<Arc<Console>> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Arc::new(Console {
            state: Mutex::new(State {
                output: VecDeque::new(),
                end: 0,
                input: VecDeque::new(),
                writer_taken: false,
                closed: false,
            }),
            changed: Condvar::new(),
            input_ready: EventFd::from_value_and_flags(0, flags)?,
        }))
    }

    /// A panic elsewhere leaves the byte queues whole, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes output of the guest. Never waits.
    pub fn output(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let kept = &bytes[bytes.len().saturating_sub(HISTORY)..];
        let excess = (state.output.len() + kept.len()).saturating_sub(HISTORY);
        state.output.drain(..excess);
        state.output.extend(kept);
        state.end += bytes.len() as u64;
        self.changed.notify_all();
    }

    /// Gives input to the guest: fills `buf` with what waits and says how much that was. Never
    /// waits.
    pub fn input(&self, buf: &mut [u8]) -> usize {
        let mut state = self.lock();
        let count = buf.len().min(state.input.len());
        for (slot, byte) in buf.iter_mut().zip(state.input.drain(..count)) {
            *slot = byte;
        }
        if state.input.is_empty() {
            // Fails only if it was not signalled.
            let _ = self.input_ready.read();
        }
        self.changed.notify_all();
        count
    }

    /// Readable while input waits, for an event loop.
    pub fn input_fd(&self) -> BorrowedFd<'_> {
        self.input_ready.as_fd()
    }

    /// Says that no more output will come: readers see [`Chunk::Closed`] once they have read
    /// everything, writers fail.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// A reader that begins at most `replay` bytes before now.
    pub fn reader(self: &Arc<Console>, replay: usize) -> Reader {
        let state = self.lock();
        let back = replay.min(state.output.len()) as u64;
        Reader {
            console: self.clone(),
            position: state.end - back,
        }
    }

    /// Takes the keyboard; `None` while somebody else has it. Dropping the writer gives it back.
    pub fn writer(self: &Arc<Console>) -> Option<Writer> {
        self.writer_within(Duration::ZERO)
    }

    /// As [`Console::writer`], waiting a while for somebody who is just leaving.
    pub fn writer_within(self: &Arc<Console>, patience: Duration) -> Option<Writer> {
        let state = self.lock();
        let taken = |state: &mut State| state.writer_taken && !state.closed;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, patience, taken)
            .unwrap_or_else(PoisonError::into_inner);
        if state.writer_taken {
            return None;
        }
        state.writer_taken = true;
        Some(Writer {
            console: self.clone(),
        })
    }
}

/// One follower of the output.
pub struct Reader {
    console: Arc<Console>,
    position: u64,
}

impl Reader {
    /// Waits up to `patience` for output and copies it to `buf`.
    pub fn read(&mut self, buf: &mut [u8], patience: Duration) -> Chunk {
        let deadline = Instant::now() + patience;
        let mut state = self.console.lock();
        while self.position == state.end && !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Chunk::Idle;
            };
            (state, _) = self
                .console
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if self.position == state.end {
            return Chunk::Closed;
        }
        let start = state.end - state.output.len() as u64;
        if self.position < start {
            let lost = start - self.position;
            self.position = start;
            return Chunk::Lost(lost);
        }
        let skip = (self.position - start) as usize;
        let count = buf.len().min(state.output.len() - skip);
        for (slot, byte) in buf.iter_mut().zip(state.output.range(skip..skip + count)) {
            *slot = *byte;
        }
        self.position += count as u64;
        Chunk::Data(count)
    }
}

/// The keyboard.
pub struct Writer {
    console: Arc<Console>,
}

impl Writer {
    /// Hands `bytes` to the guest, waiting while its queue is full. False once the console is
    /// closed.
    pub fn write(&self, mut bytes: &[u8]) -> bool {
        let mut state = self.console.lock();
        while !bytes.is_empty() {
            if state.closed {
                return false;
            }
            let count = bytes.len().min(INPUT - state.input.len());
            let (now, later) = bytes.split_at(count);
            if count > 0 {
                state.input.extend(now);
                // Fails only if the counter would overflow, and then it is signalled anyway.
                let _ = self.console.input_ready.write(1);
                bytes = later;
                continue;
            }
            state = self
                .console
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.console.lock().writer_taken = false;
        self.console.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn read(reader: &mut Reader) -> Vec<u8> {
        let mut buf = [0; 16];
        match reader.read(&mut buf, NOW) {
            Chunk::Data(count) => buf[..count].to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn several_readers_each_at_its_pace() {
        let console = Console::new().unwrap();
        console.output(b"boot ");
        let mut early = console.reader(REPLAY);
        let mut late = console.reader(2);
        assert_eq!(read(&mut early), b"boot ");
        console.output(b"ok");
        assert_eq!(read(&mut early), b"ok");
        assert_eq!(read(&mut late), b"t ok");
        assert_eq!(late.read(&mut [0; 4], NOW), Chunk::Idle);
        console.close();
        assert_eq!(late.read(&mut [0; 4], NOW), Chunk::Closed);
    }

    #[test]
    fn a_slow_reader_loses_bytes_and_learns_how_many() {
        let console = Console::new().unwrap();
        let mut reader = console.reader(0);
        console.output(&vec![b'x'; HISTORY]);
        console.output(b"abc");
        assert_eq!(reader.read(&mut [0; 4], NOW), Chunk::Lost(3));
        console.output(&vec![b'y'; 2 * HISTORY + 1]);
        assert_eq!(
            reader.read(&mut [0; 4], NOW),
            Chunk::Lost(2 * HISTORY as u64 + 1)
        );
        assert_eq!(read(&mut reader), [b'y'; 16]);
        assert_eq!(console.lock().output.len(), HISTORY);
    }

    #[test]
    fn one_writer_at_a_time() {
        let console = Console::new().unwrap();
        let writer = console.writer().unwrap();
        assert!(console.writer().is_none());
        assert!(writer.write(b"hello"));
        let mut buf = [0; 3];
        assert_eq!(console.input(&mut buf), 3);
        assert_eq!(&buf, b"hel");
        assert!(readable(&console), "two bytes still wait");
        assert_eq!(console.input(&mut buf), 2);
        assert!(!readable(&console));
        let leaver = std::thread::spawn(move || drop(writer));
        let writer = console.writer_within(Duration::from_secs(30)).unwrap();
        leaver.join().unwrap();
        console.close();
        assert!(!writer.write(b"x"));
    }

    #[test]
    fn a_writer_waits_for_the_guest_and_is_released_by_close() {
        let console = Console::new().unwrap();
        let writer = console.writer().unwrap();
        assert!(writer.write(&vec![b'k'; INPUT]));
        let thread =
            std::thread::spawn(move || (writer.write(b"1"), writer.write(&[0; 3 * INPUT])));
        let mut buf = vec![0; INPUT];
        let mut got = 0;
        while got < INPUT + 1 {
            got += console.input(&mut buf);
            std::thread::yield_now();
        }
        console.close();
        assert_eq!(thread.join().unwrap(), (true, false));
    }

    fn readable(console: &Console) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(console.input_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }
}
