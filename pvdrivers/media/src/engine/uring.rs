//! Transfers by io_uring.
//!
//! Files are registered, twice each: through the page cache and past it. A transfer that comes back
//! short is continued, one that direct I/O refuses is done again through the page cache. What
//! io_uring cannot do, ioctls of block devices, a thread does.
//!
//! What is asked for through a ring passes no system call filter. So each ring is restricted, for good,
//! to what is used here on the files it was made for: it opens nothing, whoever gets hold of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use pv_ring::IoVec;

use super::{Act, Answer, Files, Mailbox, Pool};
use crate::file::{Pieces, end_of_file};
use crate::sys;

pub(super) struct Uring {
    ring: IoUring,
    files: Files,
    mailbox: Arc<Mailbox>,
    slots: Vec<Slot>,
    /// Slots without a transfer.
    free: Vec<usize>,
    /// Slots that wait for others to be done.
    waiting: VecDeque<usize>,
    in_flight: usize,
    /// Most transfers at a time: the completion queue holds them all.
    most: usize,
    ioctls: Option<Pool>,
    completions: Vec<(u64, i32)>,
}

#[derive(Debug)]
struct Slot {
    token: u64,
    file: usize,
    act: Act,
    direct: bool,
    pieces: Pieces,
}

impl Uring {
    pub(super) fn new(files: Files, depth: usize, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let entries = depth.clamp(8, 4096).next_power_of_two() as u32;
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_coop_taskrun()
            .build(entries);
        let ring = ring.or_else(|_| IoUring::builder().setup_r_disabled().build(entries))?;
        let fds: Vec<_> = files
            .iter()
            .flat_map(|file| [file.buffered().as_raw_fd(), file.direct().as_raw_fd()])
            .collect();
        ring.submitter().register_files(&fds)?;
        ring.submitter()
            .register_eventfd(mailbox.as_fd().as_raw_fd())?;
        ring.submitter()
            .register_restrictions(&mut restrictions())?;
        ring.submitter().register_enable_rings()?;
        let ioctls = match files
            .iter()
            .any(|file| file.block().is_some() && file.writable())
        {
            true => Some(Pool::new(files.clone(), 1, mailbox.clone())?),
            false => None,
        };
        Ok(Self {
            ring,
            files,
            mailbox,
            slots: Vec::with_capacity(depth),
            free: Vec::with_capacity(depth),
            waiting: VecDeque::new(),
            in_flight: 0,
            most: entries as usize,
            ioctls,
            completions: Vec::with_capacity(depth),
        })
    }

    /// Takes a transfer.
    ///
    /// # Safety
    /// As for [`Engine::push`](super::Engine::push).
    #[allow(unsafe_code)]
    pub(super) unsafe fn push(
        &mut self,
        token: u64,
        file: usize,
        act: Act,
        offset: u64,
        iov: impl IntoIterator<Item = IoVec>,
    ) {
        if let (Act::Discard { .. }, Some(pool)) = (act, &mut self.ioctls)
            && self.files[file].block().is_some()
        {
            // SAFETY: handed on.
            unsafe { pool.push(token, file, act, offset, iov) };
            return;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                token,
                file,
                act,
                direct: false,
                pieces: Pieces::default(),
            });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        (slot.token, slot.file, slot.act) = (token, file, act);
        slot.pieces.set(offset, iov);
        slot.direct = self.files[file].fits_direct(&slot.pieces);
        self.queue(index);
    }

    /// Puts the slot's next entry into the submission queue.
    #[allow(unsafe_code)]
    fn queue(&mut self, index: usize) {
        if self.in_flight == self.most {
            self.waiting.push_back(index);
            return;
        }
        let entry = self.slots[index].entry(&self.files);
        let entry = entry.user_data(index as u64);
        // SAFETY: the vector is the slot's, which is not touched before its completion is reaped
        // and not freed before all have been (`drop`); a move of the slots leaves it where it is.
        // What it points to is lent as long by the contract of `push`.
        let pushed = unsafe {
            sys::push(&mut self.ring, &entry) || {
                self.start();
                sys::push(&mut self.ring, &entry)
            }
        };
        match pushed {
            true => self.in_flight += 1,
            false => self.waiting.push_back(index),
        }
    }

    pub(super) fn start(&mut self) {
        loop {
            match self.ring.submit() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Busy: the completions have to be reaped first, and then it is tried again.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    self.mailbox.ring();
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "io_uring does not take requests");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Whether there is something to reap, or to try again.
    pub(super) fn any(&mut self) -> bool {
        !self.ring.completion().is_empty() || !self.ring.submission().is_empty()
    }

    pub(super) fn reap(&mut self, done: &mut Vec<Answer>) {
        let mut completions = std::mem::take(&mut self.completions);
        let cq = self.ring.completion();
        completions.extend(cq.map(|entry| (entry.user_data(), entry.result())));
        self.in_flight -= completions.len();
        for (index, result) in completions.drain(..) {
            let index = index as usize;
            match self.slots[index].advance(result, &self.files) {
                Some(answer) => {
                    done.push((self.slots[index].token, answer));
                    self.free.push(index);
                }
                None => self.queue(index),
            }
        }
        self.completions = completions;
        for _ in 0..self.waiting.len().min(self.most - self.in_flight) {
            if let Some(index) = self.waiting.pop_front() {
                self.queue(index);
            }
        }
        if !self.ring.submission().is_empty() {
            self.start();
        }
    }
}

/// `IORING_UNREGISTER_FILES` (`linux/io_uring.h`), which the library has no name for.
const UNREGISTER_FILES: u8 = 3;

/// All that a ring may still do once it is enabled: transfers on registered files, and giving them up.
fn restrictions() -> Vec<Restriction> {
    let fixed = squeue::Flags::FIXED_FILE.bits();
    let operations = [
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
    ];
    let mut all: Vec<_> = operations.map(Restriction::sqe_op).into();
    all.extend([
        Restriction::sqe_flags_allowed(fixed),
        Restriction::sqe_flags_required(fixed),
        Restriction::register_op(UNREGISTER_FILES),
    ]);
    all
}

impl Slot {
    fn entry(&self, files: &Files) -> squeue::Entry {
        let file = (2 * self.file + usize::from(self.direct)) as u32;
        let (iov, offset) = (self.pieces.iov(), self.pieces.offset());
        match self.act {
            Act::Read => sys::read_entry(file, iov, offset),
            Act::Write => {
                let durable = !self.direct && files[self.file].durable_writes();
                sys::write_entry(file, iov, offset, durable)
            }
            Act::Sync => {
                let entry = opcode::Fsync::new(types::Fixed(file));
                entry.flags(types::FsyncFlags::DATASYNC).build()
            }
            Act::Discard { offset, len, .. } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let entry = opcode::Fallocate::new(types::Fixed(file), len);
                entry.offset(offset).mode(mode).build()
            }
        }
    }

    /// Takes note of a completion. `None` when the transfer has to go on.
    fn advance(&mut self, result: i32, files: &Files) -> Option<io::Result<()>> {
        match -result {
            libc::EINTR | libc::EAGAIN => return None,
            libc::EINVAL if self.direct => {
                self.direct = false;
                return None;
            }
            errno if errno > 0 => return Some(Err(io::Error::from_raw_os_error(errno))),
            _ if matches!(self.act, Act::Sync | Act::Discard { .. }) => return Some(Ok(())),
            0 if self.pieces.left() > 0 => return Some(Err(end_of_file())),
            _ => self.pieces.advance(result as usize),
        }
        if self.pieces.left() == 0 {
            return Some(Ok(()));
        }
        self.direct &= files[self.file].fits_direct(&self.pieces);
        None
    }
}

impl Drop for Uring {
    /// Waits for all transfers: the host's kernel has addresses of lent memory.
    fn drop(&mut self) {
        while self.in_flight > 0 {
            match self.ring.submit_and_wait(1) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%e, "io_uring does not say when transfers have ended");
                    // Memory that is still being written to must not be used for anything else.
                    std::process::abort();
                }
                _ => self.in_flight -= self.ring.completion().count(),
            }
        }
        // The ring itself goes away later than this, and would keep the files open until then.
        let _ = self.ring.submitter().unregister_files();
    }
}

#[cfg(test)]
#[path = "uring_test.rs"]
mod tests;
