//! The back ends of the domain's disks and network cards.
//!
//! One thread takes all devices through their handshakes ([`pv_backend::Manager`]); each queue of a
//! connected device has one of its own. What they are on lies on the [`Shelf`].

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pv_backend::{Control, DeviceEntry, DeviceId, Driver, Manager, ManagerSpec, Nodes};
use pv_block::back::{Settings, VbdDriver};
use pv_net::back::{VifDriver, VifSpec};
use pv_xenbus::XenbusState;
use xen_sys::DomId;
use xt_config::DomainType;
use xt_config::disk::DiskFormat;
use xt_devices::{DeviceRef, Guest, Mode, medium};
use xt_xenstore::client::Client;
use xt_xenstore::service::Handle as Store;

use crate::domain::{DOMID, Role};
use crate::host::KvmHost;
use crate::medium::OnDisk;
use crate::shelf::{Backing, Key, Shelf};

/// Domain 0, where back ends are.
const OWN: DomId = DomId(0);

/// The only guest there is.
pub const GUEST: Guest = Guest {
    domid: DomId(DOMID),
    kind: DomainType::Pv,
};

/// How long a driver may take to end after its device.
const END_TIME: Duration = Duration::from_secs(10);

/// The back ends of a domain; dropping them disconnects every device.
pub struct Backends {
    control: Control,
    shelf: Shelf,
    /// The toolstack's connection.
    toolstack: Mutex<Client>,
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
    /// Serves the devices on `shelf` and those that are put there later, to a guest with so many
    /// virtual CPUs: more queues than that are of no use to it.
    ///
    /// # Errors
    /// The operating system's, or xenstore has ended.
    pub fn start(
        host: KvmHost,
        store: &Store,
        shelf: Shelf,
        vcpus: usize,
        confine: fn(Role),
    ) -> io::Result<Self> {
        let connect = || {
            let client = store.call(|service| service.local_client());
            client.unwrap_or_else(|| Err(io::Error::other("xenstore has ended")))
        };
        let (client, toolstack) = (connect()?, connect()?);
        let spec = ManagerSpec {
            own: OWN,
            kinds: ["vbd", "qdisk", "vif"].map(str::to_owned).into(),
            hotplug_scripts: false,
        };
        let shelved = shelf.clone();
        let factory = move |id: &DeviceId, _: &Nodes| driver(&shelved, id, vcpus);
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
            toolstack: Mutex::new(toolstack),
            thread: Some(thread),
        })
    }

    /// The devices served now.
    pub fn devices(&self) -> Vec<DeviceEntry> {
        self.control.devices()
    }

    fn toolstack(&self) -> MutexGuard<'_, Client> {
        self.toolstack
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the guest a device from the shelf.
    ///
    /// # Errors
    /// [`DeviceFault::Store`].
    pub fn show(&self, key: &Key) -> Result<(), DeviceFault> {
        let Some(item) = self.shelf.get(key) else {
            return Err(DeviceFault::Store("it is gone".into()));
        };
        Ok(xt_devices::attach(&mut self.toolstack(), &item.nodes)?)
    }

    /// Waits until the device's back end stands as `wanted`, or has failed.
    ///
    /// # Errors
    /// [`DeviceFault::Failed`].
    pub fn settle(&self, key: &Key, patience: Duration) -> Result<(), DeviceFault> {
        use XenbusState::{Closed, Connected, InitWait};
        let id = self.id(key)?;
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
    pub fn detach(&self, key: &Key, force: bool) -> Result<(), DeviceFault> {
        let id = self.id(key)?;
        let device = self.device(key)?;
        let mode = if force { Mode::Force } else { Mode::Safe };
        let limit = xt_devices::detach::LIMIT;
        match xt_devices::detach(&mut self.toolstack(), &device, mode, limit) {
            Err(xt_devices::DeviceError::Timeout { .. }) if !force => {
                return Err(DeviceFault::Kept);
            }
            other => other?,
        }
        self.shelf.remove(key);
        // What it was on is free when its driver has ended.
        let gone = self
            .control
            .wait_for(&id, END_TIME, |entry| entry.is_none());
        match gone {
            true => Ok(()),
            false => Err(DeviceFault::Failed("Its back end does not end".into())),
        }
    }

    /// Exchanges what is in a CD-ROM drive: image and format, or nothing.
    ///
    /// # Errors
    /// [`DeviceFault::Store`].
    pub fn exchange(
        &self,
        key: &Key,
        image: Option<(DiskFormat, &str)>,
    ) -> Result<(), DeviceFault> {
        let device = self.device(key)?;
        let mut client = self.toolstack();
        match image {
            Some((format, target)) => medium::cd_insert(&mut client, &device, format, target)?,
            None => medium::cd_eject(&mut client, &device)?,
        }
        // For when the domain starts again.
        let params = client.read_text(&format!("{}/params", device.libxl_path()));
        let params = params.map_err(xt_devices::DeviceError::from)?;
        self.shelf.change(key, |item| {
            let mut nodes = item.nodes.back.iter_mut();
            if let Some((_, value)) = nodes.find(|(name, _)| *name == "params") {
                *value = params.unwrap_or_default();
            }
        });
        Ok(())
    }

    fn device(&self, key: &Key) -> Result<DeviceRef, DeviceFault> {
        let item = self.shelf.get(key);
        let item = item.ok_or_else(|| DeviceFault::Store("it is gone".into()))?;
        Ok(item.nodes.device)
    }

    fn id(&self, key: &Key) -> Result<DeviceId, DeviceFault> {
        let item = self.shelf.get(key);
        let item = item.ok_or_else(|| DeviceFault::Store("it is gone".into()))?;
        Ok(DeviceId {
            kind: item.nodes.backend_kind.to_owned(),
            domid: DomId(DOMID),
            devid: key.1,
        })
    }

    /// The entry of a device.
    pub fn entry(&self, key: &Key) -> Option<DeviceEntry> {
        self.control.device(&self.id(key).ok()?)
    }

    /// Has a driver look again at what its device is on.
    pub fn changed(&self, key: &Key) {
        if let Ok(id) = self.id(key) {
            self.control.changed(&id);
        }
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

impl From<xt_devices::DeviceError> for DeviceFault {
    fn from(error: xt_devices::DeviceError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        DeviceFault::Store(cause.unwrap_or_else(|| error.to_string()))
    }
}

/// The device of the shelf that a back end is for: disks have back ends of two kinds.
fn key_of(id: &DeviceId) -> Key {
    let kind = if id.kind == "vif" { "vif" } else { "vbd" };
    (kind.to_owned(), id.devid)
}

fn driver(shelf: &Shelf, id: &DeviceId, vcpus: usize) -> Option<Box<dyn Driver<KvmHost>>> {
    let key = key_of(id);
    match shelf.get(&key)?.backing {
        Backing::Medium(_) => {
            let shelf = shelf.clone();
            let open = move |_: &Nodes| Ok(shelf.medium(&key)?.map(OnDisk));
            let mut settings = Settings {
                // Mapping is a look-up. A front end that keeps its grants copies all data instead.
                persistent_grants: 0,
                ..Settings::default()
            };
            settings.max_queues = settings.max_queues.min(vcpus as u32).max(1);
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
