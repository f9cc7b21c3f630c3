//! A configuration in libxl's JSON (`libxl_domain_config`), as `xl list -l` prints it.
//!
//! Facts: what `xl` 4.17 writes to `/var/lib/xen`; like there, what has its default is left out.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};
use uuid::Uuid;
use xen_sys::DomId;
use xt_config::disk::{DiskBackend, DiskFormat, DiskSpec};
use xt_config::spec::Action;
use xt_config::vif::VifSpec;
use xt_config::{DomainSpec, DomainType};

use crate::userdata::{self, LIBXL_JSON};

/// libxl's number of a domain that has none yet.
const NO_DOMID: u32 = u32::MAX;

/// The text.
pub(crate) fn of_domain(spec: &DomainSpec, uuid: Uuid, macs: &[(u32, String)]) -> String {
    let mut config = Map::new();
    let mut common = object(json!({
        "type": spec.domain_type.to_string(),
        "name": spec.name,
        "domid": NO_DOMID,
        "uuid": uuid.to_string(),
        "run_hotplug_scripts": "True",
    }));
    common.retain(|_, value| !value.is_null());
    config.insert("c_info".into(), common.into());
    config.insert("b_info".into(), build_info(spec).into());
    let disks: Vec<Value> = spec.disks.iter().map(disk).collect();
    let nics = spec.vifs.iter().zip(0u32..).map(|(vif, place)| {
        let devid = vif.devid.unwrap_or(place);
        let mac = macs.iter().find(|(id, _)| *id == devid);
        nic(vif, devid, mac.map(|(_, mac)| mac.as_str()))
    });
    let nics: Vec<Value> = nics.collect();
    for (name, list) in [("disks", disks), ("nics", nics)] {
        if !list.is_empty() {
            config.insert(name.into(), list.into());
        }
    }
    let actions = [
        ("on_poweroff", spec.on.poweroff),
        ("on_reboot", spec.on.reboot),
        ("on_watchdog", spec.on.watchdog),
        ("on_crash", spec.on.crash),
        ("on_soft_reset", spec.on.soft_reset),
    ];
    for (name, action) in actions {
        // The first of libxl's enumeration is the one it leaves out.
        if action != Action::Destroy {
            config.insert(name.into(), action_name(action).into());
        }
    }
    let mut text = serde_json::to_string_pretty(&Value::Object(config)).unwrap_or_default();
    // libxl reads it as a C string.
    text.push('\0');
    text
}

/// Changes the name in what libxl keeps of a domain that `xl` made.
pub(crate) fn rename(dir: &Path, domid: DomId, uuid: Uuid, name: &str) -> io::Result<()> {
    let Some(text) = userdata::kept(dir, domid, uuid, LIBXL_JSON)? else {
        return Ok(());
    };
    let mut config: Value = serde_json::from_slice(text.strip_suffix(b"\0").unwrap_or(&text))?;
    if let Some(there) = config.pointer_mut("/c_info/name") {
        *there = name.into();
    }
    let mut text = serde_json::to_vec_pretty(&config)?;
    text.push(0);
    userdata::keep(dir, domid, uuid, LIBXL_JSON, &text)
}

fn build_info(spec: &DomainSpec) -> Map<String, Value> {
    let text = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    let mut info = object(json!({
        "max_vcpus": spec.max_vcpus,
        "avail_vcpus": (0..spec.vcpus).collect::<Vec<u32>>(),
        "max_memkb": spec.max_memory_mib * 1024,
        "target_memkb": spec.memory_mib * 1024,
        "video_memkb": 0,
        "sched_params": {},
        "claim_mode": "True",
        "max_grant_frames": spec.max_grant_frames,
        "max_maptrack_frames": spec.max_maptrack_frames,
        "event_channels": spec.max_event_channels,
        "max_grant_version": spec.max_grant_version,
        "kernel": text(&spec.kernel),
        "cmdline": spec.cmdline,
        "ramdisk": text(&spec.ramdisk),
    }));
    let union = match spec.domain_type {
        DomainType::Pv => "type.pv",
        DomainType::Pvh => "type.pvh",
        DomainType::Hvm => "type.hvm",
    };
    info.insert(union.into(), json!({}));
    info.insert("arch_arm".into(), json!({}));
    info.insert("arch_x86".into(), json!({ "msr_relaxed": "False" }));
    info.retain(|_, value| !value.is_null());
    info
}

fn disk(disk: &DiskSpec) -> Value {
    let format = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Empty => "empty",
        DiskFormat::Qcow => "qcow",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vhd => "vhd",
        DiskFormat::Qed => "qed",
        DiskFormat::Vmdk => "vmdk",
    };
    let backend = match disk.backend_type {
        Some(DiskBackend::Qdisk) => Some("qdisk"),
        Some(DiskBackend::Tap) => Some("tap"),
        Some(DiskBackend::Standalone) => Some("standalone"),
        // What libxl chooses for what it can, and writes down.
        Some(DiskBackend::Phy) => Some("phy"),
        None if disk.format == DiskFormat::Raw => Some("phy"),
        None => Some("qdisk"),
    };
    let mut value = object(json!({
        "backend_domname": disk.backend,
        "pdev_path": disk.target,
        "vdev": disk.vdev.name(),
        "backend": backend,
        "format": format,
        "script": disk.script,
        "readwrite": if disk.readonly { Value::Null } else { 1.into() },
        "is_cdrom": if disk.cdrom { 1.into() } else { Value::Null },
        "direct_io_safe": disk.direct_io_safe.then_some("True"),
        "discard_enable": disk.discard.map(libxl_bool),
        "colo_restore_enable": "False",
    }));
    value.retain(|_, value| !value.is_null());
    value.into()
}

fn nic(vif: &VifSpec, devid: u32, mac: Option<&str>) -> Value {
    let mac = mac
        .map(str::to_owned)
        .or(vif.mac.map(|mac| mac.to_string()));
    let mut value = object(json!({
        "backend_domname": vif.backend,
        "devid": devid,
        "mtu": vif.mtu,
        "mac": mac,
        "ip": vif.ip,
        "bridge": vif.bridge,
        "ifname": vif.vifname,
        "script": vif.script,
        "nictype": "vif",
        "gatewaydev": vif.gatewaydev,
    }));
    value.retain(|_, value| !value.is_null());
    value.into()
}

/// A `libxl_defbool`.
fn libxl_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Destroy => "destroy",
        Action::Restart => "restart",
        Action::RenameRestart => "rename_restart",
        Action::Preserve => "preserve",
        Action::CoredumpDestroy => "coredump_destroy",
        Action::CoredumpRestart => "coredump_restart",
        Action::SoftReset => "soft_reset",
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let ours = of_domain(
            &spec,
            spec.uuid.unwrap(),
            &[(0, "00:16:3e:00:00:01".into())],
        );
        let ours = ours.strip_suffix('\0').unwrap();
        let ours: Value = serde_json::from_str(ours).unwrap();
        let theirs: Value = serde_json::from_str(OF_XL).unwrap();
        assert_eq!(ours, theirs);
    }
}
