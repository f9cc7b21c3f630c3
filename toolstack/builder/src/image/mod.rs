//! From the bytes of a kernel file to the bytes of its ELF image.
//!
//! A kernel file is an ELF image, a Linux bzImage that carries a compressed one, or a compressed
//! ELF image. Nothing in it is trusted: every offset is checked before it is used, and what a
//! payload may decompress to is bounded.

mod bzimage;
mod decompress;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

pub use decompress::Codec;

use crate::cache::{CachedPayload, Key, PayloadCache};
use crate::elf::ElfImage;
use crate::error::{BuildError, first_bytes};

/// The most a kernel payload may decompress to, in bytes.
///
/// A distribution's kernel needs less than a tenth of it; libxenguest draws its line there too.
pub const MAX_DECOMPRESSED: u64 = 1 << 30;

/// More than the setup code of a bzImage can be: 64 sectors and its header's own.
const SETUP_LIMIT: u64 = 64 << 10;

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The uncompressed ELF image of a kernel, and where it came from.
#[derive(Debug)]
pub struct KernelImage<'a> {
    elf: Bytes<'a>,
    origin: Origin,
    /// The cache's name for it, if there is a cache.
    key: Option<Key>,
}

enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Cached(CachedPayload),
}

/// How the ELF image was packed in the kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file is the ELF image.
    Elf,
    /// The file is the compressed ELF image.
    Compressed(Codec),
    /// The payload of a bzImage.
    BzImage {
        /// Boot protocol version, major in the high byte.
        protocol: u16,
        /// Compression of the payload.
        codec: Codec,
        /// Offset of the payload in the file, bytes.
        payload_offset: u64,
        /// Kernel version text of the setup code, if it has one.
        version: Option<String>,
    },
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, bytes) = match self {
            Bytes::Borrowed(bytes) => ("borrowed", bytes.len()),
            Bytes::Owned(bytes) => ("owned", bytes.len()),
            Bytes::Cached(bytes) => ("cached", bytes.len()),
        };
        write!(f, "{bytes} bytes, {kind}")
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Elf => f.write_str("ELF"),
            Origin::Compressed(codec) => write!(f, "ELF, {codec} compressed"),
            Origin::BzImage {
                protocol,
                codec,
                version,
                ..
            } => {
                let (major, minor) = (protocol >> 8, protocol & 0xff);
                write!(
                    f,
                    "bzImage (protocol {major}.{minor:02}), {codec} compressed"
                )?;
                version.iter().try_for_each(|v| write!(f, ", Linux {v}"))
            }
        }
    }
}

impl<'a> KernelImage<'a> {
    /// Finds and, where needed, decompresses the ELF image in `file`.
    ///
    /// With a `cache`, a payload that was decompressed before is read from there. A cache that
    /// cannot be read or written only costs time and is never an error.
    ///
    /// # Errors
    /// Kinds `NotAKernel`, `BadImage` and `Unsupported`.
    pub fn parse(file: &'a [u8], cache: Option<&PayloadCache>) -> Result<Self, BuildError> {
        if file.starts_with(ELF_MAGIC) {
            return Ok(Self {
                elf: Bytes::Borrowed(file),
                origin: Origin::Elf,
                key: None,
            });
        }
        if let Some(bz) = bzimage::find_payload(file)? {
            let codec = Codec::detect(bz.payload).ok_or_else(|| BuildError::PayloadNotElf {
                codec: "unknown",
                start: first_bytes(bz.payload),
            })?;
            let (elf, key) = unpack(codec, bz.payload, bz.offset, Some(bz.size_hint), cache)?;
            let origin = Origin::BzImage {
                protocol: bz.protocol,
                codec,
                payload_offset: bz.offset,
                version: bz.version,
            };
            return Ok(Self { elf, origin, key });
        }
        let codec = Codec::detect(file).ok_or_else(|| BuildError::UnknownFormat {
            start: first_bytes(file),
        })?;
        let (elf, key) = unpack(codec, file, 0, None, cache)?;
        Ok(Self {
            elf,
            origin: Origin::Compressed(codec),
            key,
        })
    }

    /// The same with a file of one's own.
    ///
    /// # Errors
    /// As [`KernelImage::parse`].
    pub fn own(
        file: Vec<u8>,
        cache: Option<&PayloadCache>,
    ) -> Result<KernelImage<'static>, BuildError> {
        let KernelImage { elf, origin, key } = KernelImage::parse(&file, cache)?;
        let unpacked = match elf {
            Bytes::Borrowed(_) => None,
            Bytes::Owned(bytes) => Some(Bytes::Owned(bytes)),
            Bytes::Cached(bytes) => Some(Bytes::Cached(bytes)),
        };
        let elf = unpacked.unwrap_or(Bytes::Owned(file));
        Ok(KernelImage { elf, origin, key })
    }

    /// The same with a file, of which no more is read than has to be.
    ///
    /// # Errors
    /// As [`KernelImage::parse`], and [`BuildError::Read`] with `path`.
    pub fn open(
        mut file: File,
        path: &Path,
        cache: Option<&PayloadCache>,
    ) -> Result<KernelImage<'static>, BuildError> {
        if let Some(known) = cache.and_then(|cache| Self::recall(&file, cache)) {
            return Ok(known);
        }
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bytes))
            .map_err(|source| BuildError::Read {
                path: path.to_owned(),
                source,
            })?;
        let image = Self::own(bytes, cache)?;
        if let (Some(cache), Some(key)) = (cache, &image.key) {
            // As with the payload itself.
            let _ = cache.note(&file, key);
        }
        Ok(image)
    }

    /// The image of a bzImage whose payload is in `cache`. A file that is not known there is read once,
    /// to be hashed, and not kept: memory for all of it would cost more than the rest. `None` where
    /// anything is in the way; the file is read whole then, or it is said what is wrong.
    fn recall(mut file: &File, cache: &PayloadCache) -> Option<KernelImage<'static>> {
        let mut head = Vec::new();
        file.take(SETUP_LIMIT).read_to_end(&mut head).ok()?;
        let header = bzimage::header(&head).ok()??;
        let (offset, length) = (header.offset as usize, header.length);
        let start = head.get(offset..)?;
        let start = start.get(..length as usize).unwrap_or(start);
        let key = match cache.noted(file) {
            Some(key) => key,
            None => {
                let rest = file.by_ref().take(length - start.len() as u64);
                let key = Key::of_reader(start, rest).ok()?;
                let _ = cache.note(file, &key);
                key
            }
        };
        let elf = cache.get(&key)?;
        let origin = Origin::BzImage {
            protocol: header.protocol,
            codec: Codec::detect(start)?,
            payload_offset: header.offset,
            version: header.version,
        };
        Some(KernelImage {
            elf: Bytes::Cached(elf),
            origin,
            key: Some(key),
        })
    }

    /// The ELF image with its headers read.
    ///
    /// # Errors
    /// As [`ElfImage::parse`].
    pub fn parse_elf(&self) -> Result<ElfImage<'_>, BuildError> {
        let file = match &self.elf {
            Bytes::Cached(payload) => Some(payload.file()),
            Bytes::Borrowed(_) | Bytes::Owned(_) => None,
        };
        Ok(ElfImage::parse(self.elf())?.in_file(file))
    }

    /// The ELF image.
    pub fn elf(&self) -> &[u8] {
        match &self.elf {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Cached(bytes) => bytes,
        }
    }

    /// How the file was packed.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Opens a kernel file.
///
/// # Errors
/// [`BuildError::Read`].
pub fn open_file(path: &Path) -> Result<File, BuildError> {
    File::open(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads a kernel file whole.
///
/// # Errors
/// [`BuildError::Read`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unpack(
    codec: Codec,
    payload: &[u8],
    offset: u64,
    size_hint: Option<u64>,
    cache: Option<&PayloadCache>,
) -> Result<(Bytes<'static>, Option<Key>), BuildError> {
    let Some(cache) = cache else {
        let elf = decompress(codec, payload, offset, size_hint)?;
        return Ok((Bytes::Owned(elf), None));
    };
    let key = Key::of(payload);
    if let Some(elf) = cache.get(&key) {
        return Ok((Bytes::Cached(elf), Some(key)));
    }
    let elf = decompress(codec, payload, offset, size_hint)?;
    // A full or read-only disk must not keep a domain from starting.
    let _ = cache.put(&key, &elf);
    Ok((Bytes::Owned(elf), Some(key)))
}

fn decompress(
    codec: Codec,
    payload: &[u8],
    offset: u64,
    size_hint: Option<u64>,
) -> Result<Vec<u8>, BuildError> {
    let elf = codec.decompress(payload, offset, size_hint, MAX_DECOMPRESSED)?;
    match elf.starts_with(ELF_MAGIC) {
        true => Ok(elf),
        false => Err(BuildError::PayloadNotElf {
            codec: codec.name(),
            start: first_bytes(&elf),
        }),
    }
}

#[cfg(test)]
mod tests;
