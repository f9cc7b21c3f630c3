//! What libxl keeps of a domain in files: `/var/lib/xen/userdata-d.DOMID.UUID.NAME`.
//!
//! `libxl-json` is the configuration as `xl list -l` shows it, `xl` what `xl create` was given.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::DomId;
use xt_config::DomainSpec;
use xt_config::libxl::{DiskBackend, DiskFormat, DiskSpecification, DomainConfig, MemKb, NicKind};

/// What xl was given.
pub(crate) const XL: &str = "xl";
/// libxl's own.
pub(crate) const LIBXL_JSON: &str = "libxl-json";
/// The specification as this toolstack has it, which holds what libxl's form has no place for.
const SPEC: &str = "xt-spec";

fn path(dir: &Path, domid: DomId, uuid: Uuid, name: &str) -> PathBuf {
    dir.join(format!("userdata-d.{}.{uuid}.{name}", domid.0))
}

/// Keeps something.
pub(crate) fn keep(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    name: &str,
    data: &[u8],
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let to = path(dir, domid, uuid, name);
    let new = path(dir, domid, uuid, &format!("{name}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(data)?;
    fs::rename(new, to)
}

/// What was kept.
pub(crate) fn kept(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    name: &str,
) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path(dir, domid, uuid, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Keeps a domain's configuration in both forms.
pub(crate) fn keep_configuration(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
    spec: &DomainSpec,
    libxl: &DomainConfig,
    macs: &[(u32, String)],
) -> io::Result<()> {
    let mut text = completed(libxl, spec, uuid, macs).to_json()?;
    // libxl reads it as a C string.
    text.push('\0');
    keep(dir, domid, uuid, LIBXL_JSON, text.as_bytes())?;
    let spec = DomainSpec {
        uuid: Some(uuid),
        ..spec.clone()
    };
    keep(dir, domid, uuid, SPEC, &serde_json::to_vec(&spec)?)
}

/// libxl's number of a domain that has none yet.
const NO_DOMID: u32 = u32::MAX;

/// `libxl`, with what `spec` says and libxl's choices where the user made none: as libxl keeps it.
fn completed(
    libxl: &DomainConfig,
    spec: &DomainSpec,
    uuid: Uuid,
    macs: &[(u32, String)],
) -> DomainConfig {
    let own = DomainConfig::from(spec);
    let mut config = libxl.clone();
    let create = &mut config.c_info;
    create.kind = own.c_info.kind;
    create.name = own.c_info.name;
    create.uuid = Some(uuid);
    create.domid = NO_DOMID;
    create.run_hotplug_scripts = create.run_hotplug_scripts.unwrap_or(true).into();
    let build = &mut config.b_info;
    build.max_vcpus = own.b_info.max_vcpus;
    build.avail_vcpus = own.b_info.avail_vcpus;
    build.max_memkb = own.b_info.max_memkb;
    build.target_memkb = own.b_info.target_memkb;
    build.video_memkb = MemKb(0);
    build.kernel = own.b_info.kernel;
    build.ramdisk = own.b_info.ramdisk;
    build.cmdline = own.b_info.cmdline;
    build.kind = build.kind.take().or(own.b_info.kind);
    build.claim_mode = build.claim_mode.unwrap_or(true).into();
    let relaxed = &mut build.arch_x86.msr_relaxed;
    *relaxed = relaxed.unwrap_or(false).into();
    config.disks = own.disks;
    for disk in &mut config.disks {
        disk.backend = match (disk.backend, disk.format) {
            (DiskBackend::Unknown, DiskFormat::Raw) => DiskBackend::Phy,
            (DiskBackend::Unknown, _) => DiskBackend::Qdisk,
            (chosen, _) => chosen,
        };
        // libxl's choice, which it does not write down.
        disk.specification = DiskSpecification::default();
        disk.colo_restore_enable = disk.colo_restore_enable.unwrap_or(false).into();
    }
    config.nics = own.nics;
    for nic in &mut config.nics {
        let mac = macs
            .iter()
            .find(|(devid, _)| i64::from(*devid) == i64::from(nic.devid.0));
        nic.mac = mac.and_then(|(_, mac)| mac.parse().ok()).or(nic.mac);
        nic.nictype = NicKind::Vif;
    }
    config.on_poweroff = own.on_poweroff;
    config.on_reboot = own.on_reboot;
    config.on_watchdog = own.on_watchdog;
    config.on_crash = own.on_crash;
    config.on_soft_reset = own.on_soft_reset;
    config
}

/// What libxl keeps of a domain's configuration.
pub(crate) fn libxl(dir: &Path, domid: DomId, uuid: Uuid) -> io::Result<Option<DomainConfig>> {
    let text = kept(dir, domid, uuid, LIBXL_JSON)?;
    let config = text.map(|text| DomainConfig::from_json(&String::from_utf8_lossy(&text)));
    Ok(config.transpose()?)
}

/// Changes the name in what libxl keeps of a domain that `xl` made, and nothing else: there may be
/// more in it than is known here.
pub(crate) fn rename_libxl(dir: &Path, domid: DomId, uuid: Uuid, name: &str) -> io::Result<()> {
    let Some(text) = kept(dir, domid, uuid, LIBXL_JSON)? else {
        return Ok(());
    };
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    let mut config: serde_json::Value = serde_json::from_slice(text)?;
    if let Some(there) = config.pointer_mut("/c_info/name") {
        *there = name.into();
    }
    let mut text = serde_json::to_vec_pretty(&config)?;
    text.push(0);
    keep(dir, domid, uuid, LIBXL_JSON, &text)
}

/// A domain's configuration, if this toolstack made it.
pub(crate) fn configuration(
    dir: &Path,
    domid: DomId,
    uuid: Uuid,
) -> io::Result<Option<DomainSpec>> {
    let data = kept(dir, domid, uuid, SPEC)?;
    Ok(data.map(|data| serde_json::from_slice(&data)).transpose()?)
}

/// Gives a domain's files to another UUID.
pub(crate) fn rename(dir: &Path, domid: DomId, old: Uuid, new: Uuid) -> io::Result<()> {
    let start = format!("userdata-d.{}.{old}.", domid.0);
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_prefix(&start) {
            fs::rename(file.path(), path(dir, domid, new, name))?;
        }
    }
    Ok(())
}

/// Whether this toolstack made the domain.
pub(crate) fn is_ours(dir: &Path, domid: DomId, uuid: Uuid) -> bool {
    path(dir, domid, uuid, SPEC).exists()
}

/// Removes all of a domain's files.
pub(crate) fn forget(dir: &Path, domid: DomId, uuid: Uuid) -> io::Result<()> {
    let start = format!("userdata-d.{}.{uuid}.", domid.0);
    let files = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for file in files {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&start) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_with_the_domain() {
        let dir = tempfile::tempdir().unwrap();
        let (uuid, other) = (Uuid::new_v4(), Uuid::new_v4());
        keep(dir.path(), DomId(3), uuid, "xl", b"name=1").unwrap();
        keep(dir.path(), DomId(3), other, "xl", b"x").unwrap();
        let read = |uuid| kept(dir.path(), DomId(3), uuid, "xl").unwrap();
        assert_eq!(read(uuid).as_deref(), Some(&b"name=1"[..]));
        forget(dir.path(), DomId(3), uuid).unwrap();
        assert_eq!((read(uuid), read(other).is_some()), (None, true));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// What `xl` 4.17 wrote of the domain with this configuration.
    const OF_XL: &str = r#"{
        "c_info": { "type": "pv", "name": "gpv", "domid": 4294967295,
            "uuid": "c22b8a31-5d3c-4130-b892-7bb4fbfaf9c5", "run_hotplug_scripts": "True" },
        "b_info": { "max_vcpus": 2, "avail_vcpus": [0], "max_memkb": 196608,
            "target_memkb": 131072, "video_memkb": 0, "sched_params": {}, "claim_mode": "True",
            "kernel": "/vmlinuz", "cmdline": "console=hvc0", "ramdisk": "/initrd", "type.pv": {},
            "arch_arm": {}, "arch_x86": { "msr_relaxed": "False" } },
        "disks": [ { "pdev_path": "/dev/loop7", "vdev": "xvda", "backend": "phy", "format": "raw",
            "script": "block-plain", "readwrite": 1, "colo_restore_enable": "False" } ],
        "nics": [ { "devid": 0, "mac": "00:16:3e:00:00:01", "script": "vif-plain",
            "nictype": "vif" } ],
        "on_reboot": "restart", "on_soft_reset": "soft_reset" }"#;

    const CONFIG: &str = r#"
        name = "gpv"
        uuid = "c22b8a31-5d3c-4130-b892-7bb4fbfaf9c5"
        kernel = "/vmlinuz"
        ramdisk = "/initrd"
        extra = "console=hvc0"
        memory = 128
        maxmem = 192
        vcpus = 1
        maxvcpus = 2
        disk = ["format=raw,vdev=xvda,access=rw,backendtype=phy,script=block-plain,target=/dev/loop7"]
        vif = ["mac=00:16:3e:00:00:01,script=vif-plain"]
    "#;

    #[test]
    fn a_configuration_as_libxl_writes_it() {
        let document = xt_config::document::parse(CONFIG, "test").unwrap();
        let spec = DomainSpec::from_document(&document, xt_config::keys::SPEC_KEYS);
        let spec = spec.unwrap().value;
        let host = xt_config::domain::Host::uniform(2);
        let libxl = DomainConfig::from_document(&document, &host).unwrap().value;
        let macs = [(0, "00:16:3e:00:00:01".into())];
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for libxl in [libxl, DomainConfig::default()] {
            let ours = completed(&libxl, &spec, spec.uuid.unwrap(), &macs);
            assert_eq!(value(&ours.to_json().unwrap()), value(OF_XL));
        }
    }
}
