//! From libxl's structures back to a [`DomainSpec`]: a domain that `xl` created is inspected, and
//! started again, as one of ours.

use std::path::PathBuf;

use crate::cpuid::{BitChanges, CpuidLeaf, CpuidSpec, MsrChanges};
use crate::diagnostic::{SpecError, quote};
use crate::disk::DiskSpec;
use crate::libxl::{ActionOnShutdown, CpuPolicy, DomainConfig, KindInfo, MemKb, Type};
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
        })
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
        assert_eq!(DomainSpec::try_from(&read), Ok(spec.value));
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
