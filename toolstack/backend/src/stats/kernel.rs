//! The counters of the kernel's own back ends, blkback and netback, by our names.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use pv_stats::{DeviceStats, QueueStats};

use super::DeviceReport;

/// blkback's files in `statistics` and what they count. `oo_req`, its number of times without memory
/// for requests, has no counterpart here.
const DISK: [(&str, &str, u64); 6] = [
    ("rd_req", "read_requests", 1),
    ("wr_req", "write_requests", 1),
    ("f_req", "flush_requests", 1),
    ("ds_req", "discard_requests", 1),
    ("rd_sect", "read_bytes", 512),
    ("wr_sect", "write_bytes", 512),
];

/// An interface's files in `statistics` and what they count. What the host's interface receives is
/// what the guest has sent.
const CARD: [(&str, &str, u64); 8] = [
    ("rx_packets", "tx_packets", 1),
    ("rx_bytes", "tx_bytes", 1),
    ("rx_errors", "tx_errors", 1),
    ("rx_dropped", "tx_drops", 1),
    ("tx_packets", "rx_packets", 1),
    ("tx_bytes", "rx_bytes", 1),
    ("tx_errors", "rx_errors", 1),
    ("tx_dropped", "rx_drops", 1),
];

/// The devices that drivers in the kernel serve; `sys` is where sysfs is.
///
/// # Errors
/// Sysfs cannot be read.
pub fn kernel_devices(sys: &Path) -> Result<Vec<DeviceReport>> {
    let dir = sys.join("bus/xen-backend/devices");
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("Cannot read {}", dir.display()))?,
    };
    let mut devices = Vec::new();
    for entry in entries {
        let device = entry?.path();
        // On the bus is every back end in xenstore; only those with a driver are the kernel's.
        if !device.join("driver").exists() {
            continue;
        }
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        devices.extend(report(sys, &device, &name));
    }
    Ok(devices)
}

fn report(sys: &Path, device: &Path, name: &str) -> Option<DeviceReport> {
    let mut parts = name.split('-');
    let (kind, domid, devid) = (parts.next()?, parts.next()?, parts.next()?);
    let (domid, devid) = (domid.parse().ok()?, devid.parse().ok()?);
    let (name, counters) = match kind {
        "vbd" => (
            disk_name(devid),
            read_all(&device.join("statistics"), &DISK),
        ),
        "vif" => {
            let interface = format!("vif{domid}.{devid}");
            let statistics = sys.join("class/net").join(&interface).join("statistics");
            (interface, read_all(&statistics, &CARD))
        }
        _ => return None,
    };
    let state = fs::read_to_string(device.join("state")).unwrap_or_default();
    Some(DeviceReport {
        domid,
        backend: "kernel".into(),
        error: None,
        stats: DeviceStats {
            kind: kind.into(),
            devid,
            name,
            state: state.trim().to_lowercase(),
            queues: counters.into_iter().collect(),
        },
    })
}

/// What Linux calls the disk in the guest; nothing for names that are not Xen's own (`hda`, `sda`).
/// The numbers are `vbd-interface.7`'s.
fn disk_name(devid: u32) -> String {
    let (disk, partition) = match devid {
        _ if devid >> 8 == 202 => (devid >> 4 & 15, devid & 15),
        _ if devid >> 28 == 1 => (devid >> 8 & 0xf_ffff, devid & 255),
        _ => return String::new(),
    };
    let mut letters = String::new();
    let mut left = disk + 1;
    while left > 0 {
        letters.insert(0, char::from(b'a' + ((left - 1) % 26) as u8));
        left = (left - 1) / 26;
    }
    match partition {
        0 => format!("xvd{letters}"),
        _ => format!("xvd{letters}{partition}"),
    }
}

/// `None` while there are no statistics: the device is not connected.
fn read_all(dir: &Path, files: &[(&str, &str, u64)]) -> Option<QueueStats> {
    let mut stats = QueueStats::default();
    for (file, name, unit) in files {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        let value: u64 = text.trim().parse().ok()?;
        stats.counters.insert((*name).into(), value * unit);
    }
    Some(stats)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn disks_have_names() {
        for (devid, name) in [
            (51712, "xvda"),
            (51745, "xvdc1"),
            (1 << 28 | 16 << 8, "xvdq"),
            (1 << 28 | 26 << 8 | 3, "xvdaa3"),
            (768, ""),
        ] {
            assert_eq!(disk_name(devid), name);
        }
    }

    #[test]
    fn counters_of_blkback_and_netback_are_read() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(kernel_devices(sys.path()).unwrap(), []);
        let devices = sys.path().join("bus/xen-backend/devices");
        for (device, driver) in [
            ("vbd-3-51712", true),
            ("vif-3-0", true),
            ("qdisk-3-51728", false),
        ] {
            fs::create_dir_all(devices.join(device).join("statistics")).unwrap();
            if driver {
                symlink("../driver", devices.join(device).join("driver")).unwrap();
            }
        }
        fs::create_dir_all(devices.join("driver")).unwrap();
        fs::remove_dir(devices.join("driver")).unwrap();
        fs::create_dir_all(devices.join("vbd-3-51712/../driver")).unwrap();
        let interface = sys.path().join("class/net/vif3.0/statistics");
        fs::create_dir_all(&interface).unwrap();
        for (at, (file, _, _)) in DISK.iter().enumerate() {
            let path = devices.join("vbd-3-51712/statistics").join(file);
            fs::write(path, format!("{}\n", at + 1)).unwrap();
        }
        for (at, (file, _, _)) in CARD.iter().enumerate() {
            fs::write(interface.join(file), format!("{}\n", at + 1)).unwrap();
        }
        fs::write(devices.join("vbd-3-51712/state"), "Connected\n").unwrap();
        let mut found = kernel_devices(sys.path()).unwrap();
        found.sort_by_key(|device| device.stats.kind.clone());
        let [vbd, vif] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (vbd.domid, vbd.stats.devid, vbd.stats.state.as_str()),
            (3, 51712, "connected")
        );
        assert_eq!(vbd.stats.queues[0].counters["read_requests"], 1);
        assert_eq!(vbd.stats.queues[0].counters["write_bytes"], 6 * 512);
        assert_eq!(
            vif.stats.queues[0].counters["tx_packets"], 1,
            "the guest's direction"
        );
        assert_eq!(vif.stats.queues[0].counters["rx_drops"], 8);
    }
}
