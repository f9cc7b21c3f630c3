//! The console's back end.
//!
//! Nothing is buffered here. Output that the sink does not take stays in the ring, and a guest that
//! fills the ring waits (or drops, as it likes): that is the back pressure. Input that the ring
//! does not take stays with the caller.
//!
//! Call [`ConsoleBack::drain`] when the guest notifies, and again when a sink that refused bytes
//! has room; call [`ConsoleBack::feed`] when there is input, and again, for what was left over,
//! when the guest notifies.

use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_ring::{ByteRing, Consumer, EventChannel, Producer, RingError, SharedPage};

use crate::ConsoleError;

/// Counters of a console, readable at any time from any thread.
#[derive(Debug, Default)]
pub struct ConsoleStats {
    out_bytes: AtomicU64,
    out_stalls: AtomicU64,
    in_bytes: AtomicU64,
    in_refused: AtomicU64,
    notifications: AtomicU64,
    ring_errors: AtomicU64,
}

/// Values of [`ConsoleStats`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes the guest printed and the sink took.
    pub out_bytes: u64,
    /// Drains that ended with bytes in the ring because the sink took no more.
    pub out_stalls: u64,
    /// Bytes put in the ring for the guest.
    pub in_bytes: u64,
    /// Bytes offered to the guest that did not fit the ring; offering them again counts again.
    pub in_refused: u64,
    /// Notifications sent to the guest.
    pub notifications: u64,
    /// Times the guest's indices were out of bounds.
    pub ring_errors: u64,
}

impl ConsoleStats {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            out_bytes: AtomicU64::new(0),
            out_stalls: AtomicU64::new(0),
            in_bytes: AtomicU64::new(0),
            in_refused: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
            ring_errors: AtomicU64::new(0),
        }
    }

    /// The values now.
    pub fn counts(&self) -> Counts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            out_bytes: value(&self.out_bytes),
            out_stalls: value(&self.out_stalls),
            in_bytes: value(&self.in_bytes),
            in_refused: value(&self.in_refused),
            notifications: value(&self.notifications),
            ring_errors: value(&self.ring_errors),
        }
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// The host's half of a console. `S` points to the counters: `Arc<ConsoleStats>` or a reference.
#[derive(Debug)]
pub struct ConsoleBack<P, E, S> {
    out: Consumer<P>,
    input: Producer<P>,
    channel: E,
    stats: S,
}

impl<P, E, S> ConsoleBack<P, E, S>
where
    P: SharedPage + Clone,
    E: EventChannel,
    S: Deref<Target = ConsoleStats>,
{
    /// Takes over the back end's half where the page says it stands: zero in a fresh page, further
    /// on after a restore.
    ///
    /// # Errors
    /// [`ConsoleError::Ring`] when the page is too small.
    pub fn attach(page: P, channel: E, stats: S) -> Result<Self, ConsoleError> {
        Ok(Self {
            out: Consumer::attach(page.clone(), ByteRing::CONSOLE_OUT)?,
            input: Producer::attach(page, ByteRing::CONSOLE_IN)?,
            channel,
            stats,
        })
    }

    /// Passes what the guest has printed to `sink`, which returns how many of the bytes it took,
    /// until the ring is empty or the sink takes less than it was given. Returns the bytes taken.
    ///
    /// A guest that prints as fast as the sink takes does not keep this from returning: at most
    /// one ring's worth is passed.
    ///
    /// # Errors
    /// [`ConsoleError::Ring`]: the guest's indices are out of bounds. The console stays as it was
    /// and works again once they are sane.
    pub fn drain(&mut self, mut sink: impl FnMut(&[u8]) -> usize) -> Result<usize, ConsoleError> {
        let waiting = self.counted(|back| back.out.available())?;
        let mut buffer = [0; 512];
        let mut taken = 0;
        while taken < waiting {
            let want = (waiting - taken).min(buffer.len());
            let got = self.counted(|back| back.out.peek(&mut buffer[..want]))?;
            let accepted = sink(&buffer[..got]).min(got);
            self.counted(|back| back.out.consume(accepted))?;
            taken += accepted;
            if accepted < got || got == 0 {
                add(&self.stats.out_stalls, 1);
                break;
            }
        }
        add(&self.stats.out_bytes, taken);
        self.notify_if(taken)?;
        Ok(taken)
    }

    /// Gives input to the guest; returns how many of the bytes fit. Keep the others for later.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        let n = self.counted(|back| back.input.write(bytes))?;
        add(&self.stats.in_bytes, n);
        add(&self.stats.in_refused, bytes.len() - n);
        self.notify_if(n)?;
        Ok(n)
    }

    /// Bytes of input the ring would take now.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn input_space(&self) -> Result<usize, ConsoleError> {
        self.counted_ref(self.input.space())
    }

    /// The counters.
    pub fn stats(&self) -> &ConsoleStats {
        &self.stats
    }

    fn notify_if(&self, moved: usize) -> Result<(), ConsoleError> {
        if moved > 0 {
            add(&self.stats.notifications, 1);
            self.channel.notify()?;
        }
        Ok(())
    }

    fn counted(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<usize, RingError>,
    ) -> Result<usize, ConsoleError> {
        let result = f(self);
        self.counted_ref(result)
    }

    fn counted_ref(&self, result: Result<usize, RingError>) -> Result<usize, ConsoleError> {
        result
            .inspect_err(|_| add(&self.stats.ring_errors, 1))
            .map_err(ConsoleError::from)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;
    use pv_ring::WordPage;
    use xen_sys::errno::Errno;

    use super::*;
    use crate::ConsoleFront;

    /// Counts notifications; waiting is a mistake.
    #[derive(Default)]
    struct Bell(Cell<u32>);

    impl EventChannel for Bell {
        fn notify(&self) -> Result<(), Errno> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }

    struct Rig {
        page: WordPage,
        to_guest: Bell,
        to_host: Bell,
        stats: ConsoleStats,
    }

    type Back<'a> = ConsoleBack<&'a WordPage, &'a Bell, &'a ConsoleStats>;
    type Front<'a> = ConsoleFront<&'a WordPage, &'a Bell>;

    impl Rig {
        fn new() -> Self {
            Self {
                page: WordPage::new(),
                to_guest: Bell::default(),
                to_host: Bell::default(),
                stats: ConsoleStats::new(),
            }
        }

        fn ends(&self) -> (Back<'_>, Front<'_>) {
            (
                ConsoleBack::attach(&self.page, &self.to_guest, &self.stats).unwrap(),
                ConsoleFront::attach(&self.page, &self.to_host).unwrap(),
            )
        }
    }

    fn drained(back: &mut Back<'_>) -> Vec<u8> {
        let mut all = vec![];
        back.drain(|bytes| {
            all.extend_from_slice(bytes);
            bytes.len()
        })
        .unwrap();
        all
    }

    #[test]
    fn output_and_input_arrive() {
        let rig = Rig::new();
        let (mut back, mut front) = rig.ends();
        assert_eq!(front.write(b"login: ").unwrap(), 7);
        assert_eq!(rig.to_host.0.get(), 1);
        assert_eq!(drained(&mut back), b"login: ");
        assert_eq!(rig.to_guest.0.get(), 1, "the guest may wait for space");
        assert_eq!(back.feed(b"root\n").unwrap(), 5);
        let mut line = [0; 16];
        assert_eq!(front.read(&mut line).unwrap(), 5);
        assert_eq!(&line[..5], b"root\n");
        let expected = Counts {
            out_bytes: 7,
            in_bytes: 5,
            notifications: 2,
            ..Counts::default()
        };
        assert_eq!(rig.stats.counts(), expected);
    }

    #[test]
    fn a_slow_sink_holds_the_guest_back() {
        let rig = Rig::new();
        let (mut back, mut front) = rig.ends();
        assert_eq!(front.write(&[b'x'; 4000]).unwrap(), 2048);
        assert_eq!(back.drain(|_| 0).unwrap(), 0);
        assert_eq!(front.write(b"y").unwrap(), 0);
        assert_eq!(rig.to_guest.0.get(), 0);
        assert_eq!(back.drain(|bytes| bytes.len().min(100)).unwrap(), 100);
        assert_eq!(front.write(&[b'y'; 200]).unwrap(), 100);
        assert_eq!(rig.stats.counts().out_stalls, 2);
    }

    #[test]
    fn a_sink_that_claims_too_much_is_capped() {
        let rig = Rig::new();
        let (mut back, mut front) = rig.ends();
        front.write(b"ab").unwrap();
        assert_eq!(back.drain(|_| 1000).unwrap(), 2);
    }

    #[test]
    fn input_that_does_not_fit_is_counted() {
        let rig = Rig::new();
        let (mut back, _) = rig.ends();
        assert_eq!(back.feed(&[0; 1500]).unwrap(), 1024);
        assert_eq!(back.input_space().unwrap(), 0);
        assert_eq!(rig.stats.counts().in_refused, 476);
    }

    #[test]
    fn broken_indices_are_an_error_until_repaired() {
        let rig = Rig::new();
        let (mut back, mut front) = rig.ends();
        front.write(b"ok").unwrap();
        rig.page.store_u32(3084, 5000);
        let error = back.drain(|bytes| bytes.len()).unwrap_err();
        assert!(matches!(
            error,
            ConsoleError::Ring(RingError::OutOfBounds { .. })
        ));
        assert_eq!(rig.stats.counts().ring_errors, 1);
        rig.page.store_u32(3084, 2);
        assert_eq!(drained(&mut back), b"ok");
    }

    proptest! {
        #[test]
        fn any_page_is_survived(words in prop::collection::vec(any::<u32>(), 4), junk: Vec<u8>) {
            let rig = Rig::new();
            let (mut back, _) = rig.ends();
            for (offset, word) in (3072..).step_by(4).zip(words) {
                rig.page.store_u32(offset, word);
            }
            let mut seen = 0;
            let result = back.drain(|bytes| {
                seen += bytes.len();
                bytes.len()
            });
            prop_assert!(seen <= 2048 && result.is_ok_and(|n| n == seen) || seen == 0);
            let _ = back.feed(&junk);
        }
    }
}
