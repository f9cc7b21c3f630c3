//! The header of a qcow2 image (QEMU's `docs/interop/qcow2.txt`), believed only as far as it was
//! checked.

use std::path::Path;

use crate::MediumError;
use crate::file::MediaFile;
use crate::image::bytes::{be, be64s};

const MAGIC: u64 = 0x5146_49fb;
/// Most entries of the L1 table, as in QEMU: 32 MiB.
const MAX_L1: u64 = 4 << 20;
/// Most bytes of the refcount table, as in QEMU.
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const DATA_FILE: u64 = 4;
const COMPRESSION: u64 = 8;
const SUBCLUSTERS: u64 = 16;

/// Header extensions.
const BACKING_FORMAT: u64 = 0xe279_2aca;
const FEATURE_NAMES: u64 = 0x6803_f857;

/// What is in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub version: u32,
    pub cluster_bits: u32,
    /// Bytes of the disk.
    pub size: u64,
    pub l1_offset: u64,
    pub l1_entries: usize,
    pub refcount_table: u64,
    /// Clusters of the refcount table.
    pub refcount_clusters: u64,
    /// A refcount has `1 << refcount_order` bits.
    pub refcount_order: u32,
    pub snapshots: u32,
    pub snapshots_offset: u64,
    /// Refcounts were not kept up to date and have to be counted anew.
    pub dirty: bool,
    pub autoclear: u64,
    pub zstd: bool,
    /// There may be clusters in use that nothing here knows of.
    pub opaque: bool,
    pub backing: Option<String>,
    pub backing_format: Option<String>,
    /// Bytes of the file.
    pub file_size: u64,
}

/// Whether the file begins as a qcow2 image does.
pub(crate) fn is_one(start: &[u8]) -> bool {
    be(start, 0, 4) == MAGIC
}

impl Header {
    pub(crate) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table.
    pub(crate) fn l2_entries(&self) -> u64 {
        self.cluster_size() / 8
    }

    /// Entries of a refcount block.
    pub(crate) fn refcounts_per_block(&self) -> u64 {
        (self.cluster_size() * 8) >> self.refcount_order
    }

    /// Clusters of the file, the last one perhaps not whole.
    pub(crate) fn clusters(&self) -> u64 {
        self.file_size.div_ceil(self.cluster_size())
    }

    /// Whether a cluster's offset can be one.
    pub(crate) fn holds(&self, offset: u64) -> bool {
        offset != 0 && offset.is_multiple_of(self.cluster_size()) && offset < self.file_size
    }

    pub(crate) fn read(file: &MediaFile) -> Result<Self, MediumError> {
        let path = file.path();
        let examine = || MediumError::file("examine", path);
        let file_size = file.size().map_err(examine())?;
        // The header, its extensions and the backing file's name are within the first cluster.
        let mut start = vec![0; file_size.min(2 << 20) as usize];
        file.read_at(&mut start, 0).map_err(examine())?;
        Self::parse(&start, file_size).map_err(|fault| fault.of(path))
    }

    /// From the beginning of a file of `file_size` bytes, of which `start` holds at least the first
    /// cluster.
    pub(crate) fn parse(start: &[u8], file_size: u64) -> Result<Self, Fault> {
        if !is_one(start) {
            return Err(Fault::Other);
        }
        let version = be(start, 4, 4) as u32;
        let length = match version {
            2 => 72,
            3 => be(start, 100, 4) as usize,
            _ => return Err(Fault::Needs(format!("version {version}"))),
        };
        let field = |at: usize, n: usize| {
            if at + n <= length {
                be(start, at, n)
            } else {
                0
            }
        };
        let cluster_bits = field(20, 4) as u32;
        if !(9..=21).contains(&cluster_bits) {
            return damaged(
                "clusters have 2^{} bytes, which is out of 512 to 2 MiB",
                cluster_bits,
            );
        }
        let cluster = 1u64 << cluster_bits;
        if !(72..=cluster as usize).contains(&length) || start.len() < length {
            return damaged("the header has {} bytes", length);
        }
        let incompatible = field(72, 8);
        refuse_features(incompatible, field(104, 1))?;
        if field(32, 4) != 0 {
            return Err(Fault::Needs("encryption".into()));
        }
        let mut header = Self {
            version,
            cluster_bits,
            size: field(24, 8),
            l1_offset: field(40, 8),
            l1_entries: field(36, 4) as usize,
            refcount_table: field(48, 8),
            refcount_clusters: field(56, 4),
            refcount_order: if version == 2 { 4 } else { field(96, 4) as u32 },
            snapshots: field(60, 4) as u32,
            snapshots_offset: field(64, 8),
            dirty: incompatible & DIRTY != 0,
            autoclear: field(88, 8),
            zstd: incompatible & COMPRESSION != 0 && field(104, 1) == 1,
            opaque: false,
            backing: None,
            backing_format: None,
            file_size,
        };
        header.check()?;
        header.names(start, length)?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Fault> {
        let cluster = self.cluster_size();
        let table = |what: &str, offset: u64, bytes: u64| match self.holds(offset)
            && offset
                .checked_add(bytes)
                .is_some_and(|end| end <= self.file_size)
        {
            true => Ok(()),
            false => damaged2(what, "is at {} and not within the file", offset),
        };
        if self.size >= 1 << 62 {
            return damaged("the disk would have {} bytes", self.size);
        }
        let l1_needed = self.size.div_ceil(cluster * self.l2_entries());
        if self.l1_entries as u64 > MAX_L1 || (self.l1_entries as u64) < l1_needed {
            return damaged(
                "the L1 table has {} entries, which does not fit the size",
                self.l1_entries,
            );
        }
        if self.l1_entries > 0 {
            table("the L1 table", self.l1_offset, self.l1_entries as u64 * 8)?;
        }
        if self.refcount_order > 6 {
            return damaged("refcounts have 2^{} bits", self.refcount_order);
        }
        let refcounts = self.refcount_clusters * cluster;
        if refcounts == 0 || refcounts > MAX_REFCOUNT_TABLE.max(cluster) {
            return damaged("the refcount table has {} bytes", refcounts);
        }
        table("the refcount table", self.refcount_table, refcounts)?;
        if self.snapshots > 65536 {
            return damaged("there are {} snapshots", self.snapshots);
        }
        if self.snapshots > 0 {
            table("the snapshot table", self.snapshots_offset, 40)?;
        }
        Ok(())
    }

    /// The backing file and its format.
    fn names(&mut self, start: &[u8], length: usize) -> Result<(), Fault> {
        let cluster = self.cluster_size();
        let text = |at: usize, n: usize, what: &str| {
            let bytes = at.checked_add(n).and_then(|end| start.get(at..end));
            let bytes = bytes.filter(|_| ((at + n) as u64) <= cluster);
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            text.ok_or_else(|| Fault::Damaged(format!("{what} is not within the first cluster")))
        };
        let (at, n) = (be(start, 8, 8) as usize, be(start, 16, 4) as usize);
        if at != 0 {
            if n == 0 || n > 1023 {
                return damaged("the backing file's name has {} bytes", n);
            }
            self.backing = Some(text(at, n, "the backing file's name")?);
        }
        let mut extension = length;
        loop {
            let (kind, n) = (
                be(start, extension, 4),
                be(start, extension + 4, 4) as usize,
            );
            let end = if at != 0 {
                at
            } else {
                self.cluster_size() as usize
            };
            if kind == 0 || extension + 8 > end {
                return Ok(());
            }
            if n > end.saturating_sub(extension + 8) {
                return damaged("a header extension has {} bytes", n);
            }
            match kind {
                BACKING_FORMAT => {
                    self.backing_format = Some(text(extension + 8, n, "the backing format")?);
                }
                FEATURE_NAMES => {}
                _ => self.opaque = true,
            }
            extension += 8 + n.next_multiple_of(8);
        }
    }

    /// The L1 table, checked.
    pub(crate) fn read_l1(&self, file: &MediaFile) -> Result<Vec<u64>, MediumError> {
        self.read_table(file, self.l1_offset, self.l1_entries)
    }

    /// A table of offsets of clusters, or of zero for none.
    pub(crate) fn read_table(
        &self,
        file: &MediaFile,
        at: u64,
        entries: usize,
    ) -> Result<Vec<u64>, MediumError> {
        let mut bytes = vec![0; entries * 8];
        let read = file.read_at(&mut bytes, at);
        read.map_err(MediumError::file("read a table of", file.path()))?;
        let table = be64s(&bytes);
        for entry in &table {
            let offset = entry & OFFSET;
            if offset != 0 && !self.holds(offset) {
                let why =
                    format!("a table at {at} refers to {offset}, which is no cluster of the file");
                return Err(Fault::Damaged(why).of(file.path()));
            }
        }
        Ok(table)
    }
}

/// The bits of an entry that are the offset of a cluster.
pub(crate) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

fn refuse_features(incompatible: u64, compression: u64) -> Result<(), Fault> {
    if incompatible & CORRUPT != 0 {
        return Err(Fault::Damaged("it is marked as corrupt".into()));
    }
    if incompatible & DATA_FILE != 0 {
        return Err(Fault::Needs("an external data file".into()));
    }
    if incompatible & SUBCLUSTERS != 0 {
        return Err(Fault::Needs("extended L2 entries".into()));
    }
    let known = DIRTY | CORRUPT | COMPRESSION;
    if incompatible & !known != 0 {
        return Err(Fault::Needs(format!(
            "features {:#x}",
            incompatible & !known
        )));
    }
    if incompatible & COMPRESSION != 0 && compression > 1 {
        return Err(Fault::Needs(format!("compression method {compression}")));
    }
    Ok(())
}

/// What is wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is none.
    Other,
    /// It has something that is not understood here.
    Needs(String),
    /// It is damaged.
    Damaged(String),
}

impl Fault {
    pub(crate) fn of(self, path: &Path) -> MediumError {
        let (path, format) = (path.to_owned(), "qcow2");
        match self {
            Self::Other => MediumError::Format {
                path,
                format,
                why: "it does not begin with \"QFI\\xfb\"".into(),
                hint: "Give the disk the format it has, perhaps format=raw".into(),
            },
            Self::Needs(why) => MediumError::Unsupported {
                path,
                format,
                why: format!("it needs {why}"),
                hint: "\"qemu-img convert -O qcow2\" makes a plain one of it".into(),
            },
            Self::Damaged(why) => MediumError::Damaged {
                path,
                format,
                why,
                hint: "Look with \"qemu-img check\", mend with \"qemu-img check -r all\" on a copy"
                    .into(),
            },
        }
    }
}

fn damaged<T>(what: &str, value: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault::Damaged(what.replace("{}", &value.to_string())))
}

fn damaged2<T>(subject: &str, what: &str, value: u64) -> Result<T, Fault> {
    damaged(&format!("{subject} {what}"), value)
}
