//! From the bytes of a kernel file to the bytes of its ELF image.
//!
//! A kernel file is an ELF image, a Linux bzImage that carries a compressed one, or a compressed
//! ELF image. Nothing in it is trusted: every offset is checked before it is used, and what a
//! payload may decompress to is bounded.

mod bzimage;
mod decompress;

use std::borrow::Cow;
use std::path::Path;

pub use decompress::Codec;

use crate::cache::PayloadCache;
use crate::error::{BuildError, first_bytes};

/// The most a kernel payload may decompress to, in bytes.
///
/// A distribution's kernel needs less than a tenth of it; libxenguest draws its line there too.
pub const MAX_DECOMPRESSED: u64 = 1 << 30;

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The uncompressed ELF image of a kernel, and where it came from.
#[derive(Debug)]
pub struct KernelImage<'a> {
    elf: Cow<'a, [u8]>,
    origin: Origin,
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
                elf: Cow::Borrowed(file),
                origin: Origin::Elf,
            });
        }
        if let Some(bz) = bzimage::find_payload(file)? {
            let codec = Codec::detect(bz.payload).ok_or_else(|| BuildError::PayloadNotElf {
                codec: "unknown",
                start: first_bytes(bz.payload),
            })?;
            let elf = unpack(codec, bz.payload, bz.offset, Some(bz.size_hint), cache)?;
            let origin = Origin::BzImage {
                protocol: bz.protocol,
                codec,
                payload_offset: bz.offset,
                version: bz.version,
            };
            return Ok(Self {
                elf: Cow::Owned(elf),
                origin,
            });
        }
        let codec = Codec::detect(file).ok_or_else(|| BuildError::UnknownFormat {
            start: first_bytes(file),
        })?;
        let elf = unpack(codec, file, 0, None, cache)?;
        Ok(Self {
            elf: Cow::Owned(elf),
            origin: Origin::Compressed(codec),
        })
    }

    /// The ELF image.
    pub fn elf(&self) -> &[u8] {
        &self.elf
    }

    /// How the file was packed.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
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
) -> Result<Vec<u8>, BuildError> {
    let key = cache.map(|cache| (cache, crate::cache::Key::of(payload)));
    if let Some(elf) = key.as_ref().and_then(|(cache, key)| cache.get(key)) {
        return Ok(elf);
    }
    let elf = codec.decompress(payload, offset, size_hint, MAX_DECOMPRESSED)?;
    if !elf.starts_with(ELF_MAGIC) {
        return Err(BuildError::PayloadNotElf {
            codec: codec.name(),
            start: first_bytes(&elf),
        });
    }
    if let Some((cache, key)) = key {
        // A full or read-only disk must not keep a domain from starting.
        let _ = cache.put(&key, &elf);
    }
    Ok(elf)
}
