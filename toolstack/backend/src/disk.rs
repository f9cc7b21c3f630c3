//! Disks as `libxl` describes them to QEMU: directories `backend/qdisk/<domid>/<devid>`.

use std::path::Path;

use pv_backend::{DeviceError, DeviceId, Nodes};
use pv_block::back::{Settings, VbdDriver};
use pv_media::{Disk, Format, MediumSpec, Paths};
use xt_host_xen::XenHost;

use crate::journal;

/// The back end of a disk.
pub fn driver(id: &DeviceId, run_dir: &Path) -> VbdDriver<XenHost, Disk> {
    let driver = VbdDriver::new(id.clone(), Settings::default(), Box::new(open));
    driver.with_journals(journal::of(run_dir, id))
}

fn open(back: &Nodes) -> Result<Option<Disk>, DeviceError> {
    let Some(spec) = medium_spec(back)? else {
        return Ok(None);
    };
    let disk = Disk::open(&spec, &Paths);
    let disk = disk.map_err(|error| DeviceError(crate::chain(&error)))?;
    Ok(Some(disk))
}

/// What the nodes name; `None`: an empty drive.
fn medium_spec(back: &Nodes) -> Result<Option<MediumSpec>, DeviceError> {
    let wrong = |what: String| Err(DeviceError(what));
    let Some(params) = back.text("params") else {
        return wrong("There is no node params, so no medium".into());
    };
    // Whoever wrote it for blktap put its name before the format, as QEMU still accepts.
    let params = match params.split_once(':') {
        Some((tap, rest)) if tap.starts_with("tap") => rest,
        _ => params,
    };
    let Some((format, target)) = params.split_once(':') else {
        return wrong(format!("Node params is {params:?}, not FORMAT:PATH"));
    };
    if target.is_empty() {
        return Ok(None);
    }
    let format = match format {
        "aio" | "raw" | "phy" | "file" => Format::Raw,
        "qcow2" => Format::Qcow2,
        "vhd" | "vpc" => Format::Vhd,
        "vmdk" => Format::Vmdk,
        other => return wrong(format!("Disks of format {other:?} are not supported")),
    };
    let mut spec = MediumSpec::new(format, target);
    let mode = back.text("mode").unwrap_or("r");
    spec.readonly = !mode.contains('w');
    spec.shared = mode.contains('!');
    spec.direct_io = back.text("direct-io-safe") == Some("1");
    spec.discard = back.text("discard-enable") != Some("0");
    Ok(Some(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(all: &[(&str, &str)]) -> Nodes {
        let all = all.iter();
        Nodes(
            all.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
        )
    }

    #[test]
    fn what_libxl_writes_is_understood() {
        let raw = nodes(&[
            ("params", "aio:/disks/web.img"),
            ("mode", "w"),
            ("type", "qdisk"),
            ("discard-enable", "1"),
            ("device-type", "disk"),
        ]);
        let spec = medium_spec(&raw).unwrap().unwrap();
        assert_eq!(spec, MediumSpec::new(Format::Raw, "/disks/web.img"));
        let image = nodes(&[
            ("params", "qcow2:/disks/a:b.qcow2"),
            ("mode", "r"),
            ("direct-io-safe", "1"),
            ("discard-enable", "0"),
        ]);
        let spec = medium_spec(&image).unwrap().unwrap();
        let mut wanted = MediumSpec::new(Format::Qcow2, "/disks/a:b.qcow2")
            .readonly()
            .direct_io();
        wanted.discard = false;
        assert_eq!(spec, wanted);
        let old = nodes(&[("params", "tap:aio:/disks/web.img"), ("mode", "w!")]);
        let spec = medium_spec(&old).unwrap().unwrap();
        assert!(spec.format == Format::Raw && spec.shared && !spec.readonly);
    }

    #[test]
    fn an_empty_drive_has_no_medium() {
        for params in ["aio:", ":", "qcow2:"] {
            let empty = nodes(&[("params", params), ("mode", "r"), ("device-type", "cdrom")]);
            assert_eq!(medium_spec(&empty).unwrap(), None, "{params}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for params in ["", "/disks/web.img", "qed:/disks/web.qed"] {
            let error = medium_spec(&nodes(&[("params", params)])).unwrap_err();
            assert!(
                error.0.contains("FORMAT:PATH") || error.0.contains("qed"),
                "{error}"
            );
        }
        assert!(medium_spec(&nodes(&[])).is_err());
    }
}
