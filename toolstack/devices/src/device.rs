//! A device's nodes: three directories, of the front end, the back end and libxl.

use std::fmt;
use std::time::{Duration, Instant};

use pv_xenbus::XenbusState;
use xen_sys::DomId;
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::perms::Perm;
use xt_xenstore::wire::XsError;

use crate::DeviceError;

/// Nodes of a directory: names and values.
pub type Values = Vec<(&'static str, String)>;

/// Which device, as its guest's side names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRef {
    /// The guest.
    pub domid: DomId,
    /// The front end's kind: `vbd` or `vif`.
    pub kind: &'static str,
    /// Its number.
    pub devid: u32,
}

impl DeviceRef {
    /// A disk.
    pub fn vbd(domid: DomId, devid: u32) -> Self {
        let kind = "vbd";
        Self { domid, kind, devid }
    }

    /// A network interface.
    pub fn vif(domid: DomId, devid: u32) -> Self {
        let kind = "vif";
        Self { domid, kind, devid }
    }

    /// The front end's directory.
    pub fn front_path(&self) -> String {
        let Self { domid, kind, devid } = self;
        format!("/local/domain/{}/device/{kind}/{devid}", domid.0)
    }

    /// libxl's copy.
    pub fn libxl_path(&self) -> String {
        let Self { domid, kind, devid } = self;
        format!("/libxl/{}/device/{kind}/{devid}", domid.0)
    }

    /// The back end's directory, as libxl's copy has it: the guest has no say in it.
    ///
    /// # Errors
    /// There is no such device, or xenstore's.
    pub fn back_path(&self, client: &mut Client) -> Result<String, DeviceError> {
        let path = client.read_text(&format!("{}/backend", self.libxl_path()))?;
        path.ok_or_else(|| DeviceError::Missing(self.clone()))
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of domain {}", self.kind, self.devid, self.domid.0)
    }
}

/// All that is written of a new device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNodes {
    /// Which device.
    pub device: DeviceRef,
    /// The back end's domain.
    pub backend: DomId,
    /// The back end's kind: `vbd` (kernel), `qdisk` (user space) or `vif`.
    pub backend_kind: &'static str,
    /// Nodes of the front end, which the guest may change.
    pub front: Values,
    /// Nodes beside them, which it may read only.
    pub front_readonly: Values,
    /// Nodes of the back end.
    pub back: Values,
}

impl DeviceNodes {
    /// The back end's directory.
    pub fn back_path(&self) -> String {
        format!(
            "/local/domain/{}/backend/{}/{}/{}",
            self.backend.0, self.backend_kind, self.device.domid.0, self.device.devid
        )
    }
}

/// Writes a device's nodes in one transaction, with libxl's permissions: each side owns its own
/// directory and may read the other's.
///
/// # Errors
/// There is such a device already, or xenstore's.
pub fn attach(client: &mut Client, nodes: &DeviceNodes) -> Result<(), DeviceError> {
    let libxl = nodes.device.libxl_path();
    let made = client.transaction(|client| {
        if client.read_text(&libxl)?.is_some() {
            return Ok(false);
        }
        write_nodes(client, nodes)?;
        Ok(true)
    })?;
    if made {
        Ok(())
    } else {
        Err(DeviceError::Exists(nodes.device.clone()))
    }
}

fn write_nodes(client: &mut Client, nodes: &DeviceNodes) -> Result<(), ClientError> {
    let DeviceNodes {
        device, backend, ..
    } = nodes;
    let (front, back, libxl) = (device.front_path(), nodes.back_path(), device.libxl_path());
    let of_guest = [Perm::none(device.domid), Perm::read(*backend)];
    let of_backend = [Perm::none(*backend), Perm::read(device.domid)];

    client.write(&format!("{libxl}/frontend"), &front)?;
    client.write(&format!("{libxl}/backend"), &back)?;

    make_dir(client, &front, &of_guest)?;
    client.write(&format!("{front}/backend"), &back)?;
    let sides = [
        (&nodes.front, &of_guest),
        (&nodes.front_readonly, &of_backend),
    ];
    for (values, perms) in sides {
        for (name, value) in values {
            let path = format!("{front}/{name}");
            client.write(&path, value)?;
            client.set_perms(&path, perms)?;
        }
    }

    make_dir(client, &back, &of_backend)?;
    client.write(&format!("{back}/frontend"), &front)?;
    write_all(client, &back, &nodes.back)?;
    write_all(client, &libxl, &nodes.back)
}

/// Makes a directory anew.
fn make_dir(client: &mut Client, path: &str, perms: &[Perm]) -> Result<(), ClientError> {
    remove(client, path)?;
    client.mkdir(path)?;
    client.set_perms(path, perms)
}

pub(crate) fn write_all(
    client: &mut Client,
    dir: &str,
    values: &[(&str, String)],
) -> Result<(), ClientError> {
    for (name, value) in values {
        client.write(&format!("{dir}/{name}"), value)?;
    }
    Ok(())
}

pub(crate) fn remove(client: &mut Client, path: &str) -> Result<(), ClientError> {
    match client.rm(path) {
        Err(error) if error.is(XsError::ENOENT) => Ok(()),
        other => other,
    }
}

/// Waits until the back end has taken the device up, as far as it gets without the guest.
///
/// # Errors
/// The back end closes the device, does not react in time, or xenstore's.
pub fn wait_ready(
    client: &mut Client,
    device: &DeviceRef,
    limit: Duration,
) -> Result<(), DeviceError> {
    use XenbusState::{Closed, Closing, Initialising, Unknown};
    let back = device.back_path(client)?;
    let last = wait_state(client, &back, limit, |state| {
        !matches!(state, Some(Unknown | Initialising))
    })?;
    match last {
        Some(Unknown | Initialising) => Err(DeviceError::Timeout {
            device: device.clone(),
            state: XenbusState::Initialising.to_string(),
            seconds: limit.as_secs(),
            who: "back end",
        }),
        None => Err(DeviceError::Missing(device.clone())),
        Some(Closing | Closed) => {
            let reason = client.read_text(&format!("{back}/error"))?;
            Err(DeviceError::Failed {
                device: device.clone(),
                reason: reason.unwrap_or_else(|| "it gives no reason".to_owned()),
            })
        }
        Some(_) => Ok(()),
    }
}

/// Waits until a back end's state (`None`: it is gone) is as wanted, or the limit has passed;
/// returns the last one seen.
pub(crate) fn wait_state(
    client: &mut Client,
    back: &str,
    limit: Duration,
    wanted: impl Fn(Option<XenbusState>) -> bool,
) -> Result<Option<XenbusState>, ClientError> {
    let (path, token) = (format!("{back}/state"), "xt-devices");
    let deadline = Instant::now() + limit;
    client.watch(&path, token)?;
    let result = loop {
        let state = match client.read(&path) {
            Ok(value) => Some(XenbusState::parse(&value)),
            Err(error) if error.is(XsError::ENOENT) => None,
            Err(error) => break Err(error),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if wanted(state) || left.is_zero() {
            break Ok(state);
        }
        if let Err(error) = client.next_event(Some(left)) {
            break Err(error);
        }
    };
    client.unwatch(&path, token)?;
    result
}

/// Removes a node, and the directories above it that hold nothing else and have no value, as
/// `libxl__xs_path_cleanup` does.
pub(crate) fn clean_up(client: &mut Client, path: &str) -> Result<(), ClientError> {
    remove(client, path)?;
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/') {
        if parent.is_empty() || !is_bare(client, parent)? {
            break;
        }
        remove(client, parent)?;
        path = parent;
    }
    Ok(())
}

/// Whether a node is there with neither children nor a value.
fn is_bare(client: &mut Client, path: &str) -> Result<bool, ClientError> {
    let value = client.read_text(path)?;
    Ok(value.is_some_and(|value| value.is_empty()) && client.directory(path)?.is_empty())
}

#[cfg(test)]
#[path = "device_test.rs"]
mod tests;
