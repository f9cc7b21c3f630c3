//! A front end and the back end face each other; the far end of the link is the test.

mod frames;
mod hostile;
mod limits;
mod transfer;

use std::time::{Duration, Instant};

use pv_backend::loopback::LoopbackHost;
use pv_netdev::{Link, Offloads};

use super::VifSpec;
use crate::front::nodes::Wanted;
use crate::loopback::{Card, Frame, FrontQueue, Wire, wire};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    card: Card,
    queues: Vec<FrontQueue>,
    wires: Vec<Wire>,
    host: LoopbackHost,
}

/// What to vary; the rest is as on a modern guest.
struct Setup {
    offloads: Offloads,
    wanted: Wanted,
    queues: usize,
    split: bool,
    buffers: usize,
    nodes: Vec<(&'static str, &'static str)>,
    spec: VifSpec,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            offloads: Offloads::ALL,
            wanted: Wanted::ALL,
            queues: 1,
            split: false,
            buffers: 256,
            nodes: Vec::new(),
            spec: VifSpec::new(LoopbackHost::GUEST, 0),
        }
    }
}

impl Setup {
    fn start(self) -> Rig {
        let host = LoopbackHost::new(self.queues * FrontQueue::PAGES + 4);
        let new = |_| FrontQueue::new(&host, self.split, self.buffers).unwrap();
        let queues: Vec<FrontQueue> = (0..self.queues).map(new).collect();
        let (links, wires): (Vec<_>, Vec<_>) =
            (0..self.queues).map(|_| wire(self.offloads)).unzip();
        let links = links.into_iter();
        let links = links.map(|link| Box::new(link) as Box<dyn Link>).collect();
        let mut card = Card::with(&host, self.spec, links, &self.nodes);
        let refs: Vec<_> = queues.iter().map(|queue| queue.refs).collect();
        card.connect(&self.wanted, &refs).unwrap();
        Rig {
            card,
            queues,
            wires,
            host,
        }
    }
}

impl Rig {
    fn q(&mut self) -> &mut FrontQueue {
        &mut self.queues[0]
    }

    /// The next frame the guest has sent.
    fn sent(&self) -> Frame {
        self.wires[0].take_within(PATIENCE).expect("a frame")
    }

    /// Awaits the end of all packets in a queue's ring: how many, and how many with an error.
    fn finish(&mut self, queue: usize) -> (usize, usize) {
        let (mut done, mut failed) = (0, 0);
        until(|| {
            let now = self.queues[queue].reclaim().unwrap();
            done += now.0;
            failed += now.1;
            self.queues[queue].tx.free() == 256
        });
        (done, failed)
    }

    /// The next frame the guest receives.
    fn received(&mut self, queue: usize) -> (crate::front::Received, Vec<u8>) {
        let queue = &mut self.queues[queue];
        let mut got = None;
        until(|| {
            got = queue.recv().unwrap();
            queue.rx.publish().unwrap();
            got.is_some()
        });
        got.unwrap()
    }

    /// Awaits a counter.
    fn counts(&self, name: &str, value: u64) {
        until(|| self.card.counter(name) >= value);
        assert_eq!(self.card.counter(name), value, "{name}");
    }

    /// The device is to be closed, and can be; then nothing is mapped any more.
    fn fails(mut self, why: &str) {
        let failure = self.card.failures.recv_timeout(PATIENCE).expect("a report");
        assert!(failure.0.contains(why), "{failure}, not {why}");
        self.card.disconnect();
        assert_eq!(self.host.mappings(), 0);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.card.disconnect();
        if !std::thread::panicking() {
            assert_eq!(self.host.mappings(), 0, "pages are still mapped");
        }
    }
}

/// Awaits a condition that another thread makes true.
fn until(mut true_at_last: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !true_at_last() {
        assert!(Instant::now() < end, "waited in vain");
        std::thread::yield_now();
    }
}
