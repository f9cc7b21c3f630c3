//! What devices a domain has, in the shapes of `xl block-list` and `xl network-list`.

use std::fmt;

use serde::Serialize;
use xen_sys::DomId;
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::wire::XsError;

use crate::DeviceError;
use crate::device::DeviceRef;

/// A disk of a domain. Numbers the guest has not published are -1, as `xl` shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// Its number.
    pub devid: u32,
    /// What the guest calls it: `xvda`.
    pub vdev: String,
    /// The back end's domain.
    pub backend_domid: i64,
    /// The guest.
    pub domid: u16,
    /// The front end's state.
    pub state: i64,
    /// The guest's event channel; of the first queue, if there are several.
    pub event_channel: i64,
    /// The ring's grant reference, likewise.
    pub ring_ref: i64,
    /// The back end's directory.
    pub backend: String,
    /// What it is on, as in the node `params`.
    pub params: String,
    /// `w` or `r`.
    pub mode: String,
    /// `disk` or `cdrom`.
    pub device_type: String,
}

/// A network interface of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkEntry {
    /// Its number.
    pub devid: u32,
    /// The back end's domain.
    pub backend_domid: i64,
    /// Its address in the guest.
    pub mac: String,
    /// The front end's state.
    pub state: i64,
    /// The guest's event channel; of the first queue, if there are several.
    pub event_channel: i64,
    /// The transmit ring's grant reference, likewise.
    pub tx_ring_ref: i64,
    /// The receive ring's grant reference, likewise.
    pub rx_ring_ref: i64,
    /// The back end's directory.
    pub backend: String,
    /// The bridge it is on, if one is named.
    pub bridge: Option<String>,
}

/// All devices of a domain that are disks or network interfaces.
///
/// # Errors
/// Xenstore's.
pub fn devices(client: &mut Client, domid: DomId) -> Result<Vec<DeviceRef>, DeviceError> {
    let mut all = numbers(client, domid, "vbd")?
        .map(|devid| DeviceRef::vbd(domid, devid))
        .collect::<Vec<_>>();
    all.extend(numbers(client, domid, "vif")?.map(|devid| DeviceRef::vif(domid, devid)));
    Ok(all)
}

/// The disks of a domain, in xenstore's order as `xl` lists them.
///
/// # Errors
/// Xenstore's.
pub fn block_list(client: &mut Client, domid: DomId) -> Result<Vec<BlockEntry>, DeviceError> {
    let mut entries = Vec::new();
    for devid in numbers(client, domid, "vbd")? {
        let device = DeviceRef::vbd(domid, devid);
        let Some(backend) = backend(client, &device)? else {
            continue;
        };
        let (front, libxl) = (device.front_path(), device.libxl_path());
        let mut text = |name: &str| -> Result<String, ClientError> {
            let value = client.read_text(&format!("{libxl}/{name}"))?;
            Ok(value.unwrap_or_default())
        };
        let (vdev, params) = (text("dev")?, text("params")?);
        let (mode, device_type) = (text("mode")?, text("device-type")?);
        entries.push(BlockEntry {
            devid,
            vdev,
            backend_domid: backend_domid(&backend),
            domid: domid.0,
            state: number(client, &front, "state")?,
            event_channel: of_queue(client, &front, "event-channel")?,
            ring_ref: of_ring(client, &front)?,
            backend,
            params,
            mode,
            device_type,
        });
    }
    Ok(entries)
}

/// The network interfaces of a domain.
///
/// # Errors
/// Xenstore's.
pub fn network_list(client: &mut Client, domid: DomId) -> Result<Vec<NetworkEntry>, DeviceError> {
    let mut entries = Vec::new();
    for devid in numbers(client, domid, "vif")? {
        let device = DeviceRef::vif(domid, devid);
        let Some(backend) = backend(client, &device)? else {
            continue;
        };
        let (front, libxl) = (device.front_path(), device.libxl_path());
        let mac = client.read_text(&format!("{libxl}/mac"))?;
        entries.push(NetworkEntry {
            devid,
            backend_domid: backend_domid(&backend),
            mac: mac.unwrap_or_default(),
            state: number(client, &front, "state")?,
            event_channel: of_queue(client, &front, "event-channel")?,
            tx_ring_ref: of_queue(client, &front, "tx-ring-ref")?,
            rx_ring_ref: of_queue(client, &front, "rx-ring-ref")?,
            backend,
            bridge: client.read_text(&format!("{libxl}/bridge"))?,
        });
    }
    Ok(entries)
}

/// The heading of `xl block-list`.
pub fn block_heading() -> String {
    format!(
        "{:<5} {:<3} {:<6} {:<5} {:<6} {:<8} {:<30}",
        "Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"
    )
}

/// The heading of `xl network-list`.
pub fn network_heading() -> String {
    format!(
        "{:<3} {:<2} {:<17} {:<6} {:<5} {:<6} {:>5}/{:<5} {:<30}",
        "Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "tx-", "rx-ring-ref", "BE-path"
    )
}

impl fmt::Display for BlockEntry {
    /// A line of `xl block-list`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            devid,
            backend_domid,
            domid,
            state,
            event_channel,
            ring_ref,
            backend,
            ..
        } = self;
        write!(
            f,
            "{devid:<5} {backend_domid:<3} {domid:<6} {state:<5} {event_channel:<6} {ring_ref:<8} {backend:<30}"
        )
    }
}

impl fmt::Display for NetworkEntry {
    /// A line of `xl network-list`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            devid,
            backend_domid,
            mac,
            state,
            event_channel,
            tx_ring_ref,
            rx_ring_ref,
            backend,
            ..
        } = self;
        write!(
            f,
            "{devid:<3} {backend_domid:<2} {mac}{devid:>6} {state:>5} {event_channel:>6} {tx_ring_ref:>5}/{rx_ring_ref:<11} {backend:<30}"
        )
    }
}

fn numbers(
    client: &mut Client,
    domid: DomId,
    kind: &str,
) -> Result<impl Iterator<Item = u32> + use<>, ClientError> {
    let names = match client.directory(&format!("/libxl/{}/device/{kind}", domid.0)) {
        Err(error) if error.is(XsError::ENOENT) => Vec::new(),
        other => other?,
    };
    Ok(names.into_iter().filter_map(|name| name.parse().ok()))
}

/// The back end's directory, unless the device goes away just now.
fn backend(client: &mut Client, device: &DeviceRef) -> Result<Option<String>, DeviceError> {
    match device.back_path(client) {
        Ok(path) => Ok(Some(path)),
        Err(DeviceError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn backend_domid(path: &str) -> i64 {
    let domid = path.strip_prefix("/local/domain/");
    domid
        .and_then(|rest| rest.split('/').next())
        .and_then(|text| text.parse().ok())
        .unwrap_or(-1)
}

/// What the guest says in a node, -1 for nothing and for nonsense.
fn number(client: &mut Client, front: &str, name: &str) -> Result<i64, ClientError> {
    let text = client.read_text(&format!("{front}/{name}"))?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(-1))
}

/// The same of its first queue: `xl` shows -1 for front ends with several.
fn of_queue(client: &mut Client, front: &str, name: &str) -> Result<i64, ClientError> {
    match number(client, front, name)? {
        -1 => number(client, front, &format!("queue-0/{name}")),
        found => Ok(found),
    }
}

/// The grant reference of the ring's first page.
fn of_ring(client: &mut Client, front: &str) -> Result<i64, ClientError> {
    for name in ["ring-ref", "ring-ref0"] {
        match of_queue(client, front, name)? {
            -1 => {}
            found => return Ok(found),
        }
    }
    Ok(-1)
}

#[cfg(test)]
#[path = "list_test.rs"]
mod tests;
