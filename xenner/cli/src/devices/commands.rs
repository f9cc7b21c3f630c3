//! The commands on devices of a running domain.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::desk::{DeviceInfo, Kind};
use super::parcel::{self, Parcel, ParcelError};
use super::{disk, nic};
use crate::control::Command as Order;
use crate::control::client::{Connection, PATIENCE};
use crate::crash::printable;
use crate::rundir::Base;
use crate::spec::{DeviceSpecs, MemorySize};
use crate::status::{Failure, Status};

/// How long a guest may take to let go of a device, and a little.
const DETACH_PATIENCE: Duration = Duration::from_secs(20);

fn config(message: String) -> Failure {
    Failure::new(Status::Config, message)
}

impl From<ParcelError> for Failure {
    fn from(error: ParcelError) -> Failure {
        config(error.0)
    }
}

/// Opens every device of a specification, for its own process: in the order of the list.
pub fn open_all(devices: &DeviceSpecs) -> Result<Vec<(Parcel, Vec<OwnedFd>)>, ParcelError> {
    let mut all = Vec::new();
    for spec in &devices.disks {
        let (parcel, fds) = parcel::pack_disk(spec)?;
        all.push((Parcel::Disk(parcel), fds));
    }
    for card in &devices.nics {
        let (parcel, fds) = parcel::pack_nic(card)?;
        all.push((Parcel::Nic(parcel), fds));
    }
    Ok(all)
}

fn devices(connection: &mut Connection, kind: Kind) -> Result<Vec<DeviceInfo>, Failure> {
    let all: Vec<DeviceInfo> = connection.call(Order::Devices, &[], Some(PATIENCE))?;
    Ok(all
        .into_iter()
        .filter(|device| device.kind == kind.word())
        .collect())
}

fn attach(mut connection: Connection, device: Parcel, fds: &[OwnedFd]) -> Result<Status, Failure> {
    let order = Order::Attach { device };
    connection.call::<serde_json::Value>(order, fds, Some(PATIENCE))?;
    Ok(Status::Success)
}

/// `block-attach`
pub fn block_attach(base: &Base, name: &str, spec: &[String]) -> Result<Status, Failure> {
    let mut connection = Connection::open(base, name)?;
    let taken = devices(&mut connection, Kind::Vbd)?;
    let taken: Vec<String> = taken.into_iter().map(|device| device.name).collect();
    let spec = disk::parse(&spec.join(","), &taken).map_err(config)?;
    let (parcel, fds) = parcel::pack_disk(&spec)?;
    attach(connection, Parcel::Disk(parcel), &fds)
}

/// `network-attach`
pub fn network_attach(base: &Base, name: &str, spec: &[String]) -> Result<Status, Failure> {
    let mut connection = Connection::open(base, name)?;
    let taken = devices(&mut connection, Kind::Vif)?;
    let taken: Vec<u32> = taken.iter().map(|device| device.devid).collect();
    let text = if spec.is_empty() {
        "user".to_owned()
    } else {
        spec.join(",")
    };
    let card = nic::parse(&text, &taken).map_err(config)?;
    let (parcel, fds) = parcel::pack_nic(&card)?;
    attach(connection, Parcel::Nic(parcel), &fds)
}

/// `block-detach` and `network-detach`
pub fn detach(
    base: &Base,
    name: &str,
    kind: Kind,
    device: &str,
    force: bool,
) -> Result<Status, Failure> {
    let device = device.to_owned();
    let order = Order::Detach {
        kind,
        device,
        force,
    };
    Connection::open(base, name)?.call::<serde_json::Value>(order, &[], Some(DETACH_PATIENCE))?;
    Ok(Status::Success)
}

/// `block-resize`; gives what is printed.
pub fn block_resize(
    base: &Base,
    name: &str,
    device: &str,
    size: Option<MemorySize>,
) -> Result<String, Failure> {
    let order = Order::Resize {
        device: device.to_owned(),
        bytes: size.map(|size| size.as_kib() * 1024),
    };
    let info: DeviceInfo = Connection::open(base, name)?.call(order, &[], Some(PATIENCE))?;
    let bytes = info.bytes.unwrap_or(0);
    Ok(format!(
        "{} has {} now\n",
        printable(&info.name),
        size_text(bytes)
    ))
}

/// `cd-insert`
pub fn cd_insert(base: &Base, name: &str, device: &str, target: &str) -> Result<Status, Failure> {
    let connection = Connection::open(base, name)?;
    let text = format!("format=raw,vdev={device},devtype=cdrom,target={target}");
    let spec = disk::parse(&text, &[]).map_err(config)?;
    let (parcel, fds) = parcel::pack_disk(&spec)?;
    insert(connection, device, Some(parcel), &fds)
}

/// `cd-eject`
pub fn cd_eject(base: &Base, name: &str, device: &str) -> Result<Status, Failure> {
    insert(Connection::open(base, name)?, device, None, &[])
}

fn insert(
    mut connection: Connection,
    device: &str,
    medium: Option<parcel::DiskParcel>,
    fds: &[OwnedFd],
) -> Result<Status, Failure> {
    let device = device.to_owned();
    let order = Order::Insert { device, medium };
    connection.call::<serde_json::Value>(order, fds, Some(PATIENCE))?;
    Ok(Status::Success)
}

/// The devices of a kind.
pub fn list(base: &Base, name: &str, kind: Kind) -> Result<Vec<DeviceInfo>, Failure> {
    devices(&mut Connection::open(base, name)?, kind)
}

/// `block-list` as a table.
pub fn block_table(devices: &[DeviceInfo]) -> String {
    let mut text = format!(
        "{:<8} {:>9} {:<13} {:<4} {:>10} {}\n",
        "Vdev", "Devid", "State", "Mode", "Size", "Medium"
    );
    for device in devices {
        let mode = if device.writable == Some(true) {
            "w"
        } else {
            "r"
        };
        let size = device.bytes.map_or("-".to_owned(), size_text);
        let medium = if device.backing.is_empty() {
            "(empty)"
        } else {
            &device.backing
        };
        let _ = writeln!(
            text,
            "{:<8} {:>9} {:<13} {mode:<4} {size:>10} {}",
            printable(&device.name),
            device.devid,
            device.state,
            printable(medium),
        );
        failed(&mut text, device);
    }
    text
}

/// `network-list` as a table.
pub fn network_table(devices: &[DeviceInfo]) -> String {
    let mut text = format!(
        "{:>5} {:<17} {:<13} {}\n",
        "Devid", "Mac", "State", "Network"
    );
    for device in devices {
        let _ = writeln!(
            text,
            "{:>5} {:<17} {:<13} {}",
            device.devid,
            printable(&device.name),
            device.state,
            printable(&device.backing),
        );
        failed(&mut text, device);
    }
    text
}

fn failed(text: &mut String, device: &DeviceInfo) {
    if let Some(error) = &device.error {
        let _ = writeln!(text, "  {}", printable(error));
    }
}

/// Bytes in the largest unit that leaves no fraction, or one digit of it.
fn size_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(value.fract() != 0.0);
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size_text(512), "512 B");
        assert_eq!(size_text(64 << 20), "64 MiB");
        assert_eq!(size_text(3 << 29), "1.5 GiB");
    }

    #[test]
    fn tables_show_what_went_wrong() {
        let device = DeviceInfo {
            kind: "vbd".into(),
            devid: 51712,
            name: "xvda".into(),
            state: "closed".into(),
            error: Some("the ring is broken\u{7}".into()),
            backing: String::new(),
            writable: Some(true),
            bytes: None,
        };
        let text = block_table(std::slice::from_ref(&device));
        assert!(text.contains("xvda") && text.contains("(empty)"), "{text}");
        assert!(
            text.contains("the ring is broken") && !text.contains('\u{7}'),
            "{text}"
        );
        assert!(network_table(&[device]).contains("51712"));
    }
}
