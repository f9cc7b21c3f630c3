//! A virtual disk.

use std::io;
use std::sync::Arc;

use pv_ring::IoBuffers;

use crate::engine::EngineKind;
use crate::image::chain::{self, Opened};
use crate::image::{Image, ImageQueue};
use crate::nbd::{Nbd, NbdQueue};
use crate::null::NullQueue;
use crate::raw::{RawMedium, RawQueue};
use crate::{MediumError, MediumSpec, Opener, Queue};

/// What can be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Bytes; smaller ranges may be left as they are.
    pub granularity: u32,
    /// Byte offset of the first granule.
    pub alignment: u32,
    /// Whether what was discarded can be made unreadable.
    pub secure: bool,
}

/// What a disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Size in units of 512 bytes, whatever the sector size is.
    pub sectors: u64,
    /// Bytes of a logical sector: 512 or 4096. Offsets and lengths of requests are multiples.
    pub sector_size: u32,
    /// Bytes of a physical sector, below which writing costs reading.
    pub physical_sector_size: u32,
    /// Writes are refused with `EROFS`.
    pub readonly: bool,
    /// Whether and how discard works.
    pub discard: Option<Discard>,
    /// Whether flush makes data durable.
    pub flush: bool,
}

/// A virtual disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk {
    medium: Arc<Medium>,
}

#[derive(Debug)]
enum Medium {
    Null { sectors: u64 },
    Raw(Arc<RawMedium>),
    Image(Arc<Image>),
    Nbd(Arc<Nbd>),
}

impl Disk {
    /// Opens what the specification says. Every file comes from `opener`; none is opened later.
    ///
    /// # Errors
    /// A file cannot be had, is in use, is damaged or not of the format.
    pub fn open(spec: &MediumSpec, opener: &dyn Opener) -> Result<Self, MediumError> {
        if spec
            .sector_size
            .is_some_and(|size| size != 512 && size != 4096)
        {
            let why = "A sector has 512 or 4096 bytes".into();
            return Err(MediumError::Spec(why));
        }
        if let Some(uri) = spec.nbd_uri() {
            return Ok(Self::of(Medium::Nbd(Arc::new(Nbd::open(
                uri, spec, opener,
            )?))));
        }
        Ok(Self::of(match chain::open(spec, opener)? {
            Opened::Raw(raw) => Medium::Raw(Arc::new(raw)),
            Opened::Image(image) => Medium::Image(Arc::new(image)),
        }))
    }

    /// A disk that answers everything at once and keeps nothing.
    pub fn null(sectors: u64) -> Self {
        Self::of(Medium::Null { sectors })
    }

    fn of(medium: Medium) -> Self {
        Self {
            medium: Arc::new(medium),
        }
    }

    /// What it is like now; the size changes with [`refresh`](Self::refresh) and
    /// [`resize`](Self::resize).
    pub fn info(&self) -> DiskInfo {
        match &*self.medium {
            Medium::Null { sectors } => DiskInfo {
                sectors: *sectors,
                sector_size: 512,
                physical_sector_size: 4096,
                readonly: false,
                discard: Some(Discard {
                    granularity: 4096,
                    alignment: 0,
                    secure: true,
                }),
                flush: true,
            },
            Medium::Raw(raw) => raw.info(),
            Medium::Image(image) => image.info(),
            Medium::Nbd(nbd) => nbd.info(),
        }
    }

    /// One thread's access, for about `depth` requests at a time; more wait for their turn. Threads
    /// that it needs are started here, not later.
    ///
    /// # Errors
    /// The host's.
    pub fn queue<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>> {
        self.queue_by(depth, EngineKind::Best)
    }

    /// The same by threads that block, as where the host has no io_uring. For measurements and
    /// tests.
    ///
    /// # Errors
    /// The host's.
    pub fn queue_without_uring<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>> {
        self.queue_by(depth, EngineKind::Threads)
    }

    fn queue_by<B: IoBuffers>(
        &self,
        depth: usize,
        kind: EngineKind,
    ) -> io::Result<Box<dyn Queue<B>>> {
        Ok(match &*self.medium {
            Medium::Null { .. } => Box::new(NullQueue::new(depth)?),
            Medium::Raw(raw) => Box::new(RawQueue::new(raw.clone(), depth, kind)?),
            Medium::Nbd(nbd) => Box::new(NbdQueue::new(nbd.clone(), depth)?),
            Medium::Image(image) => Box::new(ImageQueue::new(image.clone(), depth, kind)?),
        })
    }

    /// Asks the medium for its size again, which somebody may have changed.
    ///
    /// # Errors
    /// The host's; the size stays as it was.
    pub fn refresh(&self) -> io::Result<DiskInfo> {
        match &*self.medium {
            Medium::Null { .. } | Medium::Image(_) | Medium::Nbd(_) => {}
            Medium::Raw(raw) => raw.refresh()?,
        }
        Ok(self.info())
    }

    /// Makes the disk larger: `sectors` units of 512 bytes. What is new is zero.
    ///
    /// # Errors
    /// `InvalidInput` when it would become smaller, `Unsupported` when the medium's size is not
    /// the disk's to change, `PermissionDenied` on a read-only one, or the host's.
    pub fn resize(&self, sectors: u64) -> io::Result<DiskInfo> {
        let size = sectors.checked_mul(512).filter(|size| *size < 1 << 62);
        let size = size.ok_or(io::ErrorKind::InvalidInput)?;
        let now = self.info();
        if sectors < now.sectors {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if now.readonly {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match &*self.medium {
            Medium::Null { .. } | Medium::Nbd(_) => return Err(io::ErrorKind::Unsupported.into()),
            Medium::Raw(raw) => raw.grow(size)?,
            Medium::Image(image) => image.grow(size)?,
        }
        Ok(self.info())
    }
}
