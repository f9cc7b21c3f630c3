//! Raw files and block devices, and whatever else is one piece of a file: a fixed VHD.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use pv_ring::IoBuffers;

use crate::engine::{Act, Answer, Engine, EngineKind, Files};
use crate::file::MediaFile;
use crate::slots::Slots;
use crate::{Discard, DiskInfo, Done, MediumError, MediumSpec, Operation, Queue, Request};

/// A piece of a file.
#[derive(Debug)]
pub(crate) struct RawMedium {
    pub(crate) files: Files,
    size: AtomicU64,
    /// A format that needs its size as it is.
    fixed: bool,
    sector: u32,
    physical: u32,
    discard: Option<Discard>,
    /// Writes are not durable before a flush.
    flush: bool,
}

impl RawMedium {
    /// The whole of a file, or its first `size` bytes.
    pub(crate) fn new(
        mut file: MediaFile,
        size: Option<u64>,
        spec: &MediumSpec,
    ) -> Result<Self, MediumError> {
        let path = file.path().to_owned();
        let whole = file
            .size()
            .map_err(MediumError::file("ask for the size of", &path))?;
        let block = file.block();
        let sector = spec.sector_size.or(block.map(|b| b.sector)).unwrap_or(512);
        let physical = block.map_or(4096, |b| b.physical).max(sector);
        if block.is_some_and(|b| b.sector > sector) {
            return Err(MediumError::Spec(format!(
                "{path:?} has sectors of {} bytes; smaller ones cannot be written to it",
                block.map_or(0, |b| b.sector)
            )));
        }
        let can = block.map_or_else(|| file.can_punch(), |b| b.discard);
        let discards = spec.discard && file.writable() && can;
        let discard = discards.then_some(Discard {
            granularity: physical.max(sector),
            alignment: 0,
            secure: block.is_some_and(|b| b.secure),
        });
        let flush = !file.make_writes_durable();
        Ok(Self {
            files: [file].into(),
            flush,
            size: AtomicU64::new(size.unwrap_or(whole)),
            fixed: size.is_some(),
            sector,
            physical,
            discard,
        })
    }

    pub(crate) fn info(&self) -> DiskInfo {
        let size = self.size.load(Ordering::Relaxed);
        DiskInfo {
            sectors: size / u64::from(self.sector) * u64::from(self.sector / 512),
            sector_size: self.sector,
            physical_sector_size: self.physical,
            readonly: !self.files[0].writable(),
            discard: self.discard,
            flush: self.flush,
        }
    }

    pub(crate) fn refresh(&self) -> io::Result<()> {
        if !self.fixed {
            self.size.store(self.files[0].size()?, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn grow(&self, size: u64) -> io::Result<()> {
        if self.fixed || self.files[0].block().is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.files[0].set_size(size)?;
        self.refresh()
    }

    fn check<B>(&self, request: &Request<B>) -> Result<Act, i32> {
        let act = match request.operation {
            Operation::Flush => return Ok(Act::Sync),
            Operation::Read => Act::Read,
            Operation::Write => Act::Write,
            Operation::Discard { secure }
                if self.discard.is_none_or(|can| secure && !can.secure) =>
            {
                return Err(libc::EOPNOTSUPP);
            }
            Operation::Discard { secure } => Act::Discard {
                offset: request.offset,
                len: request.len,
                secure,
            },
        };
        if act != Act::Read && !self.files[0].writable() {
            return Err(libc::EROFS);
        }
        let end = request
            .offset
            .checked_add(request.len)
            .ok_or(libc::EINVAL)?;
        match end <= self.size.load(Ordering::Relaxed) {
            true => Ok(act),
            false => Err(libc::EINVAL),
        }
    }
}

/// One thread's access to it.
pub(crate) struct RawQueue<B> {
    medium: std::sync::Arc<RawMedium>,
    // Dropped before the slots: it waits for the transfers into their buffers.
    engine: Engine,
    slots: Slots<B>,
    answers: Vec<Answer>,
}

impl<B: IoBuffers> RawQueue<B> {
    pub(crate) fn new(
        medium: std::sync::Arc<RawMedium>,
        depth: usize,
        kind: EngineKind,
    ) -> io::Result<Self> {
        Ok(Self {
            engine: Engine::new(medium.files.clone(), depth, kind)?,
            medium,
            slots: Slots::new(depth),
            answers: Vec::with_capacity(depth),
        })
    }
}

impl<B: IoBuffers> Queue<B> for RawQueue<B> {
    #[allow(unsafe_code)]
    fn submit(&mut self, request: Request<B>) {
        let act = self.medium.check(&request);
        let (offset, len) = (request.offset, request.len);
        let token = self.slots.put(request);
        let iov = match act {
            Ok(Act::Read | Act::Write) => self.slots.iovecs(token),
            _ => &[],
        };
        let held: u64 = iov.iter().map(|piece| piece.len() as u64).sum();
        match act {
            Ok(Act::Read | Act::Write) if held != len => self.slots.refuse(token, libc::EINVAL),
            // SAFETY: the slots keep the buffers until the token has come back, and outlive the
            // engine.
            Ok(act) => unsafe { self.engine.push(token, 0, act, offset, iov.iter().copied()) },
            Err(errno) => self.slots.refuse(token, errno),
        }
    }

    fn kick(&mut self) {
        if self.slots.any_refused() {
            self.engine.mailbox().ring();
        }
        self.engine.start();
    }

    fn completed(&mut self, done: &mut Vec<Done<B>>) {
        self.engine.reap(&mut self.answers);
        self.slots.take_refused(done);
        for (token, result) in self.answers.drain(..) {
            done.push(self.slots.take(token, result));
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.engine.event()
    }

    fn clear(&mut self) {
        self.engine.clear();
    }
}
