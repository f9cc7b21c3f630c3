//! From libxl's structures back to a [`DomainSpec`]: a domain that `xl` created is inspected, and
//! started again, as one of ours.

use std::path::PathBuf;

use crate::cpuid::{BitChanges, CpuidLeaf, CpuidSpec, MsrChanges};
use crate::diagnostic::{SpecError, quote};
use crate::disk::DiskSpec;
use crate::hvm_spec::HvmSpec;
use crate::libxl::{
    ActionOnShutdown, Bitmap, CpuPolicy, DevId, Disk, DomainConfig, HvmInfo, KindInfo, MemKb, Nic,
    PvInfo, PvhInfo, Tuning, Type, Unset32,
};
use crate::spec::{Action, DEFAULT_MEMORY_MIB, DomainSpec, DomainType, EventActions};
use crate::vif::VifSpec;

impl TryFrom<&DomainConfig> for DomainSpec {
    type Error = SpecError;

    /// What a [`DomainSpec`] has of `config`.
    ///
    /// # Errors
    /// `config` has no type, a number out of range, a disk without a proper name or a CPU policy that
    /// libxl would not write.
    fn try_from(config: &DomainConfig) -> Result<Self, SpecError> {
        let (create, build) = (&config.c_info, &config.b_info);
        let (memory_mib, max_memory_mib) = memory(build.target_memkb, build.max_memkb);
        let online = u32::try_from(build.avail_vcpus.0.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let disks: Result<Vec<DiskSpec>, SpecError> =
            config.disks.iter().map(DiskSpec::try_from).collect();
        Ok(DomainSpec {
            name: create.name.clone().unwrap_or_default(),
            domain_type: match create.kind {
                Type::Pv => DomainType::Pv,
                Type::Pvh => DomainType::Pvh,
                Type::Hvm => DomainType::Hvm,
                Type::Invalid => return Err(wrong("The configuration has no type.")),
            },
            uuid: create.uuid,
            kernel: path(&build.kernel),
            ramdisk: path(&build.ramdisk),
            cmdline: build.cmdline.clone(),
            memory_mib,
            max_memory_mib,
            vcpus: online,
            max_vcpus: u32::try_from(build.max_vcpus).unwrap_or(0).max(online),
            cpuid: CpuidSpec::try_from(&build.cpuid)?,
            on: EventActions {
                poweroff: action(config.on_poweroff),
                reboot: action(config.on_reboot),
                crash: action(config.on_crash),
                watchdog: action(config.on_watchdog),
                soft_reset: action(config.on_soft_reset),
            },
            max_grant_frames: build.max_grant_frames.get(),
            max_maptrack_frames: build.max_maptrack_frames.get(),
            max_grant_version: build
                .max_grant_version
                .get()
                .and_then(|n| u32::try_from(n).ok()),
            max_event_channels: Some(build.event_channels).filter(|channels| *channels > 0),
            serial: match &build.kind {
                Some(KindInfo::Hvm(hvm)) if hvm.serial_list.is_empty() => {
                    hvm.serial.iter().cloned().collect()
                }
                Some(KindInfo::Hvm(hvm)) => hvm.serial_list.clone(),
                _ => Vec::new(),
            },
            disks: disks?,
            vifs: config.nics.iter().map(VifSpec::from).collect(),
            hvm: match &build.kind {
                Some(KindInfo::Hvm(info)) => Some(Box::new(hvm(config, info))),
                _ => None,
            },
        })
    }
}

impl From<&DomainSpec> for DomainConfig {
    /// What libxl's structures have of `spec`. Nothing is chosen that the user left open, but for the
    /// numbers of the interfaces, which are their places.
    fn from(spec: &DomainSpec) -> Self {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let mut config = DomainConfig::default();
        let create = &mut config.c_info;
        create.name = Some(spec.name.clone());
        create.uuid = spec.uuid;
        let build = &mut config.b_info;
        (create.kind, build.kind) = match spec.domain_type {
            DomainType::Pv => (Type::Pv, Some(KindInfo::Pv(PvInfo::default()))),
            DomainType::Pvh => (Type::Pvh, Some(KindInfo::Pvh(PvhInfo::default()))),
            DomainType::Hvm => {
                let info = spec.hvm.as_deref().map(|hvm| hvm.info.clone());
                let hvm = HvmInfo {
                    serial_list: spec.serial.clone(),
                    ..info.unwrap_or_default()
                };
                (Type::Hvm, Some(KindInfo::Hvm(Box::new(hvm))))
            }
        };
        if let Some(hvm) = spec.hvm.as_deref() {
            (create.hap, create.oos) = (hvm.hap, hvm.oos);
            build.acpi = hvm.acpi;
            build.apic = hvm.apic;
            build.nested_hvm = hvm.nested_hvm;
            build.localtime = hvm.localtime;
            build.rtc_timeoffset = hvm.rtc_timeoffset.cast_unsigned();
            build.video_memkb = hvm.video_memkb;
            build.shadow_memkb = hvm.shadow_memkb;
            build.timer_mode = hvm.timer_mode;
            build.device_model = text(&hvm.device_model);
            build.device_model_user.clone_from(&hvm.device_model_user);
            build.extra_hvm.clone_from(&hvm.device_model_args);
            build.dm_restrict = hvm.dm_restrict;
        }
        build.max_vcpus = i32::try_from(spec.max_vcpus).unwrap_or(i32::MAX);
        build.avail_vcpus = Bitmap::below(spec.vcpus);
        build.target_memkb = MemKb(spec.memory_mib.saturating_mul(1024));
        build.max_memkb = MemKb(spec.max_memory_mib.saturating_mul(1024));
        build.cpuid = CpuPolicy::from(&spec.cpuid);
        build.max_grant_frames = spec.max_grant_frames.map(Unset32).unwrap_or_default();
        build.max_maptrack_frames = spec.max_maptrack_frames.map(Unset32).unwrap_or_default();
        let version = spec.max_grant_version.and_then(|n| i32::try_from(n).ok());
        build.max_grant_version = version.map(Tuning).unwrap_or_default();
        build.event_channels = spec.max_event_channels.unwrap_or(0);
        build.kernel = text(&spec.kernel);
        build.ramdisk = text(&spec.ramdisk);
        build.cmdline.clone_from(&spec.cmdline);
        config.disks = spec.disks.iter().map(Disk::from).collect();
        config.nics = spec.vifs.iter().map(Nic::from).collect();
        for (place, nic) in (0..).zip(&mut config.nics) {
            if nic.devid == DevId::UNSET {
                nic.devid = DevId(place);
            }
        }
        config.on_poweroff = libxl_action(spec.on.poweroff);
        config.on_reboot = libxl_action(spec.on.reboot);
        config.on_watchdog = libxl_action(spec.on.watchdog);
        config.on_crash = libxl_action(spec.on.crash);
        config.on_soft_reset = libxl_action(spec.on.soft_reset);
        config
    }
}

fn hvm(config: &DomainConfig, info: &HvmInfo) -> HvmSpec {
    let (create, build) = (&config.c_info, &config.b_info);
    HvmSpec {
        info: info.clone(),
        acpi: build.acpi,
        apic: build.apic,
        nested_hvm: build.nested_hvm,
        hap: create.hap,
        oos: create.oos,
        localtime: build.localtime,
        rtc_timeoffset: build.rtc_timeoffset.cast_signed(),
        video_memkb: build.video_memkb,
        shadow_memkb: build.shadow_memkb,
        timer_mode: build.timer_mode,
        device_model: path(&build.device_model),
        device_model_user: build.device_model_user.clone(),
        device_model_args: [&build.extra[..], &build.extra_hvm].concat(),
        dm_restrict: build.dm_restrict,
    }
}

fn libxl_action(action: Action) -> ActionOnShutdown {
    match action {
        Action::Destroy => ActionOnShutdown::Destroy,
        Action::Restart => ActionOnShutdown::Restart,
        Action::RenameRestart => ActionOnShutdown::RestartRename,
        Action::Preserve => ActionOnShutdown::Preserve,
        Action::CoredumpDestroy => ActionOnShutdown::CoredumpDestroy,
        Action::CoredumpRestart => ActionOnShutdown::CoredumpRestart,
        Action::SoftReset => ActionOnShutdown::SoftReset,
    }
}

fn wrong(message: impl Into<String>) -> SpecError {
    SpecError::new(0..0, message)
}

fn path(text: &Option<String>) -> Option<PathBuf> {
    text.as_ref()
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Either stands for the other where that is not given. In MiB.
fn memory(target: MemKb, most: MemKb) -> (u64, u64) {
    let mib = |amount: MemKb| amount.get().map(|kib| kib / 1024);
    let target = mib(target).or(mib(most)).unwrap_or(DEFAULT_MEMORY_MIB);
    (target, mib(most).unwrap_or(target).max(target))
}

fn action(action: ActionOnShutdown) -> Action {
    match action {
        ActionOnShutdown::Destroy => Action::Destroy,
        ActionOnShutdown::Restart => Action::Restart,
        ActionOnShutdown::RestartRename => Action::RenameRestart,
        ActionOnShutdown::Preserve => Action::Preserve,
        ActionOnShutdown::CoredumpDestroy => Action::CoredumpDestroy,
        ActionOnShutdown::CoredumpRestart => Action::CoredumpRestart,
        ActionOnShutdown::SoftReset => Action::SoftReset,
    }
}

impl TryFrom<&CpuPolicy> for CpuidSpec {
    type Error = SpecError;

    fn try_from(policy: &CpuPolicy) -> Result<Self, SpecError> {
        let changes = |text: &Option<String>, bits| match text {
            None => Ok(BitChanges::default()),
            Some(text) => BitChanges::from_notation(text, bits)
                .ok_or_else(|| wrong(format!("{} is no CPU policy.", quote(text)))),
        };
        let leaf = |leaf: &crate::libxl::CpuidLeaf| {
            Ok(CpuidLeaf {
                leaf: leaf.leaf,
                subleaf: leaf.subleaf.get(),
                eax: changes(&leaf.eax, 32)?,
                ebx: changes(&leaf.ebx, 32)?,
                ecx: changes(&leaf.ecx, 32)?,
                edx: changes(&leaf.edx, 32)?,
            })
        };
        let msr = |msr: &crate::libxl::Msr| {
            Ok(MsrChanges {
                index: msr.index,
                bits: changes(&msr.policy, 64)?,
            })
        };
        Ok(CpuidSpec {
            leaves: policy
                .cpuid
                .iter()
                .map(leaf)
                .collect::<Result<_, SpecError>>()?,
            msrs: policy
                .msr
                .iter()
                .map(msr)
                .collect::<Result<_, SpecError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;
    use crate::domain::Host;
    use crate::keys::SPEC_KEYS;

    #[test]
    fn the_same_as_from_the_text() {
        let text = "name='a'\nuuid='01234567-89ab-cdef-0123-456789abcdef'\nkernel='/k'\nramdisk='/r'\n\
                    memory=64\nmaxmem=128\nvcpus=2\nmaxvcpus=4\nextra='quiet'\n\
                    cpuid='host,tm=0,sse3=s,rdcl-no=1,family=15'\non_crash='preserve'\n\
                    max_grant_frames=8\nmax_grant_version=1\nmax_event_channels=100\n\
                    disk=['/a,qcow2,xvda,ro,discard','/cd,,hdc,cdrom']\n\
                    vif=['mac=0:1:2:3:4:5,rate=1MB/s,devid=0','devid=1,bridge=b,untrusted']";
        let document = parse(text, "f").unwrap();
        let config = DomainConfig::from_document(&document, &Host::uniform(4)).unwrap();
        let spec = DomainSpec::from_document(&document, SPEC_KEYS).unwrap();
        let json = config.value.to_json().unwrap();
        let read = DomainConfig::from_json(&json).unwrap();
        assert_eq!(DomainSpec::try_from(&read).as_ref(), Ok(&spec.value));
        let back = DomainConfig::from(&spec.value);
        assert_eq!(DomainSpec::try_from(&back), Ok(spec.value));
    }

    /// As libxl keeps it of a running domain, with what it chose.
    #[test]
    fn what_libxl_keeps() {
        let kept = r#"{ "c_info": { "type": "pv", "name": "g", "domid": 4294967295,
            "uuid": "c22b8a31-5d3c-4130-b892-7bb4fbfaf9c5", "run_hotplug_scripts": "True" },
            "b_info": { "max_vcpus": 2, "avail_vcpus": [ 0 ], "max_memkb": 196608,
            "target_memkb": 131072, "video_memkb": 0, "sched_params": {}, "claim_mode": "True",
            "kernel": "/k", "cmdline": "console=hvc0", "type.pv": {}, "arch_arm": {},
            "arch_x86": { "msr_relaxed": "False" } },
            "disks": [ { "pdev_path": "/dev/loop7", "vdev": "xvda", "backend": "phy",
            "format": "raw", "script": "block-plain", "readwrite": 1,
            "colo_restore_enable": "False" } ],
            "nics": [ { "devid": 0, "mac": "00:16:3e:00:00:01", "nictype": "vif" } ],
            "on_reboot": "restart", "on_soft_reset": "soft_reset" }"#;
        let config = DomainConfig::from_json(&format!("{kept}\0")).unwrap();
        let again = config.to_json().unwrap();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&again), value(kept));
        let spec = DomainSpec::try_from(&config).unwrap();
        assert_eq!((spec.vcpus, spec.max_vcpus), (1, 2));
        assert_eq!((spec.memory_mib, spec.max_memory_mib), (128, 192));
        assert_eq!(spec.disks[0].vdev.name(), "xvda");
    }

    #[test]
    fn what_libxl_would_not_write() {
        let refused = |json: &str| {
            let config = DomainConfig::from_json(json).unwrap();
            DomainSpec::try_from(&config).unwrap_err().message
        };
        assert!(refused("{}").contains("no type"));
        let disk = refused(r#"{"c_info":{"type":"pv"},"disks":[{"vdev":"vda"}]}"#);
        assert!(disk.contains("vda"), "{disk}");
        let cpuid =
            refused(r#"{"c_info":{"type":"pv"},"b_info":{"cpuid":[{"leaf":1,"eax":"xx"}]}}"#);
        assert!(cpuid.contains("xx"), "{cpuid}");
    }
}
