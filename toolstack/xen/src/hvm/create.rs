//! The device model within a domain's life: before it runs, when a medium changes, at its end.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use xen_sys::DomId;
use xt_config::DomainSpec;
use xt_config::disk::DiskFormat;
use xt_config::vif::VifSpec;
use xt_devices::{Defaults, Guest, nic};
use xt_host::{HostError, Result};
use xt_xenstore::client::Client;

use super::arguments::{self, Nic};
use super::confine::{self, Rights};
use super::qmp::{Monitor, QmpError};
use super::{Hvm, nodes, process};
use crate::{hotplug, store};

/// How long the monitor of a device model that runs may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Checks all that can be checked before anything is made.
pub(crate) fn check(spec: &DomainSpec, hvm: Hvm<'_>) -> Result<()> {
    arguments::program(hvm.spec)?;
    let files = [("kernel", &spec.kernel), ("ramdisk", &spec.ramdisk)];
    for (key, path) in files {
        let Some(path) = path else { continue };
        let opened = std::fs::File::open(path).and_then(|file| file.metadata());
        let message = match opened {
            Err(error) => format!("cannot read {path:?}: {error}"),
            Ok(there) if !there.is_file() => format!("{path:?} is no file"),
            Ok(there) if there.len() == 0 => format!("{path:?} is empty"),
            Ok(_) => continue,
        };
        let help = None;
        return Err(HostError::Key { key, message, help });
    }
    // What cannot be emulated is told now, too.
    let nics = interfaces(&spec.vifs);
    arguments::arguments(DomId(0), spec, hvm.spec, hvm.plan, &nics, None)?;
    Ok(())
}

/// The interfaces with numbers and addresses, which the device model and xenstore must agree on.
pub(crate) fn interfaces(vifs: &[VifSpec]) -> Vec<Nic> {
    (0..)
        .zip(vifs)
        .map(|(place, vif)| {
            let devid = vif.devid.unwrap_or(place);
            let mac = vif.mac.unwrap_or_else(nic::random_mac);
            Nic {
                spec: VifSpec {
                    mac: Some(mac),
                    devid: Some(devid),
                    ..vif.clone()
                },
                devid,
                mac: mac.to_string(),
            }
        })
        .collect()
}

/// Makes disks, keyboard, device model and network interfaces, in libxl's order. The domain is known to
/// xenstore by now. Answers what its owner should know.
pub(crate) fn devices(
    client: &mut Client,
    guest: Guest,
    spec: &DomainSpec,
    hvm: Hvm<'_>,
) -> Result<Option<String>> {
    let defaults = Defaults::default();
    let mut served = None;
    for disk in &spec.disks {
        let made = xt_devices::disk_nodes(client, guest, disk, &defaults);
        let made = made.map_err(hotplug::refused)?;
        match made.backend_kind {
            // Its back end is the device model, which is not there yet.
            "qdisk" => {
                xt_devices::attach(client, &made).map_err(hotplug::refused)?;
                // Guests have emulated CD-ROM drives, and leave the paravirtual ones alone.
                served = served.or((!disk.cdrom).then(|| disk.vdev.name()));
            }
            _ => hotplug::attach(client, &made)?,
        }
    }
    if super::plan::yes(hvm.spec.info.vkb_device, true) {
        let keyboard = nodes::keyboard(guest.domid);
        xt_devices::attach(client, &keyboard).map_err(hotplug::refused)?;
    }
    let nics = interfaces(&spec.vifs);
    let rights = confine::rights(guest.domid, hvm.spec, served)?;
    start(client, guest.domid, spec, hvm, &nics, &rights)?;
    for nic in &nics {
        let made = xt_devices::nic_nodes(client, guest, &nic.spec, &defaults);
        hotplug::attach(client, &made.map_err(hotplug::refused)?)?;
    }
    Ok(match rights {
        Rights::Confined(_) | Rights::Root => None,
        Rights::RootBecause(why) => Some(format!(
            "The device model runs as root: {why}. dm_restrict=0 takes it as it is, dm_restrict=1 insists on \
             one that is confined."
        )),
    })
}

/// Starts the device model and notes what it tells.
fn start(
    client: &mut Client,
    domid: DomId,
    spec: &DomainSpec,
    hvm: Hvm<'_>,
    nics: &[Nic],
    rights: &Rights,
) -> Result<()> {
    let confined = match rights {
        Rights::Confined(confined) => Some(confined),
        Rights::Root | Rights::RootBecause(_) => None,
    };
    let words = arguments::arguments(domid, spec, hvm.spec, hvm.plan, nics, confined)?;
    let program = arguments::program(hvm.spec)?;
    let mut started = process::start(domid, &spec.name, &program, &words, confined.is_some())?;
    let vnc = arguments::vnc_enabled(&hvm.spec.info);
    let said = |error: QmpError| HostError::failed("The device model does not start", error);
    let told = started.monitor.told(vnc).map_err(said)?;
    let passwd = hvm.spec.info.vnc.passwd.as_deref();
    if let Some(passwd) = passwd.filter(|text| vnc && !text.is_empty()) {
        let arguments = json!({ "protocol": "vnc", "password": passwd });
        let set = started.monitor.execute("set_password", arguments);
        set.map_err(said)?;
    }
    store(nodes::running(client, domid, started.pid, &told))
}

/// Another medium in a CD-ROM drive, or none. The device model is told, and then xenstore.
pub(crate) fn change_medium(domid: DomId, devid: u32, medium: Option<&str>) -> Result<()> {
    let said = |error: QmpError| HostError::failed("Cannot change the medium", error);
    let path = process::monitor_socket(domid);
    let mut monitor = Monitor::connect(&path, ANSWER).map_err(said)?;
    let drive = format!("ide-{devid}");
    match medium {
        None => monitor.eject(&drive).map_err(said),
        Some(target) => {
            let file = std::fs::File::open(Path::new(target));
            let file = file.map_err(|error| {
                HostError::Config(format!("Cannot read the medium {target:?}: {error}"))
            })?;
            let format = arguments::format_name(DiskFormat::Raw);
            monitor.insert(&drive, file.as_fd(), format).map_err(said)
        }
    }
}

/// Ends the device model and removes what it, or its place in xenstore, has left.
pub(crate) fn end(client: &mut Client, domid: DomId) -> Result<()> {
    process::end(domid)?;
    let keyboard = nodes::keyboard_ref(domid);
    match xt_devices::detach::forget(client, &keyboard) {
        Ok(()) | Err(xt_devices::DeviceError::Missing(_)) => {}
        Err(error) => return Err(hotplug::refused(error)),
    }
    // Nobody is there to let go of these.
    let disks = xt_devices::list::devices(client, domid).map_err(hotplug::refused)?;
    for disk in &disks {
        let back = disk.back_path(client).map_err(hotplug::refused)?;
        if back.starts_with("/local/domain/0/backend/qdisk/") {
            xt_devices::detach::forget(client, disk).map_err(hotplug::refused)?;
        }
    }
    store(crate::nodes::remove(client, &nodes::device_model(domid)))
}
