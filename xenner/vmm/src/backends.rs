//! The back ends of the domain's disks and network cards.
//!
//! One thread takes all devices through their handshakes ([`pv_backend::Manager`]); each queue of a
//! connected device has one of its own. What they are on lies on the [`Shelf`].

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use pv_backend::{Control, DeviceEntry, DeviceId, Driver, Manager, ManagerSpec, Nodes};
use pv_block::back::{Settings, VbdDriver};
use pv_net::back::{VifDriver, VifSpec};
use pv_xenbus::XenbusState;
use xen_sys::DomId;
use xt_xenstore::domain::DeviceInfo;
use xt_xenstore::path::Path;
use xt_xenstore::service::Handle as Store;

use crate::domain::{DOMID, Role};
use crate::host::KvmHost;
use crate::medium::OnDisk;
use crate::shelf::{Backing, Key, Shelf};

/// Domain 0, where back ends are.
const OWN: DomId = DomId(0);

/// How long a front end may take to let go of a device.
pub const DETACH_TIME: Duration = Duration::from_secs(10);

/// The back ends of a domain; dropping them disconnects every device.
pub struct Backends {
    control: Control,
    shelf: Shelf,
    thread: Option<JoinHandle<()>>,
}

/// A device cannot be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum DeviceFault {
    /// Xenstore does not take its nodes.
    #[error("Xenstore does not take the device: {0}")]
    Store(String),
    /// The back end gave up.
    #[error("{0}")]
    Failed(String),
    /// The front end keeps it.
    #[error("The guest does not let go of the device")]
    Kept,
}

impl Backends {
    /// Serves the devices on `shelf` and those that are put there later.
    ///
    /// # Errors
    /// The operating system's, or xenstore has ended.
    pub fn start(
        host: KvmHost,
        store: &Store,
        shelf: Shelf,
        confine: fn(Role),
    ) -> io::Result<Self> {
        let client = store
            .call(|service| service.local_client())
            .unwrap_or_else(|| Err(io::Error::other("xenstore has ended")))?;
        let spec = ManagerSpec {
            own: OWN,
            kinds: vec!["vbd".to_owned(), "vif".to_owned()],
            hotplug_scripts: false,
        };
        let shelved = shelf.clone();
        let factory = move |id: &DeviceId, _: &Nodes| driver(&shelved, id);
        // Made here, where the descriptors it needs may be had.
        let (manager, control) =
            Manager::new(client, host, spec, factory).map_err(io::Error::other)?;
        let run = move || {
            confine(Role::Devices);
            if let Err(error) = manager.run() {
                tracing::error!("{error}");
            }
        };
        let thread = std::thread::Builder::new()
            .name("devices".into())
            .spawn(run)?;
        Ok(Self {
            control,
            shelf,
            thread: Some(thread),
        })
    }

    /// The devices served now.
    pub fn devices(&self) -> Vec<DeviceEntry> {
        self.control.devices()
    }

    /// Shows the guest a device from the shelf.
    ///
    /// # Errors
    /// [`DeviceFault::Store`].
    pub fn show(&self, store: &Store, key: &Key) -> Result<(), DeviceFault> {
        let Some(item) = self.shelf.get(key) else {
            return Err(DeviceFault::Store("it is gone".into()));
        };
        let (kind, devid) = key.clone();
        let front_own = [("backend-id", OWN.to_string()), ("state", "1".into())];
        let back_own = [
            ("frontend-id", DomId(DOMID).to_string()),
            ("online", "1".into()),
            ("state", "1".into()),
        ];
        let add = move |service: &mut xt_xenstore::service::Service| {
            let front = pairs(&item.nodes.front, &front_own);
            let back = pairs(&item.nodes.back, &back_own);
            let device = DeviceInfo {
                domid: DomId(DOMID),
                backend_domid: OWN,
                kind: &kind,
                backend_kind: &kind,
                devid,
                frontend: &front,
                backend: &back,
            };
            let added = service
                .server
                .update(|store| xt_xenstore::domain::add_device(store, &device));
            added.map(drop).map_err(|error| error.to_string())
        };
        ask(store, add)
    }

    /// Waits until the device's back end stands as `wanted`, or has failed.
    ///
    /// # Errors
    /// [`DeviceFault::Failed`].
    pub fn settle(&self, key: &Key, patience: Duration) -> Result<(), DeviceFault> {
        use XenbusState::{Closed, Connected, InitWait};
        let id = device_id(key);
        self.control.wait_for(&id, patience, |entry| {
            entry.is_some_and(|entry| matches!(entry.state, InitWait | Connected | Closed))
        });
        match self.control.device(&id).and_then(|entry| entry.error) {
            Some(error) => Err(DeviceFault::Failed(error)),
            None => Ok(()),
        }
    }

    /// Asks the guest to let go of a device, or takes it away whatever the guest does with it, and
    /// removes it.
    ///
    /// # Errors
    /// [`DeviceFault`].
    pub fn detach(&self, store: &Store, key: &Key, force: bool) -> Result<(), DeviceFault> {
        let id = device_id(key);
        self.control.detach(&id, force);
        let closed = self.control.wait_for(&id, DETACH_TIME, |entry| {
            entry.is_none_or(|entry| entry.state == XenbusState::Closed)
        });
        if !closed {
            return Err(DeviceFault::Kept);
        }
        self.shelf.remove(key);
        let (kind, devid) = key;
        let paths = [
            format!("/local/domain/{DOMID}/device/{kind}/{devid}"),
            format!("/local/domain/{OWN}/backend/{kind}/{DOMID}/{devid}"),
            format!("/libxl/{DOMID}/device/{kind}/{devid}"),
        ];
        ask(store, move |service| {
            service.server.update(|store| {
                for path in &paths {
                    let path = Path::absolute(path).map_err(|error| error.to_string())?;
                    // What is gone already need not be removed.
                    let _ = store.host().rm(&path);
                }
                Ok(())
            })
        })
    }

    /// Writes nodes of the back end's directory, which its driver then looks at.
    ///
    /// # Errors
    /// [`DeviceFault::Store`].
    pub fn write(
        &self,
        store: &Store,
        key: &Key,
        nodes: Vec<(String, String)>,
    ) -> Result<(), DeviceFault> {
        let (kind, devid) = key;
        let root = format!("/local/domain/{OWN}/backend/{kind}/{DOMID}/{devid}");
        ask(store, move |service| {
            service.server.update(|store| {
                for (name, value) in &nodes {
                    let path = format!("{root}/{name}");
                    let path = Path::absolute(&path).map_err(|error| error.to_string())?;
                    let written = store.host().write(&path, value.as_bytes());
                    written.map_err(|error| error.name().to_owned())?;
                }
                Ok(())
            })
        })
    }

    /// Has a driver look again at what its device is on.
    pub fn changed(&self, key: &Key) {
        self.control.changed(&device_id(key));
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn device_id((kind, devid): &Key) -> DeviceId {
    DeviceId {
        kind: kind.clone(),
        domid: DomId(DOMID),
        devid: *devid,
    }
}

fn pairs<'a>(
    nodes: &'a [(String, String)],
    own: &'a [(&'static str, String)],
) -> Vec<(&'a str, &'a str)> {
    let nodes = nodes.iter().map(|(name, value)| (&**name, &**value));
    nodes
        .chain(own.iter().map(|(name, value)| (*name, &**value)))
        .collect()
}

fn ask(
    store: &Store,
    work: impl FnOnce(&mut xt_xenstore::service::Service) -> Result<(), String> + Send + 'static,
) -> Result<(), DeviceFault> {
    let answer = store.call(work).unwrap_or(Err("it has ended".into()));
    answer.map_err(DeviceFault::Store)
}

fn driver(shelf: &Shelf, id: &DeviceId) -> Option<Box<dyn Driver<KvmHost>>> {
    let key = (id.kind.clone(), id.devid);
    match shelf.get(&key)?.backing {
        Backing::Medium(_) => {
            let shelf = shelf.clone();
            let open = move |_: &Nodes| Ok(shelf.medium(&key)?.map(OnDisk));
            let settings = Settings::default();
            Some(Box::new(VbdDriver::new(
                id.clone(),
                settings,
                Box::new(open),
            )))
        }
        Backing::Links(plug) => {
            let spec = VifSpec::new(id.domid, id.devid);
            Some(Box::new(VifDriver::new(spec, Box::new(plug))))
        }
    }
}
