//! Opened devices on their way to the domain: what they are, and their descriptors.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pv_media::{Disk, FileMap, MediumError, NbdUri, Opener, Paths};
use pv_netdev::{Description, Request};
use serde::{Deserialize, Serialize};
use xenner_vmm::shelf::{Backing, Item, Key, Plug};

use super::{DiskSpec, Nic, disk, keeper, nic};

/// A device, without its descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parcel {
    /// A disk.
    Disk(DiskParcel),
    /// A network card.
    Nic(NicParcel),
}

/// A disk, and what its descriptors are, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskParcel {
    /// The disk.
    pub spec: DiskSpec,
    /// Its files: an image and those it is based on.
    pub handles: Vec<Handle>,
}

/// One descriptor of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handle {
    /// A file or block device.
    File {
        /// Its path, by which images refer to each other.
        path: PathBuf,
        /// Opened past the page cache.
        direct: bool,
    },
    /// A connection to a server of network block devices.
    Socket {
        /// To this one.
        uri: String,
    },
}

/// A network card; its descriptors are one a queue, then the keeper's if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicParcel {
    /// The card.
    pub nic: Nic,
    /// What the descriptors are.
    pub description: Description,
    /// Whether a [`keeper`] tidies up after it.
    pub kept: bool,
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParcelError(pub String);

impl ParcelError {
    fn of(what: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {}", error.to_string().trim_end_matches('.'));
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self(text)
    }
}

/// Opens files as the process can, and remembers them.
#[derive(Default)]
struct Recorder(RefCell<Vec<(Handle, Option<OwnedFd>)>>);

impl Recorder {
    fn note(&self, path: &Path, direct: bool, file: &File) -> io::Result<()> {
        let path = path.to_owned();
        let copy = file.as_fd().try_clone_to_owned()?;
        let handle = Handle::File { path, direct };
        self.0.borrow_mut().push((handle, Some(copy)));
        Ok(())
    }
}

impl Opener for Recorder {
    fn open(&self, path: &Path, write: bool) -> io::Result<File> {
        let file = Paths.open(path, write)?;
        self.note(path, false, &file)?;
        Ok(file)
    }

    fn open_direct(&self, path: &Path, write: bool) -> io::Result<File> {
        let file = Paths.open_direct(path, write)?;
        self.note(path, true, &file)?;
        Ok(file)
    }

    fn connect(&self, uri: &NbdUri) -> io::Result<OwnedFd> {
        let uri_text = uri.as_str().to_owned();
        self.0
            .borrow_mut()
            .push((Handle::Socket { uri: uri_text }, None));
        Paths.connect(uri)
    }
}

/// Opens a disk's files, having looked whether they make a disk that nobody else uses. The domain
/// locks them again.
pub fn pack_disk(spec: &DiskSpec) -> Result<(DiskParcel, Vec<OwnedFd>), ParcelError> {
    let what = format!("Disk {}", spec.vdev);
    let medium = disk::medium(spec).map_err(ParcelError)?;
    let recorder = Recorder::default();
    if let Some(medium) = &medium {
        let opened = Disk::open(medium, &recorder);
        // Whoever gets the descriptors is its only user.
        drop(opened.map_err(|error: MediumError| ParcelError::of(&what, &error))?);
    }
    let (mut handles, mut fds) = (Vec::new(), Vec::new());
    for (handle, fd) in recorder.0.into_inner() {
        if handles.contains(&handle) {
            continue;
        }
        let fd = match (&handle, fd) {
            (_, Some(fd)) => fd,
            // The first connection was spoken on.
            (Handle::Socket { uri }, None) => connect(&what, uri)?,
            (Handle::File { .. }, None) => continue,
        };
        handles.push(handle);
        fds.push(fd);
    }
    let spec = spec.clone();
    Ok((DiskParcel { spec, handles }, fds))
}

fn connect(what: &str, uri: &str) -> Result<OwnedFd, ParcelError> {
    let uri: NbdUri = uri
        .parse()
        .map_err(|error: MediumError| ParcelError::of(what, &error))?;
    Paths
        .connect(&uri)
        .map_err(|error| ParcelError::of(what, &error))
}

impl DiskParcel {
    /// Makes a medium of it and its descriptors; nothing else is opened.
    pub fn unpack(&self, fds: Vec<OwnedFd>) -> Result<Option<Disk>, ParcelError> {
        let what = format!("Disk {}", self.spec.vdev);
        if fds.len() != self.handles.len() {
            let (have, want) = (fds.len(), self.handles.len());
            return Err(ParcelError(format!(
                "{what}: {have} descriptors came, not {want}"
            )));
        }
        let Some(medium) = disk::medium(&self.spec).map_err(ParcelError)? else {
            return Ok(None);
        };
        let mut files = FileMap::new();
        for (handle, fd) in self.handles.iter().zip(fds) {
            match handle {
                Handle::File { path, direct } => files.insert(path, *direct, File::from(fd)),
                Handle::Socket { uri } => files.insert_socket(uri, fd),
            }
        }
        let disk = Disk::open(&medium, &files);
        disk.map(Some)
            .map_err(|error| ParcelError::of(&what, &error))
    }
}

/// Makes a network card's host side.
pub fn pack_nic(card: &Nic) -> Result<(NicParcel, Vec<OwnedFd>), ParcelError> {
    let what = format!("Network card {}", card.devid);
    // The interface's name must tell the domains of a host apart; they all are number 1 to themselves.
    let request = Request {
        name: format!("vif{}.{}", std::process::id(), card.devid),
        queues: 1,
    };
    let opened = pv_netdev::open(&card.netdev, &request);
    let mut opened = opened.map_err(|error| ParcelError::of(&what, &error))?;
    let mut fds = opened.descriptors;
    let chores = opened.attachment.take_chores();
    let kept = !chores.is_empty();
    if kept {
        let leash = keeper::start(chores).map_err(|error| ParcelError::of(&what, &error))?;
        fds.push(leash);
    }
    // passt ends with the last descriptor of its socket, which the domain will have.
    std::mem::forget(opened.attachment.passt.take());
    let parcel = NicParcel {
        nic: card.clone(),
        description: opened.description,
        kept,
    };
    Ok((parcel, fds))
}

impl NicParcel {
    fn unpack(&self, mut fds: Vec<OwnedFd>) -> Result<Plug, ParcelError> {
        let leash = if self.kept { fds.pop() } else { None };
        if fds.is_empty() {
            let what = format!("Network card {}", self.nic.devid);
            return Err(ParcelError(format!("{what}: no descriptors came")));
        }
        let links = fds
            .into_iter()
            .map(|fd| self.description.link(fd))
            .collect();
        Ok(Plug::new(links, leash.map(Arc::new)))
    }
}

impl Parcel {
    /// Which device it is in xenstore.
    pub fn key(&self) -> Key {
        match self {
            Parcel::Disk(parcel) => ("vbd".into(), disk::devid(&parcel.spec)),
            Parcel::Nic(parcel) => ("vif".into(), parcel.nic.devid),
        }
    }

    /// Makes a device of it and its descriptors.
    pub fn unpack(&self, fds: Vec<OwnedFd>) -> Result<Item, ParcelError> {
        Ok(match self {
            Parcel::Disk(parcel) => Item {
                nodes: disk::nodes(&parcel.spec),
                backing: Backing::Medium(parcel.unpack(fds)?),
            },
            Parcel::Nic(parcel) => Item {
                nodes: nic::nodes(&parcel.nic, &parcel.description),
                backing: Backing::Links(parcel.unpack(fds)?),
            },
        })
    }
}

#[cfg(test)]
#[path = "parcel_test.rs"]
mod tests;
