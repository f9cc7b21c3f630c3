//! Virtual Hard Disk images (Microsoft's specification of 2006), for reading.

use std::io;
use std::path::{Path, PathBuf};

use super::bytes::be;
use super::tables::Tables;
use super::{Place, Run};
use crate::MediumError;
use crate::engine::Files;
use crate::file::MediaFile;

const SECTOR: u64 = 512;
const UNUSED: u32 = u32::MAX;
/// Most blocks: 2 TiB, the most that a VHD can have, in the smallest blocks seen.
const MAX_BLOCKS: u64 = 4 << 20;

/// What a file's footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub size: u64,
    pub kind: Kind,
    header: u64,
    uuid: [u8; 16],
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Fixed,
    Dynamic,
    Differencing,
}

/// A dynamic or differencing image.
#[derive(Debug)]
pub(crate) struct Vhd {
    file: usize,
    size: u64,
    uuid: [u8; 16],
    block_size: u64,
    /// Sector of each block: a bitmap, then data.
    blocks: Vec<u32>,
    /// What the parent must be.
    parent: Option<Parent>,
    /// Bitmaps of a differencing image that were read.
    bitmaps: Tables<u8>,
    file_size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub path: PathBuf,
    pub uuid: [u8; 16],
}

fn damaged(path: &Path, why: impl Into<String>) -> MediumError {
    MediumError::Damaged {
        path: path.to_owned(),
        format: "VHD",
        why: why.into(),
        hint: "Look at it with \"qemu-img check -f vpc\", or take a copy that is whole".into(),
    }
}

/// Whether 512 bytes are a footer or its copy.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"conectix")
}

/// The one's complement of the sum of all bytes but the sum's own.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let own = at..at + 4;
    let sum = bytes.iter().enumerate().filter(|(i, _)| !own.contains(i));
    !sum.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}

impl Footer {
    pub(crate) fn read(file: &MediaFile) -> Result<Self, MediumError> {
        let path = file.path();
        let size = file.size().map_err(MediumError::file("examine", path))?;
        let mut bytes = [0; 512];
        let read = match size.checked_sub(SECTOR) {
            Some(at) => file.read_at(&mut bytes, at),
            None => Ok(()),
        };
        read.map_err(MediumError::file("read the footer of", path))?;
        if !is_one(&bytes) {
            return Err(MediumError::Format {
                path: path.to_owned(),
                format: "VHD",
                why: "its last sector does not begin with \"conectix\"".into(),
                hint: "Give the disk the format it has, perhaps format=raw".into(),
            });
        }
        if be(&bytes, 64, 4) != u64::from(checksum(&bytes, 64)) {
            return Err(damaged(path, "the footer's checksum is wrong"));
        }
        let kind = match be(&bytes, 60, 4) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            other => return Err(damaged(path, format!("the disk type is {other}"))),
        };
        let footer = Self {
            size: be(&bytes, 48, 8),
            kind,
            header: be(&bytes, 16, 8),
            uuid: bytes[68..84].try_into().unwrap_or_default(),
        };
        if kind == Kind::Fixed && footer.size > size - SECTOR {
            let why = format!(
                "the disk has {} bytes, which the file does not hold",
                footer.size
            );
            return Err(damaged(path, why));
        }
        Ok(footer)
    }
}

impl Vhd {
    /// A dynamic or differencing image; `file` will have that index.
    pub(crate) fn open(
        file: &MediaFile,
        index: usize,
        footer: &Footer,
    ) -> Result<Self, MediumError> {
        let path = file.path();
        let file_size = file.size().map_err(MediumError::file("examine", path))?;
        let read = |at: u64, n: usize| {
            let within = at.checked_add(n as u64).is_some_and(|end| end <= file_size);
            if !within {
                return Err(damaged(
                    path,
                    format!("a table at {at} is not within the file"),
                ));
            }
            let mut bytes = vec![0; n];
            let read = file.read_at(&mut bytes, at);
            read.map_err(MediumError::file("read", path))
                .map(|()| bytes)
        };
        let header = read(footer.header, 1024)?;
        if !header.starts_with(b"cxsparse")
            || be(&header, 36, 4) != u64::from(checksum(&header, 36))
        {
            return Err(damaged(
                path,
                "the header of its blocks is missing or has a wrong checksum",
            ));
        }
        let (block_size, entries) = (be(&header, 32, 4), be(&header, 28, 4));
        if !block_size.is_power_of_two() || block_size < SECTOR || entries > MAX_BLOCKS {
            return Err(damaged(
                path,
                format!("it has {entries} blocks of {block_size} bytes"),
            ));
        }
        if footer.size > entries * block_size {
            return Err(damaged(path, "its blocks do not make up the disk"));
        }
        let table = read(be(&header, 16, 8), entries as usize * 4)?;
        let blocks: Vec<u32> = table
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_be_bytes(*word))
            .collect();
        let parent = match footer.kind {
            Kind::Differencing => Some(parent(path, &header, read)?),
            _ => None,
        };
        let image = Self {
            file: index,
            size: footer.size,
            uuid: footer.uuid,
            block_size,
            blocks,
            parent,
            bitmaps: Tables::default(),
            file_size,
        };
        image.check(path)?;
        Ok(image)
    }

    fn check(&self, path: &Path) -> Result<(), MediumError> {
        let whole = self.bitmap_size() + self.block_size;
        let outside = |block: &&u32| {
            **block != UNUSED && u64::from(**block) * SECTOR + whole > self.file_size
        };
        match self.blocks.iter().find(outside) {
            Some(block) => Err(damaged(
                path,
                format!("a block at sector {block} is not within the file"),
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    fn bitmap_size(&self) -> u64 {
        (self.block_size / SECTOR)
            .div_ceil(8)
            .next_multiple_of(SECTOR)
    }

    /// See [`Layer::lookup`](super::Layer).
    pub(crate) fn lookup(
        &self,
        files: &Files,
        at: u64,
        len: u64,
        wait: bool,
    ) -> io::Result<Option<Run>> {
        let (block, inside) = ((at / self.block_size) as usize, at % self.block_size);
        let len = len.min(self.block_size - inside);
        let sector = self.blocks.get(block).copied().unwrap_or(UNUSED);
        if sector == UNUSED {
            let place = if self.parent.is_some() {
                Place::Below
            } else {
                Place::Zero
            };
            return Ok(Some(Run { place, len }));
        }
        let start = u64::from(sector) * SECTOR;
        let offset = start + self.bitmap_size() + inside;
        let here = Place::File {
            file: self.file,
            offset,
        };
        if self.parent.is_none() {
            return Ok(Some(Run { place: here, len }));
        }
        let bitmap = self.bitmaps.get(block, wait, || {
            let mut bitmap = vec![0; self.bitmap_size() as usize];
            files[self.file].read_at(&mut bitmap, start)?;
            Ok(bitmap)
        })?;
        let Some(bitmap) = bitmap else {
            return Ok(None);
        };
        let is_here = |sector: u64| {
            bitmap
                .get(sector as usize / 8)
                .is_some_and(|b| b << (sector % 8) & 0x80 != 0)
        };
        let first = inside / SECTOR;
        let end = (inside + len).div_ceil(SECTOR);
        let kind = is_here(first);
        let same = (first..end)
            .take_while(|sector| is_here(*sector) == kind)
            .count() as u64;
        let len = len.min((first + same) * SECTOR - inside);
        let place = if kind { here } else { Place::Below };
        Ok(Some(Run { place, len }))
    }
}

/// What a differencing image is based on: a relative path if there is one.
fn parent(
    path: &Path,
    header: &[u8],
    read: impl Fn(u64, usize) -> Result<Vec<u8>, MediumError>,
) -> Result<Parent, MediumError> {
    let uuid = header[40..56].try_into().unwrap_or_default();
    for i in 0..8 {
        let at = 576 + i * 24;
        let len = be(header, at + 8, 4) as usize;
        if &header[at..at + 4] == b"W2ru" && len <= 4096 {
            let units = read(be(header, at + 16, 8), len)?;
            let units: Vec<u16> = units
                .as_chunks()
                .0
                .iter()
                .map(|unit| u16::from_le_bytes(*unit))
                .collect();
            let name = windows_path(path, &units)?;
            return Ok(Parent { path: name, uuid });
        }
    }
    let units: Vec<u16> = header[64..576]
        .as_chunks()
        .0
        .iter()
        .map(|unit| u16::from_be_bytes(*unit))
        .collect();
    let name = windows_path(path, &units)?;
    // Only its name: the rest was true on another machine.
    let name = name
        .file_name()
        .ok_or_else(|| damaged(path, "its parent has no name"))?;
    Ok(Parent {
        path: name.into(),
        uuid,
    })
}

fn windows_path(path: &Path, units: &[u16]) -> Result<PathBuf, MediumError> {
    let end = units
        .iter()
        .position(|unit| *unit == 0)
        .unwrap_or(units.len());
    let text = String::from_utf16(&units[..end])
        .ok()
        .filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| damaged(path, "its parent's name is none"))?;
    Ok(text.replace('\\', "/").into())
}
