//! Disks and network cards of a running domain.

use std::os::fd::OwnedFd;
use std::time::Duration;

use xen_sys::DomId;
use xenner::control::client::PATIENCE;
use xenner::control::{Command, Info};
use xenner::devices::desk::{DeviceInfo, Kind};
use xenner::devices::parcel::{self, DiskParcel, Parcel, ParcelError};
use xenner::devices::{disk, nic};
use xt_config::disk::DiskSpec;
use xt_config::vif::VifSpec;
use xt_devices::list::{BlockEntry, NetworkEntry};
use xt_host::{AttachedDisk, AttachedNic, DeviceName, HostError, Result};

use crate::{GUEST, KvmHost, refused};

/// How long a guest may take to let go of a device, and a little.
const DETACH_PATIENCE: Duration = Duration::from_secs(20);

fn unusable(error: ParcelError) -> HostError {
    HostError::Config(error.to_string())
}

fn listed(error: xt_devices::DeviceError) -> HostError {
    HostError::failed("Cannot list the devices.", error)
}

impl KvmHost {
    fn order(
        &self,
        domid: DomId,
        command: Command,
        fds: &[OwnedFd],
        limit: Duration,
    ) -> Result<()> {
        let mut connection = self.connect(domid)?;
        let answer = connection.call::<serde_json::Value>(command, fds, Some(limit));
        answer.map(drop).map_err(refused)
    }

    pub(crate) fn tell(&self, domid: DomId, command: Command) -> Result<()> {
        self.order(domid, command, &[], PATIENCE)
    }

    pub(crate) fn disks(&self, domid: DomId) -> Result<Vec<BlockEntry>> {
        let mut entries = xt_devices::block_list(&mut self.store(domid)?, GUEST).map_err(listed)?;
        entries.iter_mut().for_each(|entry| entry.domid = domid.0);
        Ok(entries)
    }

    pub(crate) fn nics(&self, domid: DomId) -> Result<Vec<NetworkEntry>> {
        xt_devices::network_list(&mut self.store(domid)?, GUEST).map_err(listed)
    }

    pub(crate) fn attach_disk(&self, domid: DomId, spec: &DiskSpec) -> Result<AttachedDisk> {
        let (parcel, fds) = parcel::pack_disk(spec).map_err(unusable)?;
        let device = Parcel::Disk(parcel);
        self.order(domid, Command::Attach { device }, &fds, PATIENCE)?;
        Ok(AttachedDisk {
            vdev: spec.vdev.name().to_owned(),
        })
    }

    pub(crate) fn attach_nic(&self, domid: DomId, spec: &VifSpec) -> Result<AttachedNic> {
        let mut connection = self.connect(domid)?;
        let devices: Vec<DeviceInfo> = connection
            .call(Command::Devices, &[], Some(PATIENCE))
            .map_err(refused)?;
        let info: Info = connection
            .call(Command::Info, &[], Some(PATIENCE))
            .map_err(refused)?;
        let taken = |devid: &u32| {
            devices
                .iter()
                .any(|device| device.kind == Kind::Vif.word() && device.devid == *devid)
        };
        let free = (0..).find(|devid| !taken(devid)).unwrap_or(0);
        let devid = spec.devid.unwrap_or(free);
        let card = nic::of_vif(spec, devid).map_err(HostError::Config)?;
        let (parcel, fds) = parcel::pack_nic(&card, info.vcpus).map_err(unusable)?;
        let device = Parcel::Nic(parcel);
        self.order(domid, Command::Attach { device }, &fds, PATIENCE)?;
        Ok(AttachedNic { devid })
    }

    pub(crate) fn take_away(
        &self,
        domid: DomId,
        device: &DeviceName<'_>,
        force: bool,
    ) -> Result<()> {
        let (kind, device) = match device {
            DeviceName::Disk(name) => (Kind::Vbd, (*name).to_owned()),
            DeviceName::Nic(name) => (Kind::Vif, (*name).to_owned()),
        };
        let order = Command::Detach {
            kind,
            device,
            force,
        };
        self.order(domid, order, &[], DETACH_PATIENCE)
    }

    pub(crate) fn exchange(&self, domid: DomId, vdev: &str, target: Option<&str>) -> Result<()> {
        let mut fds = Vec::new();
        let medium: Option<DiskParcel> = match target {
            None => None,
            Some(target) => {
                let text = format!("format=raw,vdev={vdev},devtype=cdrom,target={target}");
                let spec = disk::parse(&text, &[]).map_err(HostError::Config)?;
                let (parcel, opened) = parcel::pack_disk(&spec).map_err(unusable)?;
                fds = opened;
                Some(parcel)
            }
        };
        let device = vdev.to_owned();
        self.order(domid, Command::Insert { device, medium }, &fds, PATIENCE)
    }
}
