//! Disks and network interfaces, by way of [`DiskSpec`] and [`VifSpec`].

use crate::diagnostic::SpecError;
use crate::disk::{self, DiskSpec};
use crate::domain::Host;
use crate::libxl::{
    DevId, Disk, DiskBackend, DiskFormat, DiskSpecification, DomainConfig, Nic, NicColo, NicKind,
};
use crate::reader::Reader;
use crate::vif::{NicType, RateSpec, VifSpec};

pub(super) fn read(reader: &mut Reader<'_>, host: &Host, config: &mut DomainConfig) {
    let mut seen = disk::Seen::default();
    config.disks = reader.list("disk", |text| {
        let (spec, named) = disk::parse(text)?;
        seen.add(&spec, text)?;
        let mut disk = Disk::from(&spec);
        if !named.specification {
            disk.specification = DiskSpecification::Unknown;
        }
        if named.target {
            disk.pdev_path.get_or_insert_default();
        }
        Ok(disk)
    });
    let mut devids = crate::vif::Seen::default();
    config.nics = reader.list("vif", |text| {
        let vif: VifSpec = text.parse()?;
        let devid = devids.add(&vif, text)?;
        nic(&vif, devid, host)
    });
    if reader.get("vif2").is_some() {
        let message = "vif2 is ignored: there is no netchannel2 any more.";
        reader.warn("vif2", message, Some("Use vif.".into()));
    }
}

/// The bytes in one interval and its length.
fn rate(rate: Option<RateSpec>) -> (u64, u32) {
    rate.map_or((0, 0), |rate| (rate.bytes_per_interval, rate.interval_us))
}

fn nic(vif: &VifSpec, devid: u32, host: &Host) -> Result<Nic, SpecError> {
    let defaults = &host.defaults;
    let (rate_bytes_per_interval, rate_interval_usecs) = rate(vif.rate);
    let or = |value: &Option<String>, default: &Option<String>| value.clone().or(default.clone());
    let colo = vif
        .colo
        .iter()
        .filter_map(|(key, value)| Some((NicColo::name(key)?, value.clone())));
    Ok(Nic {
        backend_domname: or(&vif.backend, &defaults.vif_backend),
        devid: DevId(i32::try_from(devid).unwrap_or(i32::MAX)),
        mtu: vif.mtu.and_then(|mtu| i32::try_from(mtu).ok()).unwrap_or(0),
        model: vif.model.clone(),
        mac: vif.mac,
        ip: vif.ip.clone(),
        bridge: or(&vif.bridge, &defaults.vif_bridge),
        ifname: vif.vifname.clone(),
        script: or(&vif.script, &defaults.vif_script),
        nictype: match vif.nic_type {
            None => NicKind::Unknown,
            Some(NicType::Ioemu) => NicKind::VifIoemu,
            Some(NicType::Vif) => NicKind::Vif,
        },
        rate_bytes_per_interval,
        rate_interval_usecs,
        gatewaydev: or(&vif.gatewaydev, &defaults.vif_gatewaydev),
        colo: NicColo(colo.collect()),
        trusted: crate::libxl::Defbool(vif.trusted),
        ..Nic::default()
    })
}

impl From<&DiskSpec> for Disk {
    fn from(spec: &DiskSpec) -> Self {
        let colo = spec.colo.as_ref();
        let text = |get: fn(&disk::ColoSpec) -> &String| colo.map(|colo| get(colo).clone());
        Disk {
            backend_domname: spec.backend.clone(),
            pdev_path: spec.target.clone(),
            vdev: Some(spec.vdev.name().to_owned()),
            backend: match spec.backend_type {
                None => DiskBackend::Unknown,
                Some(disk::DiskBackend::Phy) => DiskBackend::Phy,
                Some(disk::DiskBackend::Tap) => DiskBackend::Tap,
                Some(disk::DiskBackend::Qdisk) => DiskBackend::Qdisk,
                Some(disk::DiskBackend::Standalone) => DiskBackend::Standalone,
            },
            format: format(spec.format),
            script: spec.script.clone(),
            removable: spec.cdrom.into(),
            readwrite: (!spec.readonly).into(),
            is_cdrom: spec.cdrom.into(),
            direct_io_safe: spec.direct_io_safe,
            discard_enable: crate::libxl::Defbool(spec.discard),
            specification: match spec.specification {
                disk::DiskSpecification::Xen => DiskSpecification::Xen,
                disk::DiskSpecification::Virtio => DiskSpecification::Virtio,
            },
            colo_enable: crate::libxl::Defbool(colo.map(|_| true)),
            colo_host: text(|colo| &colo.host),
            colo_port: colo.map_or(0, |colo| colo.port.into()),
            colo_export: text(|colo| &colo.export),
            active_disk: text(|colo| &colo.active_disk),
            hidden_disk: text(|colo| &colo.hidden_disk),
            trusted: crate::libxl::Defbool(spec.trusted),
            grant_usage: match spec.grant_usage {
                disk::GrantUsage::Default => crate::libxl::Defbool(None),
                disk::GrantUsage::Enabled => true.into(),
                disk::GrantUsage::Disabled => false.into(),
            },
            ..Disk::default()
        }
    }
}

fn format(format: disk::DiskFormat) -> DiskFormat {
    match format {
        disk::DiskFormat::Raw => DiskFormat::Raw,
        disk::DiskFormat::Qcow => DiskFormat::Qcow,
        disk::DiskFormat::Qcow2 => DiskFormat::Qcow2,
        disk::DiskFormat::Vhd => DiskFormat::Vhd,
        disk::DiskFormat::Vmdk => DiskFormat::Vmdk,
        disk::DiskFormat::Qed => DiskFormat::Qed,
        disk::DiskFormat::Empty => DiskFormat::Empty,
    }
}

/// From libxl's JSON back to what the back ends are set up from.
impl TryFrom<&Disk> for DiskSpec {
    type Error = SpecError;

    fn try_from(disk: &Disk) -> Result<Self, SpecError> {
        let vdev = disk.vdev.as_deref().unwrap_or_default().parse()?;
        let colo = disk.colo_enable.unwrap_or(false).then(|| disk::ColoSpec {
            host: disk.colo_host.clone().unwrap_or_default(),
            port: u16::try_from(disk.colo_port).unwrap_or(0),
            export: disk.colo_export.clone().unwrap_or_default(),
            active_disk: disk.active_disk.clone().unwrap_or_default(),
            hidden_disk: disk.hidden_disk.clone().unwrap_or_default(),
        });
        Ok(DiskSpec {
            target: disk.pdev_path.clone().filter(|path| !path.is_empty()),
            format: match disk.format {
                DiskFormat::Unknown | DiskFormat::Raw => disk::DiskFormat::Raw,
                DiskFormat::Qcow => disk::DiskFormat::Qcow,
                DiskFormat::Qcow2 => disk::DiskFormat::Qcow2,
                DiskFormat::Vhd => disk::DiskFormat::Vhd,
                DiskFormat::Vmdk => disk::DiskFormat::Vmdk,
                DiskFormat::Qed => disk::DiskFormat::Qed,
                DiskFormat::Empty => disk::DiskFormat::Empty,
            },
            vdev,
            readonly: disk.readwrite == 0,
            cdrom: disk.is_cdrom != 0,
            backend: disk.backend_domname.clone().or(domid(disk.backend_domid)),
            backend_type: match disk.backend {
                DiskBackend::Unknown => None,
                DiskBackend::Phy => Some(disk::DiskBackend::Phy),
                DiskBackend::Tap => Some(disk::DiskBackend::Tap),
                DiskBackend::Qdisk => Some(disk::DiskBackend::Qdisk),
                DiskBackend::Standalone => Some(disk::DiskBackend::Standalone),
            },
            script: disk.script.clone(),
            direct_io_safe: disk.direct_io_safe,
            discard: disk.discard_enable.0,
            trusted: disk.trusted.0,
            specification: match disk.specification {
                DiskSpecification::Virtio => disk::DiskSpecification::Virtio,
                DiskSpecification::Unknown | DiskSpecification::Xen => disk::DiskSpecification::Xen,
            },
            grant_usage: match disk.grant_usage.0 {
                None => disk::GrantUsage::Default,
                Some(true) => disk::GrantUsage::Enabled,
                Some(false) => disk::GrantUsage::Disabled,
            },
            colo,
        })
    }
}

/// Domain 0 is where back ends are anyway.
fn domid(domid: u32) -> Option<String> {
    (domid != 0).then(|| domid.to_string())
}

/// From libxl's JSON back to what the back ends are set up from.
impl From<&Nic> for VifSpec {
    fn from(nic: &Nic) -> Self {
        let rated = nic.rate_bytes_per_interval != 0 && nic.rate_interval_usecs != 0;
        VifSpec {
            mac: nic.mac,
            bridge: nic.bridge.clone(),
            gatewaydev: nic.gatewaydev.clone(),
            nic_type: match nic.nictype {
                NicKind::Unknown => None,
                NicKind::VifIoemu => Some(NicType::Ioemu),
                NicKind::Vif => Some(NicType::Vif),
            },
            model: nic.model.clone(),
            vifname: nic.ifname.clone(),
            script: nic.script.clone(),
            ip: nic.ip.clone(),
            backend: nic.backend_domname.clone().or(domid(nic.backend_domid)),
            rate: rated.then_some(RateSpec {
                bytes_per_interval: nic.rate_bytes_per_interval,
                interval_us: nic.rate_interval_usecs,
            }),
            devid: nic.devid.get().and_then(|devid| u32::try_from(devid).ok()),
            mtu: u32::try_from(nic.mtu).ok().filter(|mtu| *mtu != 0),
            vlan: None,
            trusted: nic.trusted.0,
            colo: nic
                .colo
                .0
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        }
    }
}
