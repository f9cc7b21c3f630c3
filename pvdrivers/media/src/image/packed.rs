//! Compressed clusters.

use std::io::{self, Read};

use crate::engine::Files;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Deflate without a header (qcow2).
    Deflate,
    /// Deflate with zlib's header (VMDK).
    Zlib,
    /// Zstandard (qcow2).
    Zstd,
}

/// A compressed cluster in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub file: usize,
    pub offset: u64,
    /// Bytes of compressed data, or more: what follows is not looked at.
    pub len: u64,
    pub method: Method,
    /// Where on the disk the cluster begins.
    pub at: u64,
    /// Its size there.
    pub size: usize,
}

impl Packed {
    /// The cluster's content.
    pub(crate) fn unpack(&self, files: &Files) -> io::Result<Vec<u8>> {
        let file = &files[self.file];
        // The last sector that the entry counts need not be there whole.
        let there = file.size()?.saturating_sub(self.offset);
        let mut packed = vec![0; self.len.min(there) as usize];
        file.read_at(&mut packed, self.offset)?;
        let mut bytes = vec![0; self.size];
        let filled = match self.method {
            Method::Deflate => flate2::read::DeflateDecoder::new(&*packed).read_exact(&mut bytes),
            Method::Zlib => flate2::read::ZlibDecoder::new(&*packed).read_exact(&mut bytes),
            Method::Zstd => zstd(&packed, &mut bytes),
        };
        match filled {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let (path, offset) = (file.path(), self.offset);
                tracing::warn!(?path, offset, %error, "A compressed cluster is damaged");
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
    }
}

fn zstd(packed: &[u8], bytes: &mut [u8]) -> io::Result<()> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
    decoder.map_err(io::Error::other)?.read_exact(bytes)
}
