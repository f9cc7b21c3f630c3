//! The steps of the handshake.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pv_backend::driver::Publish;
use pv_backend::{DeviceError, Driver, Host, Nodes, Reporter};
use pv_netdev::{Link, Offloads};
use pv_ring::{Access, BackRing, GrantMap};
use pv_stats::Source;
use xen_sys::DomId;

use super::nodes::{BackNodes, FrontNodes, QueueNodes, features};
use super::offload::FrontTakes;
use super::queue::Queue;
use super::rx::{Rx, RxSpec};
use super::shared::Shared;
use super::stats::{Connection, VifStats};
use super::tx::Tx;

/// How long frames wait for the buffers of a front end that does not tell of them.
const POLL_INTERVAL: Duration = Duration::from_millis(30);

/// What a network card is plugged into.
pub trait Network: Send {
    /// What its links can do, always.
    fn offloads(&self) -> Offloads;

    /// How many links it can be reached by at a time; at least 1.
    fn max_queues(&self) -> u32;

    /// Plugs the card in: `queues` links, between 1 and [`max_queues`](Self::max_queues). Called at
    /// each connection of a front end; the links of the last one have been dropped.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&mut self, queues: u32) -> io::Result<Vec<Box<dyn Link>>>;
}

/// What a network card is.
#[derive(Clone, Debug)]
pub struct VifSpec {
    /// The front end's domain.
    pub domid: DomId,
    /// The card's number there.
    pub devid: u32,
    /// What it is called in statistics and log lines.
    pub name: String,
    /// Queues to offer at most; the network's own limit holds, too.
    pub max_queues: u32,
    /// Give the guest only what is sent to its address, to all or to a group. Off as in netback: a
    /// guest may be a bridge or answer to more addresses.
    pub filter_received: bool,
    /// Send only what bears the guest's address as its source. Off as in netback.
    pub filter_sent: bool,
    /// How long frames wait for buffers of the guest. Netback's `rx_drain_timeout_msecs`, 10 s; a
    /// front end without `feature-rx-notify` has 30 ms at most.
    pub drain_timeout: Duration,
}

impl VifSpec {
    /// A card as netback makes it.
    pub fn new(domid: DomId, devid: u32) -> Self {
        Self {
            domid,
            devid,
            name: format!("vif{domid}.{devid}"),
            max_queues: 8,
            filter_received: false,
            filter_sent: false,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A network card's back end.
pub struct VifDriver {
    spec: VifSpec,
    network: Box<dyn Network>,
    stats: Arc<VifStats>,
    reporter: Option<Reporter>,
    back: BackNodes,
    running: Option<Running>,
}

/// The queues of a connection.
struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl VifDriver {
    /// A card that is plugged into a network.
    pub fn new(spec: VifSpec, network: Box<dyn Network>) -> Self {
        let stats = VifStats {
            devid: spec.devid,
            name: spec.name.clone(),
            connection: Mutex::new(Connection {
                state: "initialising",
                queues: Vec::new(),
            }),
        };
        Self {
            spec,
            network,
            stats: Arc::new(stats),
            reporter: None,
            back: BackNodes::default(),
            running: None,
        }
    }

    fn max_queues(&self) -> u32 {
        self.spec.max_queues.min(self.network.max_queues()).max(1)
    }

    fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.shared.stop();
        for thread in running.threads {
            if thread.join().is_err() {
                tracing::error!("{}: a queue's thread has panicked", self.spec.name);
            }
        }
    }

    fn shared(&self, front: &FrontNodes) -> Result<Shared, DeviceError> {
        let own = self.back.mac;
        let source = own.filter(|_| self.spec.filter_sent);
        let destination = own.filter(|_| self.spec.filter_received);
        if own.is_none() && (self.spec.filter_sent || self.spec.filter_received) {
            return Err(DeviceError("There is no address to filter by (mac)".into()));
        }
        let shared = Shared::new(front.queues.len(), source, destination)
            .map_err(|error| DeviceError(format!("Cannot make an eventfd: {error}")))?;
        shared.set_rate(self.back.rate);
        shared.set_link_down(self.back.link_down);
        shared.set_multicast_control(front.multicast_control);
        Ok(shared)
    }

    /// Plugs the card in and makes its queues.
    fn queues<H: Host>(
        &mut self,
        host: &H,
        front: &Nodes,
    ) -> Result<(Arc<Shared>, Vec<Queue<H>>), DeviceError> {
        let front = FrontNodes::read(front, self.max_queues())?;
        let links = self.network.open(front.queues.len() as u32);
        let mut links =
            links.map_err(|error| DeviceError(format!("Cannot reach the network: {error}")))?;
        if links.len() != front.queues.len() {
            let (have, want) = (links.len(), front.queues.len());
            return Err(DeviceError(format!(
                "The network has {have} links for {want} queues"
            )));
        }
        let shared = Arc::new(self.shared(&front)?);
        let mut queues = Vec::new();
        for (number, (at, mut link)) in front.queues.iter().zip(links.drain(..)).enumerate() {
            let can = link.offloads();
            let wanted = Offloads {
                csum: can.csum && (front.accepts.csum || front.csum_v6),
                tso4: can.tso4 && front.accepts.tso4,
                tso6: can.tso6 && front.accepts.tso6,
            };
            link.accept(wanted)
                .map_err(|error| DeviceError(format!("Cannot set up the link: {error}")))?;
            queues.push(self.queue(host, &front, (number, at), link, &shared)?);
        }
        Ok((shared, queues))
    }

    /// Maps a queue's rings and binds its event channels.
    fn queue<H: Host>(
        &self,
        host: &H,
        front: &FrontNodes,
        (number, at): (usize, &QueueNodes),
        link: Box<dyn Link>,
        shared: &Arc<Shared>,
    ) -> Result<Queue<H>, DeviceError> {
        let domid = self.spec.domid;
        let grants = host.grants(domid).map_err(|error| {
            DeviceError(format!(
                "Cannot reach the grants of domain {domid}: {error}"
            ))
        })?;
        let ring = |name, gref| {
            let page = grants.map(gref, Access::ReadWrite);
            page.map_err(|error| DeviceError(format!("The {name} ring cannot be mapped: {error}")))
        };
        let broken = |error| DeviceError(format!("A ring makes no sense: {error}"));
        let bind = |port| {
            let channel = host.bind(domid, port);
            channel.map_err(|error| {
                DeviceError(format!("Event channel {port} cannot be bound: {error}"))
            })
        };
        let tx_ring = BackRing::attach(ring("transmit", at.tx_ring)?).map_err(broken)?;
        let rx_ring = BackRing::attach(ring("receive", at.rx_ring)?).map_err(broken)?;
        let notified = |timeout: Duration| match front.rx_notify {
            true => timeout,
            false => timeout.min(POLL_INTERVAL),
        };
        let offloads = link.offloads();
        let spec = RxSpec {
            takes: FrontTakes {
                // Large segments are not expected of a link that has none.
                offloads: Offloads {
                    csum: front.accepts.csum,
                    tso4: front.accepts.tso4 && offloads.tso4,
                    tso6: front.accepts.tso6 && offloads.tso6,
                },
                csum_v6: front.csum_v6,
                sg: front.sg,
            },
            mtu: self.back.mtu,
            drain_timeout: notified(self.spec.drain_timeout),
        };
        Ok(Queue {
            tx: Tx::new(tx_ring, grants.clone(), offloads),
            rx: Rx::new(rx_ring, grants, spec),
            tx_channel: bind(at.tx_port)?,
            rx_channel: at.rx_port.map(bind).transpose()?,
            link,
            shared: shared.clone(),
            number,
            counters: Arc::default(),
        })
    }

    /// The thread of a queue.
    fn start<H: Host>(
        &self,
        number: usize,
        mut queue: Queue<H>,
        reporter: Reporter,
    ) -> Result<JoinHandle<()>, DeviceError> {
        let name = format!("{}-q{number}", self.spec.name);
        let thread = thread::Builder::new().name(name.clone());
        let thread = thread.spawn(move || {
            queue.confine();
            if let Err(error) = queue.serve() {
                // What is mapped is unmapped before the device is closed.
                drop(queue);
                reporter.failed(DeviceError(format!("{name}: {error}")));
            }
        });
        thread.map_err(|error| DeviceError(format!("Cannot start a thread: {error}")))
    }
}

/// The queues of a card, without threads: for tests that want to know when what happens.
#[cfg(any(test, feature = "loopback"))]
pub struct Stepper<H: Host>(Vec<Queue<H>>);

#[cfg(any(test, feature = "loopback"))]
impl<H: Host> Stepper<H> {
    /// A turn of each queue; whether there may be more to do.
    ///
    /// # Errors
    /// The front end is broken or hostile: drop this.
    pub fn turn(&mut self) -> Result<bool, DeviceError> {
        let mut more = false;
        for queue in &mut self.0 {
            let turn = queue.turn();
            more |= turn.map_err(|e| DeviceError(e.to_string()))?.is_none();
        }
        Ok(more)
    }
}

#[cfg(any(test, feature = "loopback"))]
impl VifDriver {
    /// As [`Driver::connect`], but the caller serves the queues.
    ///
    /// # Errors
    /// As [`Driver::connect`].
    pub fn connect_stepping<H: Host>(
        &mut self,
        host: &H,
        front: &Nodes,
    ) -> Result<Stepper<H>, DeviceError> {
        let (_, queues) = self.queues(host, front)?;
        let counters = queues.iter().map(|queue| queue.counters.clone()).collect();
        self.stats.connected(counters);
        Ok(Stepper(queues))
    }
}

impl Drop for VifDriver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<H: Host> Driver<H> for VifDriver {
    fn open(&mut self, back: &Nodes, reporter: Reporter) -> Result<Publish, DeviceError> {
        self.back = BackNodes::read(back);
        self.reporter = Some(reporter);
        self.stats.set_state("init-wait");
        Ok(features(self.network.offloads(), self.max_queues()))
    }

    fn connect(&mut self, host: &H, front: &Nodes) -> Result<Publish, DeviceError> {
        self.stop();
        let reporter = self.reporter.clone();
        let reporter = reporter.ok_or_else(|| DeviceError("The device is not open".into()))?;
        let (shared, queues) = self.queues(host, front)?;
        let counters = queues.iter().map(|queue| queue.counters.clone()).collect();
        let mut running = Running {
            shared,
            threads: Vec::new(),
        };
        for (number, queue) in queues.into_iter().enumerate() {
            match self.start(number, queue, reporter.clone()) {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    self.running = Some(running);
                    self.stop();
                    return Err(error);
                }
            }
        }
        self.running = Some(running);
        self.stats.connected(counters);
        Ok(Vec::new())
    }

    fn disconnect(&mut self) {
        self.stop();
        self.stats.set_state("closed");
    }

    fn changed(&mut self, back: &Nodes, front: &Nodes) -> Result<Publish, DeviceError> {
        let back = BackNodes::read(back);
        if let Some(running) = &self.running {
            running.shared.set_rate(back.rate);
            running.shared.set_link_down(back.link_down);
            let multicast = super::nodes::multicast_control(front);
            running.shared.set_multicast_control(multicast);
        }
        self.back = back;
        Ok(Vec::new())
    }

    fn stats(&self) -> Arc<dyn Source> {
        self.stats.clone()
    }
}
