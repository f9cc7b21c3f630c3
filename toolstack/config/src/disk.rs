//! Disk specifications: the strings of `disk = [ … ]`.
//!
//! Facts: `xl-disk-configuration(5)`; where it leaves something open, what `xl create -n` of Xen
//! 4.17 makes of it. A string is comma-separated parameters: `key=value`, flags, and positional
//! ones, which are target, format, vdev and access in this order. The deprecated form
//! `[prefix:]target,vdev[:devtype],access` of xend is understood too.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{SpecError, nearest, quote};
use crate::vdev::Vdev;

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Block device or file (or, with `script`, what the script makes of it). `None` is an empty
    /// CD-ROM drive.
    pub target: Option<String>,
    /// What is in the target.
    pub format: DiskFormat,
    /// What the guest calls it.
    pub vdev: Vdev,
    /// The guest cannot write. Always so for a CD-ROM.
    pub readonly: bool,
    /// A CD-ROM drive.
    pub cdrom: bool,
    /// Name or number of the domain of the back end; `None` is this one.
    pub backend: Option<String>,
    /// Which back end; `None` leaves the choice to the toolstack.
    pub backend_type: Option<DiskBackend>,
    /// Program that turns `target` into a block device.
    pub script: Option<String>,
    /// O_DIRECT may be used on the target.
    pub direct_io_safe: bool,
    /// Whether to offer discard (TRIM) to the guest; `None` is the back end's default, yes.
    pub discard: Option<bool>,
    /// Whether the guest should trust the back end; `None` is the default, yes.
    pub trusted: Option<bool>,
    /// What the guest drives it with.
    pub specification: DiskSpecification,
    /// Whether a virtio disk uses grants.
    pub grant_usage: GrantUsage,
    /// COLO replication.
    pub colo: Option<ColoSpec>,
}

/// Image formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes as they are.
    Raw,
    /// QEMU's old format.
    Qcow,
    /// QEMU's format.
    Qcow2,
    /// Microsoft's and Citrix' format.
    Vhd,
    /// VMware's format. Not a word of xl's.
    Vmdk,
    /// QEMU's enhanced disk.
    Qed,
    /// A drive without medium.
    Empty,
}

/// Back end implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBackend {
    /// A block device by the kernel's blkback.
    Phy,
    /// blktap, gone from current Xen.
    Tap,
    /// QEMU.
    Qdisk,
    /// A virtio back end that the toolstack does not start.
    Standalone,
}

/// Protocols between guest and back end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskSpecification {
    /// xen-blkfront and xen-blkback.
    #[default]
    Xen,
    /// virtio-blk.
    Virtio,
}

/// Whether a virtio disk uses grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantUsage {
    /// As the back end's domain needs it.
    #[default]
    Default,
    /// Yes.
    Enabled,
    /// No.
    Disabled,
}

/// Parameters of COLO replication, all of them mandatory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColoSpec {
    /// Address of the secondary host.
    pub host: String,
    /// TCP port of the secondary's NBD server.
    pub port: u16,
    /// Export name there.
    pub export: String,
    /// Where the secondary guest's writes go.
    pub active_disk: String,
    /// Where the secondary keeps what the primary overwrote.
    pub hidden_disk: String,
}

/// A value and where it stood. A slot is taken even by an empty value.
type Slot<'a> = Option<(&'a str, Range<usize>)>;

#[derive(Default)]
struct Parameters<'a> {
    target: Slot<'a>,
    format: Slot<'a>,
    vdev: Slot<'a>,
    access: Slot<'a>,
    devtype: Slot<'a>,
    backend: Slot<'a>,
    backend_type: Slot<'a>,
    script: Slot<'a>,
    specification: Slot<'a>,
    grant_usage: Slot<'a>,
    colo_host: Slot<'a>,
    colo_port: Slot<'a>,
    colo_export: Slot<'a>,
    active_disk: Slot<'a>,
    hidden_disk: Slot<'a>,
    direct_io_safe: bool,
    discard: Option<bool>,
    trusted: Option<bool>,
    colo: bool,
    /// The string has a prefix of xend's, so the parameter after the target is the vdev.
    old_syntax: bool,
}

const KEYS: &[&str] = &[
    "target",
    "format",
    "vdev",
    "access",
    "devtype",
    "backend",
    "backendtype",
    "script",
    "specification",
    "grant_usage",
    "colo-host",
    "colo-port",
    "colo-export",
    "active-disk",
    "hidden-disk",
    "cdrom",
    "direct-io-safe",
    "discard",
    "no-discard",
    "trusted",
    "untrusted",
    "colo",
];

/// The devices of a list, to find one that is there twice.
#[derive(Default)]
pub(crate) struct Seen(BTreeMap<u32, String>);

impl Seen {
    /// Adds the disk that was read from `text`.
    pub(crate) fn add(&mut self, disk: &DiskSpec, text: &str) -> Result<(), SpecError> {
        match self.0.insert(disk.vdev.number(), disk.vdev.to_string()) {
            None => Ok(()),
            Some(earlier) => {
                let message = format!("{} is the same device as {earlier} above.", disk.vdev);
                Err(SpecError::new(0..text.len(), message)
                    .help("Give each disk a vdev of its own."))
            }
        }
    }
}

impl FromStr for DiskSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        parse(text).map(|(spec, _)| spec)
    }
}

/// What a string names, though a [`DiskSpec`] is the same without.
pub(crate) struct Named {
    /// A target, even an empty one.
    pub(crate) target: bool,
    /// A specification, even the default.
    pub(crate) specification: bool,
}

/// The disk, and what the string names.
pub(crate) fn parse(text: &str) -> Result<(DiskSpec, Named), SpecError> {
    let mut parameters = Parameters::default();
    let mut position = 0;
    // Nothing behind a comma at the end is no parameter.
    while position < text.len() {
        let rest = text.get(position..).unwrap_or("");
        let rest = rest.trim_start_matches([' ', '\t']);
        position = text.len() - rest.len();
        if let Some(target) = rest.strip_prefix("target=") {
            let range = text.len() - target.len()..text.len();
            if parameters
                .target
                .as_ref()
                .is_some_and(|(earlier, _)| !earlier.is_empty())
            {
                return Err(again("target", position..text.len()));
            }
            parameters.target = Some((target, range));
            break;
        }
        let length = rest.find(',').unwrap_or(rest.len());
        let parameter = rest.get(..length).unwrap_or("");
        parameters.parameter(parameter, position..position + length)?;
        position += length + 1;
    }
    let named = Named {
        target: parameters.target.is_some(),
        specification: parameters.specification.is_some(),
    };
    Ok((parameters.finish(text)?, named))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn again(name: &str, range: Range<usize>) -> SpecError {
    SpecError::new(range, format!("The disk's {name} is given twice.")).help("Keep one of the two.")
}

impl<'a> Parameters<'a> {
    /// Takes the prefixes of xend off a positional target. Returns what is left of it.
    fn prefixes(&mut self, text: &'a str, range: &Range<usize>) -> Result<&'a str, SpecError> {
        let mut rest = text;
        while let Some((word, after)) = rest.split_once(':') {
            let start = range.end - rest.len();
            let place = start..start + word.len();
            match word {
                "raw" | "qcow" | "qcow2" | "vhd" => self.format = Some((word, place)),
                "iscsi" => self.script = Some(("block-iscsi", place)),
                "nbd" => self.script = Some(("block-nbd", place)),
                "enbd" => self.script = Some(("block-enbd", place)),
                "drbd" => self.script = Some(("block-drbd", place)),
                "tapdisk" | "tap2" | "tap" | "aio" | "ioemu" | "file" | "phy" => {}
                _ if after.starts_with('/') && is_word(word) => {
                    let message = format!("{} is no prefix of a disk.", quote(&format!("{word}:")));
                    return Err(SpecError::new(place, message)
                        .help("Write a target with a colon as the last parameter, target=…"));
                }
                _ => break,
            }
            self.old_syntax = true;
            rest = after;
        }
        Ok(rest)
    }

    fn parameter(&mut self, text: &'a str, range: Range<usize>) -> Result<(), SpecError> {
        match text {
            "cdrom" => self.devtype = Some((text, range)),
            "direct-io-safe" => self.direct_io_safe = true,
            "discard" => self.discard = Some(true),
            "no-discard" => self.discard = Some(false),
            "trusted" => self.trusted = Some(true),
            "untrusted" => self.trusted = Some(false),
            "colo" => self.colo = true,
            _ => {
                return match text.split_once('=') {
                    Some((key, value)) => self.named(key, value, range),
                    None => self.positional(text, range),
                };
            }
        }
        Ok(())
    }

    fn named(&mut self, key: &str, value: &'a str, range: Range<usize>) -> Result<(), SpecError> {
        // As in xl, the last access and devtype win; the others may be given once.
        let (slot, last_wins) = match key {
            "format" => (&mut self.format, false),
            "vdev" => (&mut self.vdev, false),
            "access" => (&mut self.access, true),
            "devtype" => (&mut self.devtype, true),
            "backend" => (&mut self.backend, false),
            "backendtype" => (&mut self.backend_type, false),
            "script" => (&mut self.script, false),
            "specification" => (&mut self.specification, false),
            "grant_usage" => (&mut self.grant_usage, false),
            "colo-host" => (&mut self.colo_host, false),
            "colo-port" => (&mut self.colo_port, false),
            "colo-export" => (&mut self.colo_export, false),
            "active-disk" => (&mut self.active_disk, false),
            "hidden-disk" => (&mut self.hidden_disk, false),
            _ => {
                let start = range.start;
                return Err(unknown(key, start..start + key.len()));
            }
        };
        let differs = slot.as_ref().is_some_and(|(earlier, _)| *earlier != value);
        if differs && !last_wins {
            return Err(again(key, range));
        }
        *slot = Some((value, range.start + key.len() + 1..range.end));
        Ok(())
    }

    fn positional(&mut self, text: &'a str, range: Range<usize>) -> Result<(), SpecError> {
        if self.format.is_none() && self.is_xend_vdev(text) {
            self.old_syntax = true;
        }
        if self.target.is_none() {
            let target = self.prefixes(text, &range)?;
            self.target = Some((target, range.end - target.len()..range.end));
        } else if self.format.is_none() && !self.old_syntax {
            self.format = Some((text, range));
        } else if self.vdev.is_none() {
            return self.positional_vdev(text, range);
        } else if self.access.is_none() {
            self.access = Some((text, range));
        } else {
            let near = nearest(text, KEYS.iter().copied());
            let help = near.map_or(
                "Positional are target, format, vdev and access.".into(),
                |near| format!("Did you mean {near}?"),
            );
            let message = format!("The disk has no parameter {}.", quote(text));
            return Err(SpecError::new(range, message).help(help));
        }
        Ok(())
    }

    /// A vdev in xend's place for it, behind a target without prefix: `/a,ioemu:hda` and the empty
    /// drive, `,hdc:cdrom,r`.
    fn is_xend_vdev(&self, text: &str) -> bool {
        let empty = matches!(self.target, Some(("", _)));
        let devtype = text.ends_with(":cdrom") || text.ends_with(":disk");
        self.target.is_some() && text.starts_with("ioemu:") || empty && devtype
    }

    /// `[ioemu:]vdev[:devtype]`
    fn positional_vdev(&mut self, text: &'a str, range: Range<usize>) -> Result<(), SpecError> {
        let name = text.strip_prefix("ioemu:").unwrap_or(text);
        let start = range.end - name.len();
        match name.split_once(':') {
            None => self.vdev = Some((name, start..range.end)),
            Some((name, devtype)) => {
                self.vdev = Some((name, start..start + name.len()));
                self.devtype = Some((devtype, start + name.len() + 1..range.end));
            }
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<DiskSpec, SpecError> {
        let format = choose(&self.format, "format", FORMATS)?.unwrap_or(DiskFormat::Raw);
        let Some((vdev, vdev_range)) = self.vdev.clone().filter(|(name, _)| !name.is_empty())
        else {
            return Err(SpecError::new(0..text.len(), "The disk has no vdev.")
                .help("The guest needs a name for it: 'PATH,FORMAT,xvda' or vdev=xvda."));
        };
        let vdev = vdev.parse().map_err(|error| SpecError {
            range: vdev_range,
            ..error
        })?;
        let cdrom = choose(
            &self.devtype,
            "devtype",
            &[("cdrom", true), ("disk", false)],
        )?;
        let cdrom = cdrom.unwrap_or(false);
        let readonly = choose(&self.access, "access", ACCESS)?.unwrap_or(false) || cdrom;
        let target = filled(&self.target);
        if target.is_none() && !cdrom {
            return Err(SpecError::new(0..text.len(), "The disk has no target.")
                .help("Name a file or block device first; only a cdrom may be empty."));
        }
        Ok(DiskSpec {
            format: if target.is_none() {
                DiskFormat::Empty
            } else {
                format
            },
            target,
            vdev,
            readonly,
            cdrom,
            backend: filled(&self.backend),
            backend_type: choose(&self.backend_type, "backendtype", BACKENDS)?,
            script: filled(&self.script),
            direct_io_safe: self.direct_io_safe,
            discard: self.discard,
            trusted: self.trusted,
            specification: choose(&self.specification, "specification", SPECIFICATIONS)?
                .unwrap_or_default(),
            grant_usage: choose(&self.grant_usage, "grant_usage", GRANT_USAGES)?
                .unwrap_or_default(),
            colo: if self.colo {
                Some(self.colo(text)?)
            } else {
                None
            },
        })
    }

    fn colo(&self, text: &str) -> Result<ColoSpec, SpecError> {
        let need = |slot: &Slot<'_>, name: &str| {
            filled(slot).ok_or_else(|| {
                SpecError::new(0..text.len(), format!("A disk with colo needs {name}."))
            })
        };
        let port = need(&self.colo_port, "colo-port")?;
        Ok(ColoSpec {
            host: need(&self.colo_host, "colo-host")?,
            port: port.parse().map_err(|_| {
                SpecError::new(0..text.len(), format!("{} is no TCP port.", quote(&port)))
            })?,
            export: need(&self.colo_export, "colo-export")?,
            active_disk: need(&self.active_disk, "active-disk")?,
            hidden_disk: need(&self.hidden_disk, "hidden-disk")?,
        })
    }
}

const FORMATS: &[(&str, DiskFormat)] = &[
    ("raw", DiskFormat::Raw),
    ("qcow", DiskFormat::Qcow),
    ("qcow2", DiskFormat::Qcow2),
    ("vhd", DiskFormat::Vhd),
    ("vmdk", DiskFormat::Vmdk),
    ("qed", DiskFormat::Qed),
    ("empty", DiskFormat::Empty),
];
/// Name and whether it is read-only.
const ACCESS: &[(&str, bool)] = &[("rw", false), ("w", false), ("ro", true), ("r", true)];
const BACKENDS: &[(&str, DiskBackend)] = &[
    ("phy", DiskBackend::Phy),
    ("tap", DiskBackend::Tap),
    ("qdisk", DiskBackend::Qdisk),
    ("standalone", DiskBackend::Standalone),
];
const SPECIFICATIONS: &[(&str, DiskSpecification)] = &[
    ("xen", DiskSpecification::Xen),
    ("virtio", DiskSpecification::Virtio),
];
const GRANT_USAGES: &[(&str, GrantUsage)] = &[
    ("default", GrantUsage::Default),
    ("enabled", GrantUsage::Enabled),
    ("disabled", GrantUsage::Disabled),
];

fn filled(slot: &Slot<'_>) -> Option<String> {
    slot.as_ref()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, _)| (*text).to_owned())
}

/// One of `names`. An empty value is the default, `None`.
fn choose<T: Copy>(
    slot: &Slot<'_>,
    what: &str,
    names: &[(&str, T)],
) -> Result<Option<T>, SpecError> {
    let Some((text, range)) = slot.as_ref().filter(|(text, _)| !text.is_empty()) else {
        return Ok(None);
    };
    match names.iter().find(|(name, _)| name == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let message = format!("{} is no {what} of a disk.", quote(text));
            Err(SpecError::new(range.clone(), message)
                .help(format!("Known: {}.", names.join(", "))))
        }
    }
}

fn unknown(key: &str, range: Range<usize>) -> SpecError {
    let error = SpecError::new(range, format!("A disk has no parameter {}.", quote(key)));
    match nearest(key, KEYS.iter().copied()) {
        Some(near) => error.help(format!("Did you mean {near}?")),
        None => error.help("A target with \"=\" in it must be the last parameter, target=…"),
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
