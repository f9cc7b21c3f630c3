//! The steps of the handshake.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pv_backend::driver::Publish;
use pv_backend::{DeviceError, Driver, Host, Nodes, Reporter};
use pv_netdev::{Link, Offloads};
use pv_stats::Source;
use xen_sys::DomId;

use super::nodes::{BackNodes, FrontNodes, features};
use super::stats::{Connection, VifStats};

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
        }
    }

    fn max_queues(&self) -> u32 {
        self.spec.max_queues.min(self.network.max_queues()).max(1)
    }
}

impl<H: Host> Driver<H> for VifDriver {
    fn open(&mut self, back: &Nodes, reporter: Reporter) -> Result<Publish, DeviceError> {
        self.back = BackNodes::read(back);
        self.reporter = Some(reporter);
        self.stats.set("init-wait", Vec::new());
        Ok(features(self.network.offloads(), self.max_queues()))
    }

    fn connect(&mut self, _host: &H, front: &Nodes) -> Result<Publish, DeviceError> {
        let _front = FrontNodes::read(front, self.max_queues())?;
        Err(DeviceError("Queues are not there yet".into()))
    }

    fn disconnect(&mut self) {
        self.stats.set("closed", Vec::new());
    }

    fn changed(&mut self, back: &Nodes, _front: &Nodes) -> Result<Publish, DeviceError> {
        self.back = BackNodes::read(back);
        Ok(Vec::new())
    }

    fn stats(&self) -> Arc<dyn Source> {
        self.stats.clone()
    }
}
