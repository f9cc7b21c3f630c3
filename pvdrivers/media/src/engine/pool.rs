//! Threads that do what would block.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pv_ring::IoVec;

use super::{Act, Files, Mailbox};
use crate::file::{MediaFile, Pieces};

type Work = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Threads that do what would block.
pub(crate) struct Pool {
    files: Files,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    jobs: Mutex<Jobs>,
    more: Condvar,
    mailbox: Arc<Mailbox>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(u64, Work)>,
    ended: bool,
}

impl Pool {
    pub(crate) fn new(files: Files, threads: usize, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            more: Condvar::new(),
            mailbox,
        });
        let mut pool = Self {
            files,
            shared: shared.clone(),
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let shared = shared.clone();
            let thread = thread::Builder::new().name("disk".into());
            pool.threads.push(thread.spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// Takes a transfer.
    ///
    /// # Safety
    /// As for [`Engine::push`](super::Engine::push).
    #[allow(unsafe_code)]
    pub(crate) unsafe fn push(
        &mut self,
        token: u64,
        file: usize,
        act: Act,
        offset: u64,
        iov: impl IntoIterator<Item = IoVec>,
    ) {
        let files = self.files.clone();
        let mut pieces = Pieces::new(offset, iov);
        self.call(token, move || {
            // SAFETY: lent until the token has come back, which is after this.
            unsafe { act_on(&files[file], act, &mut pieces) }
        });
    }

    /// Takes any work.
    pub(crate) fn call(&self, token: u64, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
        self.shared
            .lock()
            .waiting
            .push_back((token, Box::new(work)));
        self.shared.more.notify_one();
    }
}

/// Does it, blocking.
///
/// # Safety
/// The pieces are lent to this call.
#[allow(unsafe_code)]
unsafe fn act_on(file: &MediaFile, act: Act, pieces: &mut Pieces) -> io::Result<()> {
    match act {
        // SAFETY: by contract.
        Act::Read => unsafe { file.transfer(false, pieces) },
        // SAFETY: by contract.
        Act::Write => unsafe { file.transfer(true, pieces) },
        Act::Sync => file.sync(),
        Act::Discard {
            offset,
            len,
            secure,
        } => file.discard(offset, len, secure),
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        while let Some((token, work)) = self.next() {
            self.mailbox.put((token, work()));
        }
    }

    fn next(&self) -> Option<(u64, Work)> {
        let idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.ended;
        let mut jobs = self
            .more
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        match jobs.ended {
            true => None,
            false => jobs.waiting.pop_front(),
        }
    }
}

impl Drop for Pool {
    /// Waits for what is being done, since it uses lent memory; what has not begun is forgotten.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.more.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
