//! What the domain's devices are on, from the time it was opened until nobody wants it any more.
//!
//! Media and links are opened by whoever may, before the process is confined or in another process,
//! and laid on the [`Shelf`]. The drivers take them from there, as often as a front end connects and
//! the domain starts again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pv_backend::driver::DeviceError;
use pv_media::Disk;
use pv_net::back::Network;
use pv_netdev::{Link, Offloads};

use crate::link::Lent;

/// Nodes of xenstore: names and values.
pub type NodeList = Vec<(String, String)>;

/// A device as the toolstack describes it in xenstore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNodes {
    /// The front end's directory, but for `backend`, `backend-id` and `state`.
    pub front: NodeList,
    /// The back end's directory, but for `frontend`, `frontend-id`, `online` and `state`.
    pub back: NodeList,
}

/// What a network card is plugged into: its links, those in use not counted.
#[derive(Clone)]
pub struct Plug {
    offloads: Offloads,
    queues: u32,
    links: Arc<Mutex<Vec<Box<dyn Link>>>>,
    /// Who holds the other end does something when it closes.
    _leash: Option<Arc<OwnedFd>>,
}

impl Plug {
    /// For these links, one a queue. `leash` is closed with the last of the copies.
    pub fn new(links: Vec<Box<dyn Link>>, leash: Option<Arc<OwnedFd>>) -> Self {
        Self {
            offloads: links
                .first()
                .map_or(Offloads::default(), |link| link.offloads()),
            queues: links.len() as u32,
            links: Arc::new(Mutex::new(links)),
            _leash: leash,
        }
    }
}

impl Network for Plug {
    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn max_queues(&self) -> u32 {
        self.queues.max(1)
    }

    fn open(&mut self, queues: u32) -> io::Result<Vec<Box<dyn Link>>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let have = links.len();
        let Some(first) = have.checked_sub(queues as usize) else {
            let message = format!("{queues} links are wanted and {have} there");
            return Err(io::Error::other(message));
        };
        let home = &self.links;
        let lend = |link| Box::new(Lent::new(link, home.clone())) as Box<dyn Link>;
        Ok(links.split_off(first).into_iter().map(lend).collect())
    }
}

/// What a device is on.
#[derive(Clone)]
pub enum Backing {
    /// A disk's medium; `None` is an empty drive.
    Medium(Option<Disk>),
    /// A network card's links.
    Links(Plug),
}

/// A device on the shelf.
#[derive(Clone)]
pub struct Item {
    /// What xenstore says of it.
    pub nodes: DeviceNodes,
    /// What it is on.
    pub backing: Backing,
}

/// Kind (`vbd`, `vif`) and number of a device.
pub type Key = (String, u32);

/// All devices of a domain; clones are the same shelf.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<BTreeMap<Key, Item>>>);

impl Shelf {
    fn items(&self) -> MutexGuard<'_, BTreeMap<Key, Item>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a device, unless there is one of that kind and number; whether it did.
    pub fn add(&self, key: Key, item: Item) -> bool {
        let mut items = self.items();
        let free = !items.contains_key(&key);
        if free {
            items.insert(key, item);
        }
        free
    }

    /// Takes a device away; what it is on is closed when its driver lets go of it.
    pub fn remove(&self, key: &Key) -> Option<Item> {
        self.items().remove(key)
    }

    /// A device.
    pub fn get(&self, key: &Key) -> Option<Item> {
        self.items().get(key).cloned()
    }

    /// Which devices there are.
    pub fn keys(&self) -> Vec<Key> {
        self.items().keys().cloned().collect()
    }

    /// Changes a device; false if it is not there.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Item)) -> bool {
        self.items().get_mut(key).map(change).is_some()
    }

    /// The medium of a disk as it is now.
    pub(crate) fn medium(&self, key: &Key) -> Result<Option<Disk>, DeviceError> {
        match self.items().get(key) {
            Some(Item {
                backing: Backing::Medium(medium),
                ..
            }) => Ok(medium.clone()),
            _ => Err(DeviceError("The disk was taken away".to_owned())),
        }
    }
}
