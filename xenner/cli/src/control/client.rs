//! The commands' side of the control socket.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::de::DeserializeOwned;

use super::{Answer, Attached, Command, MAX_LINE, Outcome, Request, VERSION};
use crate::rundir::{Base, CONTROL};
use crate::status::{Failure, Status};

/// How long a domain may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing of that name runs.
    #[error("No domain named \"{name}\" runs; xenner list shows those that do")]
    NoSuchDomain {
        /// The name.
        name: String,
    },
    /// The domain does not answer.
    #[error("Domain \"{name}\" does not answer ({source}); if that stays so, end its process{pid}")]
    Silent {
        /// The name.
        name: String,
        /// " with: kill -9 N", where the process is known.
        pid: String,
        /// What happened.
        source: io::Error,
    },
    /// The domain answers something strange.
    #[error(
        "Domain \"{name}\" answered something unintelligible ({source}); use the xenner that started it"
    )]
    Garbled {
        /// The name.
        name: String,
        /// What was wrong.
        source: serde_json::Error,
    },
    /// The domain refused.
    #[error("{0}")]
    Refused(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let status = match error {
            ClientError::NoSuchDomain { .. } => Status::NoSuchDomain,
            _ => Status::Control,
        };
        Failure::new(status, error.to_string())
    }
}

/// A connection to a running domain.
pub struct Connection {
    name: String,
    pid: String,
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to domain `name`.
    pub fn open(base: &Base, name: &str) -> Result<Connection, ClientError> {
        Connection::open_within(base, name, PATIENCE)
    }

    /// As [`Connection::open`], waiting at most `patience` for a place.
    pub fn open_within(
        base: &Base,
        name: &str,
        patience: Duration,
    ) -> Result<Connection, ClientError> {
        let no_such = || ClientError::NoSuchDomain {
            name: name.to_owned(),
        };
        if crate::spec::check_name(name).is_err() {
            return Err(no_such());
        }
        let dir = base.of(name);
        let pid = std::fs::read_to_string(dir.join(crate::rundir::PID)).unwrap_or_default();
        let pid = match pid.trim().parse::<u32>() {
            Ok(pid) => format!(" with: kill -9 {pid}"),
            Err(_) => String::new(),
        };
        match connect_in_time(&dir.join(CONTROL), patience) {
            Ok(stream) => Ok(Connection {
                name: name.to_owned(),
                pid,
                stream: BufReader::new(stream),
            }),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Err(no_such()),
                _ => Err(ClientError::Silent {
                    name: name.to_owned(),
                    pid,
                    source: error,
                }),
            },
        }
    }

    /// Sends `command` with descriptors and takes the answer, waiting at most `patience` for it (`None`: for ever).
    pub fn call<T: DeserializeOwned>(
        &mut self,
        command: Command,
        fds: &[OwnedFd],
        patience: Option<Duration>,
    ) -> Result<T, ClientError> {
        let line = self
            .exchange(command, fds, patience)
            .map_err(|source| self.silent(source))?;
        let garbled = |source| ClientError::Garbled {
            name: self.name.clone(),
            source,
        };
        let answer: Answer = serde_json::from_slice(&line).map_err(garbled)?;
        match answer.outcome {
            Outcome::Result(value) => serde_json::from_value(value).map_err(garbled),
            Outcome::Error(message) => Err(ClientError::Refused(message)),
        }
    }

    /// Sends `command` and takes the answer, which carries nothing.
    pub fn tell(&mut self, command: Command) -> Result<(), ClientError> {
        self.call::<serde_json::Value>(command, &[], Some(PATIENCE))
            .map(drop)
    }

    /// Waits at most `patience` until the domain's process is gone: the kernel closes its end when it
    /// has taken the memory away. For one that has answered [`Command::Wait`].
    ///
    /// # Errors
    /// It is still there.
    pub fn gone(mut self, patience: Duration) -> Result<(), ClientError> {
        let stream = self.stream.get_ref();
        let mut rest = Vec::new();
        let read = stream
            .set_read_timeout(Some(patience))
            .and_then(|()| (&mut self.stream).take(1).read_to_end(&mut rest));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.silent(error)),
            // However it hung up.
            _ => Ok(()),
        }
    }

    /// Turns the connection into a console: what arrived already, and the stream.
    pub fn attach(
        mut self,
        keyboard: bool,
    ) -> Result<(Attached, Vec<u8>, UnixStream), ClientError> {
        let attached = self.call(Command::Console { keyboard }, &[], Some(PATIENCE))?;
        let early = self.stream.buffer().to_vec();
        let stream = self.stream.into_inner();
        let _ = stream.set_read_timeout(None);
        Ok((attached, early, stream))
    }

    fn silent(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "timed out"),
            _ => source,
        };
        ClientError::Silent {
            name: self.name.clone(),
            pid: self.pid.clone(),
            source,
        }
    }

    fn exchange(
        &mut self,
        command: Command,
        fds: &[OwnedFd],
        patience: Option<Duration>,
    ) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Request {
            version: VERSION,
            command,
        })?;
        line.push(b'\n');
        let mut sent = 0;
        if !fds.is_empty() {
            let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&fds)];
            let socket = self.stream.get_ref().as_raw_fd();
            let slices = [IoSlice::new(&line)];
            sent = sendmsg::<()>(socket, &slices, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        }
        self.stream.get_mut().write_all(&line[sent..])?;
        self.stream.get_ref().set_read_timeout(patience)?;
        let mut answer = Vec::new();
        (&mut self.stream)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut answer)?;
        match answer.last() {
            Some(b'\n') => Ok(answer),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
        }
    }
}

/// Connects with a time limit: a domain that is stuck leaves its queue of connections full.
fn connect_in_time(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let patience = TimeVal::milliseconds(patience.as_millis() as i64);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}
