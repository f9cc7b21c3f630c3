//! A disk's nodes (`libxl_disk.c`).

use std::fs;
use std::os::unix::fs::FileTypeExt;

use pv_xenbus::XenbusState::Initialising;
use xt_config::DomainType;
use xt_config::disk::{DiskBackend, DiskFormat, DiskSpec, DiskSpecification};
use xt_xenstore::client::Client;

use crate::device::{DeviceNodes, DeviceRef, Values};
use crate::{Defaults, DeviceError, Guest, backend_domain};

/// The nodes of a disk.
///
/// # Errors
/// The specification asks for what no back end can do, its file or device is missing, or
/// xenstore's.
pub fn disk_nodes(
    client: &mut Client,
    guest: Guest,
    spec: &DiskSpec,
    defaults: &Defaults,
) -> Result<DeviceNodes, DeviceError> {
    if spec.specification != DiskSpecification::Xen || spec.colo.is_some() {
        return Err(refuse(
            spec,
            "only specification=xen without colo is served",
        ));
    }
    let backend = backend_domain(client, spec.backend.as_deref(), defaults)?;
    let local = backend == defaults.own;
    let implementation = choose_backend(guest, spec, local)?;
    let device = DeviceRef::vbd(guest.domid, spec.vdev.number());
    let state = Initialising.as_str().to_owned();
    let device_type = if spec.cdrom { "cdrom" } else { "disk" };

    let mut back: Values = vec![(
        "params",
        params(implementation, spec.format, spec.target.as_deref()),
    )];
    if implementation == DiskBackend::Phy {
        let script = spec.script.as_deref().unwrap_or("block");
        back.push(("script", defaults.script(script)));
    }
    back.extend([
        ("frontend-id", guest.domid.0.to_string()),
        ("online", "1".to_owned()),
        ("removable", digit(spec.cdrom)),
        ("bootable", "1".to_owned()),
        ("state", state.clone()),
        ("dev", spec.vdev.name().to_owned()),
        ("type", type_name(implementation).to_owned()),
        ("mode", if spec.readonly { "r" } else { "w" }.to_owned()),
        ("device-type", device_type.to_owned()),
    ]);
    if spec.direct_io_safe {
        back.push(("direct-io-safe", "1".to_owned()));
    }
    back.push((
        "discard-enable",
        digit(spec.discard.unwrap_or(!spec.readonly)),
    ));
    back.push(("specification", "xen".to_owned()));

    let mut front: Values = vec![
        ("backend-id", backend.0.to_string()),
        ("state", state),
        ("virtual-device", device.devid.to_string()),
        ("device-type", device_type.to_owned()),
    ];
    front.push(("trusted", digit(spec.trusted.unwrap_or(true))));
    if guest.kind == DomainType::Pv {
        front.push(("protocol", "x86_64-abi".to_owned()));
    }
    Ok(DeviceNodes {
        device,
        backend,
        backend_kind: backend_kind(implementation),
        front,
        front_readonly: Vec::new(),
        back,
    })
}

/// Which back end serves a disk, as `libxl__device_disk_set_backend` chooses on Linux: the
/// kernel's for whatever it can serve, that is raw block devices and files; QEMU's place (`qdisk`)
/// for the rest.
fn choose_backend(guest: Guest, spec: &DiskSpec, local: bool) -> Result<DiskBackend, DeviceError> {
    let phy = || -> Result<bool, DeviceError> {
        if spec.format != DiskFormat::Raw {
            return Ok(false);
        }
        if !local || spec.script.is_some() {
            return Ok(true);
        }
        let target = spec.target.as_deref().unwrap_or_default();
        let kind = fs::metadata(target).map_err(|error| {
            let vdev = &spec.vdev;
            DeviceError::Spec(format!("Cannot find {target:?} for disk {vdev}: {error}."))
        })?;
        Ok(kind.file_type().is_block_device() || kind.is_file())
    };
    let qdisk = spec.script.is_none();
    let hvm_cdrom = spec.cdrom && guest.kind == DomainType::Hvm;
    match spec.backend_type {
        Some(DiskBackend::Phy) if hvm_cdrom => {
            Err(refuse(spec, "the CD-ROM of an HVM guest is qdisk's alone"))
        }
        None if hvm_cdrom && qdisk => Ok(DiskBackend::Qdisk),
        Some(DiskBackend::Phy) if phy()? => Ok(DiskBackend::Phy),
        Some(DiskBackend::Phy) => Err(refuse(
            spec,
            "backendtype=phy serves raw block devices and files only",
        )),
        None if phy()? => Ok(DiskBackend::Phy),
        None | Some(DiskBackend::Qdisk) if qdisk => Ok(DiskBackend::Qdisk),
        None | Some(DiskBackend::Qdisk) => Err(refuse(
            spec,
            "a script makes a block device, which is backendtype=phy's and raw",
        )),
        Some(DiskBackend::Tap | DiskBackend::Standalone) => {
            Err(refuse(spec, "backendtype must be phy or qdisk"))
        }
    }
}

fn refuse(spec: &DiskSpec, why: &str) -> DeviceError {
    DeviceError::Spec(format!("Cannot make disk {}: {why}.", spec.vdev))
}

/// The node `params`: the target, for `qdisk` behind the name of its format.
pub(crate) fn params(backend: DiskBackend, format: DiskFormat, target: Option<&str>) -> String {
    let target = target.unwrap_or_default();
    let format = match format {
        _ if backend == DiskBackend::Phy => return target.to_owned(),
        DiskFormat::Raw | DiskFormat::Empty => "aio",
        DiskFormat::Qcow => "qcow",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vhd => "vhd",
        DiskFormat::Qed => "qed",
        DiskFormat::Vmdk => "vmdk",
    };
    format!("{format}:{target}")
}

/// The node `type`.
fn type_name(backend: DiskBackend) -> &'static str {
    match backend {
        DiskBackend::Qdisk => "qdisk",
        _ => "phy",
    }
}

fn backend_kind(backend: DiskBackend) -> &'static str {
    match backend {
        DiskBackend::Qdisk => "qdisk",
        _ => "vbd",
    }
}

fn digit(value: bool) -> String {
    u8::from(value).to_string()
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
