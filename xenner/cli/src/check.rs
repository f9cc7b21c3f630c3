//! `xenner check`: what this host can do, and the command that mends what it can't.
//!
//! [`Host::look`] gathers facts, [`judge`] draws conclusions; only the first touches the system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use kvm_ioctls::{Cap, Kvm};
use serde::Serialize;

/// The stable version of the KVM interface, `KVM_API_VERSION` in `linux/kvm.h`.
const KVM_API_VERSION: i32 = 12;

/// What the VMM can't do without, and what it gains from.
const CAPABILITIES: [(Cap, &str, bool); 10] = [
    (Cap::UserMemory, "user memory regions", true),
    (Cap::Irqchip, "the in-kernel interrupt controller", true),
    (Cap::Irqfd, "irqfd", true),
    (Cap::Ioeventfd, "ioeventfd", true),
    (Cap::ExtCpuid, "CPUID control", true),
    (Cap::SetTssAddr, "the TSS address", true),
    (Cap::ImmediateExit, "immediate exit", true),
    (Cap::TscDeadlineTimer, "the TSC deadline timer", false),
    (Cap::GetTscKhz, "the TSC frequency", false),
    (Cap::SyncRegs, "shared registers", false),
];

/// How KVM runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvmKind {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
    /// Without hardware virtualisation: guest page tables are shadowed, guest ring 3 runs natively
    /// and ring 0 is emulated.
    Pagetable,
}

impl KvmKind {
    fn text(self) -> &'static str {
        match self {
            KvmKind::Vmx => "Intel VMX",
            KvmKind::Svm => "AMD SVM",
            KvmKind::Pagetable => {
                "pagetable-based (no VMX or SVM; user mode is native, kernel entries are dear)"
            }
        }
    }
}

/// What opening `/dev/kvm` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmDevice {
    /// It works: the version, and which of the capabilities by name are there.
    Open {
        /// `KVM_GET_API_VERSION`.
        version: i32,
        /// Name, whether it is needed, whether it is there.
        capabilities: Vec<(&'static str, bool, bool)>,
        /// Whether a virtual machine can be made, or why not.
        create: Result<(), String>,
        /// `KVM_CAP_MAX_VCPUS`.
        max_vcpus: usize,
    },
    /// It does not exist.
    Absent,
    /// It may not be opened.
    Denied {
        /// The group it belongs to, where it has a name.
        group: Option<String>,
        /// Whether that group may open it.
        group_writes: bool,
    },
    /// Opening failed otherwise.
    Broken(String),
}

/// Facts about a host.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/dev/kvm`.
    pub device: KvmDevice,
    /// Whether it is an x86-64 machine.
    pub x86_64: bool,
    /// CPU flags of the first processor.
    pub flags: Vec<String>,
    /// CPU vendor of the first processor.
    pub vendor: String,
    /// KVM modules, loaded or built in.
    pub modules: Vec<String>,
    /// Memory available, in MiB.
    pub available_mib: Option<u64>,
    /// Whether the run directory has a place, or why not.
    pub run_dir: Result<String, String>,
    /// Whether the kernel has seccomp filters.
    pub seccomp: bool,
    /// Whether the kernel has Landlock.
    pub landlock: bool,
}

/// How a point stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good.
    Ok,
    /// Domains run, but something is lost.
    Warn,
    /// Domains can't run.
    Missing,
}

/// One point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// What it is about.
    pub what: &'static str,
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// The command or the step that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether domains can run.
    pub usable: bool,
    /// How, if so.
    pub kind: Option<KvmKind>,
    /// The points.
    pub points: Vec<Point>,
}

impl Verdict {
    /// The answer as text, a line for each point and one for each remedy.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for point in &self.points {
            let level = match point.level {
                Level::Ok => "ok     ",
                Level::Warn => "warn   ",
                Level::Missing => "missing",
            };
            text.push_str(&format!("{level} {:<12} {}\n", point.what, point.found));
            if let Some(mend) = &point.mend {
                text.push_str(&format!("{:21}mend: {mend}\n", ""));
            }
        }
        let summary = match (self.usable, self.kind) {
            (true, Some(kind)) => format!("This host can run domains: {}", kind.text()),
            (true, None) => "This host can run domains".to_owned(),
            (false, _) => "This host can't run domains yet".to_owned(),
        };
        text + &summary + "\n"
    }
}

impl Host {
    /// Looks at this host.
    pub fn look(run_dir: Result<String, String>) -> Host {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let modules = ["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"];
        let there = |module: &&str| fs::exists(format!("/sys/module/{module}")).unwrap_or(false);
        Host {
            device: look_at_device(),
            x86_64: cfg!(target_arch = "x86_64"),
            flags: field(&cpuinfo, "flags")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            vendor: field(&cpuinfo, "vendor_id").to_owned(),
            modules: modules
                .into_iter()
                .filter(there)
                .map(str::to_owned)
                .collect(),
            available_mib: available_memory(),
            run_dir,
            seccomp: status.contains("Seccomp_filters:"),
            landlock: crate::sandbox::has_landlock(),
        }
    }

    fn kind(&self) -> KvmKind {
        let flag = |name: &str| self.flags.iter().any(|flag| flag == name);
        let module = |name: &str| self.modules.iter().any(|module| module == name);
        if module("kvm_pvm") {
            KvmKind::Pagetable
        } else if flag("vmx") {
            KvmKind::Vmx
        } else if flag("svm") {
            KvmKind::Svm
        } else {
            KvmKind::Pagetable
        }
    }
}

/// Memory available to programs, in MiB, where the kernel says so.
pub fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = field(&meminfo, "MemAvailable")
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    Some(kib / 1024)
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or("", |(_, value)| value.trim())
}

fn look_at_device() -> KvmDevice {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {}
        Err(error) => return closed_device(&error),
    }
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return KvmDevice::Broken(error.to_string()),
    };
    let capabilities = CAPABILITIES
        .iter()
        .map(|&(cap, name, needed)| (name, needed, kvm.check_extension(cap)))
        .collect();
    let create = kvm.create_vm().map(drop).map_err(|error| error.to_string());
    let (version, max_vcpus) = (kvm.get_api_version(), kvm.get_max_vcpus());
    KvmDevice::Open {
        version,
        capabilities,
        create,
        max_vcpus,
    }
}

fn closed_device(error: &io::Error) -> KvmDevice {
    match error.kind() {
        io::ErrorKind::NotFound => KvmDevice::Absent,
        io::ErrorKind::PermissionDenied => {
            let metadata = fs::metadata("/dev/kvm").ok();
            let gid = metadata
                .as_ref()
                .map(|metadata| nix::unistd::Gid::from_raw(metadata.gid()));
            let group = gid.and_then(|gid| nix::unistd::Group::from_gid(gid).ok().flatten());
            KvmDevice::Denied {
                group: group.map(|group| group.name).filter(|name| name != "root"),
                group_writes: metadata.is_some_and(|metadata| metadata.mode() & 0o60 == 0o60),
            }
        }
        _ => KvmDevice::Broken(error.to_string()),
    }
}

/// Draws the conclusions.
pub fn judge(host: &Host) -> Verdict {
    let mut points = Vec::new();
    if !host.x86_64 {
        let found = "this is no x86-64 machine".to_owned();
        points.push(point("processor", Level::Missing, found, None));
    }
    device_points(host, &mut points);
    if let KvmDevice::Open { .. } = host.device {
        let kind = host.kind();
        points.push(point("kind", Level::Ok, kind.text().to_owned(), None));
    }
    if let Some(mib) = host.available_mib {
        let (level, mend) = match mib < 64 {
            true => (
                Level::Warn,
                Some("free some memory; a domain needs 32 MiB and more".into()),
            ),
            false => (Level::Ok, None),
        };
        points.push(point("memory", level, format!("{mib} MiB available"), mend));
    }
    points.push(match &host.run_dir {
        Ok(path) => point("run-dir", Level::Ok, path.clone(), None),
        Err(error) => {
            let mend = "export XDG_RUNTIME_DIR=/run/user/$(id -u), or use --run-dir";
            point("run-dir", Level::Missing, error.clone(), Some(mend.into()))
        }
    });
    points.push(sandbox_point(host));
    let usable = points.iter().all(|point| point.level != Level::Missing);
    let kind = matches!(host.device, KvmDevice::Open { .. }).then(|| host.kind());
    Verdict {
        usable,
        kind,
        points,
    }
}

fn point(what: &'static str, level: Level, found: String, mend: Option<String>) -> Point {
    Point {
        what,
        level,
        found,
        mend,
    }
}

fn sandbox_point(host: &Host) -> Point {
    let (level, found, mend) = match (host.seccomp, host.landlock) {
        (true, true) => (Level::Ok, "seccomp and Landlock", None),
        (true, false) => (
            Level::Warn,
            "seccomp, but no Landlock: a guest that breaks out sees the user's files",
            Some("boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= list"),
        ),
        (false, _) => (
            Level::Missing,
            "the kernel has no seccomp filters",
            Some("boot a kernel with CONFIG_SECCOMP_FILTER, or run with --sandbox off"),
        ),
    };
    point("sandbox", level, found.to_owned(), mend.map(str::to_owned))
}

fn device_points(host: &Host, points: &mut Vec<Point>) {
    match &host.device {
        KvmDevice::Open {
            version,
            capabilities,
            create,
            max_vcpus,
        } => {
            let (level, mend) = match *version == KVM_API_VERSION {
                true => (Level::Ok, None),
                false => (
                    Level::Missing,
                    Some("boot a current Linux kernel".to_owned()),
                ),
            };
            let found = format!("/dev/kvm opens, API version {version}, {max_vcpus} vCPUs");
            points.push(point("kvm", level, found, mend));
            if let Err(error) = create {
                let mend = "end other virtual machines; see dmesg | grep -i kvm".to_owned();
                let found = format!("no virtual machine can be made: {error}");
                points.push(point("kvm", Level::Missing, found, Some(mend)));
            }
            capability_points(capabilities, points);
        }
        KvmDevice::Absent => {
            let (found, mend) = absent(host);
            points.push(point("kvm", Level::Missing, found, Some(mend)));
        }
        KvmDevice::Denied {
            group,
            group_writes,
        } => {
            let mend = match group {
                Some(group) if *group_writes => {
                    format!("sudo usermod -aG {group} $USER, then log in again")
                }
                _ => "sudo setfacl -m u:$USER:rw /dev/kvm".to_owned(),
            };
            let found = "/dev/kvm exists, but this user may not open it".to_owned();
            points.push(point("kvm", Level::Missing, found, Some(mend)));
        }
        KvmDevice::Broken(error) => {
            let mend = "see dmesg | grep -i kvm".to_owned();
            let found = format!("/dev/kvm does not work: {error}");
            points.push(point("kvm", Level::Missing, found, Some(mend)));
        }
    }
}

fn capability_points(capabilities: &[(&'static str, bool, bool)], points: &mut Vec<Point>) {
    let mut all = true;
    for &(name, needed, there) in capabilities {
        if there {
            continue;
        }
        all = false;
        let level = if needed { Level::Missing } else { Level::Warn };
        let mend = needed.then(|| "boot a current Linux kernel".to_owned());
        points.push(point("kvm", level, format!("KVM lacks {name}"), mend));
    }
    if all {
        let found = "every capability that is used".to_owned();
        points.push(point("capabilities", Level::Ok, found, None));
    }
}

/// Why there is no `/dev/kvm`, and what to do.
fn absent(host: &Host) -> (String, String) {
    let flag = |name: &str| host.flags.iter().any(|flag| flag == name);
    let hypervisor = flag("hypervisor");
    let found = |why: &str| format!("there is no /dev/kvm: {why}");
    if flag("vmx") {
        return (
            found("kvm_intel is not loaded"),
            "sudo modprobe kvm_intel".into(),
        );
    }
    if flag("svm") {
        return (
            found("kvm_amd is not loaded"),
            "sudo modprobe kvm_amd".into(),
        );
    }
    if hypervisor {
        let mend = "turn on nested virtualisation for this virtual machine, or load a pagetable-based KVM: sudo modprobe kvm_pvm";
        return (
            found("this virtual machine shows no VMX or SVM"),
            mend.into(),
        );
    }
    let feature = match host.vendor.as_str() {
        "AuthenticAMD" | "HygonGenuine" => "SVM (AMD-V)",
        _ => "VT-x (VMX)",
    };
    let mend = format!("turn on {feature} in the firmware's settings");
    (found("the processor shows no VMX or SVM"), mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(device: KvmDevice, flags: &[&str]) -> Host {
        Host {
            device,
            x86_64: true,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            vendor: "GenuineIntel".into(),
            modules: Vec::new(),
            available_mib: Some(4096),
            run_dir: Ok("/run/xenner".into()),
            seccomp: true,
            landlock: true,
        }
    }

    fn open() -> KvmDevice {
        let capabilities = CAPABILITIES
            .iter()
            .map(|&(_, name, needed)| (name, needed, true));
        KvmDevice::Open {
            version: 12,
            capabilities: capabilities.collect(),
            create: Ok(()),
            max_vcpus: 255,
        }
    }

    fn mend(verdict: &Verdict) -> &str {
        assert!(!verdict.usable);
        let point = verdict
            .points
            .iter()
            .find(|point| point.level == Level::Missing)
            .unwrap();
        point.mend.as_deref().unwrap()
    }

    #[test]
    fn good_hosts_of_each_kind() {
        for (flags, kind) in [
            (&["vmx"][..], KvmKind::Vmx),
            (&["svm"], KvmKind::Svm),
            (&["hypervisor"], KvmKind::Pagetable),
        ] {
            let verdict = judge(&host(open(), flags));
            assert!(verdict.usable, "{verdict:?}");
            assert_eq!(verdict.kind, Some(kind));
            assert!(
                verdict.points.iter().all(|point| point.level == Level::Ok),
                "{verdict:?}"
            );
        }
        let mut pvm = host(open(), &["vmx"]);
        pvm.modules.push("kvm_pvm".into());
        assert_eq!(judge(&pvm).kind, Some(KvmKind::Pagetable));
    }

    #[test]
    fn each_fault_has_its_remedy() {
        assert_eq!(
            mend(&judge(&host(KvmDevice::Absent, &["vmx"]))),
            "sudo modprobe kvm_intel"
        );
        assert_eq!(
            mend(&judge(&host(KvmDevice::Absent, &["svm"]))),
            "sudo modprobe kvm_amd"
        );
        assert!(mend(&judge(&host(KvmDevice::Absent, &["hypervisor"]))).contains("nested"));
        assert!(mend(&judge(&host(KvmDevice::Absent, &[]))).contains("VT-x"));
        let denied = KvmDevice::Denied {
            group: Some("kvm".into()),
            group_writes: true,
        };
        assert!(mend(&judge(&host(denied, &[]))).starts_with("sudo usermod -aG kvm $USER"));
        let denied = KvmDevice::Denied {
            group: None,
            group_writes: false,
        };
        assert!(mend(&judge(&host(denied, &[]))).contains("setfacl"));
        let mut homeless = host(open(), &["vmx"]);
        homeless.run_dir = Err("XDG_RUNTIME_DIR is not set".into());
        assert!(mend(&judge(&homeless)).contains("XDG_RUNTIME_DIR"));
    }

    #[test]
    fn a_needed_capability_counts_and_another_only_warns() {
        let lacking = |wanted: bool| {
            let mut host = host(open(), &["vmx"]);
            if let KvmDevice::Open { capabilities, .. } = &mut host.device {
                capabilities
                    .iter_mut()
                    .find(|(_, needed, _)| *needed == wanted)
                    .unwrap()
                    .2 = false;
            }
            judge(&host)
        };
        assert!(!lacking(true).usable);
        assert!(lacking(false).usable);
        assert!(lacking(false).text().contains("warn    kvm"));
    }

    #[test]
    fn json_names_are_stable() {
        let verdict = judge(&host(KvmDevice::Absent, &["vmx"]));
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["usable"], false);
        assert_eq!(json["kind"], serde_json::Value::Null);
        assert_eq!(json["points"][0]["level"], "missing");
        assert_eq!(json["points"][0]["mend"], "sudo modprobe kvm_intel");
    }
}
