//! What changes below a disk: another CD, another size.

use xt_config::disk::{DiskBackend, DiskFormat};
use xt_xenstore::client::Client;

use crate::DeviceError;
use crate::device::{DeviceRef, write_all};
use crate::disk::params;

/// Puts a medium into a CD-ROM drive; one that is in it is ejected before, so that the guest
/// notices the exchange.
///
/// # Errors
/// There is no such drive, it is no CD-ROM drive, its back end cannot serve the format, or
/// xenstore's.
pub fn cd_insert(
    client: &mut Client,
    device: &DeviceRef,
    format: DiskFormat,
    target: &str,
) -> Result<(), DeviceError> {
    let backend = drive(client, device)?;
    if backend == DiskBackend::Phy && format != DiskFormat::Raw {
        let text = format!("Drive {device} takes raw images only.");
        return Err(DeviceError::Spec(text));
    }
    set_medium(client, device, String::new())?;
    set_medium(client, device, params(backend, format, Some(target)))
}

/// Takes the medium out of a CD-ROM drive.
///
/// # Errors
/// There is no such drive, it is no CD-ROM drive, or xenstore's.
pub fn cd_eject(client: &mut Client, device: &DeviceRef) -> Result<(), DeviceError> {
    drive(client, device)?;
    set_medium(client, device, String::new())
}

/// Checks that a device is a CD-ROM drive.
///
/// # Errors
/// It is none, or xenstore's.
pub fn check_drive(client: &mut Client, device: &DeviceRef) -> Result<(), DeviceError> {
    drive(client, device).map(drop)
}

/// Makes the back end look at the size of what the disk is on, after that has changed: writes
/// `params` again as it is.
///
/// # Errors
/// There is no such disk, or xenstore's.
pub fn resize(client: &mut Client, device: &DeviceRef) -> Result<(), DeviceError> {
    let back = device.back_path(client)?;
    let path = format!("{back}/params");
    let there = client.transaction(|client| {
        let Some(params) = client.read_text(&path)? else {
            return Ok(false);
        };
        client.write(&path, params)?;
        Ok(true)
    })?;
    if there {
        Ok(())
    } else {
        Err(DeviceError::Missing(device.clone()))
    }
}

/// The kind of back end of a CD-ROM drive.
fn drive(client: &mut Client, device: &DeviceRef) -> Result<DiskBackend, DeviceError> {
    device.back_path(client)?;
    let libxl = device.libxl_path();
    let device_type = client.read_text(&format!("{libxl}/device-type"))?;
    if device_type.as_deref() != Some("cdrom") {
        let text = format!("Device {device} is no CD-ROM drive.");
        return Err(DeviceError::Spec(text));
    }
    let kind = client.read_text(&format!("{libxl}/type"))?;
    Ok(match kind.as_deref() {
        Some("qdisk") => DiskBackend::Qdisk,
        _ => DiskBackend::Phy,
    })
}

/// Writes `params` to the back end's directory and to libxl's copy.
fn set_medium(client: &mut Client, device: &DeviceRef, params: String) -> Result<(), DeviceError> {
    let back = device.back_path(client)?;
    let libxl = device.libxl_path();
    let values = [("params", params)];
    let there = client.transaction(|client| {
        if client.read_text(&format!("{back}/state"))?.is_none() {
            return Ok(false);
        }
        write_all(client, &back, &values)?;
        write_all(client, &libxl, &values)?;
        Ok(true)
    })?;
    if there {
        Ok(())
    } else {
        Err(DeviceError::Missing(device.clone()))
    }
}

#[cfg(test)]
#[path = "medium_test.rs"]
mod tests;
