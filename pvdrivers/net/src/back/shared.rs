//! What a card's queues share, and what changes while they run.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::credit::Credit;
use super::nodes::Rate;
use crate::extra::MacAddr;

/// Multicast addresses a guest can ask for (`XEN_NETBK_MCAST_MAX`).
pub(super) const MAX_MULTICAST: usize = 64;

/// A card's queues' common state.
#[derive(Debug)]
pub(super) struct Shared {
    stop: AtomicBool,
    /// One for each queue: it is to look at what has changed here.
    news: Vec<EventFd>,
    link_down: AtomicBool,
    limited: AtomicBool,
    credit: Mutex<(Option<Rate>, Option<Credit>)>,
    multicast_control: AtomicBool,
    multicast: Mutex<BTreeSet<MacAddr>>,
    /// Only frames from this address are sent.
    pub source: Option<MacAddr>,
    /// Only frames to this address, to all and to groups are received.
    pub destination: Option<MacAddr>,
}

impl Shared {
    /// For so many queues.
    pub fn new(
        queues: usize,
        source: Option<MacAddr>,
        destination: Option<MacAddr>,
    ) -> io::Result<Self> {
        let event = |_| EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let news: nix::Result<_> = (0..queues).map(event).collect();
        Ok(Self {
            stop: AtomicBool::new(false),
            news: news?,
            link_down: AtomicBool::new(false),
            limited: AtomicBool::new(false),
            credit: Mutex::new((None, None)),
            multicast_control: AtomicBool::new(false),
            multicast: Mutex::default(),
            source,
            destination,
        })
    }

    /// Ends all queues.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.tell();
    }

    /// Wakes all queues. Each reads its own event only, so none takes another's.
    fn tell(&self) {
        for event in &self.news {
            // It can only be full, and then it is readable.
            let _ = event.write(1);
        }
    }

    /// Whether the queues are to end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Readable when a queue is to look: at the end, or at another rate limit.
    pub fn news(&self, queue: usize) -> BorrowedFd<'_> {
        self.news[queue].as_fd()
    }

    /// A queue looks.
    pub fn heard(&self, queue: usize) {
        // An error says that there was nothing new.
        let _ = self.news[queue].read();
    }

    pub fn set_link_down(&self, down: bool) {
        self.link_down.store(down, Ordering::Relaxed);
    }

    pub fn link_down(&self) -> bool {
        self.link_down.load(Ordering::Relaxed)
    }

    /// Another rate limit. One that stays the same keeps its credit.
    pub fn set_rate(&self, rate: Option<Rate>) {
        let mut credit = self.credit.lock().expect("no panic inside");
        if credit.0 == rate {
            return;
        }
        let new = rate.map(|rate| Credit::new(rate, Instant::now()));
        let (before, _) = std::mem::replace(&mut *credit, (rate, new));
        drop(credit);
        self.limited.store(rate.is_some(), Ordering::Relaxed);
        if before.is_some() {
            // A queue may wait for credit by the old limit.
            self.tell();
        }
    }

    /// Takes credit for a packet.
    ///
    /// # Errors
    /// There is not enough before that time.
    pub fn take_credit(&self, bytes: u16) -> Result<(), Instant> {
        if !self.limited.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut credit = self.credit.lock().expect("no panic inside");
        match &mut credit.1 {
            Some(credit) => credit.take(bytes.into(), Instant::now()),
            None => Ok(()),
        }
    }

    pub fn set_multicast_control(&self, on: bool) {
        self.multicast_control.store(on, Ordering::Relaxed);
    }

    /// The guest asks for a multicast address, or gives it up; whether there was room.
    pub fn multicast(&self, address: MacAddr, wanted: bool) -> bool {
        let mut addresses = self.multicast.lock().expect("no panic inside");
        if !wanted {
            addresses.remove(&address);
            return true;
        }
        if addresses.len() == MAX_MULTICAST && !addresses.contains(&address) {
            return false;
        }
        addresses.insert(address);
        true
    }

    /// Whether destination addresses matter at all.
    pub fn filters_received(&self) -> bool {
        self.destination.is_some() || self.multicast_control.load(Ordering::Relaxed)
    }

    /// Whether the guest gets a frame to `address`.
    ///
    /// # Errors
    /// Why not.
    pub fn receives(&self, address: MacAddr) -> Result<(), Filtered> {
        if address == [0xff; 6] {
            return Ok(());
        }
        if address[0] & 1 == 0 {
            return match self.destination {
                Some(own) if own != address => Err(Filtered::Address),
                _ => Ok(()),
            };
        }
        if self.multicast_control.load(Ordering::Relaxed) {
            let addresses = self.multicast.lock().expect("no panic inside");
            if !addresses.contains(&address) {
                return Err(Filtered::Multicast);
            }
        }
        Ok(())
    }
}

/// Why a guest does not get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtered {
    /// It is for another address.
    Address,
    /// It is for a group the guest did not ask for.
    Multicast,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddr = [0, 0x16, 0x3e, 0, 0, 1];
    const OTHER: MacAddr = [0, 0x16, 0x3e, 0, 0, 2];
    const GROUP: MacAddr = [1, 0, 0x5e, 0, 0, 1];

    #[test]
    fn what_a_guest_receives() {
        let all = Shared::new(1, None, None).unwrap();
        let own = Shared::new(1, None, Some(OWN)).unwrap();
        assert!(!all.filters_received() && own.filters_received());
        for address in [OWN, GROUP, [0xff; 6]] {
            assert_eq!(all.receives(address), Ok(()));
            assert_eq!(own.receives(address), Ok(()));
        }
        assert_eq!(all.receives(OTHER), Ok(()));
        assert_eq!(own.receives(OTHER), Err(Filtered::Address));
        all.set_multicast_control(true);
        assert_eq!(all.receives(GROUP), Err(Filtered::Multicast));
        assert_eq!(all.receives([0xff; 6]), Ok(()));
        assert!(all.multicast(GROUP, true));
        assert_eq!(all.receives(GROUP), Ok(()));
        all.multicast(GROUP, false);
        assert_eq!(all.receives(GROUP), Err(Filtered::Multicast));
        all.set_multicast_control(false);
        assert_eq!(all.receives(GROUP), Ok(()));
    }

    #[test]
    fn a_guest_has_64_groups() {
        let shared = Shared::new(1, None, None).unwrap();
        let group = |n: usize| [1, 0, 0x5e, 0, 0, n as u8];
        for n in 0..MAX_MULTICAST {
            assert!(shared.multicast(group(n), true));
        }
        assert!(shared.multicast(group(0), true), "it has that one");
        assert!(!shared.multicast(group(64), true));
        shared.multicast(group(1), false);
        assert!(shared.multicast(group(64), true));
    }
}
