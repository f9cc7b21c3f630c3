//! A KVM host: every domain is a process of `xenner`, which this crate starts and talks to.
//!
//! Begin with [`KvmHost`], which does what [`xt_host::Host`] asks for. A domain is found by its run
//! directory and told what to do through its control socket, as by `xenner`'s own commands; what a
//! toolstack tells a guest through xenstore goes through the domain's own xenstore, where it is number
//! [`GUEST`]. Its number on this host is another, which its process takes at each `xt create`.
//!
//! The process of a domain carries out its `on_*` settings by itself, so nothing has to supervise it.
#![forbid(unsafe_code)]

mod changes;
mod create;
mod devices;
mod domains;
mod host;
mod machine;
mod vcpus;

use std::path::{Path, PathBuf};

use xen_sys::DomId;
use xenner::control::client::{ClientError, Connection};
use xenner::rundir::Base;
use xt_host::{HostError, Result};
use xt_xenstore::client::{Client, ClientError as StoreError};

/// The number of every domain in its own xenstore.
pub const GUEST: DomId = DomId(1);

/// A KVM host.
#[derive(Clone, Debug)]
pub struct KvmHost {
    base: Base,
    program: PathBuf,
}

impl KvmHost {
    /// The host of this user. `run_dir` is where domains keep their sockets, as `xenner --run-dir`;
    /// `program` is `xenner` itself, or its name in `PATH`.
    ///
    /// # Errors
    /// There is no place for run directories.
    pub fn open(run_dir: Option<&Path>, program: PathBuf) -> Result<Self> {
        let base = Base::find(run_dir).map_err(|error| HostError::Unusable(error.to_string()))?;
        Ok(Self { base, program })
    }

    /// The name of a domain, which is that of its run directory.
    fn name(&self, domid: DomId) -> Result<String> {
        let names = self.names()?;
        let found = names
            .into_iter()
            .find(|name| self.id_of(name) == Some(domid.0));
        found.ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()))
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = self.base.names();
        names.map_err(|error| HostError::Unusable(error.to_string()))
    }

    fn id_of(&self, name: &str) -> Option<u16> {
        let path = self.base.of(name).join(xenner::rundir::ID);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn connect(&self, domid: DomId) -> Result<Connection> {
        let name = self.name(domid)?;
        Connection::open(&self.base, &name).map_err(refused)
    }

    /// The domain's xenstore, as its toolstack.
    fn store(&self, domid: DomId) -> Result<Client> {
        let path = self
            .base
            .of(&self.name(domid)?)
            .join(xenner::rundir::XENSTORE);
        Client::connect(&path).map_err(stored)
    }

    fn write(&self, domid: DomId, node: &str, value: &str) -> Result<()> {
        let path = format!("/local/domain/{}/{node}", GUEST.0);
        self.store(domid)?.write(&path, value).map_err(stored)
    }
}

fn refused(error: ClientError) -> HostError {
    match error {
        ClientError::NoSuchDomain { name } => HostError::NoSuchDomain(name),
        ClientError::Silent { .. } => HostError::TimedOut(error.to_string()),
        error => HostError::Refused(error.to_string()),
    }
}

fn stored(error: StoreError) -> HostError {
    HostError::failed("Cannot use the domain's xenstore.", error)
}
