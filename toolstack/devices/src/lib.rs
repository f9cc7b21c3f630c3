//! Split devices as a toolstack handles them in xenstore: makes, lists, changes and removes them
//! exactly as libxl 4.17 does, so that neither a guest nor `xl` can tell who did.
//!
//! - [`disk`] and [`nic`]: from a specification to the nodes of a device.
//! - [`device`]: writes them, and waits for the back end.
//! - [`mod@detach`]: orderly removal, or by force.
//! - [`list`]: what there is, in the shape of `xl block-list` and `xl network-list`, and as JSON.
//! - [`medium`]: exchanges a CD, tells of a resized disk.
//!
//! Everything goes through a [`Client`] that is the caller's alone meanwhile: waiting takes all its
//! events.
//!
//! Facts: libxl's `libxl_device.c`, `libxl_disk.c`, `libxl_nic.c`; what `xenstore-ls -fp` shows of
//! domains that `xl` 4.17 created.

#![forbid(unsafe_code)]

pub mod detach;
pub mod device;
pub mod disk;
pub mod list;
pub mod medium;
pub mod nic;

use std::path::PathBuf;

use thiserror::Error;
use xen_sys::DomId;
use xt_config::DomainType;
use xt_xenstore::client::{Client, ClientError};

pub use detach::{Mode, detach};
pub use device::{DeviceNodes, DeviceRef, attach, wait_ready};
pub use disk::{disk_nodes, own_disk_nodes};
pub use list::{block_list, network_list};
pub use nic::{nic_nodes, own_nic_nodes};

/// The guest that gets a device.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Its id.
    pub domid: DomId,
    /// Its type: HVM guests get other defaults.
    pub kind: DomainType,
}

/// What the host adds to specifications.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The domain of back ends that name none: the toolstack's own.
    pub own: DomId,
    /// Where scripts without a directory are.
    pub script_dir: PathBuf,
    /// The bridge of a vif that names none.
    pub bridge: String,
}

impl Default for Defaults {
    /// libxl's.
    fn default() -> Self {
        Self {
            own: DomId(0),
            script_dir: "/etc/xen/scripts".into(),
            bridge: "xenbr0".into(),
        }
    }
}

impl Defaults {
    /// A script's path.
    pub(crate) fn script(&self, name: &str) -> String {
        self.script_dir.join(name).to_string_lossy().into_owned()
    }
}

/// Something could not be done about a device.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// Xenstore's.
    #[error("Cannot change devices in xenstore.")]
    Store(#[from] ClientError),
    /// There is one already.
    #[error("There is a device {0} already.")]
    Exists(DeviceRef),
    /// There is none.
    #[error("There is no device {0}.")]
    Missing(DeviceRef),
    /// A name for the back end's domain that no domain has.
    #[error("No domain is called {0:?}, so it can be no back end.")]
    Backend(String),
    /// A specification that cannot be.
    #[error("{0}")]
    Spec(String),
    /// The back end has closed the device instead of starting it.
    #[error("Back end of device {device} failed: {reason}")]
    Failed {
        /// Which device.
        device: DeviceRef,
        /// What it says, in its `error` node.
        reason: String,
    },
    /// The back end, or the guest, did not react in time.
    #[error("Device {device} is still in state {state} after {seconds} s; is its {who} running?")]
    Timeout {
        /// Which device.
        device: DeviceRef,
        /// The back end's state.
        state: String,
        /// How long was waited.
        seconds: u64,
        /// Who did not react.
        who: &'static str,
    },
}

/// The domain of a back end: a number, or a name.
///
/// # Errors
/// No domain has that name, or xenstore's.
pub fn resolve_domain(client: &mut Client, text: &str) -> Result<DomId, DeviceError> {
    if let Some(domid) = xt_xenstore::perms::parse_domid(text.as_bytes()) {
        return Ok(domid);
    }
    for domid in client.directory("/local/domain")? {
        let name = client.read_text(&format!("/local/domain/{domid}/name"))?;
        if name.as_deref() == Some(text)
            && let Some(domid) = xt_xenstore::perms::parse_domid(domid.as_bytes())
        {
            return Ok(domid);
        }
    }
    Err(DeviceError::Backend(text.to_owned()))
}

fn backend_domain(
    client: &mut Client,
    name: Option<&str>,
    defaults: &Defaults,
) -> Result<DomId, DeviceError> {
    name.map_or(Ok(defaults.own), |name| resolve_domain(client, name))
}

#[cfg(test)]
mod testing;
