//! Images: disks that are mapped piece by piece to files.
//!
//! A request is first looked up. Where all of its pieces lie in files, and a write may go where
//! the old data is, they are transferred straight between there and the lent memory. What needs
//! more, reading a table, a compressed cluster or a new place for data, a thread does.

mod bytes;
pub(crate) mod chain;
mod packed;
mod qcow2;
mod queue;
mod tables;
pub(crate) mod vhd;
pub(crate) mod vmdk;

use std::io;

use pv_ring::IoVec;

use crate::engine::Files;
use crate::file::{Pieces, within};
use crate::{Discard, DiskInfo, sys};

pub(crate) use bytes::be;
pub(crate) use packed::Packed;
pub(crate) use qcow2::{Qcow2, header as qcow2_header};
pub(crate) use queue::ImageQueue;

/// Where a part of a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this offset of a file.
    File { file: usize, offset: u64 },
    /// Nowhere; it reads as zeros.
    Zero,
    /// In the next layer, at the same offset.
    Below,
    /// Within compressed data.
    Packed(Packed),
}

/// A part of a disk that is in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub place: Place,
    pub len: u64,
}

/// One image of a chain.
#[derive(Debug)]
pub(crate) enum Layer {
    Plain { file: usize, size: u64 },
    Qcow2(Box<Qcow2>),
    Vhd(vhd::Vhd),
    Vmdk(vmdk::Vmdk),
}

impl Layer {
    fn size(&self) -> u64 {
        match self {
            Self::Plain { size, .. } => *size,
            Self::Qcow2(image) => image.size(),
            Self::Vhd(image) => image.size(),
            Self::Vmdk(image) => image.size(),
        }
    }

    /// Where the disk's bytes from `at` on are, at most `len` of them, within the size. `None`
    /// when a table has to be read first and `wait` does not permit it.
    fn lookup(&self, files: &Files, at: u64, len: u64, wait: bool) -> io::Result<Option<Run>> {
        match self {
            Self::Plain { file, .. } => {
                let (file, offset) = (*file, at);
                let place = Place::File { file, offset };
                Ok(Some(Run { place, len }))
            }
            Self::Qcow2(image) => image.lookup(files, at, len, wait),
            Self::Vhd(image) => image.lookup(files, at, len, wait),
            Self::Vmdk(image) => image.lookup(files, at, len, wait),
        }
    }
}

/// A disk in an image and those below it.
#[derive(Debug)]
pub(crate) struct Image {
    files: Files,
    /// From the top.
    layers: Vec<Layer>,
    sector: u32,
    discard: bool,
}

impl Image {
    /// The top layer is written to when its file can be and the format allows.
    pub(crate) fn new(files: Files, layers: Vec<Layer>, sector: u32, discard: bool) -> Self {
        Self {
            files,
            layers,
            sector,
            discard,
        }
    }

    fn size(&self) -> u64 {
        self.layers[0].size()
    }

    /// The top layer, when it may be written to.
    fn writer(&self) -> Option<&Qcow2> {
        match &self.layers[0] {
            Layer::Qcow2(top) if top.writable() => Some(top),
            _ => None,
        }
    }

    pub(crate) fn info(&self) -> DiskInfo {
        let sector = u64::from(self.sector);
        let writer = self.writer();
        let discard = writer.filter(|_| self.discard).map(|top| Discard {
            granularity: top.cluster_size() as u32,
            alignment: 0,
            secure: false,
        });
        DiskInfo {
            sectors: self.size() / sector * (sector / 512),
            sector_size: self.sector,
            physical_sector_size: 4096,
            readonly: writer.is_none(),
            discard,
            flush: true,
        }
    }

    pub(crate) fn grow(&self, size: u64) -> io::Result<()> {
        // The part of a lower image that the disk does not reach would appear.
        let hides = self
            .layers
            .get(1)
            .is_some_and(|below| below.size() > self.size());
        match self.writer().filter(|_| !hides) {
            Some(top) => top.grow(&self.files, size),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// A request begins to use what it looks up; [`leave`](Self::leave) ends that.
    fn enter(&self) -> usize {
        self.writer().map_or(0, Qcow2::enter)
    }

    fn leave(&self, epoch: usize) {
        if let Some(top) = self.writer() {
            top.leave(epoch);
        }
    }

    /// Where the disk's bytes from `at` on are, from layer `from` on; never [`Place::Below`].
    fn resolve(&self, from: usize, at: u64, len: u64, wait: bool) -> io::Result<Option<Run>> {
        let mut len = len;
        for layer in &self.layers[from..] {
            let size = layer.size();
            if at >= size {
                break;
            }
            // What a layer does not reach is zero, whatever lies below it.
            match layer.lookup(&self.files, at, len.min(size - at), wait)? {
                Some(Run {
                    place: Place::Below,
                    len: n,
                }) => len = n,
                found => return Ok(found),
            }
        }
        Ok(Some(Run {
            place: Place::Zero,
            len,
        }))
    }

    /// All runs of a range, if none needs waiting and none is compressed.
    fn runs(&self, at: u64, len: u64, to: &mut Vec<Run>) -> io::Result<bool> {
        to.clear();
        let mut done = 0;
        while done < len {
            match self.resolve(0, at + done, len - done, false)? {
                None
                | Some(Run {
                    place: Place::Packed(_),
                    ..
                }) => return Ok(false),
                Some(run) => {
                    done += run.len;
                    to.push(run);
                }
            }
        }
        Ok(true)
    }

    /// Reads a range as layer `from` and those below have it.
    ///
    /// # Safety
    /// The pieces are lent to this call.
    #[allow(unsafe_code)]
    unsafe fn read(&self, from: usize, at: u64, iov: &[IoVec]) -> io::Result<()> {
        let len: u64 = iov.iter().map(|piece| piece.len() as u64).sum();
        let mut done = 0;
        while done < len {
            let run = self.resolve(from, at + done, len - done, true)?;
            let run = run.ok_or(io::ErrorKind::InvalidData)?;
            let part: Vec<_> = within(iov, done, run.len).collect();
            match run.place {
                Place::File { file, offset } => {
                    let mut pieces = Pieces::new(offset, part);
                    // SAFETY: lent to this call.
                    unsafe { self.files[file].transfer(false, &mut pieces)? };
                }
                // SAFETY: lent to this call.
                Place::Zero | Place::Below => unsafe { sys::zero(&part) },
                Place::Packed(packed) => {
                    let whole = packed.unpack(&self.files)?;
                    let skip = (at + done - packed.at) as usize;
                    let bytes = whole.get(skip..skip + run.len as usize);
                    // SAFETY: lent to this call.
                    let fits = bytes.is_some_and(|bytes| unsafe { sys::scatter(bytes, &part) });
                    if !fits {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
            }
            done += run.len;
        }
        Ok(())
    }

    /// A range as layer `from` and those below have it; `None` when it is all zeros for sure.
    #[allow(unsafe_code)]
    fn background(&self, from: usize, at: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
        if len == 0 {
            return Ok(None);
        }
        let zero = matches!(self.resolve(from, at, len, true)?,
            Some(Run { place: Place::Zero, len: n }) if n == len);
        if zero {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        // SAFETY: `bytes` is borrowed for the call.
        unsafe { self.read(from, at, &[IoVec::of_bytes(&mut bytes)])? };
        Ok(Some(bytes))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(top) = self.writer()
            && let Err(error) = top.close(&self.files)
        {
            let path = self.files[0].path();
            tracing::error!(?path, %error, "What was not flushed of a disk is lost");
        }
    }
}
