//! What waits to be sent on one connection.
//!
//! A peer that does not read costs a bounded amount of memory: its requests
//! are left unread while much waits, an event equal to one still waiting is
//! dropped (a watch says "look again", twice is no more than once), and at a
//! hard limit the connection is given up.

use std::collections::{HashSet, VecDeque};

use super::watches::WatchId;
use crate::path::Path;
use crate::wire::Message;

/// With more bytes than this waiting, the peer's requests wait too.
const THROTTLE: usize = 64 * 1024;
/// With more bytes than this waiting, the connection is closed.
const LIMIT: usize = 8 * 1024 * 1024;

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    /// Which event it is, if it is one.
    event: Option<(WatchId, Path)>,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Waiting>,
    /// Bytes of the first message that are sent already.
    sent: usize,
    /// Bytes of all messages in the queue.
    bytes: usize,
    events: HashSet<(WatchId, Path)>,
    overflowed: bool,
}

impl Output {
    pub fn reply(&mut self, message: &Message) {
        self.push(message, None);
    }

    pub fn event(&mut self, message: &Message, watch: WatchId, path: &Path) {
        let key = (watch, path.clone());
        if self.events.insert(key.clone()) {
            self.push(message, Some(key));
        }
    }

    /// Drops the events of a watch that is no more.
    pub fn forget(&mut self, watch: WatchId) {
        let (mut first, sent) = (true, self.sent);
        self.queue.retain(|waiting| {
            let begun = std::mem::take(&mut first) && sent > 0;
            begun || waiting.event.as_ref().is_none_or(|(id, _)| *id != watch)
        });
        self.events.retain(|(id, _)| *id != watch);
        self.bytes = self.queue.iter().map(|waiting| waiting.bytes.len()).sum();
    }

    /// Drops all waiting events; those begun are finished.
    pub fn forget_events(&mut self) {
        let (mut first, sent) = (true, self.sent);
        self.queue.retain(|waiting| {
            let begun = std::mem::take(&mut first) && sent > 0;
            begun || waiting.event.is_none()
        });
        self.events.clear();
        self.bytes = self.queue.iter().map(|waiting| waiting.bytes.len()).sum();
    }

    /// The bytes to send next; empty when nothing waits.
    pub fn next(&self) -> &[u8] {
        self.queue
            .front()
            .and_then(|first| first.bytes.get(self.sent..))
            .unwrap_or_default()
    }

    /// Notes that `count` of the bytes of [`Output::next`] were sent.
    pub fn consume(&mut self, count: usize) {
        let Some(first) = self.queue.front() else {
            return;
        };
        if let (0, Some(event)) = (self.sent, &first.event) {
            // From now on a new event is news again.
            self.events.remove(event);
        }
        self.sent += count;
        if self.sent >= first.bytes.len() {
            self.bytes -= first.bytes.len();
            self.sent = 0;
            self.queue.pop_front();
        }
    }

    pub fn throttled(&self) -> bool {
        self.bytes > THROTTLE
    }

    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn push(&mut self, message: &Message, event: Option<(WatchId, Path)>) {
        // Replies are cut to size before, events when the watch was set.
        let Ok(bytes) = message.to_bytes() else {
            return;
        };
        self.bytes += bytes.len();
        self.overflowed |= self.bytes > LIMIT;
        self.queue.push_back(Waiting { bytes, event });
    }
}

#[cfg(test)]
impl Output {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
