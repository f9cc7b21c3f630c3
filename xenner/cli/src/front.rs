//! The two processes of `xenner run` and what they say to each other.
//!
//! The process the user started stays in the foreground: it owns the terminal, relays the console
//! and waits. Its child is the domain. So the terminal is restored whatever becomes of the domain,
//! and leaving the console with Ctrl-] leaves the domain running. If the foreground process dies
//! without having left, the domain sees the connection close and ends too.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::crash::CrashReport;
use crate::machine::Stats;
use crate::status::Status;

/// What the domain says to the foreground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The domain runs.
    Ready {
        /// Where its console is.
        console: String,
    },
    /// Something the user should read.
    Notice(String),
    /// The guest crashed.
    Crashed {
        /// The domain's name.
        name: String,
        /// Why and where.
        report: Box<CrashReport>,
    },
    /// The machine has stopped: its counters then. A restart begins anew.
    Ended(Box<Stats>),
    /// The domain is gone.
    Finished {
        /// How, as an exit status.
        status: Status,
        /// What to print, if anything.
        message: Option<String>,
    },
}

/// What the foreground says to the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A signal to end arrived. The first asks the guest, the second insists.
    Stop,
    /// The foreground leaves; go on without it.
    Detach,
}

/// One end of the connection between the two.
pub struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Both ends.
    pub fn pair() -> io::Result<(Line, Line)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Line::on(one)?, Line::on(other)?))
    }

    fn on(stream: UnixStream) -> io::Result<Line> {
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Line {
            stream: BufReader::new(stream),
        })
    }

    /// Another handle to send with.
    pub fn sender(&self) -> io::Result<Sender> {
        Ok(Sender(self.stream.get_ref().try_clone()?))
    }

    /// The next message; `None` when the other end is gone.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(count) if count > 0 => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// Whether a message was read ahead, so that the descriptor need not be readable.
    pub fn has_more(&self) -> bool {
        !self.stream.buffer().is_empty()
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

/// The sending half of a [`Line`].
pub struct Sender(UnixStream);

impl Sender {
    /// Another handle to the same line.
    pub fn try_clone(&self) -> io::Result<Sender> {
        self.0.try_clone().map(Sender)
    }

    /// Sends a message. If the other end is gone or stuck, it is lost: nobody is there to read it.
    pub fn send(&self, message: &impl Serialize) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = (&self.0).write_all(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_the_end_is_seen() {
        let (mut front, domain) = Line::pair().unwrap();
        let sender = domain.sender().unwrap();
        drop(domain);
        sender.send(&Event::Notice("a\nb".into()));
        sender.send(&Event::Finished {
            status: Status::GuestCrashed,
            message: None,
        });
        drop(sender);
        assert_eq!(front.receive(), Some(Event::Notice("a\nb".into())));
        assert!(front.has_more());
        let last = Event::Finished {
            status: Status::GuestCrashed,
            message: None,
        };
        assert_eq!(front.receive(), Some(last));
        assert_eq!(front.receive::<Event>(), None);
    }
}
