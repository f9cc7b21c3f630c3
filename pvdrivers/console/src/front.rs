//! The console's front end.

use core::fmt;

use pv_ring::{ByteRing, Consumer, EventChannel, Producer, SharedPage, WaitChannel};

use crate::ConsoleError;

/// The guest's half of a console. With a channel that can wait it is a [`fmt::Write`].
#[derive(Debug)]
pub struct ConsoleFront<P, E> {
    out: Producer<P>,
    input: Consumer<P>,
    channel: E,
}

impl<P: SharedPage + Clone, E: EventChannel> ConsoleFront<P, E> {
    /// Takes over the front end's half: `start_info`'s `console_mfn` and `console_evtchn`.
    ///
    /// # Errors
    /// [`ConsoleError::Ring`] when the page is too small.
    pub fn attach(page: P, channel: E) -> Result<Self, ConsoleError> {
        Ok(Self {
            out: Producer::attach(page.clone(), ByteRing::CONSOLE_OUT)?,
            input: Consumer::attach(page, ByteRing::CONSOLE_IN)?,
            channel,
        })
    }

    /// Prints as much as fits the ring; the number of bytes.
    ///
    /// # Errors
    /// The back end's indices are out of bounds, or it cannot be notified.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        let n = self.out.write(bytes)?;
        self.notify_if(n)?;
        Ok(n)
    }

    /// Takes input that waits; the number of bytes, 0 for none.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, ConsoleError> {
        let n = self.input.read(to)?;
        self.notify_if(n)?;
        Ok(n)
    }

    fn notify_if(&self, moved: usize) -> Result<(), ConsoleError> {
        if moved > 0 {
            self.channel.notify()?;
        }
        Ok(())
    }
}

impl<P: SharedPage + Clone, E: WaitChannel> ConsoleFront<P, E> {
    /// Prints everything, waiting for space where needed.
    ///
    /// # Errors
    /// As [`write`](Self::write); or the channel cannot wait.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), ConsoleError> {
        loop {
            let n = self.write(bytes)?;
            bytes = &bytes[n..];
            if bytes.is_empty() {
                return Ok(());
            }
            if n == 0 {
                self.channel.wait()?;
            }
        }
    }

    /// Waits for input and takes it; the number of bytes, 0 only for an empty buffer.
    ///
    /// # Errors
    /// As [`read`](Self::read); or the channel cannot wait.
    pub fn read_wait(&mut self, to: &mut [u8]) -> Result<usize, ConsoleError> {
        loop {
            let n = self.read(to)?;
            if n > 0 || to.is_empty() {
                return Ok(n);
            }
            self.channel.wait()?;
        }
    }

    /// Waits until the back end has taken everything, as before a shutdown.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub fn flush(&mut self) -> Result<(), ConsoleError> {
        while self.out.space()? < ByteRing::CONSOLE_OUT.size() as usize {
            self.channel.wait()?;
        }
        Ok(())
    }
}

impl<P: SharedPage + Clone, E: WaitChannel> fmt::Write for ConsoleFront<P, E> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::vec;

    use pv_ring::WordPage;
    use xen_sys::errno::Errno;

    use super::*;
    use crate::{ConsoleBack, ConsoleStats};

    /// One end of an event channel between two threads.
    struct End {
        to: Sender<()>,
        from: Mutex<Receiver<()>>,
    }

    impl EventChannel for End {
        fn notify(&self) -> Result<(), Errno> {
            // A far end that is gone is no error here.
            let _ = self.to.send(());
            Ok(())
        }
    }

    impl WaitChannel for End {
        fn wait(&self) -> Result<(), Errno> {
            self.from
                .lock()
                .unwrap()
                .recv()
                .map_err(|_| Errno::ENOTCONN)
        }
    }

    fn pair() -> (End, End) {
        let (a, at_b) = channel();
        let (b, at_a) = channel();
        (
            End {
                to: a,
                from: Mutex::new(at_a),
            },
            End {
                to: b,
                from: Mutex::new(at_b),
            },
        )
    }

    #[test]
    fn long_output_waits_for_the_back_end() {
        let page = WordPage::new();
        let stats = ConsoleStats::new();
        let (host, guest) = pair();
        let mut back = ConsoleBack::attach(&page, &host, &stats).unwrap();
        let mut printed = vec![];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut front = ConsoleFront::attach(&page, guest).unwrap();
                for n in 0..5000 {
                    writeln!(front, "{n}").unwrap();
                }
                front.write_all(b"end").unwrap();
                front.flush().unwrap();
            });
            while !printed.ends_with(b"end") {
                host.wait().unwrap();
                back.drain(|bytes| {
                    printed.extend_from_slice(bytes);
                    bytes.len()
                })
                .unwrap();
            }
        });
        let text = std::string::String::from_utf8(printed).unwrap();
        assert!(
            text.lines()
                .take(5000)
                .enumerate()
                .all(|(n, line)| line.parse() == Ok(n))
        );
        assert_eq!(stats.counts().out_bytes, text.len() as u64);
    }

    #[test]
    fn input_is_waited_for() {
        let page = WordPage::new();
        let stats = ConsoleStats::new();
        let (host, guest) = pair();
        let mut back = ConsoleBack::attach(&page, &host, &stats).unwrap();
        let mut front = ConsoleFront::attach(&page, guest).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut to = [0; 8];
                let n = front.read_wait(&mut to).unwrap();
                to[..n].to_vec()
            });
            back.feed(b"hi").unwrap();
            assert_eq!(reader.join().unwrap(), b"hi");
        });
    }
}
