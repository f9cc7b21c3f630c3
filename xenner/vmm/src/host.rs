//! This process as the host of back ends ([`pv_backend::Host`]).

use std::io;
use std::sync::Arc;

use xen_sys::{DomId, EvtchnPort};

use crate::domain::DOMID;
use crate::evtchn::{Channel, Ports};
use crate::grants::Grants;

/// The host of one domain, which is all the domains there are.
#[derive(Clone)]
pub struct KvmHost {
    grants: Grants,
    ports: Arc<Ports>,
}

impl KvmHost {
    pub(crate) fn new(grants: Grants, ports: Arc<Ports>) -> Self {
        Self { grants, ports }
    }
}

fn known(domid: DomId) -> io::Result<()> {
    if domid == DomId(DOMID) {
        return Ok(());
    }
    let message = format!("there is no domain {domid}");
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

impl pv_backend::Host for KvmHost {
    type Grants = Grants;
    type Channel = Channel;

    fn grants(&self, domid: DomId) -> io::Result<Grants> {
        known(domid).map(|()| self.grants.clone())
    }

    fn bind(&self, domid: DomId, port: EvtchnPort) -> io::Result<Channel> {
        known(domid)?;
        self.ports.bind(port.0)
    }
}
