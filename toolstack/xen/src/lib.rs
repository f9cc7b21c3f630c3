//! Domains on a Xen host: built, listed, changed and taken apart from dom0.
//!
//! What libxc and libxl are to `xl`, this is to `xt`, with the hypervisor below it
//! ([`xt_host_xen::Control`]) and xenstored beside it, and nothing of Xen's libraries. Begin with
//! [`XenHost::open`]; what it does is the trait [`Host`](xt_host::Host).
//!
//! - `create`: the order in which a domain comes to be; `build` and `pvh` give it memory and a kernel,
//!   `nodes` its xenstore nodes, `hotplug` its devices, `userdata` what libxl keeps in files.
//! - `hvm`: what firmware and a device model need besides.
//! - `destroy`: takes it apart, whoever made it.
//! - `journal`: so that a command killed at any moment leaves nothing for good.
//! - `settings`: what a configuration sets besides: processors, shares of them, the time stamp counter.
//! - `lock`: `xl`'s, held while a domain is created.
//! - `life`, `info`: what can be done with it and told of it meanwhile.
//!
//! A domain made here is one that `xl` can list, inspect and destroy, and the other way round: same
//! nodes, same files, same permissions.
#![forbid(unsafe_code)]

mod acpi;
mod build;
mod core_dump;
mod cpu;
mod create;
mod destroy;
mod host;
mod hotplug;
mod hvm;
mod info;
mod journal;
mod life;
mod lock;
mod memory;
mod nodes;
mod pvh;
mod settings;
mod userdata;

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use xt_host::{HostError, Result};
use xt_host_xen::{Control, ControlError, OpenError};
use xt_xenstore::client::{Client, ClientError};

/// Where things are kept in dom0.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// libxl's files of domains.
    pub userdata: PathBuf,
    /// What is being made or taken apart.
    pub journal: PathBuf,
    /// Locked while a domain is created: `xl`'s, `lockfile` of xl.conf(5).
    pub creation: PathBuf,
    /// Unpacked kernels; `None`: each is unpacked anew.
    pub kernels: Option<PathBuf>,
}

impl Default for Dirs {
    fn default() -> Self {
        Self {
            userdata: "/var/lib/xen".into(),
            journal: "/run/xt/journal".into(),
            creation: "/var/lock/xl".into(),
            kernels: Some("/var/cache/xt/kernels".into()),
        }
    }
}

/// This machine's Xen.
#[derive(Debug)]
pub struct XenHost {
    control: Control,
    client: Mutex<Client>,
    dirs: Dirs,
    /// Of the domain that is created and not committed yet.
    uncommitted: Mutex<Option<journal::Entry>>,
}

impl XenHost {
    /// Opens `/dev/xen/privcmd` and connects to xenstored.
    ///
    /// # Errors
    /// [`HostError::Unusable`] where this is no dom0, or its daemons do not run.
    pub fn open() -> Result<Self> {
        Self::with(Dirs::default())
    }

    /// The same, with other places for files.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn with(dirs: Dirs) -> Result<Self> {
        let control = Control::open().map_err(unusable)?;
        let client = Client::connect_default()
            .map_err(|error| HostError::Unusable(chain("Cannot reach xenstore", &error)))?;
        Ok(Self {
            control,
            client: Mutex::new(client),
            dirs,
            uncommitted: Mutex::new(None),
        })
    }

    /// Whether this is a domain of Xen that may control it, going by its device alone.
    pub fn is_here() -> bool {
        std::path::Path::new("/proc/xen/privcmd").exists()
            || std::path::Path::new("/dev/xen/privcmd").exists()
    }

    /// Xenstore, for one command at a time.
    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal's entry of a domain that this very process has not committed yet.
    fn take_uncommitted(&self, domid: xen_sys::DomId) -> Option<journal::Entry> {
        let held = self.uncommitted.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        held.take_if(|entry| entry.domid == Some(domid))
    }
}

fn unusable(error: ControlError) -> HostError {
    match &error {
        ControlError::Open(OpenError::NotXen) => {
            HostError::Unusable("This machine does not run Xen.".into())
        }
        _ => HostError::Unusable(chain("Cannot control Xen", &error)),
    }
}

/// A sentence with all causes behind it.
fn chain(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{}: {inner}", text.trim_end_matches('.'));
        cause = inner.source();
    }
    text
}

/// For `map_err`: a failed call with what it was for.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::failed(what, source)
}

/// Xenstore's answer, as the caller of a host wants it.
fn store<T>(answer: std::result::Result<T, ClientError>) -> Result<T> {
    answer.map_err(|source| HostError::failed("Xenstore failed", source))
}
