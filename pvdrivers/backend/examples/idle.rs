//! A back end for every device of the kinds named that connects and then does nothing: to watch the
//! handshake on any xenstore, a Xen host's for instance. It tells each step and ends with its
//! input.
//!
//! ```text
//! idle qdisk vif
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use pv_backend::{
    DeviceError, DeviceId, Driver, Host, HostChannel, Manager, ManagerSpec, Nodes, Reporter,
};
use pv_ring::host::GrantError;
use pv_ring::{Access, EventChannel, GrantMap, HostPage, SharedPage};
use pv_stats::{DeviceStats, Source};
use xen_sys::errno::Errno;
use xen_sys::{DomId, EvtchnPort, GrantRef};
use xt_xenstore::client::Client;

struct Idle(DeviceId);

impl Idle {
    fn tell(&self, what: &str, nodes: Option<&Nodes>) {
        let names: Vec<&str> =
            nodes.map_or(Vec::new(), |n| n.0.keys().map(String::as_str).collect());
        println!("{}: {what} {}", self.0, names.join(" "));
    }
}

impl Driver<NoHost> for Idle {
    fn open(&mut self, back: &Nodes, _: Reporter) -> Result<Vec<(String, String)>, DeviceError> {
        self.tell("open", Some(back));
        Ok(Vec::new())
    }

    fn connect(&mut self, _: &NoHost, front: &Nodes) -> Result<Vec<(String, String)>, DeviceError> {
        self.tell("connect", Some(front));
        Ok(Vec::new())
    }

    fn disconnect(&mut self) {
        self.tell("disconnect", None);
    }

    fn changed(&mut self, _: &Nodes, _: &Nodes) -> Result<Vec<(String, String)>, DeviceError> {
        self.tell("changed", None);
        Ok(Vec::new())
    }

    fn stats(&self) -> Arc<dyn Source> {
        struct None;
        impl Source for None {
            fn stats(&self) -> DeviceStats {
                DeviceStats::default()
            }
        }
        Arc::new(None)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let spec = ManagerSpec {
        own: DomId(0),
        kinds: std::env::args().skip(1).collect(),
        hotplug_scripts: false,
    };
    let store = Client::connect_default()?;
    let factory = |id: &DeviceId, _: &Nodes| Some(Box::new(Idle(id.clone())) as _);
    let (manager, control) = Manager::new(store, NoHost, spec, factory)?;
    let manager = thread::spawn(move || manager.run());
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    for device in control.devices() {
        println!("{}: {}", device.id, device.state);
    }
    control.stop();
    manager.join().map_err(|_| "The manager panicked.")??;
    Ok(())
}

/// A host that maps nothing and notifies nobody.
#[derive(Clone)]
struct NoHost;

/// What such a host has of everything.
struct Never(Infallible);

impl Host for NoHost {
    type Grants = NoHost;
    type Channel = Never;

    fn grants(&self, _: DomId) -> io::Result<NoHost> {
        Ok(NoHost)
    }

    fn bind(&self, _: DomId, _: EvtchnPort) -> io::Result<Never> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl GrantMap for NoHost {
    type Page = Never;

    fn map(&self, gref: GrantRef, _: Access) -> Result<Never, GrantError> {
        let source = Errno::ENOSYS;
        Err(GrantError::Host { gref, source })
    }
}

impl SharedPage for Never {
    fn len(&self) -> usize {
        match self.0 {}
    }
    fn load_u32(&self, _: usize) -> u32 {
        match self.0 {}
    }
    fn store_u32(&self, _: usize, _: u32) {
        match self.0 {}
    }
    fn read(&self, _: usize, _: &mut [u8]) {
        match self.0 {}
    }
    fn write(&self, _: usize, _: &[u8]) {
        match self.0 {}
    }
}

impl HostPage for Never {
    fn as_ptr(&self) -> NonNull<u8> {
        match self.0 {}
    }
}

impl EventChannel for Never {
    fn notify(&self) -> Result<(), Errno> {
        match self.0 {}
    }
}

impl AsFd for Never {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}

impl HostChannel for Never {
    fn clear(&self) -> io::Result<bool> {
        match self.0 {}
    }
}
