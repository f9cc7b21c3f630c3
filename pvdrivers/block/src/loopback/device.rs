//! The handshake without a xenstore: each end gets the nodes the other has written.

use std::sync::mpsc::{Receiver, channel};

use pv_backend::loopback::{LoopbackChannel, LoopbackHost, LoopbackPage};
use pv_backend::{DeviceError, DeviceId, Driver, Nodes, Reporter};
use pv_ring::{Access, PageRun};
use pv_stats::QueueStats;
use xen_sys::GrantRef;

use crate::back::{Medium, Settings, VbdDriver};
use crate::front::{DiskInfo, FrontQueue, LentPage, Offer, QueueNodes, publish};
use crate::wire::Abi;

/// The pages of a ring.
pub type Pages = PageRun<Vec<LoopbackPage>, LoopbackPage>;
/// The back end over a [`LoopbackHost`].
pub type Vbd<M> = VbdDriver<LoopbackHost, M>;
/// A front end's queue with the largest ring there is.
type Queue = FrontQueue<Pages, LoopbackChannel, 512>;

/// What the front end asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Queues; 0 is one.
    pub queues: usize,
    /// Two to this power is the pages of each ring.
    pub ring_page_order: u32,
    /// Layout.
    pub abi: Abi,
    /// Persistent grants.
    pub persistent: bool,
}

/// A connected device, both ends.
pub struct LoopbackVbd<M: Medium> {
    /// Where both are.
    pub host: LoopbackHost,
    /// The back end.
    pub back: Vbd<M>,
    /// The front end's queues.
    pub queues: Vec<Queue>,
    /// The back end's directory.
    pub back_nodes: Nodes,
    /// The front end's directory.
    pub front_nodes: Nodes,
    /// The pages of all rings.
    pub rings: Vec<LentPage<LoopbackHost>>,
    /// What the back end's threads report.
    pub failures: Receiver<DeviceError>,
}

impl<M: Medium> LoopbackVbd<M> {
    /// A back end that has opened a medium; `None`: an empty drive.
    ///
    /// # Errors
    /// The back end's.
    pub fn open(
        host: LoopbackHost,
        settings: Settings,
        mut medium: impl FnMut(&Nodes) -> Option<M> + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let id = DeviceId {
            kind: "vbd".to_owned(),
            domid: LoopbackHost::GUEST,
            devid: 51712,
        };
        let mut back = Vbd::new(id, settings, Box::new(move |nodes| Ok(medium(nodes))));
        let (tell, failures) = channel();
        let mut back_nodes = Nodes::default();
        for (name, value) in [("params", "ram"), ("mode", "w"), ("dev", "xvda")] {
            back_nodes.0.insert(name.to_owned(), value.into());
        }
        let reporter = Reporter::new(move |error| drop(tell.send(error)));
        let published = back.open(&back_nodes, reporter)?;
        let mut device = Self {
            host,
            back,
            queues: Vec::new(),
            back_nodes,
            front_nodes: Nodes::default(),
            rings: Vec::new(),
            failures,
        };
        device.written(published);
        Ok(device)
    }

    /// The same, connected.
    ///
    /// # Errors
    /// The back end's.
    pub fn connected(host: LoopbackHost, medium: M, shape: Shape) -> Result<Self, DeviceError>
    where
        M: Clone + Sync,
    {
        let mut device = Self::open(host, Settings::default(), move |_| Some(medium.clone()))?;
        device.make_queues(shape);
        device.connect()?;
        Ok(device)
    }

    /// The front end makes its rings and writes where they are.
    ///
    /// # Panics
    /// The guest has no memory or grants left for them.
    pub fn make_queues(&mut self, shape: Shape) {
        self.queues.clear();
        self.rings.clear();
        let mut refs = Vec::new();
        for _ in 0..shape.queues.max(1) {
            let pages: Vec<_> = (0..1 << shape.ring_page_order)
                .map(|_| self.host.alloc())
                .collect();
            let mut grefs = Vec::new();
            for page in &pages {
                let lent = LentPage::new(self.host.clone(), page.clone(), Access::ReadWrite);
                let lent = lent.expect("grants are left");
                grefs.push(lent.gref());
                self.rings.push(lent);
            }
            let (port, channel) = self.host.alloc_port().expect("descriptors are left");
            let pages = PageRun::new(pages).expect("whole pages");
            let queue = Queue::new(pages, channel, shape.abi);
            self.queues.push(queue.expect("a ring fits a page"));
            refs.push((grefs, port));
        }
        let queues: Vec<_> = refs
            .iter()
            .map(|(ring, port)| QueueNodes { ring, port: *port })
            .collect();
        let offer = Offer {
            abi: shape.abi,
            persistent: shape.persistent,
            queues: &queues,
        };
        let nodes = &mut self.front_nodes.0;
        nodes.clear();
        let written = publish(&offer, |name, value| {
            nodes.insert(name.to_owned(), value.into());
            Ok::<(), std::convert::Infallible>(())
        });
        match written {
            Ok(()) => {}
        }
    }

    /// The back end reads what the front end has written.
    ///
    /// # Errors
    /// The back end's.
    pub fn connect(&mut self) -> Result<(), DeviceError> {
        let published = self.back.connect(&self.host, &self.front_nodes)?;
        self.written(published);
        Ok(())
    }

    /// The toolstack has changed the back end's directory. Whether the back end wrote anything.
    ///
    /// # Errors
    /// The back end's.
    pub fn changed(&mut self) -> Result<bool, DeviceError> {
        let published = self.back.changed(&self.back_nodes, &self.front_nodes)?;
        let any = !published.is_empty();
        self.written(published);
        Ok(any)
    }

    /// What the front end reads of the disk.
    pub fn info(&self) -> DiskInfo {
        DiskInfo::read(|name| {
            let value = self.back_nodes.0.get(name)?;
            std::str::from_utf8(value).ok()?.parse().ok()
        })
    }

    /// A page lent to the back end.
    ///
    /// # Panics
    /// The guest has none left.
    pub fn lend(&self, access: Access) -> LentPage<LoopbackHost> {
        let lent = LentPage::new(self.host.clone(), self.host.alloc(), access);
        lent.expect("grants are left")
    }

    /// The counters of a queue.
    pub fn stats(&self, queue: usize) -> QueueStats {
        self.back.stats().stats().queues.swap_remove(queue)
    }

    /// The grants of all ring pages.
    pub fn ring_refs(&self) -> Vec<GrantRef> {
        self.rings.iter().map(LentPage::gref).collect()
    }

    fn written(&mut self, published: Vec<(String, String)>) {
        let nodes = published.into_iter();
        self.back_nodes
            .0
            .extend(nodes.map(|(name, value)| (name, value.into_bytes())));
    }
}
