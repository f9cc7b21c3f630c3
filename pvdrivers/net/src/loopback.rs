//! Both ends of a network card in one process: for tests, fuzzing and benchmarks.
//!
//! - [`FrontQueue`]: a front end's queue with memory of its own on a [`LoopbackHost`].
//! - [`Card`]: a back end, connected to such queues.
//! - [`wire`]: a link whose far end is the test.

mod copy;
mod wire;

use std::io;
use std::sync::mpsc::{Receiver, channel};

use pv_backend::loopback::{LoopbackChannel, LoopbackHost, LoopbackPage};
use pv_backend::{DeviceError, Driver, Nodes, Reporter};
use pv_netdev::{Link, Offloads};
use pv_ring::{Access, GrantAccess, SharedPage};
use pv_stats::DeviceStats;
use xen_sys::GrantRef;

use crate::back::{Network, Stepper, VifDriver, VifSpec};
use crate::front::nodes::{QueueRefs, Wanted, publish};
use crate::front::{Buffer, FrontError, Received, RxQueue, TxFrame, TxPiece, TxQueue};

pub use copy::{copy_in, copy_out};
pub use wire::{Frame, Wire, WireLink, wire};

/// An end of an event channel that both directions may use.
pub type Channel = std::sync::Arc<LoopbackChannel>;

/// A front end's queue. Each transmit slot and each receive slot has a page of its own.
pub struct FrontQueue {
    /// The transmit ring.
    pub tx: TxQueue<LoopbackPage, Channel>,
    /// The receive ring; all buffers are posted.
    pub rx: RxQueue<LoopbackPage, Channel>,
    /// Where the rings are.
    pub refs: QueueRefs,
    /// The pages of the rings themselves, transmission's first: a hostile front end writes there.
    pub ring_pages: [LoopbackPage; 2],
    tx_pages: Vec<(LoopbackPage, GrantRef)>,
    rx_pages: Vec<(LoopbackPage, GrantRef)>,
    /// Transmit pages that are not in the ring.
    tx_free: Vec<u16>,
    /// The pages of a packet, by the name of the packet, which is its first page.
    tx_pieces: Vec<Vec<u16>>,
}

impl FrontQueue {
    /// Pages a queue takes of its host.
    pub const PAGES: usize = 2 * 256 + 2;

    /// A queue with `buffers` receive buffers posted.
    ///
    /// # Errors
    /// No file descriptors left.
    ///
    /// # Panics
    /// The host has no pages left.
    pub fn new(host: &LoopbackHost, split: bool, buffers: usize) -> io::Result<Self> {
        let granted = |access| {
            let page = host.alloc();
            let gref = host.grant(&page, access).expect("a grant for each page");
            (page, gref)
        };
        let pages = |access| (0..256).map(|_| granted(access)).collect::<Vec<_>>();
        let (tx_ring, tx_ref) = granted(Access::ReadWrite);
        let (rx_ring, rx_ref) = granted(Access::ReadWrite);
        let (tx_port, tx_channel) = host.alloc_port()?;
        let tx_channel = Channel::new(tx_channel);
        let (rx_port, rx_channel) = match split {
            false => (None, tx_channel.clone()),
            true => {
                let (port, channel) = host.alloc_port()?;
                (Some(port), Channel::new(channel))
            }
        };
        let mut queue = Self {
            tx: TxQueue::new(tx_ring.clone(), tx_channel).expect("a page is a ring"),
            rx: RxQueue::new(rx_ring.clone(), rx_channel).expect("a page is a ring"),
            refs: QueueRefs {
                tx_ring: tx_ref,
                rx_ring: rx_ref,
                tx_port,
                rx_port,
            },
            ring_pages: [tx_ring, rx_ring],
            tx_pages: pages(Access::Read),
            rx_pages: pages(Access::ReadWrite),
            tx_free: (0..256).rev().collect(),
            tx_pieces: vec![Vec::new(); 256],
        };
        for name in 0..buffers {
            queue.post(name as u16).expect("there are 256 slots");
        }
        queue.rx.publish().expect("eventfds do not fail");
        Ok(queue)
    }

    /// A grant of a transmit page.
    pub fn tx_gref(&self, page: u16) -> GrantRef {
        self.tx_pages[usize::from(page)].1
    }

    /// A transmit page.
    pub fn tx_page(&self, page: u16) -> &LoopbackPage {
        &self.tx_pages[usize::from(page)].0
    }

    /// Posts a receive buffer.
    ///
    /// # Errors
    /// The ring is full.
    pub fn post(&mut self, name: u16) -> Result<(), FrontError> {
        let gref = self.rx_pages[usize::from(name)].1;
        self.rx.post(Buffer { name, gref })
    }

    /// Puts a packet into the ring, `cuts` bytes in each page, at `offset` in each; the last page
    /// has the rest. The back end does not see it before `tx.publish`.
    ///
    /// # Errors
    /// The ring is full, or the packet cannot be one.
    ///
    /// # Panics
    /// A piece exceeds its page.
    pub fn send(
        &mut self,
        frame: &TxFrame,
        bytes: &[u8],
        cuts: &[usize],
        offset: usize,
    ) -> Result<(), FrontError> {
        let count = cuts.len() + 1;
        if self.tx_free.len() < count || (self.tx.free() as usize) <= count {
            return Err(FrontError::Ring(pv_ring::RingError::Full));
        }
        let mut pieces = Vec::new();
        let mut left = bytes;
        let from = self.tx_free.len() - count;
        for (n, page) in self.tx_free[from..].iter().enumerate() {
            let cut = cuts.get(n).copied().unwrap_or(left.len()).min(left.len());
            let (now, rest) = left.split_at(cut);
            let (memory, gref) = &self.tx_pages[usize::from(*page)];
            memory.write(offset, now);
            pieces.push(TxPiece {
                gref: *gref,
                offset: offset as u16,
                len: now.len() as u16,
            });
            left = rest;
        }
        let name = self.tx_free[from];
        self.tx.send(frame, &pieces, name)?;
        self.tx_pieces[usize::from(name)] = self.tx_free.split_off(from);
        Ok(())
    }

    /// Takes back the pages of packets that the back end is done with: how many packets, and how
    /// many of them with an error.
    ///
    /// # Errors
    /// The back end is broken.
    pub fn reclaim(&mut self) -> Result<(usize, usize), FrontError> {
        let (mut done, mut failed) = (0, 0);
        while let Some(packet) = self.tx.done()? {
            let pages = &mut self.tx_pieces[usize::from(packet.packet)];
            self.tx_free.append(pages);
            done += 1;
            failed += usize::from(packet.status < 0);
        }
        Ok((done, failed))
    }

    /// The next frame and its bytes; its buffers are posted again, `rx.publish` lets the back end
    /// see them.
    ///
    /// # Errors
    /// The back end is broken.
    pub fn recv(&mut self) -> Result<Option<(Received, Vec<u8>)>, FrontError> {
        let Some(frame) = self.rx.recv()? else {
            return Ok(None);
        };
        let mut bytes = vec![0; frame.len()];
        let mut at = 0;
        for piece in frame.pieces() {
            let to = &mut bytes[at..at + usize::from(piece.len)];
            let (page, _) = &self.rx_pages[usize::from(piece.buffer.name)];
            page.read(piece.offset.into(), to);
            at += to.len();
            self.post(piece.buffer.name)?;
        }
        Ok(Some((frame, bytes)))
    }
}

/// Links that were made beforehand.
struct Ready {
    offloads: Offloads,
    max_queues: u32,
    links: Vec<Box<dyn Link>>,
}

impl Network for Ready {
    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn max_queues(&self) -> u32 {
        self.max_queues
    }

    fn open(&mut self, queues: u32) -> io::Result<Vec<Box<dyn Link>>> {
        if self.links.len() < queues as usize {
            return Err(io::Error::other("no links left"));
        }
        Ok(self.links.drain(..queues as usize).collect())
    }
}

/// A back end, and what it says.
pub struct Card {
    /// The back end.
    pub driver: VifDriver,
    /// The host.
    pub host: LoopbackHost,
    /// The back end's directory.
    pub back: Nodes,
    /// The front end's directory.
    pub front: Nodes,
    /// Why the device is to be closed.
    pub failures: Receiver<DeviceError>,
}

impl Card {
    /// A back end with these links, opened. Each connection uses up one for each queue.
    ///
    /// # Panics
    /// There is no link.
    pub fn new(host: &LoopbackHost, spec: VifSpec, links: Vec<Box<dyn Link>>) -> Self {
        Self::with(host, spec, links, &[])
    }

    /// As [`new`](Self::new), with nodes of the toolstack's.
    ///
    /// # Panics
    /// There is no link.
    pub fn with(
        host: &LoopbackHost,
        spec: VifSpec,
        links: Vec<Box<dyn Link>>,
        nodes: &[(&str, &str)],
    ) -> Self {
        let network = Ready {
            offloads: links[0].offloads(),
            max_queues: links.len() as u32,
            links,
        };
        let mut driver = VifDriver::new(spec, Box::new(network));
        let (tell, failures) = channel();
        let reporter = Reporter::new(move |error| {
            let _ = tell.send(error);
        });
        let mut back = Nodes::default();
        set(&mut back, nodes.iter().copied());
        let published = Driver::<LoopbackHost>::open(&mut driver, &back, reporter);
        let published = published.expect("opening does nothing that can fail");
        set(
            &mut back,
            published.iter().map(|(k, v)| (k.as_str(), v.as_str())),
        );
        Self {
            driver,
            host: host.clone(),
            back,
            front: Nodes::default(),
            failures,
        }
    }

    /// Connects a front end.
    ///
    /// # Errors
    /// The back end's.
    pub fn connect(&mut self, wanted: &Wanted, queues: &[QueueRefs]) -> Result<(), DeviceError> {
        self.publish(wanted, queues);
        self.connect_nodes()
    }

    /// As [`connect`](Self::connect), without a thread.
    ///
    /// # Errors
    /// The back end's.
    pub fn connect_stepping(
        &mut self,
        wanted: &Wanted,
        queues: &[QueueRefs],
    ) -> Result<Stepper<LoopbackHost>, DeviceError> {
        self.publish(wanted, queues);
        self.driver.connect_stepping(&self.host, &self.front)
    }

    fn publish(&mut self, wanted: &Wanted, queues: &[QueueRefs]) {
        self.front = Nodes::default();
        let front = &mut self.front;
        let done: Result<(), ()> = publish(wanted, queues, |key, value| {
            set(front, [(key, value.to_string().as_str())]);
            Ok(())
        });
        done.expect("writing to a map does not fail");
    }

    /// Connects with what is in the front end's directory.
    ///
    /// # Errors
    /// The back end's.
    pub fn connect_nodes(&mut self) -> Result<(), DeviceError> {
        self.driver.connect(&self.host, &self.front).map(drop)
    }

    /// A node of the toolstack's or of the front end's is changed.
    ///
    /// # Errors
    /// The back end's.
    pub fn change(
        &mut self,
        back: &[(&str, &str)],
        front: &[(&str, &str)],
    ) -> Result<(), DeviceError> {
        set(&mut self.back, back.iter().copied());
        set(&mut self.front, front.iter().copied());
        let driver = &mut self.driver;
        Driver::<LoopbackHost>::changed(driver, &self.back, &self.front).map(drop)
    }

    /// The front end closes.
    pub fn disconnect(&mut self) {
        Driver::<LoopbackHost>::disconnect(&mut self.driver);
    }

    /// The counters.
    pub fn stats(&self) -> DeviceStats {
        Driver::<LoopbackHost>::stats(&self.driver).stats()
    }

    /// A counter, of all queues together.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        let stats = self.stats();
        let queues = stats.queues.iter();
        queues
            .map(|queue| *queue.counters.get(name).expect(name))
            .sum()
    }
}

/// Writes nodes.
pub fn set<'a>(nodes: &mut Nodes, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (key, value) in pairs {
        nodes.0.insert(key.to_owned(), value.as_bytes().to_vec());
    }
}
