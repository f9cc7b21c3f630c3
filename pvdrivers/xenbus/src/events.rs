/// A watch that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The node that changed, relative if the watch was.
    pub path: &'a [u8],
    /// The watch's token.
    pub token: &'a [u8],
}

impl<'a> Event<'a> {
    /// From the payload of `XS_WATCH_EVENT`: path and token, each NUL terminated.
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut parts = payload.split(|byte| *byte == 0);
        Some(Self {
            path: parts.next()?,
            token: parts.next()?,
        })
    }
}

/// Room for waiting events.
const ROOM: usize = 4096;

/// Events that arrived while a reply was awaited: payloads, each behind its length.
#[derive(Debug)]
pub(crate) struct Events {
    bytes: [u8; ROOM],
    start: usize,
    end: usize,
    lost: u64,
}

impl Events {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; ROOM],
            start: 0,
            end: 0,
            lost: 0,
        }
    }

    /// Keeps an event, or counts it as lost when there is no room.
    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match self.bytes[self.end..].get_mut(..2 + payload.len()) {
            Some(room) => {
                let (len, to) = room.split_at_mut(2);
                // At most ROOM.
                len.copy_from_slice(&(payload.len() as u16).to_ne_bytes());
                to.copy_from_slice(payload);
                self.end += 2 + payload.len();
            }
            None => self.lost += 1,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the oldest event.
    pub(crate) fn pop(&mut self) -> Option<Event<'_>> {
        let (len, rest) = self.bytes[self.start..self.end].split_first_chunk::<2>()?;
        let len = u16::from_ne_bytes(*len) as usize;
        self.start += 2 + len;
        Event::parse(rest.get(..len)?)
    }

    /// Events for which there was no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_until_the_room_is_used_up() {
        let mut events = Events::new();
        for n in 0..1000 {
            events.push(&[(n % 250) as u8 + 1, 0, b't', 0]);
        }
        let fit = ROOM / 6;
        assert_eq!(events.lost(), 1000 - fit as u64);
        for n in 0..fit {
            let path = [(n % 250) as u8 + 1];
            assert_eq!(
                events.pop(),
                Some(Event {
                    path: &path,
                    token: b"t"
                })
            );
        }
        assert!(events.is_empty() && events.pop().is_none());
        events.push(b"@releaseDomain\0x\0");
        assert_eq!(events.pop().unwrap().path, b"@releaseDomain");
    }

    #[test]
    fn an_event_without_token_is_dropped() {
        let mut events = Events::new();
        events.push(b"path");
        assert_eq!(events.pop(), None);
        assert!(events.is_empty());
    }
}
