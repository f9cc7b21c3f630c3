//! Transfers on the files of a medium: by io_uring, or by threads where the host has none.

mod mailbox;
mod pool;
mod uring;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pv_ring::IoVec;

use crate::file::MediaFile;

pub(crate) use mailbox::Mailbox;
pub(crate) use pool::Pool;
use uring::Uring;

/// The files of a medium, by index.
pub(crate) type Files = Arc<[MediaFile]>;

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Read,
    Write,
    Sync,
    Discard { offset: u64, len: u64, secure: bool },
}

/// An answer.
pub(crate) type Answer = (u64, io::Result<()>);

/// Which way transfers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EngineKind {
    /// io_uring where the host lets it be used, else threads.
    #[default]
    Best,
    /// Threads.
    Threads,
}

/// Does transfers and tells when they are done.
pub(crate) struct Engine {
    way: Way,
    mailbox: Arc<Mailbox>,
}

enum Way {
    Uring(Box<Uring>),
    Threads(Pool),
}

/// How many threads stand in for io_uring.
const THREADS: usize = 4;

impl Engine {
    /// For at most `depth` transfers at a time; more wait.
    pub(crate) fn new(files: Files, depth: usize, kind: EngineKind) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let uring = match kind {
            EngineKind::Best => match Uring::new(files.clone(), depth, mailbox.clone()) {
                Ok(uring) => Some(uring),
                Err(error) => {
                    tracing::info!(%error, "No io_uring: threads do the transfers");
                    None
                }
            },
            EngineKind::Threads => None,
        };
        let way = match uring {
            Some(uring) => Way::Uring(Box::new(uring)),
            None => Way::Threads(Pool::new(files, THREADS, mailbox.clone())?),
        };
        Ok(Self { way, mailbox })
    }

    /// Takes a transfer on a file. `token` comes back with the answer.
    ///
    /// # Safety
    /// The pieces are lent until the token has come back or the engine is dropped: mapped,
    /// writable, and without Rust references to them.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn push(
        &mut self,
        token: u64,
        file: usize,
        act: Act,
        offset: u64,
        iov: impl IntoIterator<Item = IoVec>,
    ) {
        // SAFETY: handed on.
        unsafe {
            match &mut self.way {
                Way::Uring(uring) => uring.push(token, file, act, offset, iov),
                Way::Threads(pool) => pool.push(token, file, act, offset, iov),
            }
        }
    }

    /// Starts what was pushed.
    pub(crate) fn start(&mut self) {
        if let Way::Uring(uring) = &mut self.way {
            uring.start();
        }
    }

    /// Moves the answers to `done`. Clears the event if there are any: clearing is a system call,
    /// looking is none.
    pub(crate) fn reap(&mut self, done: &mut Vec<Answer>) {
        let any = match &mut self.way {
            Way::Uring(uring) => uring.any() || self.mailbox.any(),
            Way::Threads(_) => self.mailbox.any(),
        };
        if any {
            self.mailbox.take(done);
            if let Way::Uring(uring) = &mut self.way {
                uring.reap(done);
            }
        }
    }

    /// Clears the event, by whom it has woken: what it tells of may have been reaped already.
    pub(crate) fn clear(&self) {
        self.mailbox.clear();
    }

    /// Where others put answers that come with this engine's.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Readable when there may be answers.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }
}
