//! What a configuration asks for, with types, ranges and defaults.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cpuid::CpuidSpec;
use crate::diagnostic::{ConfigErrors, Diagnostic, Severity, SpecError, quote};
use crate::disk::{self, DiskSpec};
use crate::document::{Document, Value};
use crate::effect::Target;
use crate::hvm_spec::{self, HvmSpec};
use crate::keys;
use crate::reader::Reader;
use crate::vif::{self, VifSpec};

/// libxl's memory of a guest that asks for none, in MiB.
pub(crate) const DEFAULT_MEMORY_MIB: u64 = 32;
/// What a 64-bit PV guest can be given: 16 TiB, in MiB.
const MOST_MEMORY_MIB: i64 = 1 << 24;
/// Xen's limit for PV guests.
const MOST_VCPUS: i64 = 8192;
/// Channels of the FIFO interface (public header event_channel.h: 17 bits).
const MOST_EVENT_CHANNELS: i64 = 1 << 17;

/// Kinds of domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainType {
    /// Paravirtualised.
    #[default]
    Pv,
    /// Hardware-assisted without a device model.
    Pvh,
    /// Hardware-assisted with a device model.
    Hvm,
}

impl fmt::Display for DomainType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DomainType::Pv => "pv",
            DomainType::Pvh => "pvh",
            DomainType::Hvm => "hvm",
        })
    }
}

/// What to do with a domain that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Remove it.
    Destroy,
    /// Remove it and start it anew.
    Restart,
    /// Keep it under another name and start it anew.
    RenameRestart,
    /// Keep it as it is.
    Preserve,
    /// Write a core dump, then remove it.
    CoredumpDestroy,
    /// Write a core dump, then start it anew.
    CoredumpRestart,
    /// Reset Xen's interfaces and let it go on.
    SoftReset,
}

const ACTIONS: &[(&str, Action)] = &[
    ("destroy", Action::Destroy),
    ("restart", Action::Restart),
    ("rename-restart", Action::RenameRestart),
    ("preserve", Action::Preserve),
    ("coredump-destroy", Action::CoredumpDestroy),
    ("coredump-restart", Action::CoredumpRestart),
    ("soft-reset", Action::SoftReset),
];

/// The `on_…` keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventActions {
    /// The guest shut itself down.
    pub poweroff: Action,
    /// The guest asked for a reboot.
    pub reboot: Action,
    /// The guest crashed.
    pub crash: Action,
    /// The guest's watchdog ran out.
    pub watchdog: Action,
    /// The guest asked for a soft reset.
    pub soft_reset: Action,
}

impl Default for EventActions {
    fn default() -> Self {
        EventActions {
            poweroff: Action::Destroy,
            reboot: Action::Restart,
            crash: Action::Destroy,
            watchdog: Action::Destroy,
            soft_reset: Action::SoftReset,
        }
    }
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Name of the domain. Empty only if the caller does not act on `name`.
    pub name: String,
    /// Kind of domain.
    #[serde(rename = "type")]
    pub domain_type: DomainType,
    /// `None` asks for a fresh one.
    pub uuid: Option<Uuid>,
    /// Kernel image. A PV or PVH domain has one if the caller acts on `kernel`.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    pub ramdisk: Option<PathBuf>,
    /// Kernel command line, out of `cmdline` or `root` and `extra`.
    pub cmdline: Option<String>,
    /// Memory at the start, in MiB. At most `max_memory_mib`.
    pub memory_mib: u64,
    /// Memory that the guest may grow to, in MiB.
    pub max_memory_mib: u64,
    /// Virtual CPUs online at the start. At least 1 and at most `max_vcpus`.
    pub vcpus: u32,
    /// Virtual CPUs that the guest may bring up.
    pub max_vcpus: u32,
    /// Changes to the CPU policy.
    pub cpuid: CpuidSpec,
    /// What to do when the domain ends.
    pub on: EventActions,
    /// Frames of the grant table; `None` is the host's default, as for the next three.
    pub max_grant_frames: Option<u32>,
    /// Frames of the table of mapped foreign grants.
    pub max_maptrack_frames: Option<u32>,
    /// Newest grant table version the guest may use; 0 is no grant table.
    pub max_grant_version: Option<u32>,
    /// Event channels, port 0 included.
    pub max_event_channels: Option<u32>,
    /// Emulated serial lines.
    pub serial: Vec<String>,
    /// Disks.
    pub disks: Vec<DiskSpec>,
    /// Network interfaces.
    pub vifs: Vec<VifSpec>,
    /// What only HVM domains have; `None` for the other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hvm: Option<Box<HvmSpec>>,
}

/// A value and what was odd on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<T> {
    /// The value.
    pub value: T,
    /// Complaints that did not prevent it, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

impl DomainSpec {
    /// Checks `document` and makes a spec of it.
    ///
    /// `acted_on` are the keys that the caller acts on, [`keys::SPEC_KEYS`] or some of them. Other
    /// keys that `xl` knows are warned of and count as not set.
    ///
    /// # Errors
    /// Everything that is wrong: unknown keys, values of the wrong type or out of range, missing
    /// keys.
    pub fn from_document(
        document: &Document,
        acted_on: &[&str],
    ) -> Result<Checked<DomainSpec>, ConfigErrors> {
        Self::read(document, acted_on, None)
    }

    /// [`DomainSpec::from_document`] where it is known what the domain is for: keys without effect are
    /// warned of with the reason that [`effect`](crate::effect) gives, and keys that cannot be are
    /// errors.
    ///
    /// # Errors
    /// As [`DomainSpec::from_document`], and a key that is refused.
    pub fn for_target(
        document: &Document,
        acted_on: &[&str],
        target: Target,
    ) -> Result<Checked<DomainSpec>, ConfigErrors> {
        Self::read(document, acted_on, Some(target))
    }

    fn read(
        document: &Document,
        acted_on: &[&str],
        target: Option<Target>,
    ) -> Result<Checked<DomainSpec>, ConfigErrors> {
        let mut reader = Reader::new(document, acted_on);
        reader.warnings.extend_from_slice(document.warnings());
        for diagnostic in keys::check(document, acted_on, target) {
            match diagnostic.severity {
                Severity::Error => reader.errors.push(diagnostic),
                Severity::Warning => reader.warnings.push(diagnostic),
            }
        }
        let spec = read(&mut reader, acted_on);
        reader.finish(spec)
    }
}

/// `None` only if there are errors.
fn read(reader: &mut Reader<'_>, acted_on: &[&str]) -> Option<DomainSpec> {
    let name = name(reader, acted_on);
    let (memory_mib, max_memory_mib) = memory(reader);
    let (vcpus, max_vcpus) = vcpus(reader);
    let domain_type = domain_type(reader);
    let kernel = kernel(reader, domain_type, acted_on);
    let frames =
        |reader: &mut Reader<'_>, key| limit(reader, key, 0..=i64::from(i32::MAX), "frames");
    Some(DomainSpec {
        domain_type,
        uuid: reader.parsed("uuid", parse_uuid),
        kernel,
        ramdisk: reader
            .string("ramdisk")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        cmdline: cmdline(reader),
        memory_mib,
        max_memory_mib,
        vcpus,
        max_vcpus,
        cpuid: cpuid(reader),
        on: on(reader),
        max_grant_frames: frames(reader, "max_grant_frames"),
        max_maptrack_frames: frames(reader, "max_maptrack_frames"),
        max_grant_version: limit(reader, "max_grant_version", 0..=2, "as version"),
        max_event_channels: limit(
            reader,
            "max_event_channels",
            0..=MOST_EVENT_CHANNELS,
            "channels",
        )
        .filter(|channels| *channels > 0),
        serial: serial(reader),
        disks: disks(reader),
        vifs: vifs(reader),
        hvm: (domain_type == DomainType::Hvm).then(|| Box::new(hvm_spec::read(reader))),
        name: name?,
    })
}

fn name(reader: &mut Reader<'_>, acted_on: &[&str]) -> Option<String> {
    if !acted_on.contains(&"name") {
        return Some(String::new());
    }
    reader.domain_name()
}

/// Only HVM domains can do without.
fn kernel(reader: &mut Reader<'_>, domain_type: DomainType, acted_on: &[&str]) -> Option<PathBuf> {
    let wanted = domain_type != DomainType::Hvm && acted_on.contains(&"kernel");
    if wanted && reader.get("kernel").is_none() {
        let help = "Name a kernel image: kernel = \"/boot/vmlinuz\"";
        reader.error("kernel", "No kernel is given.", help);
    }
    reader.filled("kernel").map(PathBuf::from)
}

pub(crate) fn domain_type(reader: &mut Reader<'_>) -> DomainType {
    let types = [
        ("pv", DomainType::Pv),
        ("pvh", DomainType::Pvh),
        ("hvm", DomainType::Hvm),
    ];
    let builders = [("generic", DomainType::Pv), ("hvm", DomainType::Hvm)];
    let builder = reader.named("builder", &builders);
    let named = reader.named("type", &types);
    match (named, builder) {
        (Some(named), Some(builder)) if named != builder => {
            let message = format!("builder asks for {builder}, but type for {named}.");
            reader.error("builder", message, "Remove builder: type replaces it.");
            named
        }
        (named, builder) => named.or(builder).unwrap_or_default(),
    }
}

/// xl takes the hyphenated form only, the C library's laxer parser notwithstanding.
pub(crate) fn parse_uuid(text: &str) -> Result<Uuid, SpecError> {
    let hyphens = [8, 13, 18, 23]
        .iter()
        .all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    let uuid = (hyphens && text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten();
    uuid.ok_or_else(|| {
        SpecError::new(0..text.len(), format!("{} is no UUID.", quote(text)))
            .help("Write it as uuidgen(1) does: 01234567-89ab-cdef-0123-456789abcdef")
    })
}

/// `cmdline` wins over `root` and `extra`; of those, `root` comes first. As in xl, an `extra` that
/// is set but empty still adds its blank.
pub(crate) fn cmdline(reader: &mut Reader<'_>) -> Option<String> {
    let cmdline = reader.string("cmdline");
    let root = reader.string("root");
    let extra = reader.string("extra");
    if cmdline.is_some() {
        for key in ["root", "extra"] {
            if reader.get(key).is_some() {
                let help = "Move it into cmdline or remove it.".to_owned();
                reader.warn(
                    key,
                    format!("{key} is ignored in favour of cmdline."),
                    Some(help),
                );
            }
        }
        return cmdline.map(str::to_owned);
    }
    match (root, extra) {
        (None, extra) => extra.map(str::to_owned),
        (Some(root), None) => Some(format!("root={root}")),
        (Some(root), Some(extra)) => Some(format!("root={root} {extra}")),
    }
}

/// Memory and its maximum, in MiB. Either stands for the other where that is not given.
fn memory(reader: &mut Reader<'_>) -> (u64, u64) {
    let mut size = |key| {
        reader
            .integer(key, 1..=MOST_MEMORY_MIB, "MiB")
            .map(i64::unsigned_abs)
    };
    let (memory, maximum) = (size("memory"), size("maxmem"));
    if reader.get("memory").is_none() && reader.get("maxmem").is_none() {
        let message = format!("No memory is given; the guest gets {DEFAULT_MEMORY_MIB} MiB.");
        reader.warn("memory", message, Some("Add memory = MIB".into()));
    }
    if let (Some(memory), Some(maximum)) = (memory, maximum)
        && maximum < memory
    {
        let message = format!("maxmem = {maximum} is less than memory = {memory}.");
        reader.error(
            "maxmem",
            message,
            "Raise maxmem, or remove it to make it equal.",
        );
    }
    let memory = memory.or(maximum).unwrap_or(DEFAULT_MEMORY_MIB);
    (memory, maximum.unwrap_or(memory))
}

/// CPUs and their maximum. As in libxl, `maxvcpus` alone starts one.
fn vcpus(reader: &mut Reader<'_>) -> (u32, u32) {
    let mut count = |key| {
        reader
            .integer(key, 1..=MOST_VCPUS, "CPUs")
            .and_then(|count| u32::try_from(count).ok())
    };
    let (vcpus, maximum) = (count("vcpus"), count("maxvcpus"));
    if let (Some(vcpus), Some(maximum)) = (vcpus, maximum)
        && maximum < vcpus
    {
        let message = format!("maxvcpus = {maximum} is less than vcpus = {vcpus}.");
        reader.error(
            "maxvcpus",
            message,
            "Raise maxvcpus, or remove it to make it equal.",
        );
    }
    let vcpus = vcpus.unwrap_or(1);
    (vcpus, maximum.unwrap_or(vcpus))
}

fn cpuid(reader: &mut Reader<'_>) -> CpuidSpec {
    let Some(Value::List(_)) = reader.get("cpuid").map(|value| &value.value) else {
        return reader
            .parsed("cpuid", CpuidSpec::parse_libxl)
            .unwrap_or_default();
    };
    let mut spec = CpuidSpec::default();
    reader.list("cpuid", |line| spec.add_xend(line));
    spec
}

fn on(reader: &mut Reader<'_>) -> EventActions {
    let default = EventActions::default();
    let mut action = |key, default| reader.named(key, ACTIONS).unwrap_or(default);
    EventActions {
        poweroff: action("on_poweroff", default.poweroff),
        reboot: action("on_reboot", default.reboot),
        crash: action("on_crash", default.crash),
        watchdog: action("on_watchdog", default.watchdog),
        soft_reset: action("on_soft_reset", default.soft_reset),
    }
}

fn limit(
    reader: &mut Reader<'_>,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
    unit: &str,
) -> Option<u32> {
    reader
        .integer(key, range, unit)
        .and_then(|number| u32::try_from(number).ok())
}

/// A list, or one string.
fn serial(reader: &mut Reader<'_>) -> Vec<String> {
    match reader.get("serial").map(|value| &value.value) {
        Some(Value::List(_)) => reader.list("serial", |text| Ok(text.to_owned())),
        _ => reader
            .string("serial")
            .map(str::to_owned)
            .into_iter()
            .collect(),
    }
}

fn disks(reader: &mut Reader<'_>) -> Vec<DiskSpec> {
    let mut seen = disk::Seen::default();
    reader.list("disk", |text| {
        let disk: DiskSpec = text.parse()?;
        seen.add(&disk, text)?;
        Ok(disk)
    })
}

fn vifs(reader: &mut Reader<'_>) -> Vec<VifSpec> {
    let mut seen = vif::Seen::default();
    reader.list("vif", |text| {
        let vif: VifSpec = text.parse()?;
        seen.add(&vif, text)?;
        Ok(vif)
    })
}

#[cfg(test)]
#[path = "spec_test.rs"]
mod tests;
