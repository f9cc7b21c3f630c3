//! The devices of a running domain, for those who ask by the control socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pv_stats::DeviceStats;
use pv_xenbus::XenbusState;
use serde::{Deserialize, Serialize};
use xenner_vmm::backends::{Backends, DeviceFault};
use xenner_vmm::shelf::{Backing, Item, Key, Shelf};

use super::disk;
use super::parcel::{DiskParcel, Parcel};
use crate::machine::ControlError;

/// How long a device may take to be offered to the guest.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// Which kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A disk.
    Vbd,
    /// A network card.
    Vif,
}

impl Kind {
    /// The word in xenstore.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Vbd => "vbd",
            Kind::Vif => "vif",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Vbd => "disk",
            Kind::Vif => "network card",
        }
    }
}

/// A device in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// `vbd` or `vif`.
    pub kind: String,
    /// Its number.
    pub devid: u32,
    /// What the guest calls a disk; a card's address.
    pub name: String,
    /// Where the handshake with the guest stands, in a word.
    pub state: String,
    /// Why it is closed, if something went wrong.
    pub error: Option<String>,
    /// What it is on: a disk's format and target, a card's network.
    pub backing: String,
    /// A disk: whether the guest may write.
    pub writable: Option<bool>,
    /// A disk: its size in bytes; `None` of an empty drive.
    pub bytes: Option<u64>,
}

/// Who serves the devices.
enum Served {
    By(Arc<Backends>),
    /// Nobody, since the domain has ended: the counters then.
    Ended(Vec<DeviceStats>),
}

/// The devices of a domain.
pub struct Desk {
    shelf: Shelf,
    served: Mutex<Served>,
    /// One change at a time.
    changes: Mutex<()>,
}

impl Desk {
    /// The devices on `shelf`, served by `backends`, all of them shown to the guest.
    pub fn open(shelf: Shelf, backends: Backends) -> Result<Self, ControlError> {
        for key in shelf.keys() {
            backends.show(&key).map_err(fault)?;
        }
        Ok(Self {
            shelf,
            served: Mutex::new(Served::By(Arc::new(backends))),
            changes: Mutex::new(()),
        })
    }

    /// Stops serving: the guest is no more. What it was told is done will be.
    pub fn close(&self) {
        let counters = self.stats();
        let before = std::mem::replace(&mut *self.served(), Served::Ended(counters));
        drop(before);
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backends(&self) -> Result<Arc<Backends>, ControlError> {
        match &*self.served() {
            Served::By(backends) => Ok(backends.clone()),
            Served::Ended(_) => Err(ControlError("The domain has ended".into())),
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches a device that somebody has opened.
    pub fn attach(&self, parcel: &Parcel, fds: Vec<OwnedFd>) -> Result<(), ControlError> {
        let _one = self.changing();
        let backends = self.backends()?;
        let key = parcel.key();
        if let Some(there) = self.shelf.get(&key) {
            let name = name_of(&key, &there);
            return Err(ControlError(format!(
                "There is a device {name} already; detach it first"
            )));
        }
        let item = parcel.unpack(fds).map_err(|error| ControlError(error.0))?;
        self.shelf.add(key.clone(), item);
        let shown = backends.show(&key);
        let settled = shown.and_then(|()| backends.settle(&key, SETTLE_TIME));
        settled.map_err(|error| {
            // Not attached is not there.
            let _ = backends.detach(&key, true);
            fault(error)
        })
    }

    /// Detaches a device; with `force` whatever the guest does with it.
    pub fn detach(&self, kind: Kind, name: &str, force: bool) -> Result<(), ControlError> {
        let _one = self.changing();
        let key = self.find(kind, name)?;
        self.backends()?
            .detach(&key, force)
            .map_err(|error| match error {
                DeviceFault::Kept => ControlError(format!(
                    "The guest does not let go of {name}, which may be in use; unmount it there, or take it away with --force"
                )),
                other => fault(other),
            })
    }

    /// Makes a disk larger, or without a size has it looked at again.
    pub fn resize(&self, name: &str, bytes: Option<u64>) -> Result<DeviceInfo, ControlError> {
        let _one = self.changing();
        let key = self.find(Kind::Vbd, name)?;
        let Some(Item {
            backing: Backing::Medium(Some(medium)),
            ..
        }) = self.shelf.get(&key)
        else {
            return Err(ControlError(format!("{name} has no medium")));
        };
        let resized = match bytes {
            Some(bytes) => medium.resize(bytes.div_ceil(512)),
            None => medium.refresh(),
        };
        resized.map_err(|error| {
            use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
            let why = match error.kind() {
                InvalidInput => "a disk can only grow".to_owned(),
                PermissionDenied => "it is read-only".to_owned(),
                Unsupported => {
                    "its medium has a size of its own; change that and leave SIZE out".to_owned()
                }
                _ => error.to_string(),
            };
            ControlError(format!("Cannot resize {name}: {why}"))
        })?;
        self.backends()?.changed(&key);
        self.info(&key)
            .ok_or_else(|| ControlError(format!("{name} is gone")))
    }

    /// Puts a medium into a CD-ROM drive, or takes it out.
    pub fn insert(
        &self,
        name: &str,
        parcel: Option<&DiskParcel>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ControlError> {
        let _one = self.changing();
        let key = self.find(Kind::Vbd, name)?;
        let drive = self.shelf.get(&key);
        let is_cdrom = drive.is_some_and(|item| node(&item, "device-type") == Some("cdrom"));
        if !is_cdrom {
            return Err(ControlError(format!("{name} is no CD-ROM drive")));
        }
        let spec = parcel.map(|parcel| &parcel.spec);
        let medium = match parcel {
            Some(parcel) => parcel.unpack(fds).map_err(|error| ControlError(error.0))?,
            None => None,
        };
        let backends = self.backends()?;
        self.shelf.change(&key, |item| {
            item.backing = Backing::Medium(medium);
            item.label = spec.map_or_else(String::new, disk::label);
        });
        let image = spec.and_then(|spec| Some((spec.format, spec.target.as_deref()?)));
        backends.exchange(&key, image).map_err(fault)
    }

    /// All devices.
    pub fn list(&self) -> Vec<DeviceInfo> {
        let keys = self.shelf.keys();
        keys.iter().filter_map(|key| self.info(key)).collect()
    }

    fn info(&self, key: &Key) -> Option<DeviceInfo> {
        let item = self.shelf.get(key)?;
        let entry = self
            .backends()
            .ok()
            .and_then(|backends| backends.entry(key));
        let medium = match &item.backing {
            Backing::Medium(medium) => medium.as_ref().map(|medium| medium.info()),
            Backing::Links(_) => None,
        };
        let is_disk = matches!(item.backing, Backing::Medium(_));
        Some(DeviceInfo {
            kind: key.0.clone(),
            devid: key.1,
            name: name_of(key, &item),
            state: entry
                .as_ref()
                .map_or("unknown".into(), |entry| word(entry.state)),
            error: entry.and_then(|entry| entry.error),
            backing: item.label.clone(),
            writable: is_disk.then(|| node(&item, "mode") == Some("w")),
            bytes: medium.map(|info| info.sectors * 512),
        })
    }

    /// The devices' counters.
    pub fn stats(&self) -> Vec<DeviceStats> {
        let backends = match &*self.served() {
            Served::By(backends) => backends.clone(),
            Served::Ended(counters) => return counters.clone(),
        };
        let sources: BTreeMap<_, _> = backends
            .devices()
            .into_iter()
            .filter_map(|entry| Some((entry.id, entry.stats?)))
            .collect();
        sources.values().map(|source| source.stats()).collect()
    }

    /// The device that a user calls so: by the guest's name of it, its number, or its address.
    fn find(&self, kind: Kind, name: &str) -> Result<Key, ControlError> {
        let keys = self
            .shelf
            .keys()
            .into_iter()
            .filter(|(word, _)| word == kind.word());
        let mut names = Vec::new();
        for key in keys {
            let Some(item) = self.shelf.get(&key) else {
                continue;
            };
            let own = name_of(&key, &item);
            if own.eq_ignore_ascii_case(name) || name.parse() == Ok(key.1) {
                return Ok(key);
            }
            names.push(own);
        }
        let kind = kind.name();
        let have = match names.as_slice() {
            [] => "it has none".to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        Err(ControlError(format!(
            "The domain has no {kind} {name:?}; {have}"
        )))
    }
}

/// A state as counters and tables have it: `InitWait` is `init-wait`.
fn word(state: XenbusState) -> String {
    let name = state.to_string();
    let name = name.split(' ').next().unwrap_or_default();
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

fn fault(error: DeviceFault) -> ControlError {
    ControlError(error.to_string())
}

fn node<'a>(item: &'a Item, key: &str) -> Option<&'a str> {
    let mut nodes = item.nodes.back.iter();
    nodes
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.as_str())
}

/// What the guest calls a disk; a card's address.
fn name_of(key: &Key, item: &Item) -> String {
    let name = node(item, if key.0 == "vbd" { "dev" } else { "mac" });
    name.map_or_else(|| key.1.to_string(), str::to_owned)
}
