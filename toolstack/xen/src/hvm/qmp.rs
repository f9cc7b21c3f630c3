//! The device model's monitor (QMP): JSON objects, a greeting first, then an answer to each command.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// A longer line is no answer.
const MAX_LINE: u64 = 1 << 20;

/// Why the monitor was of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// The connection's.
    #[error("The device model's monitor does not answer")]
    Io(#[from] io::Error),
    /// It has ended.
    #[error("The device model has ended")]
    Gone,
    /// It says no.
    #[error("The device model refuses {command}: {reason}")]
    Refused { command: String, reason: String },
    /// It says what makes no sense.
    #[error("The device model's monitor does not speak QMP: {0}")]
    Nonsense(String),
}

/// What a new device model tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Terminals of serial lines, by their numbers.
    pub serial: Vec<(u32, String)>,
    /// Address and port of VNC.
    pub vnc: Option<(String, String)>,
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
    deadline: Instant,
}

impl Monitor {
    /// Connects, and waits for the greeting. Everything must be done within `limit`.
    pub(crate) fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(path)?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
            deadline: Instant::now() + limit,
        };
        let greeting = monitor.next()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Nonsense(greeting.to_string()));
        }
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// The next object.
    fn next(&mut self) -> Result<Value, QmpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        let mut line = String::new();
        let read = io::Read::take(&mut self.stream, MAX_LINE).read_line(&mut line);
        match read {
            Ok(0) => Err(QmpError::Gone),
            Ok(_) => {
                serde_json::from_str(&line).map_err(|_| QmpError::Nonsense(line.trim().to_owned()))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Err(QmpError::Gone),
                io::ErrorKind::WouldBlock => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                _ => Err(error.into()),
            },
        }
    }

    /// Carries a command out; its answer. Events on the way are nobody's business here.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None)
    }

    fn send(
        &mut self,
        command: &str,
        arguments: Value,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut text = json!({"execute": command, "arguments": arguments}).to_string();
        text.push('\n');
        let mut stream = self.stream.get_ref();
        let mut rest = text.as_bytes();
        if let Some(file) = file {
            let files = [file.as_raw_fd()];
            let parcel = [ControlMessage::ScmRights(&files)];
            let bytes = [IoSlice::new(rest)];
            let socket = stream.as_raw_fd();
            let sent = sendmsg::<()>(socket, &bytes, &parcel, MsgFlags::MSG_NOSIGNAL, None)
                .map_err(io::Error::from)?;
            rest = &rest[sent..];
        }
        stream.write_all(rest)?;
        loop {
            let mut answer = self.next()?;
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    reason: error["desc"].as_str().unwrap_or("no reason").to_owned(),
                });
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// What is told of serial lines and VNC.
    pub(crate) fn told(&mut self, vnc: bool) -> Result<Told, QmpError> {
        let lines = self.execute("query-chardev", json!({}))?;
        let mut told = Told {
            serial: lines
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(serial)
                .collect(),
            vnc: None,
        };
        if vnc {
            let server = self.execute("query-vnc", json!({}))?;
            let text = |name: &str| server[name].as_str().map(str::to_owned);
            told.vnc = text("host").zip(text("service"));
        }
        Ok(told)
    }

    /// Puts a medium into a CD-ROM drive. It is opened here: the device model may have no right to.
    pub(crate) fn insert(
        &mut self,
        drive: &str,
        file: BorrowedFd<'_>,
        format: &str,
    ) -> Result<(), QmpError> {
        let added = self.send("add-fd", json!({}), Some(file))?;
        let set = added["fdset-id"].as_i64();
        let set = set.ok_or_else(|| QmpError::Nonsense(added.to_string()))?;
        let changed = self.execute(
            "blockdev-change-medium",
            json!({
                "id": drive,
                "filename": format!("/dev/fdset/{set}"),
                "format": format,
                "read-only-mode": "read-only",
                "force": true,
            }),
        );
        // The drive has a copy of its own; what it does not need goes.
        let _ = self.execute("remove-fd", json!({ "fdset-id": set }));
        changed.map(drop)
    }

    /// Takes the medium out.
    pub(crate) fn eject(&mut self, drive: &str) -> Result<(), QmpError> {
        self.execute("eject", json!({"id": drive, "force": true}))
            .map(drop)
    }
}

/// A serial line on a terminal.
fn serial(line: &Value) -> Option<(u32, String)> {
    let place = line["label"].as_str()?.strip_prefix("serial")?;
    let tty = line["filename"].as_str()?.strip_prefix("pty:")?;
    Some((place.parse().ok()?, tty.to_owned()))
}

#[cfg(test)]
#[path = "qmp_test.rs"]
mod tests;
