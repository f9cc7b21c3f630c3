//! What the user asked for: one [`DomainSpec`], whichever way it was written down.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xt_config::cpuid::CpuidSpec;

use crate::devices::{DiskSpec, Nic};

/// The least memory a domain may have.
pub const MIN_MEMORY: MemorySize = MemorySize::mib(32);
/// The most memory a domain may have.
pub const MAX_MEMORY: MemorySize = MemorySize::mib(512 * 1024);
/// The memory of a domain that says nothing about it.
pub const DEFAULT_MEMORY: MemorySize = MemorySize::mib(256);
/// The most vCPUs a domain may have: what `shared_info.vcpu_info` has room for
/// (`XEN_LEGACY_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 32;
/// The longest name, in bytes. Sockets live below a directory of that name and a socket address
/// holds 107 bytes.
pub const MAX_NAME: usize = 64;

/// Why a specification was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// Not a size.
    #[error(
        "\"{0}\" is no memory size; write a number with K, M, G or T, such as 256M or 4G (without a letter: MiB)"
    )]
    Size(String),
    /// A size that makes no pages.
    #[error("The memory size \"{0}\" is not a multiple of 4 KiB; write whole MiB, such as 256M")]
    Unaligned(String),
    /// Memory outside the limits.
    #[error(
        "{what} is {given}, but a domain has {MIN_MEMORY} to {MAX_MEMORY}; choose a size in that range"
    )]
    Memory {
        /// Which setting.
        what: &'static str,
        /// The size asked for.
        given: MemorySize,
    },
    /// More memory than the maximum.
    #[error("memory is {memory} but maxmem only {maxmem}; raise maxmem or lower memory")]
    MemoryAboveMax {
        /// The memory asked for.
        memory: MemorySize,
        /// The maximum asked for.
        maxmem: MemorySize,
    },
    /// vCPUs outside the limits.
    #[error("{what} is {given}, but a domain has 1 to {MAX_VCPUS} vCPUs")]
    Vcpus {
        /// Which setting.
        what: &'static str,
        /// The number asked for.
        given: u64,
    },
    /// More vCPUs than the maximum.
    #[error("vcpus is {vcpus} but maxvcpus only {maxvcpus}; raise maxvcpus or lower vcpus")]
    VcpusAboveMax {
        /// The number asked for.
        vcpus: u32,
        /// The maximum asked for.
        maxvcpus: u32,
    },
    /// A name that can't be a file name, or would confuse a terminal.
    #[error("The name \"{}\" can't be used: {why}; choose one with --name", .name.escape_default())]
    Name {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A device twice.
    #[error("There is a {0} already; give each device a name or number of its own")]
    Device(String),
    /// An action xl does not know either.
    #[error(
        "\"{0}\" is no action; use destroy, restart, preserve, rename-restart, coredump-destroy or coredump-restart"
    )]
    Action(String),
}

/// An amount of guest memory in whole pages of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemorySize {
    kib: u64,
}

impl MemorySize {
    /// `n` MiB.
    pub const fn mib(n: u64) -> MemorySize {
        MemorySize { kib: n * 1024 }
    }

    /// The amount in KiB.
    pub fn as_kib(self) -> u64 {
        self.kib
    }

    /// The amount in MiB, rounded down.
    pub fn as_mib(self) -> u64 {
        self.kib / 1024
    }

    /// The amount in pages of 4 KiB.
    pub fn pages(self) -> u64 {
        self.kib / 4
    }

    /// From pages of 4 KiB; an amount beyond any machine becomes the largest.
    pub fn from_pages(pages: u64) -> MemorySize {
        MemorySize {
            kib: pages.saturating_mul(4),
        }
    }
}

impl FromStr for MemorySize {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<MemorySize, SpecError> {
        let bad = || SpecError::Size(text.to_owned());
        let text_lower = text.trim().to_ascii_lowercase();
        let digits_end = text_lower
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text_lower.len());
        let (digits, unit) = text_lower.split_at(digits_end);
        let number: u64 = digits.parse().map_err(|_| bad())?;
        let bytes_per_unit: u64 = match unit {
            "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "" | "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(bad()),
        };
        let bytes = number.checked_mul(bytes_per_unit).ok_or_else(bad)?;
        if !bytes.is_multiple_of(4096) {
            return Err(SpecError::Unaligned(text.to_owned()));
        }
        Ok(MemorySize { kib: bytes / 1024 })
    }
}

impl std::fmt::Display for MemorySize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, unit) in [(20, "GiB"), (10, "MiB")] {
            if self.kib >= 1 << shift && self.kib.is_multiple_of(1 << shift) {
                return write!(f, "{} {unit}", self.kib >> shift);
            }
        }
        write!(f, "{} KiB", self.kib)
    }
}

/// Where the kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// The test guest inside the xenner binary.
    Embedded,
    /// An ELF or bzImage file.
    File(PathBuf),
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kernel::Embedded => f.write_str("the embedded test guest"),
            Kernel::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What to do when a domain ends, in xl's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// End the domain.
    Destroy,
    /// Start it again with the same configuration.
    Restart,
    /// Keep it for inspection until `xenner destroy`.
    Preserve,
    /// Keep it under another name, and start a fresh one.
    RenameRestart,
    /// Write a core file, then end it.
    CoredumpDestroy,
    /// Write a core file, then start it again.
    CoredumpRestart,
}

impl Action {
    /// Every action with xl's spelling.
    pub const ALL: [(&'static str, Action); 6] = [
        ("destroy", Action::Destroy),
        ("restart", Action::Restart),
        ("preserve", Action::Preserve),
        ("rename-restart", Action::RenameRestart),
        ("coredump-destroy", Action::CoredumpDestroy),
        ("coredump-restart", Action::CoredumpRestart),
    ];
}

impl FromStr for Action {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Action, SpecError> {
        Action::ALL
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, action)| action)
            .ok_or_else(|| SpecError::Action(text.to_owned()))
    }
}

/// What to do at each way a domain can end. The defaults are xl's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    /// The guest powered off.
    pub on_poweroff: Action,
    /// The guest asked to be rebooted.
    pub on_reboot: Action,
    /// The guest crashed.
    pub on_crash: Action,
    /// The guest's watchdog expired.
    pub on_watchdog: Action,
}

impl Default for Actions {
    fn default() -> Actions {
        Actions {
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Destroy,
            on_watchdog: Action::Destroy,
        }
    }
}

/// The devices of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpecs {
    /// Disks.
    pub disks: Vec<DiskSpec>,
    /// Network cards.
    pub nics: Vec<Nic>,
}

impl DeviceSpecs {
    /// What the guest calls its disks.
    pub fn vdevs(&self) -> Vec<String> {
        let names = self.disks.iter().map(|disk| disk.vdev.name().to_owned());
        names.collect()
    }

    /// The numbers of the network cards.
    pub fn devids(&self) -> Vec<u32> {
        self.nics.iter().map(|nic| nic.devid).collect()
    }

    /// Two disks or two cards must not be the same device to the guest.
    fn check(&self) -> Result<(), SpecError> {
        let twice = |name: String| Err(SpecError::Device(name));
        for (at, disk) in self.disks.iter().enumerate() {
            let same = |other: &&DiskSpec| other.vdev.number() == disk.vdev.number();
            if self.disks[..at].iter().any(|other| same(&other)) {
                return twice(disk.vdev.name().to_owned());
            }
        }
        for (at, nic) in self.nics.iter().enumerate() {
            if self.nics[..at].iter().any(|other| other.devid == nic.devid) {
                return twice(format!("network card {}", nic.devid));
            }
        }
        Ok(())
    }
}

/// A domain to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSpec {
    /// Its name, unique among the running domains of this user.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The kernel.
    pub kernel: Kernel,
    /// The initial RAM disk.
    pub ramdisk: Option<PathBuf>,
    /// The kernel command line.
    pub cmdline: String,
    /// Memory at start.
    pub memory: MemorySize,
    /// The most memory it may grow to.
    pub maxmem: MemorySize,
    /// vCPUs at start.
    pub vcpus: u32,
    /// The most vCPUs it may bring up.
    pub maxvcpus: u32,
    /// Changes to the CPU policy.
    pub cpuid: CpuidSpec,
    /// What to do when it ends.
    pub actions: Actions,
    /// Its disks and network cards.
    #[serde(default)]
    pub devices: DeviceSpecs,
    /// What it was made from, kept for whoever made it: `xt` its own specification.
    #[serde(default)]
    pub origin: serde_json::Value,
}

impl DomainSpec {
    /// A domain with the defaults, running the embedded test guest.
    pub fn new(name: impl Into<String>) -> DomainSpec {
        DomainSpec {
            name: name.into(),
            uuid: Uuid::new_v4(),
            kernel: Kernel::Embedded,
            ramdisk: None,
            cmdline: String::new(),
            memory: DEFAULT_MEMORY,
            maxmem: DEFAULT_MEMORY,
            vcpus: 1,
            maxvcpus: 1,
            cpuid: CpuidSpec::default(),
            actions: Actions::default(),
            devices: DeviceSpecs::default(),
            origin: serde_json::Value::Null,
        }
    }

    /// Checks every limit.
    pub fn check(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        for (what, given) in [("memory", self.memory), ("maxmem", self.maxmem)] {
            if given < MIN_MEMORY || given > MAX_MEMORY {
                return Err(SpecError::Memory { what, given });
            }
        }
        if self.memory > self.maxmem {
            return Err(SpecError::MemoryAboveMax {
                memory: self.memory,
                maxmem: self.maxmem,
            });
        }
        for (what, given) in [("vcpus", self.vcpus), ("maxvcpus", self.maxvcpus)] {
            if !(1..=MAX_VCPUS).contains(&given) {
                return Err(SpecError::Vcpus {
                    what,
                    given: given.into(),
                });
            }
        }
        self.devices.check()?;
        if self.vcpus > self.maxvcpus {
            return Err(SpecError::VcpusAboveMax {
                vcpus: self.vcpus,
                maxvcpus: self.maxvcpus,
            });
        }
        Ok(())
    }
}

/// Checks that `name` can be a domain's: it becomes a directory and is printed on terminals.
pub fn check_name(name: &str) -> Result<(), SpecError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 64 bytes"
    } else if name.starts_with(['.', '-']) {
        "it begins with a dot or a dash"
    } else if name.contains('/') {
        "it contains a slash"
    } else if name.chars().any(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(());
    };
    Err(SpecError::Name {
        name: name.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, kib) in [
            ("256", 256 << 10),
            ("256M", 256 << 10),
            ("256mb", 256 << 10),
            ("4G", 4 << 20),
            ("1T", 1 << 30),
            ("65536k", 65536),
            (" 64MiB ", 64 << 10),
            ("4096b", 4),
        ] {
            assert_eq!(text.parse::<MemorySize>().unwrap().as_kib(), kib, "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "4X",
            "18446744073709551615T",
            "99999999999999999999",
        ] {
            assert!(
                matches!(text.parse::<MemorySize>(), Err(SpecError::Size(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "5000b".parse::<MemorySize>(),
            Err(SpecError::Unaligned(_))
        ));
        assert_eq!(MemorySize::mib(4096).to_string(), "4 GiB");
        assert_eq!(MemorySize::mib(4097).to_string(), "4097 MiB");
        assert_eq!(MemorySize::from_pages(1).to_string(), "4 KiB");
    }

    #[test]
    fn limits() {
        let good = DomainSpec::new("a");
        good.check().unwrap();
        let with = |change: fn(&mut DomainSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            spec.check().unwrap_err()
        };
        assert!(matches!(
            with(|s| s.memory = MemorySize::mib(0)),
            SpecError::Memory { what: "memory", .. }
        ));
        assert!(matches!(
            with(|s| s.maxmem = MemorySize::mib(513 << 10)),
            SpecError::Memory { what: "maxmem", .. }
        ));
        assert!(matches!(
            with(|s| s.memory = MemorySize::mib(300)),
            SpecError::MemoryAboveMax { .. }
        ));
        assert!(matches!(
            with(|s| s.vcpus = 0),
            SpecError::Vcpus {
                what: "vcpus",
                given: 0
            }
        ));
        assert!(matches!(
            with(|s| s.maxvcpus = 33),
            SpecError::Vcpus {
                what: "maxvcpus",
                ..
            }
        ));
        assert!(matches!(
            with(|s| s.vcpus = 2),
            SpecError::VcpusAboveMax { .. }
        ));
    }

    #[test]
    fn names() {
        for name in ["a", "web-1", "Übung", "x y", "12"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "-x",
            "a\nb",
            "\u{1b}[2J",
            &"x".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        let message = check_name("a\u{7}").unwrap_err().to_string();
        assert!(
            !message.contains('\u{7}'),
            "control characters reach the terminal: {message}"
        );
    }

    #[test]
    fn actions() {
        for (text, action) in Action::ALL {
            assert_eq!(text.parse::<Action>(), Ok(action));
            assert_eq!(serde_json::to_value(action).unwrap(), text);
        }
        assert!("soft-reset".parse::<Action>().is_err());
    }
}
