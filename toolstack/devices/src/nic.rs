//! A network interface's nodes (`libxl_nic.c`).

use pv_xenbus::XenbusState::Initialising;
use uuid::Uuid;
use xen_sys::DomId;
use xt_config::DomainType;
use xt_config::vif::{MacAddress, NicType, VifSpec};
use xt_xenstore::client::Client;
use xt_xenstore::wire::XsError;

use crate::device::{DeviceNodes, DeviceRef, Values};
use crate::{Defaults, DeviceError, Guest, backend_domain};

/// libxl writes no `mtu` to the back end's directory for this one.
const MTU_DEFAULT: u32 = 1500;

/// The nodes of a network interface. Without a number it gets the next free one, without an address
/// a random one.
///
/// # Errors
/// The specification cannot be, or xenstore's.
pub fn nic_nodes(
    client: &mut Client,
    guest: Guest,
    spec: &VifSpec,
    defaults: &Defaults,
) -> Result<DeviceNodes, DeviceError> {
    let backend = backend_domain(client, spec.backend.as_deref(), defaults)?;
    let devid = match spec.devid {
        Some(devid) => devid,
        None => next_devid(client, guest)?,
    };
    nodes(guest, spec, backend, devid, defaults)
}

/// The nodes of a network interface that the caller serves itself. Its number is `devid`, whatever
/// the specification says; without an address it gets a random one.
///
/// # Errors
/// [`DeviceError::Spec`].
pub fn own_nic_nodes(
    guest: Guest,
    spec: &VifSpec,
    devid: u32,
    defaults: &Defaults,
) -> Result<DeviceNodes, DeviceError> {
    nodes(guest, spec, defaults.own, devid, defaults)
}

fn nodes(
    guest: Guest,
    spec: &VifSpec,
    backend: DomId,
    devid: u32,
    defaults: &Defaults,
) -> Result<DeviceNodes, DeviceError> {
    let nic_type = nic_type(guest.kind, spec.nic_type)?;
    let mac = spec.mac.unwrap_or_else(random_mac).to_string();
    let mtu = spec.mtu.unwrap_or(MTU_DEFAULT);
    let state = Initialising.as_str().to_owned();

    let mut back: Values = vec![
        ("frontend-id", guest.domid.0.to_string()),
        ("online", "1".to_owned()),
        ("state", state.clone()),
        (
            "script",
            defaults.script(spec.script.as_deref().unwrap_or("vif-bridge")),
        ),
    ];
    let text = |name, value: &Option<String>| value.clone().map(|value| (name, value));
    back.extend(text("vifname", &spec.vifname));
    back.push(("mac", mac.clone()));
    back.extend(text("ip", &spec.ip));
    back.extend(text("gatewaydev", &spec.gatewaydev));
    back.extend(spec.rate.map(|rate| {
        let value = format!("{},{}", rate.bytes_per_interval, rate.interval_us);
        ("rate", value)
    }));
    back.extend((mtu != MTU_DEFAULT).then(|| ("mtu", mtu.to_string())));
    back.extend(text("vlan", &spec.vlan));
    back.extend([
        (
            "bridge",
            spec.bridge
                .clone()
                .unwrap_or_else(|| defaults.bridge.clone()),
        ),
        ("handle", devid.to_string()),
        ("type", nic_type.to_owned()),
        // The back end is not to connect before the script has written something here.
        ("hotplug-status", String::new()),
    ]);

    let front = vec![
        ("backend-id", backend.0.to_string()),
        ("state", state),
        ("handle", devid.to_string()),
        ("mac", mac),
        (
            "trusted",
            u8::from(spec.trusted.unwrap_or(true)).to_string(),
        ),
    ];
    Ok(DeviceNodes {
        device: DeviceRef::vif(guest.domid, devid),
        backend,
        backend_kind: "vif",
        front,
        front_readonly: vec![("mtu", mtu.to_string())],
        back,
    })
}

fn nic_type(guest: DomainType, asked: Option<NicType>) -> Result<&'static str, DeviceError> {
    match (guest, asked) {
        (DomainType::Hvm, None | Some(NicType::Ioemu)) => Ok("vif_ioemu"),
        (_, Some(NicType::Ioemu)) => Err(DeviceError::Spec(
            "Only HVM guests have emulated network interfaces: leave out type=ioemu.".to_owned(),
        )),
        (_, _) => Ok("vif"),
    }
}

/// One more than the highest number there is.
fn next_devid(client: &mut Client, guest: Guest) -> Result<u32, DeviceError> {
    let names = match client.directory(&format!("/libxl/{}/device/vif", guest.domid.0)) {
        Err(error) if error.is(XsError::ENOENT) => Vec::new(),
        other => other?,
    };
    let highest = names
        .iter()
        .filter_map(|name| name.parse::<u32>().ok())
        .max();
    Ok(highest.map_or(0, |devid| devid.saturating_add(1)))
}

/// A random address in the range that is Xen's (00:16:3e), in the half libxl uses.
pub fn random_mac() -> MacAddress {
    let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
    MacAddress([0x00, 0x16, 0x3e, a & 0x7f, b, c])
}

#[cfg(test)]
#[path = "nic_test.rs"]
mod tests;
