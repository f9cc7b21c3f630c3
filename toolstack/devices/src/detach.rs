//! Removal of a device (`libxl__initiate_device_generic_remove`).

use std::time::Duration;

use pv_xenbus::XenbusState;
use xt_xenstore::client::{Client, ClientError};

use crate::DeviceError;
use crate::device::{DeviceRef, clean_up, remove, wait_state};

/// How long libxl waits for a guest to let go of a device, and again after force.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What if the guest does not let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The device stays, and the attempt failed: `xl block-detach`.
    Safe,
    /// It is removed by force then: `xl network-detach`, and the end of a domain.
    Auto,
    /// It is removed by force at once: `xl block-detach --force`.
    Force,
}

/// Removes a device: tells the back end (`online` 0, state `Closing`), waits until it is `Closed`
/// but no longer than `limit`, and removes all nodes.
///
/// # Errors
/// There is no such device; [`DeviceError::Timeout`], also when a back end does not close although
/// the front end is gone: the nodes are then removed all the same; xenstore's.
pub fn detach(
    client: &mut Client,
    device: &DeviceRef,
    mode: Mode,
    limit: Duration,
) -> Result<(), DeviceError> {
    detach_with(client, device, mode, limit, |_, _| ())
}

/// The same; `script` is called with the back end's directory when it has closed, or is given up, and
/// its nodes are still there: a hotplug script reads them.
///
/// # Errors
/// As for [`detach`].
pub fn detach_with(
    client: &mut Client,
    device: &DeviceRef,
    mode: Mode,
    limit: Duration,
    script: impl FnOnce(&mut Client, &str),
) -> Result<(), DeviceError> {
    let back = device.back_path(client)?;
    let closed = |state| matches!(state, None | Some(XenbusState::Closed));
    let mut force = mode == Mode::Force;
    let state = loop {
        ask(client, device, &back, force)?;
        let state = wait_state(client, &back, limit, closed)?;
        if closed(state) || force || mode == Mode::Safe {
            break state;
        }
        force = true;
    };
    if closed(state) || force {
        script(client, &back);
        remove_nodes(client, device, &back)?;
    }
    if closed(state) {
        return Ok(());
    }
    Err(DeviceError::Timeout {
        device: device.clone(),
        state: state.unwrap_or(XenbusState::Unknown).to_string(),
        seconds: limit.as_secs(),
        who: if force { "back end" } else { "front end" },
    })
}

/// Tells the back end; by force, the front end's nodes go first.
fn ask(
    client: &mut Client,
    device: &DeviceRef,
    back: &str,
    force: bool,
) -> Result<(), ClientError> {
    client.transaction(|client| {
        if force {
            clean_up(client, &device.front_path())?;
        }
        let path = format!("{back}/state");
        let Some(state) = client.read_text(&path)? else {
            return Ok(());
        };
        client.write(&format!("{back}/online"), "0")?;
        if XenbusState::parse(state.as_bytes()) != XenbusState::Closed {
            client.write(&path, XenbusState::Closing.as_str())?;
        }
        Ok(())
    })
}

/// Removes a device's three directories, and what is empty then.
fn remove_nodes(client: &mut Client, device: &DeviceRef, back: &str) -> Result<(), ClientError> {
    client.transaction(|client| {
        clean_up(client, &device.front_path())?;
        clean_up(client, &device.libxl_path())?;
        clean_up(client, back)
    })
}

/// Removes a device's nodes without waiting for anybody: its back end is known to be gone.
///
/// # Errors
/// There is no such device, or xenstore's.
pub fn forget(client: &mut Client, device: &DeviceRef) -> Result<(), DeviceError> {
    let back = device.back_path(client)?;
    Ok(remove_nodes(client, device, &back)?)
}

/// Removes what is left of all devices of a domain that is no more, without waiting for anybody.
///
/// # Errors
/// Xenstore's.
pub fn forget_all(client: &mut Client, domid: xen_sys::DomId) -> Result<(), DeviceError> {
    for device in crate::list::devices(client, domid)? {
        let back = device.back_path(client);
        match back {
            Ok(back) => remove_nodes(client, &device, &back)?,
            Err(DeviceError::Missing(_)) => remove(client, &device.libxl_path())?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "detach_test.rs"]
mod tests;
