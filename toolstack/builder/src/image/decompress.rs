//! The compressions a kernel may come in.
//!
//! The codecs are other people's crates; what is done here is to recognise them, to bound their
//! output, and to undo the two habits of the kernel's build: it appends the uncompressed size to
//! every payload but gzip's, and it writes LZ4 in the frame format of the old `lz4 -l`.

use std::fmt;
use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;

use crate::error::BuildError;

/// A compression of kernel images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 1952.
    Gzip,
    /// The .xz container, with the x86 BCJ filter in kernels.
    Xz,
    /// RFC 8878.
    Zstd,
    /// The legacy frame format of LZ4.
    Lz4Legacy,
    /// The .lzma ("alone") container.
    Lzma,
    /// bzip2.
    Bzip2,
    /// lzop.
    Lzo,
}

const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;
/// Block size of LZ4 legacy frames: each but the last decompresses to this.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;
/// What a dictionary may take, KiB: the greatest preset of `xz` uses 64 MiB, kernels 128 MiB at most.
const LZMA_MEM_LIMIT_KIB: u32 = 256 << 10;

impl Codec {
    /// The codec whose magic `bytes` start with.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        let is = |magic: &[u8]| bytes.starts_with(magic);
        Some(match () {
            _ if is(b"\x1f\x8b\x08") => Codec::Gzip,
            _ if is(b"\xfd7zXZ\0") => Codec::Xz,
            _ if is(b"\x28\xb5\x2f\xfd") => Codec::Zstd,
            _ if is(&LZ4_LEGACY_MAGIC.to_le_bytes()) => Codec::Lz4Legacy,
            _ if is(b"BZh") => Codec::Bzip2,
            _ if is(b"\x89LZO\0\r\n\x1a\n") => Codec::Lzo,
            // No magic: lc=3 lp=0 pb=2 and a dictionary of a whole number of 64 KiB.
            _ if is(b"\x5d\0\0") => Codec::Lzma,
            _ => return None,
        })
    }

    /// Name, as in the kernel's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Zstd => "zstd",
            Codec::Lz4Legacy => "lz4",
            Codec::Lzma => "lzma",
            Codec::Bzip2 => "bzip2",
            Codec::Lzo => "lzo",
        }
    }

    /// Decompresses `payload`, which lies at `offset` of its file, to at most `limit` bytes.
    ///
    /// `size_hint` only sizes the first allocation. Bytes after the end of the compressed stream
    /// are ignored: the kernel's build puts the uncompressed size there.
    ///
    /// # Errors
    /// [`BuildError::Decompress`], [`BuildError::PayloadTooBig`], [`BuildError::UnsupportedCodec`].
    pub fn decompress(
        self,
        payload: &[u8],
        offset: u64,
        size_hint: Option<u64>,
        limit: u64,
    ) -> Result<Vec<u8>, BuildError> {
        let mut out = Vec::new();
        // Address space only: pages that are never written cost nothing. A wrong hint may cost
        // time, so a refusal is no error either.
        let _ = out.try_reserve_exact(size_hint.unwrap_or(0).min(limit) as usize + 1);
        let result = match self {
            Codec::Gzip => copy(flate2::read::GzDecoder::new(payload), &mut out, limit),
            Codec::Xz => {
                let xz = lzma_rust2::XzReader::new_mem_limit(payload, false, LZMA_MEM_LIMIT_KIB);
                copy(xz, &mut out, limit)
            }
            Codec::Lzma => lzma_rust2::LzmaReader::new_mem_limit(payload, LZMA_MEM_LIMIT_KIB, None)
                .and_then(|lzma| copy(lzma, &mut out, limit)),
            Codec::Zstd => zstd(payload, &mut out, limit),
            Codec::Bzip2 => copy(bzip2::read::BzDecoder::new(payload), &mut out, limit),
            Codec::Lz4Legacy => lz4_legacy(payload, &mut out, limit),
            Codec::Lzo => return Err(BuildError::UnsupportedCodec { codec: self.name() }),
        };
        let codec = self.name();
        match result {
            Ok(()) if out.len() as u64 > limit => Err(BuildError::PayloadTooBig {
                codec,
                offset,
                limit,
            }),
            Ok(()) => Ok(out),
            Err(source) => {
                let produced = out.len() as u64;
                Err(BuildError::Decompress {
                    codec,
                    offset,
                    produced,
                    source,
                })
            }
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads `from` to its end, or one byte beyond `limit`.
fn copy(from: impl Read, out: &mut Vec<u8>, limit: u64) -> io::Result<()> {
    from.take(limit + 1).read_to_end(out).map(drop)
}

/// One frame; ruzstd computes its checksum and leaves it to the caller to compare.
fn zstd(payload: &[u8], out: &mut Vec<u8>, limit: u64) -> io::Result<()> {
    let mut decoder = StreamingDecoder::new(payload).map_err(io::Error::other)?;
    copy(&mut decoder, out, limit)?;
    let frame = decoder.into_frame_decoder();
    let stored = frame.get_checksum_from_data();
    if frame.is_finished() && stored.is_some() && stored != frame.get_calculated_checksum() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its checksum is wrong",
        ));
    }
    Ok(())
}

/// The legacy LZ4 frame: after the magic, blocks of 8 MiB, each behind its compressed size.
///
/// There is no end mark. What looks like a block but reaches beyond the payload is the
/// uncompressed size that the kernel's build appended, if it is the last thing there.
fn lz4_legacy(payload: &[u8], out: &mut Vec<u8>, limit: u64) -> io::Result<()> {
    let mut rest = payload.get(4..).unwrap_or_default();
    while let Some((size, body)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size);
        // Frames may be concatenated, each with its own magic.
        if size == LZ4_LEGACY_MAGIC {
            rest = body;
            continue;
        }
        let Some((block, after)) = body.split_at_checked(size as usize) else {
            if body.is_empty() && u64::from(size) == out.len() as u64 {
                return Ok(());
            }
            let what = format!("a block of {size} bytes is cut off after {}", body.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        };
        let start = out.len();
        out.resize(start + LZ4_LEGACY_BLOCK, 0);
        let window = out.get_mut(start..).unwrap_or_default();
        let made = lz4_flex::block::decompress_into(block, window).map_err(io::Error::other);
        out.truncate(start + made.as_ref().copied().unwrap_or(0));
        made?;
        if out.len() as u64 > limit {
            return Ok(());
        }
        rest = after;
    }
    match (out.is_empty(), rest.len()) {
        (true, _) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it has no block",
        )),
        (false, 0) => Ok(()),
        (false, n) => {
            let what = format!("{n} bytes behind its last block are neither block nor size");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}
