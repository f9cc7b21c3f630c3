//! A domain of Xen as the place where back ends run.

use std::io;

use nix::errno::Errno;
use pv_backend::Host;
use pv_ring::host::GrantError;
use pv_ring::{Access, GrantMap};
use xen_sys::grant_table::GNTST_general_error;
use xen_sys::{DomId, EvtchnPort, GrantRef};

use crate::device::OpenError;
use crate::evtchn::{self, Channel, xen_errno};
use crate::gntdev::{Gntdev, GrantedPages};

/// This domain: dom0 or a driver domain.
#[derive(Clone, Debug)]
pub struct XenHost(());

impl XenHost {
    /// Makes sure that grants can be mapped and event channels bound here.
    ///
    /// # Errors
    /// [`OpenError`]: this is not Xen, a driver is missing, or the user may not.
    pub fn open() -> Result<Self, OpenError> {
        Gntdev::open()?;
        evtchn::open()?;
        Ok(Self(()))
    }
}

impl Host for XenHost {
    type Grants = DomainGrants;
    type Channel = Channel;

    /// Opens a grant device of its own.
    fn grants(&self, domid: DomId) -> io::Result<DomainGrants> {
        let device = Gntdev::open()?;
        Ok(DomainGrants { device, domid })
    }

    fn bind(&self, domid: DomId, port: EvtchnPort) -> io::Result<Channel> {
        Channel::bind_interdomain(domid, port)
    }
}

/// Maps what one domain grants.
#[derive(Clone, Debug)]
pub struct DomainGrants {
    device: Gntdev,
    domid: DomId,
}

impl DomainGrants {
    /// Maps several pages in one go, one behind the other; all or none.
    ///
    /// # Errors
    /// As [`GrantMap::map`]; which grant was refused is not known, the first one is named.
    pub fn map_run(&self, grefs: &[GrantRef], access: Access) -> Result<GrantedPages, GrantError> {
        let mapped = self.device.map(self.domid, grefs, access);
        mapped.map_err(|error| {
            let gref = grefs.first().copied().unwrap_or_default();
            grant_error(gref, &error)
        })
    }
}

impl GrantMap for DomainGrants {
    type Page = GrantedPages;

    fn map(&self, gref: GrantRef, access: Access) -> Result<GrantedPages, GrantError> {
        self.map_run(&[gref], access)
    }
}

/// The driver says `EINVAL` for whatever Xen refused, without Xen's status.
fn grant_error(gref: GrantRef, error: &io::Error) -> GrantError {
    if error.raw_os_error() == Some(Errno::EINVAL as i32) {
        return GrantError::Refused {
            gref,
            status: GNTST_general_error,
        };
    }
    GrantError::Host {
        gref,
        source: xen_errno(error),
    }
}
