//! A line to a rig (its console, its control port): everything that comes is
//! kept, and can be awaited by regular expression.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use crate::error::{Error, Result};

/// How much of a console an error shows.
const TAIL_LINES: usize = 30;

#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Received>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line to a rig. A thread reads it to its end.
#[derive(Debug)]
pub struct Channel {
    name: &'static str,
    writer: UnixStream,
    shared: Arc<Shared>,
    /// Output before this offset has been matched already.
    consumed: usize,
}

impl Channel {
    /// Takes over a stream; `name` is how errors call it.
    pub fn new(name: &'static str, stream: UnixStream) -> Result<Self> {
        let socket = Path::new("(socket)");
        let writer = stream.try_clone().map_err(Error::io("duplicate", socket))?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || read_all(stream, &theirs));
        Ok(Self {
            name,
            writer,
            shared,
            consumed: 0,
        })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let socket = Path::new(self.name);
        self.writer
            .write_all(bytes)
            .map_err(Error::io("write to", socket))
    }

    /// Waits until the output not yet matched contains `pattern`; returns the
    /// groups of the match, and what came before it as the first element.
    pub fn expect(&mut self, pattern: &Regex, deadline: Duration) -> Result<Match> {
        self.expect_with(pattern, deadline, &mut |_| {})
    }

    /// Like [`Channel::expect`], and hands over what comes before the match, as
    /// it comes. A part of the pattern may have been handed over already when
    /// the rest of it arrives; of whole lines this never happens.
    pub fn expect_with(
        &mut self,
        pattern: &Regex,
        deadline: Duration,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Match> {
        let end = Instant::now() + deadline;
        let mut handed_over = self.consumed;
        let mut received = self.shared.lock();
        loop {
            let fresh = &received.bytes[self.consumed..];
            if let Some(captures) = pattern.captures(fresh) {
                let found = Match::new(fresh, &captures);
                let from = (handed_over - self.consumed).min(found.before.len());
                sink(&found.before.as_bytes()[from..]);
                self.consumed += captures.get_match().end();
                return Ok(found);
            }
            // The last newline is kept back: a pattern may begin with it.
            let lines = fresh.iter().rposition(|&b| b == b'\n').unwrap_or(0);
            if self.consumed + lines > handed_over {
                sink(&fresh[handed_over - self.consumed..lines]);
                handed_over = self.consumed + lines;
            }
            if received.ended {
                return Err(Error::Ended {
                    status: String::new(),
                    pattern: pattern.to_string(),
                    tail: tail(&received.bytes),
                });
            }
            let now = Instant::now();
            if now >= end {
                return Err(Error::Timeout {
                    channel: self.name,
                    pattern: pattern.to_string(),
                    deadline,
                    tail: tail(&received.bytes),
                });
            }
            received = self
                .shared
                .changed
                .wait_timeout(received, end - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the end of the output.
    pub fn ended(&self, deadline: Duration) -> Result<()> {
        let received = self.shared.lock();
        let (received, timeout) = self
            .shared
            .changed
            .wait_timeout_while(received, deadline, |received| !received.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Error::Timeout {
                channel: self.name,
                pattern: "(end)".into(),
                deadline,
                tail: tail(&received.bytes),
            });
        }
        Ok(())
    }

    /// All that has come so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).into_owned()
    }

    /// The end of what has come so far.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().bytes)
    }
}

/// What [`Channel::expect`] found.
#[derive(Debug, Clone)]
pub struct Match {
    /// The output between the match before and this one.
    pub before: String,
    /// The whole match, then its groups; a group that took no part is empty.
    pub groups: Vec<String>,
}

impl Match {
    fn new(text: &[u8], captures: &regex::bytes::Captures<'_>) -> Self {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            before: lossy(&text[..captures.get_match().start()]),
            groups: captures
                .iter()
                .map(|group| group.map_or_else(String::new, |g| lossy(g.as_bytes())))
                .collect(),
        }
    }
}

fn read_all(mut stream: UnixStream, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(count) => count,
            // A peer that dies resets the stream; for the reader it has ended.
            Err(_) => 0,
        };
        let mut received = shared.lock();
        received.bytes.extend_from_slice(&buffer[..count]);
        received.ended = count == 0;
        shared.changed.notify_all();
        if count == 0 {
            return;
        }
    }
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        (Channel::new("test line", ours).expect("channel"), theirs)
    }

    fn regex(pattern: &str) -> Regex {
        Regex::new(pattern).expect("pattern")
    }

    #[test]
    fn matches_are_consumed_in_order() {
        let (mut channel, mut rig) = pair();
        rig.write_all(b"boot\nport 1\nport 2\n").expect("write");
        let first = channel.expect(&regex(r"port (\d)"), SOON).expect("first");
        assert_eq!(
            (first.before.as_str(), first.groups[1].as_str()),
            ("boot\n", "1")
        );
        let second = channel.expect(&regex(r"port (\d)"), SOON).expect("second");
        assert_eq!(second.groups[1], "2");
    }

    #[test]
    fn a_missed_deadline_shows_the_tail() {
        let (mut channel, mut rig) = pair();
        rig.write_all(b"something else\n").expect("write");
        channel.expect(&regex("something"), SOON).expect("arrived");
        let error = channel
            .expect(&regex("login:"), Duration::from_millis(1))
            .expect_err("no login");
        let message = error.to_string();
        assert!(
            message.contains("login:") && message.contains("something else"),
            "{message}"
        );
    }

    #[test]
    fn an_end_is_not_waited_out() {
        let (mut channel, rig) = pair();
        drop(rig);
        let error = channel
            .expect(&regex("x"), Duration::from_secs(3600))
            .expect_err("ended");
        assert!(matches!(error, Error::Ended { .. }));
    }

    #[test]
    fn output_is_handed_over_once() {
        let (mut channel, mut rig) = pair();
        rig.write_all(b"one\ntwo\nDONE 0\n").expect("write");
        let mut seen = Vec::new();
        channel
            .expect_with(&regex(r"DONE (\d+)\n"), SOON, &mut |part| {
                seen.extend_from_slice(part)
            })
            .expect("done");
        assert_eq!(seen, b"one\ntwo\n");
    }
}
