//! Between the user's terminal and a domain's console: what `xenner run` and `xenner console` do
//! in the foreground.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use super::term::RawMode;
use crate::console::INPUT;

/// Ctrl-], the key that leaves the console.
pub const ESCAPE: u8 = 0x1d;

/// What ended a turn of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Bytes were moved; go on.
    Moved,
    /// The user pressed Ctrl-].
    Left,
    /// The domain closed the console.
    Closed,
    /// The user's terminal or output is gone.
    Lost,
    /// The watched descriptor of that index is readable.
    Watched(usize),
}

/// The relay.
pub struct Relay {
    socket: Option<OwnedFd>,
    keyboard: bool,
    raw: Option<RawMode>,
    /// Typed, but not yet taken by the domain.
    pending: Vec<u8>,
}

impl Relay {
    /// Between standard input and output and the console behind `socket`, a socket or a pty. A terminal
    /// goes into raw mode. Without a socket the relay only watches.
    pub fn new(socket: Option<OwnedFd>) -> io::Result<Relay> {
        if let Some(socket) = &socket {
            let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
            fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        let stdin = io::stdin();
        let raw = match socket.is_some() && stdin.is_terminal() {
            true => Some(RawMode::enter(&stdin)?),
            false => None,
        };
        Ok(Relay {
            keyboard: socket.is_some(),
            socket,
            raw,
            pending: Vec::new(),
        })
    }

    /// Whether the domain may still send something.
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the terminal is in raw mode, so that lines need a carriage return.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Stops the process until the user continues it, with the terminal as the user had it
    /// meanwhile.
    pub fn stop_process(&self) -> io::Result<()> {
        let stop = || {
            // A signal to itself can't fail.
            let _ = raise(Signal::SIGSTOP);
        };
        match &self.raw {
            Some(raw) => raw.suspended(stop),
            None => {
                stop();
                Ok(())
            }
        }
    }

    /// Says something to the user without disturbing the console.
    pub fn say(&self, text: &str) {
        let end = if self.is_raw() { "\r\n" } else { "\n" };
        let mut line = String::new();
        for part in text.lines() {
            line.push_str(part);
            line.push_str(end);
        }
        // The user's terminal may be gone; then there is nobody to tell.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Waits until something can be done, and does it.
    pub fn turn(&mut self, watched: &[BorrowedFd<'_>]) -> io::Result<Turn> {
        let stdin = io::stdin();
        // Keys that can't be delivered are thrown away, so that Ctrl-] is always seen; what comes
        // from a pipe waits.
        let listen = self.keyboard && (self.raw.is_some() || self.pending.len() < INPUT);
        let mut fds: Vec<_> = watched
            .iter()
            .map(|&fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let socket_at = self.socket.as_ref().map(|socket| {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !self.pending.is_empty());
            fds.push(PollFd::new(socket.as_fd(), flags));
            fds.len() - 1
        });
        let stdin_at = listen.then(|| {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(Turn::Moved),
            other => other?,
        };
        let events = |at: usize| fds[at].revents().unwrap_or(PollFlags::empty());
        let is_watched = (0..watched.len()).find(|&at| !events(at).is_empty());
        let socket_events = socket_at.map_or(PollFlags::empty(), events);
        let stdin_ready = stdin_at.is_some_and(|at| !events(at).is_empty());
        drop(fds);

        if socket_events.contains(PollFlags::POLLOUT) {
            self.deliver();
        }
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        if socket_events.intersects(readable) {
            match self.show()? {
                Turn::Moved => {}
                turn => return Ok(turn),
            }
        }
        if stdin_ready {
            match self.type_in(stdin.as_fd())? {
                Turn::Moved => {}
                turn => return Ok(turn),
            }
        }
        Ok(is_watched.map_or(Turn::Moved, Turn::Watched))
    }

    /// Copies what is there of the console's output.
    fn show(&mut self) -> io::Result<Turn> {
        let Some(socket) = &self.socket else {
            return Ok(Turn::Closed);
        };
        let mut buf = [0; 16 << 10];
        let count = match nix::unistd::read(socket, &mut buf) {
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(Turn::Moved),
            Err(_) => 0,
        };
        if count == 0 {
            self.socket = None;
            self.keyboard = false;
            return Ok(Turn::Closed);
        }
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(&buf[..count])
            .and_then(|()| stdout.flush())
        {
            Ok(()) => Ok(Turn::Moved),
            Err(_) => Ok(Turn::Lost),
        }
    }

    /// Takes what was typed.
    fn type_in(&mut self, stdin: BorrowedFd<'_>) -> io::Result<Turn> {
        let mut buf = [0; 1024];
        let count = match nix::unistd::read(stdin, &mut buf) {
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(Turn::Moved),
            Err(_) => 0,
        };
        if count == 0 {
            self.keyboard = false;
            // A terminal does not end, it goes away; a file or pipe simply has no more.
            return Ok(if self.raw.is_some() {
                Turn::Lost
            } else {
                Turn::Moved
            });
        }
        let typed = &buf[..count];
        let escape = typed
            .iter()
            .position(|&byte| byte == ESCAPE && self.raw.is_some());
        let wanted = &typed[..escape.unwrap_or(count)];
        if self.pending.len() + wanted.len() <= INPUT + buf.len() {
            self.pending.extend(wanted);
        }
        self.deliver();
        Ok(if escape.is_some() {
            Turn::Left
        } else {
            Turn::Moved
        })
    }

    /// Hands over what was typed, as far as the domain takes it now.
    fn deliver(&mut self) {
        let Some(socket) = &self.socket else { return };
        // An error other than "full" shows when reading.
        if let Ok(count) = nix::unistd::write(socket, &self.pending) {
            self.pending.drain(..count);
        }
    }
}
