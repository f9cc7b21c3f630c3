//! VMDK images (VMware's "Virtual Disk Format 5.0"), for reading: sparse, stream-optimised and flat
//! extents.

use std::io;
use std::path::{Path, PathBuf};

use super::bytes::le;
use super::packed::Method;
use super::tables::Tables;
use super::{Packed, Place, Run};
use crate::MediumError;
use crate::engine::Files;
use crate::file::MediaFile;

const SECTOR: u64 = 512;
const ZERO_GRAINS: u64 = 1 << 2;
const COMPRESSED: u64 = 1 << 16;
/// The grain directory's place is in the footer.
const AT_END: u64 = u64::MAX;
/// Most entries of a grain directory: 2 PiB in grains of 64 KiB.
const MAX_DIRECTORY: u64 = 64 << 20;

/// What a descriptor tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub extents: Vec<ExtentLine>,
    pub parent: Option<PathBuf>,
}

/// A line of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtentLine {
    pub sectors: u64,
    pub kind: ExtentKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExtentKind {
    Flat { name: String, sector: u64 },
    Sparse { name: String },
    Zero,
}

/// An image: its extents one after the other.
#[derive(Debug)]
pub(crate) struct Vmdk {
    extents: Vec<(u64, Extent)>,
    size: u64,
    backed: bool,
}

/// A part of a disk.
#[derive(Debug)]
pub(crate) enum Extent {
    Flat { file: usize, offset: u64 },
    Sparse(Box<Sparse>),
    Zero,
}

/// A sparse extent.
#[derive(Debug)]
pub(crate) struct Sparse {
    file: usize,
    file_size: u64,
    /// Bytes.
    pub capacity: u64,
    grain: u64,
    per_table: u64,
    compressed: bool,
    zero_grains: bool,
    /// Sectors of the grain tables.
    directory: Vec<u32>,
    tables: Tables<u32>,
    pub descriptor: Option<(u64, u64)>,
}

pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> MediumError {
    MediumError::Damaged {
        path: path.to_owned(),
        format: "VMDK",
        why: why.into(),
        hint: "Take a copy that is whole; \"qemu-img check -f vmdk\" tells more".into(),
    }
}

/// Whether a file begins as a sparse extent or as a descriptor does.
pub(crate) fn is_one(start: &[u8]) -> bool {
    start.starts_with(b"KDMV") || start.starts_with(b"# Disk DescriptorFile")
}

impl Descriptor {
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, MediumError> {
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(text.len());
        let text = String::from_utf8_lossy(&text[..end]);
        let mut descriptor = Self::default();
        let mut parent_id = None;
        for line in text.lines().map(str::trim) {
            if let Some((key, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"');
                match key.trim() {
                    "parentCID" => parent_id = Some(value.to_ascii_lowercase()),
                    "parentFileNameHint" => descriptor.parent = Some(value.into()),
                    _ => {}
                }
            }
            if ["RW ", "RDONLY ", "NOACCESS "]
                .iter()
                .any(|access| line.starts_with(access))
            {
                let extent = extent_line(line)
                    .ok_or_else(|| damaged(path, format!("its descriptor says {line:?}")))?;
                descriptor.extents.push(extent);
            }
        }
        if parent_id.is_none_or(|id| id == "ffffffff") {
            descriptor.parent = None;
        } else if descriptor.parent.is_none() {
            return Err(damaged(path, "it has a parent without a name"));
        }
        match descriptor.extents.len() {
            1..=1024 => Ok(descriptor),
            n => Err(damaged(path, format!("its descriptor has {n} extents"))),
        }
    }
}

/// `RW 4192256 SPARSE "test-s001.vmdk"`, `RW 1048576 FLAT "test-f001.vmdk" 0`.
fn extent_line(line: &str) -> Option<ExtentLine> {
    let mut words = line.splitn(4, ' ').skip(1);
    let sectors: u64 = words.next()?.parse().ok().filter(|n| *n < 1 << 53)?;
    let (kind, rest) = (words.next()?, words.next().unwrap_or(""));
    let mut parts = rest.splitn(3, '"').skip(1);
    let name = parts.next().unwrap_or("").to_owned();
    // A file of the image's own folder and no other.
    let plain = !name.is_empty() && !name.contains('/') && name != "..";
    let kind = match kind {
        "ZERO" => ExtentKind::Zero,
        "SPARSE" if plain => ExtentKind::Sparse { name },
        "FLAT" | "VMFS" if plain => {
            let sector = parts.next().unwrap_or("").trim();
            let sector = if sector.is_empty() {
                0
            } else {
                sector.parse().ok()?
            };
            ExtentKind::Flat { name, sector }
        }
        _ => return None,
    };
    Some(ExtentLine { sectors, kind })
}

impl Sparse {
    pub(crate) fn open(file: &MediaFile, index: usize) -> Result<Self, MediumError> {
        let path = file.path();
        let file_size = file.size().map_err(MediumError::file("examine", path))?;
        let read = |at: u64, n: u64| {
            if at.checked_add(n).is_none_or(|end| end > file_size) {
                return Err(damaged(
                    path,
                    format!("a table at {at} is not within the file"),
                ));
            }
            let mut bytes = vec![0; n as usize];
            let read = file.read_at(&mut bytes, at);
            read.map_err(MediumError::file("read", path))
                .map(|()| bytes)
        };
        let mut header = read(0, SECTOR)?;
        if le(&header, 56, 8) == AT_END {
            header = read(file_size.saturating_sub(2 * SECTOR), SECTOR)?;
        }
        if !header.starts_with(b"KDMV") || !(1..=3).contains(&le(&header, 4, 4)) {
            return Err(damaged(
                path,
                "it does not have the header of a sparse extent",
            ));
        }
        let (flags, method) = (le(&header, 8, 4), le(&header, 77, 2));
        let (capacity, grain) = (le(&header, 12, 8), le(&header, 20, 8));
        let per_table = le(&header, 44, 4);
        let grains = grain.is_power_of_two() && (8..=4096).contains(&grain);
        if !grains || !(1..=4096).contains(&per_table) || capacity > 1 << 53 {
            let why =
                format!("it has {capacity} sectors in grains of {grain}, {per_table} to a table");
            return Err(damaged(path, why));
        }
        if flags & COMPRESSED != 0 && method != 1 {
            return Err(damaged(path, format!("compression method {method}")));
        }
        let entries = capacity.div_ceil(grain * per_table);
        if entries > MAX_DIRECTORY {
            return Err(damaged(
                path,
                format!("its grain directory has {entries} entries"),
            ));
        }
        let at = le(&header, 56, 8).saturating_mul(SECTOR);
        let directory = numbers(&read(at, entries * 4)?);
        let (from, size) = (le(&header, 28, 8), le(&header, 36, 8));
        let descriptor =
            (from != 0 && size <= 2048).then(|| (from.saturating_mul(SECTOR), size * SECTOR));
        Ok(Self {
            file: index,
            file_size,
            capacity: capacity * SECTOR,
            grain: grain * SECTOR,
            per_table,
            compressed: flags & COMPRESSED != 0,
            zero_grains: flags & ZERO_GRAINS != 0,
            directory,
            tables: Tables::default(),
            descriptor,
        })
    }

    fn lookup(
        &self,
        files: &Files,
        at: u64,
        len: u64,
        backed: bool,
        wait: bool,
    ) -> io::Result<Option<Run>> {
        let (grain, inside) = (at / self.grain, at % self.grain);
        let len = len.min(self.grain - inside);
        let absent = if backed { Place::Below } else { Place::Zero };
        let (index, entry) = (
            (grain / self.per_table) as usize,
            (grain % self.per_table) as usize,
        );
        let run = |place| Ok(Some(Run { place, len }));
        let sector = match self.directory.get(index) {
            None | Some(0) => return run(absent),
            Some(sector) => u64::from(*sector),
        };
        let table = self.tables.get(index, wait, || {
            let mut bytes = vec![0; self.per_table as usize * 4];
            files[self.file].read_at(&mut bytes, sector * SECTOR)?;
            Ok(numbers(&bytes))
        })?;
        let Some(table) = table else {
            return Ok(None);
        };
        let offset = match table.get(entry) {
            None | Some(0) => return run(absent),
            Some(1) if self.zero_grains => return run(Place::Zero),
            Some(sector) => u64::from(*sector) * SECTOR,
        };
        if self.compressed {
            // Before the data are its place on the disk and its length, 12 bytes.
            return run(Place::Packed(Packed {
                file: self.file,
                offset: offset + 12,
                len: 2 * self.grain,
                method: Method::Zlib,
                at: at - inside,
                size: self.grain as usize,
            }));
        }
        if offset + self.grain > self.file_size.next_multiple_of(self.grain) {
            tracing::warn!(offset, "A VMDK image refers to what is not in its file");
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        run(Place::File {
            file: self.file,
            offset: offset + inside,
        })
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .collect()
}

impl Vmdk {
    /// Extents with their sizes in bytes.
    pub(crate) fn new(extents: Vec<(u64, Extent)>, backed: bool) -> Self {
        let size = extents.iter().map(|(size, _)| size).sum();
        Self {
            extents,
            size,
            backed,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// See [`Layer::lookup`](super::Layer).
    pub(crate) fn lookup(
        &self,
        files: &Files,
        at: u64,
        len: u64,
        wait: bool,
    ) -> io::Result<Option<Run>> {
        let mut inside = at;
        for (size, extent) in &self.extents {
            if inside >= *size {
                inside -= size;
                continue;
            }
            let len = len.min(size - inside);
            let place = match extent {
                Extent::Sparse(sparse) => {
                    let run = sparse.lookup(files, inside, len, self.backed, wait)?;
                    return Ok(run.map(|run| run.moved(at - inside)));
                }
                Extent::Flat { file, offset } => Place::File {
                    file: *file,
                    offset: offset + inside,
                },
                Extent::Zero => Place::Zero,
            };
            return Ok(Some(Run { place, len }));
        }
        Ok(Some(Run {
            place: Place::Zero,
            len,
        }))
    }
}

impl Run {
    /// In an extent that begins at `by` on the disk.
    fn moved(mut self, by: u64) -> Self {
        if let Place::Packed(packed) = &mut self.place {
            packed.at += by;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors() {
        let text = b"# Disk DescriptorFile\nparentCID=ffffffff\nparentFileNameHint=\"/etc/x\"\nRW 100 SPARSE \"a b.vmdk\"\n\
            RW 5 FLAT \"flat\" 7\nRW 3 ZERO\n";
        let descriptor = Descriptor::parse(Path::new("x"), text).unwrap();
        assert_eq!(descriptor.parent, None);
        let kinds: Vec<_> = descriptor
            .extents
            .into_iter()
            .map(|extent| (extent.sectors, extent.kind))
            .collect();
        let want = [
            (
                100,
                ExtentKind::Sparse {
                    name: "a b.vmdk".into(),
                },
            ),
            (
                5,
                ExtentKind::Flat {
                    name: "flat".into(),
                    sector: 7,
                },
            ),
            (3, ExtentKind::Zero),
        ];
        assert_eq!(kinds, want);
    }

    #[test]
    fn extents_elsewhere_are_refused() {
        for name in ["/etc/shadow", "../x", "..", ""] {
            let text = format!("RW 1 FLAT \"{name}\" 0\n");
            assert!(
                Descriptor::parse(Path::new("x"), text.as_bytes()).is_err(),
                "{name}"
            );
        }
        assert!(Descriptor::parse(Path::new("x"), b"").is_err());
    }
}
