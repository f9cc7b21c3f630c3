//! A host and one guest in this process: front ends and back ends face each other without a VM.
//!
//! Begin with [`LoopbackHost::new`]. The guest's memory is the process's own, its grant table a
//! table of atomics, an event channel two eventfds. For tests, fuzzing and benchmarks: what a
//! grant or a notification costs here is the floor, not what a hypervisor takes.

mod channel;
mod grants;
mod memory;

use std::io;
use std::sync::Arc;

use pv_ring::{Access, GrantAccess};
use xen_sys::{DomId, EvtchnPort, GrantRef};

pub use channel::LoopbackChannel;
pub use grants::{LoopbackGrants, MappedPage};
pub use memory::LoopbackPage;

use crate::Host;
use channel::Ports;
use grants::Table;
use memory::Memory;

/// A host with one guest, [`LoopbackHost::GUEST`]; clones are the same host.
#[derive(Clone, Debug)]
pub struct LoopbackHost(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Arc<Memory>,
    table: Arc<Table>,
    ports: Arc<Ports>,
}

impl LoopbackHost {
    /// The guest's domain.
    pub const GUEST: DomId = DomId(1);

    /// A host whose guest has `pages` pages, and as many grants and 64 more.
    pub fn new(pages: usize) -> Self {
        let memory = Arc::new(Memory::new(pages));
        Self(Arc::new(Inner {
            table: Arc::new(Table::new(pages + 64, memory.clone())),
            memory,
            ports: Arc::default(),
        }))
    }

    /// A page of the guest's memory that nobody has yet, zeroed. It is not given to anybody else
    /// for as long as the host lives.
    ///
    /// # Panics
    /// The guest has none left.
    pub fn alloc(&self) -> LoopbackPage {
        Memory::alloc(&self.0.memory)
    }

    /// The guest allocates a port for the host (`EVTCHNOP_alloc_unbound`): its number and the
    /// guest's end. The host's end comes from [`Host::bind`].
    ///
    /// # Errors
    /// No file descriptors left.
    pub fn alloc_port(&self) -> io::Result<(EvtchnPort, LoopbackChannel)> {
        Ports::alloc(&self.0.ports)
    }

    /// How many mappings of the guest's grants there are: nothing is leaked if none.
    pub fn mappings(&self) -> u64 {
        self.0.table.mappings()
    }
}

impl Host for LoopbackHost {
    type Grants = LoopbackGrants;
    type Channel = LoopbackChannel;

    fn grants(&self, domid: DomId) -> io::Result<LoopbackGrants> {
        known(domid)?;
        Ok(LoopbackGrants(self.0.table.clone()))
    }

    fn bind(&self, domid: DomId, port: EvtchnPort) -> io::Result<LoopbackChannel> {
        known(domid)?;
        Ports::bind(&self.0.ports, port)
    }
}

/// The guest's side of the grant table.
impl GrantAccess for LoopbackHost {
    type Page = LoopbackPage;

    fn grant(&self, page: &LoopbackPage, access: Access) -> Option<GrantRef> {
        self.0.table.grant(page.frame(), access)
    }

    fn end(&self, gref: GrantRef) -> bool {
        self.0.table.end(gref)
    }
}

fn known(domid: DomId) -> io::Result<()> {
    if domid != LoopbackHost::GUEST {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("There is no domain {domid}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "loopback_test.rs"]
mod tests;
