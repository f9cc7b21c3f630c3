//! Network cards as `libxl` describes them: directories `backend/vif/<domid>/<devid>`.
//!
//! A card is a tap interface called `vif<domid>.<devid>`, as netback's is. So in dom0 the script that
//! `libxl` runs (`vif-bridge`, `vif-route` ...) finds what it expects, and `xentop` the counters. In
//! a driver domain nobody runs scripts: there the interface joins the bridge named by the node
//! `bridge`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pv_backend::driver::Publish;
use pv_backend::{DeviceError, DeviceId, Driver, Nodes, Reporter};
use pv_net::back::{Network, VifDriver, VifSpec};
use pv_netdev::spec::{NetdevSpec, NicSpec, TapSpec};
use pv_netdev::{Attachment, Description, Link, Offloads, Request};
use pv_stats::{DeviceStats, Source};
use xt_host_xen::XenHost;

/// Most queues of a card.
const MAX_QUEUES: usize = 8;

/// The back end of a card, with its interface once it is open.
pub struct Card {
    id: DeviceId,
    /// The toolstack plugs the interface in.
    scripts: bool,
    vif: Option<VifDriver>,
}

impl Card {
    /// A card; in a driver domain (`scripts` false) it is plugged in here.
    pub fn new(id: DeviceId, scripts: bool) -> Self {
        let vif = None;
        Self { id, scripts, vif }
    }

    fn tap(&self, back: &Nodes) -> Result<Tap, DeviceError> {
        let bridge = back.text("bridge").filter(|_| !self.scripts);
        let tap = TapSpec {
            bridge: bridge.map(str::to_owned),
            ..Default::default()
        };
        let spec = NicSpec {
            netdev: NetdevSpec::Tap(tap),
            mac: None,
            mtu: back.number("mtu"),
        };
        let request = Request::vif(self.id.domid.0, self.id.devid).queues(queues());
        let opened = pv_netdev::open(&spec, &request);
        let opened = opened.map_err(|error| DeviceError(crate::chain(&error)))?;
        Ok(Tap {
            unused: Vec::new(),
            descriptors: opened.descriptors,
            description: opened.description,
            _attachment: opened.attachment,
        })
    }

    fn vif(&mut self) -> Result<&mut VifDriver, DeviceError> {
        let none = || DeviceError("The card has no interface yet".into());
        self.vif.as_mut().ok_or_else(none)
    }
}

impl Driver<XenHost> for Card {
    fn open(&mut self, back: &Nodes, reporter: Reporter) -> Result<Publish, DeviceError> {
        let spec = VifSpec::new(self.id.domid, self.id.devid);
        let tap = self.tap(back)?;
        let vif = self.vif.insert(VifDriver::new(spec, Box::new(tap)));
        Driver::<XenHost>::open(vif, back, reporter)
    }

    fn connect(&mut self, host: &XenHost, front: &Nodes) -> Result<Publish, DeviceError> {
        self.vif()?.connect(host, front)
    }

    fn disconnect(&mut self) {
        if let Some(vif) = &mut self.vif {
            Driver::<XenHost>::disconnect(vif);
        }
    }

    fn changed(&mut self, back: &Nodes, front: &Nodes) -> Result<Publish, DeviceError> {
        Driver::<XenHost>::changed(self.vif()?, back, front)
    }

    fn stats(&self) -> Arc<dyn Source> {
        match &self.vif {
            Some(vif) => Driver::<XenHost>::stats(vif),
            None => Arc::new(Unopened(self.id.devid)),
        }
    }
}

/// The counters of a card that is not open.
struct Unopened(u32);

impl Source for Unopened {
    fn stats(&self) -> DeviceStats {
        DeviceStats {
            kind: "vif".into(),
            devid: self.0,
            ..Default::default()
        }
    }
}

/// A tap interface that stays while front ends come and go.
struct Tap {
    /// Links of queues that the front end does not have, for which the host is to have no frames.
    unused: Vec<Box<dyn Link>>,
    // In this order: what was made for the card is undone after the descriptors are closed.
    descriptors: Vec<OwnedFd>,
    description: Description,
    _attachment: Attachment,
}

impl Network for Tap {
    fn offloads(&self) -> Offloads {
        self.description.offloads
    }

    fn max_queues(&self) -> u32 {
        self.descriptors.len() as u32
    }

    fn open(&mut self, queues: u32) -> io::Result<Vec<Box<dyn Link>>> {
        let link = |fd: &OwnedFd| {
            let fd = fd.as_fd().try_clone_to_owned()?;
            Ok(self.description.link(fd))
        };
        let links = self.descriptors.iter().map(link);
        let mut links = links.collect::<io::Result<Vec<_>>>()?;
        for mut link in self.unused.drain(..) {
            link.set_used(true)?;
        }
        self.unused = links.split_off(links.len().min(queues as usize));
        for link in &mut self.unused {
            link.set_used(false)?;
        }
        Ok(links)
    }
}

/// Queues of a card: one for each processor here, as netback has it, and no more than front ends
/// commonly ask for.
fn queues() -> u16 {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    processors.min(MAX_QUEUES) as u16
}
