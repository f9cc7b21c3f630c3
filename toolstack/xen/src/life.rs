//! What is done to a domain while it lives.

use nix::errno::Errno;
use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::{
    XEN_DOMCTL_SENDTRIGGER_INIT, XEN_DOMCTL_SENDTRIGGER_NMI, XEN_DOMCTL_SENDTRIGGER_POWER,
    XEN_DOMCTL_SENDTRIGGER_RESET, XEN_DOMCTL_SENDTRIGGER_SLEEP, XEN_DOMINF_hvm_guest,
    XenDomctlGetdomaininfo,
};
use xen_sys::hvm::HVM_PARAM_ACPI_S_STATE;
use xt_config::DomainSpec;
use xt_config::DomainType;
use xt_config::disk::{DiskFormat, DiskSpec};
use xt_config::libxl::DomainConfig;
use xt_config::vdev::Vdev;
use xt_config::vif::{NicType, VifSpec};
use xt_devices::{Defaults, DeviceRef, Mode};
use xt_host::{
    AttachedDisk, AttachedNic, CpuSet, Credit2Change, DeviceName, HostError, Result, Trigger,
};
use xt_host_xen::domctl::Credit2;
use xt_xenstore::perms::Perm;

use crate::build::SLACK_KIB;
use crate::create::{lock_names, named};
use crate::{XenHost, failed, hotplug, hvm, nodes, store, userdata};

/// Pages to KiB.
pub(crate) const PAGE_KIB: u64 = 4;

impl XenHost {
    /// What the hypervisor says of a domain.
    pub(crate) fn domain_there(&self, domid: DomId) -> Result<XenDomctlGetdomaininfo> {
        let info = self.control.domain_info(domid);
        let info = info.map_err(failed("Cannot ask Xen about the domain"))?;
        info.ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()))
    }

    fn uuid(&self, domid: DomId) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.domain_there(domid)?.handle))
    }

    /// Asks the guest by `control/shutdown`.
    pub(crate) fn ask(&self, domid: DomId, word: &str) -> Result<()> {
        self.domain_there(domid)?;
        let path = format!("{}/control/shutdown", nodes::domain(domid));
        store(self.client().write(&path, word))
    }

    pub(crate) fn send_sysrq(&self, domid: DomId, key: char) -> Result<()> {
        self.domain_there(domid)?;
        let path = format!("{}/control/sysrq", nodes::domain(domid));
        store(self.client().write(&path, key.to_string()))
    }

    pub(crate) fn send_trigger(&self, domid: DomId, trigger: Trigger, vcpu: u32) -> Result<()> {
        self.domain_there(domid)?;
        let number = match trigger {
            Trigger::Power => XEN_DOMCTL_SENDTRIGGER_POWER,
            Trigger::Sleep => XEN_DOMCTL_SENDTRIGGER_SLEEP,
            Trigger::Nmi => XEN_DOMCTL_SENDTRIGGER_NMI,
            Trigger::Init => XEN_DOMCTL_SENDTRIGGER_INIT,
            Trigger::Reset => XEN_DOMCTL_SENDTRIGGER_RESET,
            Trigger::S3Resume => {
                let woken = self.control.set_hvm_param(domid, HVM_PARAM_ACPI_S_STATE, 0);
                return woken.map_err(refused("Xen does not wake the domain"));
            }
        };
        self.control
            .send_trigger(domid, number, vcpu)
            .map_err(refused("Xen refuses the trigger"))
    }

    /// libxl's order: the limit, what is populated on demand, and then the guest is told.
    pub(crate) fn set_memory(&self, domid: DomId, kib: u64) -> Result<()> {
        let info = self.domain_there(domid)?;
        let dir = format!("{}/memory", nodes::domain(domid));
        let mut client = self.client();
        let most = store(client.read_text(&format!("{dir}/static-max")))?;
        let most = most.and_then(|text| text.parse::<u64>().ok());
        if let Some(most) = most
            && kib > most
        {
            return Err(HostError::Refused(format!(
                "{kib} KiB are more than the domain may have ({most} KiB); raise maxmem and restart it."
            )));
        }
        if domid != DomId(0) {
            self.control
                .set_max_memory(domid, kib + SLACK_KIB)
                .map_err(refused("Xen refuses the limit"))?;
        }
        // The graphics card's memory is part of what is asked for, and no RAM.
        let video = store(client.read_text(&format!("{dir}/videoram")))?;
        let video: u64 = video.and_then(|text| text.parse().ok()).unwrap_or(0);
        let kib = kib.saturating_sub(video);
        if info.flags & XEN_DOMINF_hvm_guest != 0 {
            self.control
                .set_pod_target(domid, kib / PAGE_KIB)
                .map_err(refused("Xen refuses the target"))?;
        }
        store(client.write(&format!("{dir}/target"), kib.to_string()))
    }

    pub(crate) fn set_max_memory(&self, domid: DomId, kib: u64) -> Result<()> {
        self.domain_there(domid)?;
        let path = format!("{}/memory/target", nodes::domain(domid));
        let target = store(self.client().read_text(&path))?;
        let target = target.and_then(|text| text.parse::<u64>().ok());
        if target.is_some_and(|target| kib < target) {
            return Err(HostError::Refused(format!(
                "{kib} KiB are less than the domain is to have ({} KiB); lower that first with: xt mem-set",
                target.unwrap_or(0)
            )));
        }
        self.control
            .set_max_memory(domid, kib + SLACK_KIB)
            .map_err(refused("Xen refuses the limit"))?;
        let path = format!("{}/memory/static-max", nodes::domain(domid));
        store(self.client().write(&path, kib.to_string()))
    }

    /// The most memory a domain may have and what it is to have now, in KiB, as its nodes tell.
    pub(crate) fn memory_nodes(&self, domid: DomId) -> Result<(Option<u64>, Option<u64>)> {
        let dir = format!("{}/memory", nodes::domain(domid));
        let mut client = self.client();
        let mut node = |name| {
            let text = store(client.read_text(&format!("{dir}/{name}")))?;
            Ok(text.and_then(|text| text.parse().ok()))
        };
        Ok((node("static-max")?, node("target")?))
    }

    pub(crate) fn pin_vcpu(
        &self,
        domid: DomId,
        vcpu: u32,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
    ) -> Result<()> {
        self.domain_there(domid)?;
        let cpus = self.cpus()?;
        let map = |set: &CpuSet| {
            let mut map = vec![0u8; cpus.div_ceil(8) as usize];
            for cpu in set.0.iter().filter(|cpu| **cpu < cpus) {
                map[*cpu as usize / 8] |= 1 << (cpu % 8);
            }
            map
        };
        let (hard, soft) = (hard.map(map), soft.map(map));
        self.control
            .set_vcpu_affinity(domid, vcpu, hard.as_ref(), soft.as_ref(), false)
            .map(drop)
            .map_err(refused("Xen refuses the processors"))
    }

    /// How many processors there may be.
    pub(crate) fn cpus(&self) -> Result<u32> {
        let info = self.control.physinfo();
        Ok(info
            .map_err(failed("Cannot ask Xen about the machine"))?
            .max_cpu_id
            + 1)
    }

    pub(crate) fn set_vcpus(&self, domid: DomId, count: u32) -> Result<()> {
        let there = self.domain_there(domid)?.max_vcpu_id.wrapping_add(1);
        if count > there || count == 0 {
            return Err(HostError::Refused(format!(
                "The domain may have 1 to {there} virtual CPUs online, not {count}."
            )));
        }
        let dir = format!("{}/cpu", nodes::domain(domid));
        let set = self.client().transaction(|client| {
            for vcpu in 0..there {
                let state = if vcpu < count { "online" } else { "offline" };
                client.write(&format!("{dir}/{vcpu}/availability"), state)?;
            }
            Ok(())
        });
        store(set)
    }

    pub(crate) fn change_credit2(&self, domid: DomId, change: Credit2Change) -> Result<()> {
        let now = self.control.credit2(domid);
        let now = now.map_err(refused("Xen refuses the scheduler's parameters"))?;
        let value = |wanted: Option<u32>, now: u16, what| match wanted {
            None => Ok(now),
            // Xen takes it for "as it is".
            Some(0) if what == "weight" => {
                Err(HostError::Refused("0 is no weight: at least 1.".into()))
            }
            Some(wanted) => u16::try_from(wanted).map_err(|_| {
                HostError::Refused(format!(
                    "{wanted} is no {what}: at most {} will do.",
                    u16::MAX
                ))
            }),
        };
        let shares = Credit2 {
            weight: value(change.weight, now.weight, "weight")?,
            cap: value(change.cap, now.cap, "cap")?,
        };
        self.control
            .set_credit2(domid, shares)
            .map_err(refused("Xen refuses the scheduler's parameters"))
    }

    pub(crate) fn attach_disk(&self, domid: DomId, disk: &DiskSpec) -> Result<AttachedDisk> {
        let guest = self.guest(domid)?;
        let mut client = self.client();
        let made = xt_devices::disk_nodes(&mut client, guest, disk, &Defaults::default());
        hotplug::attach(&mut client, &made.map_err(hotplug::refused)?)?;
        drop(client);
        self.change_configuration(domid, |spec| spec.disks.push(disk.clone()))?;
        Ok(AttachedDisk {
            vdev: disk.vdev.name().to_owned(),
        })
    }

    pub(crate) fn attach_nic(&self, domid: DomId, nic: &VifSpec) -> Result<AttachedNic> {
        let guest = self.guest(domid)?;
        let mut nic = nic.clone();
        if guest.kind == DomainType::Hvm {
            // A card that comes later is a paravirtual one, as libxl has it.
            nic.nic_type.get_or_insert(NicType::Vif);
        }
        let nic = &nic;
        let mut client = self.client();
        let made = xt_devices::nic_nodes(&mut client, guest, nic, &Defaults::default());
        let made = made.map_err(hotplug::refused)?;
        hotplug::attach(&mut client, &made)?;
        drop(client);
        let devid = made.device.devid;
        self.change_configuration(domid, |spec| {
            let mut nic = nic.clone();
            nic.devid = Some(devid);
            spec.vifs.push(nic);
        })?;
        Ok(AttachedNic { devid })
    }

    pub(crate) fn detach_device(
        &self,
        domid: DomId,
        device: DeviceName<'_>,
        force: bool,
    ) -> Result<()> {
        self.domain_there(domid)?;
        let (device, mode) = match device {
            DeviceName::Disk(name) => {
                let found = DeviceRef::vbd(domid, disk_number(name)?);
                (found, if force { Mode::Force } else { Mode::Safe })
            }
            DeviceName::Nic(name) => {
                let found = DeviceRef::vif(domid, self.nic_number(domid, name)?);
                (found, if force { Mode::Force } else { Mode::Auto })
            }
        };
        hotplug::detach(&mut self.client(), &device, mode)?;
        let devid = device.devid;
        self.change_configuration(domid, |spec| match device.kind {
            "vbd" => spec.disks.retain(|disk| disk.vdev.number() != devid),
            _ => {
                let mut place = 0..;
                spec.vifs
                    .retain(|nic| nic.devid.or(place.next()) != Some(devid));
            }
        })
    }

    fn nic_number(&self, domid: DomId, name: &str) -> Result<u32> {
        let list = xt_devices::network_list(&mut self.client(), domid).map_err(hotplug::refused)?;
        let found = list
            .iter()
            .find(|nic| nic.devid.to_string() == name || nic.mac.eq_ignore_ascii_case(name));
        found.map(|nic| nic.devid).ok_or_else(|| {
            HostError::Refused(format!("The domain has no network interface {name:?}."))
        })
    }

    pub(crate) fn change_medium(
        &self,
        domid: DomId,
        vdev: &str,
        target: Option<&str>,
    ) -> Result<()> {
        let guest = self.guest(domid)?;
        let device = DeviceRef::vbd(domid, disk_number(vdev)?);
        let mut client = self.client();
        if guest.kind == DomainType::Hvm {
            xt_devices::medium::check_drive(&mut client, &device).map_err(hotplug::refused)?;
            hvm::create::change_medium(domid, device.devid, target)?;
        }
        match target {
            Some(target) => {
                xt_devices::medium::cd_insert(&mut client, &device, DiskFormat::Raw, target)
            }
            None => xt_devices::medium::cd_eject(&mut client, &device),
        }
        .map_err(hotplug::refused)
    }

    pub(crate) fn rename_domain(&self, domid: DomId, name: &str) -> Result<()> {
        let uuid = self.uuid(domid)?;
        let _lock = lock_names(&self.dirs.journal)?;
        let mut client = self.client();
        match named(&mut client, name)? {
            Some(other) if other != domid => {
                let name = name.to_owned();
                return Err(HostError::NameInUse { name });
            }
            _ => {}
        }
        store(client.transaction(|client| {
            client.write(&format!("{}/name", nodes::domain(domid)), name)?;
            client.write(&format!("{}/name", nodes::vm(uuid)), name)
        }))?;
        drop(client);
        self.change_configuration(domid, |spec| name.clone_into(&mut spec.name))
    }

    /// Another name and UUID, so that a domain with the old ones can be made.
    pub(crate) fn preserve_domain(&self, domid: DomId, name: &str) -> Result<()> {
        let (old, new) = (self.uuid(domid)?, Uuid::new_v4());
        self.rename_domain(domid, name)?;
        let mut client = self.client();
        store(client.transaction(|client| {
            let (from, to) = (nodes::vm(old), nodes::vm(new));
            client.mkdir(&to)?;
            client.set_perms(&to, &[Perm::none(DomId(0)), Perm::read(domid)])?;
            copy(client, &from, &to)?;
            client.write(&format!("{to}/uuid"), new.to_string())?;
            client.write(&format!("{}/vm", nodes::domain(domid)), &to)?;
            nodes::remove(client, &from)
        }))?;
        drop(client);
        userdata::rename(&self.dirs.userdata, domid, old, new)
            .map_err(failed("Cannot rename the domain's files"))?;
        self.control
            .set_domain_handle(domid, *new.as_bytes())
            .map_err(failed("Xen refuses the UUID"))?;
        self.change_configuration(domid, |spec| spec.uuid = Some(new))
    }

    pub(crate) fn kept_configuration(&self, domid: DomId) -> Result<Option<DomainSpec>> {
        let uuid = self.uuid(domid)?;
        userdata::configuration(&self.dirs.userdata, domid, uuid)
            .map_err(failed("Cannot read the configuration"))
    }

    pub(crate) fn keep_configuration(
        &self,
        domid: DomId,
        spec: &DomainSpec,
        libxl: &DomainConfig,
    ) -> Result<()> {
        let uuid = self.uuid(domid)?;
        let nics = xt_devices::network_list(&mut self.client(), domid).map_err(hotplug::refused)?;
        let macs: Vec<_> = nics.into_iter().map(|nic| (nic.devid, nic.mac)).collect();
        userdata::keep_configuration(&self.dirs.userdata, domid, uuid, spec, libxl, &macs)
            .map_err(failed("Cannot keep the configuration"))
    }

    /// Changes what is kept, in our form and in libxl's. Of a domain that `xl` made only libxl's name is
    /// followed; its devices are read from xenstore anyhow.
    fn change_configuration(
        &self,
        domid: DomId,
        change: impl FnOnce(&mut DomainSpec),
    ) -> Result<()> {
        let dir = &self.dirs.userdata;
        let uuid = self.uuid(domid)?;
        let Some(mut spec) = self.kept_configuration(domid)? else {
            let path = format!("{}/name", nodes::domain(domid));
            let name = store(self.client().read_text(&path))?.unwrap_or_default();
            return userdata::rename_libxl(dir, domid, uuid, &name)
                .map_err(failed("Cannot keep the configuration"));
        };
        change(&mut spec);
        let libxl = userdata::libxl(dir, domid, uuid);
        let libxl = libxl.map_err(failed("Cannot read the configuration"))?;
        self.keep_configuration(domid, &spec, &libxl.unwrap_or_default())
    }

    pub(crate) fn keep_data(&self, domid: DomId, who: &str, data: &[u8]) -> Result<()> {
        let uuid = self.uuid(domid)?;
        userdata::keep(&self.dirs.userdata, domid, uuid, who, data)
            .map_err(failed("Cannot keep the data"))
    }

    pub(crate) fn kept_data(&self, domid: DomId, who: &str) -> Result<Option<Vec<u8>>> {
        let uuid = self.uuid(domid)?;
        userdata::kept(&self.dirs.userdata, domid, uuid, who)
            .map_err(failed("Cannot read what was kept"))
    }
}

/// Copies a directory. New nodes have their parent's permissions.
fn copy(
    client: &mut xt_xenstore::client::Client,
    from: &str,
    to: &str,
) -> std::result::Result<(), xt_xenstore::client::ClientError> {
    let value = client.read(from)?;
    client.write(to, value)?;
    for name in client.directory(from)? {
        copy(client, &format!("{from}/{name}"), &format!("{to}/{name}"))?;
    }
    Ok(())
}

/// A disk's number, by name or by number.
fn disk_number(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let vdev: std::result::Result<Vdev, _> = name.parse();
    vdev.map(|vdev| vdev.number())
        .map_err(|_| HostError::Refused(format!("{name:?} names no disk.")))
}

/// For `map_err`: the hypervisor's refusal, in words where they are known.
pub(crate) fn refused(what: &'static str) -> impl FnOnce(std::io::Error) -> HostError {
    move |error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ESRCH) => {
            HostError::Refused(format!("{what}: there is no such domain or vCPU."))
        }
        Some(Errno::EINVAL) => {
            HostError::Refused(format!("{what}: it makes no sense for this domain."))
        }
        _ => HostError::failed(what, error),
    }
}
