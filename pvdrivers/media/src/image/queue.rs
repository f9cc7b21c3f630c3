//! One thread's access to an image.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use pv_ring::{IoBuffers, IoVec};

use super::{Image, Place, Run};
use crate::engine::{Act, Answer, Engine, EngineKind, Pool};
use crate::file::within;
use crate::slots::Slots;
use crate::{Done, Operation, Queue, Request, sys};

/// Threads for what blocks.
const THREADS: usize = 4;

pub(crate) struct ImageQueue<B> {
    image: Arc<Image>,
    // Both dropped before the slots: they wait for what uses the slots' memory.
    engine: Engine,
    pool: Pool,
    slots: Slots<B>,
    /// Of each slot's request. Dropped after what uses the image.
    progress: InProgress,
    runs: Vec<Run>,
    answers: Vec<Answer>,
    /// Answered without a transfer.
    instant: Vec<u64>,
}

/// How far a request is.
#[derive(Debug, Default)]
struct Progress {
    parts: usize,
    /// What the request entered the image in.
    epoch: Option<usize>,
    error: Option<io::Error>,
}

/// The requests in the image; what a queue gives up unanswered leaves it too.
struct InProgress {
    image: Arc<Image>,
    requests: Vec<Progress>,
}

impl InProgress {
    fn of(&mut self, token: u64) -> &mut Progress {
        let index = token as usize;
        if self.requests.len() <= index {
            self.requests.resize_with(index + 1, Progress::default);
        }
        &mut self.requests[index]
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let left = self.requests.iter().filter_map(|request| request.epoch);
        left.for_each(|epoch| self.image.leave(epoch));
    }
}

impl<B: IoBuffers> ImageQueue<B> {
    pub(crate) fn new(image: Arc<Image>, depth: usize, kind: EngineKind) -> io::Result<Self> {
        let engine = Engine::new(image.files.clone(), depth, kind)?;
        let pool = Pool::new(image.files.clone(), THREADS, engine.mailbox().clone())?;
        Ok(Self {
            progress: InProgress {
                image: image.clone(),
                requests: Vec::with_capacity(depth),
            },
            image,
            engine,
            pool,
            slots: Slots::new(depth),
            runs: Vec::new(),
            answers: Vec::with_capacity(depth),
            instant: Vec::new(),
        })
    }

    fn check(&self, request: &Request<B>) -> Result<(), i32> {
        let changes = matches!(
            request.operation,
            Operation::Write | Operation::Discard { .. }
        );
        if changes && self.image.writer().is_none() {
            return Err(libc::EROFS);
        }
        let held: u64 = request
            .buffers
            .iovecs()
            .iter()
            .map(|piece| piece.len() as u64)
            .sum();
        match request.operation {
            Operation::Flush => return Ok(()),
            Operation::Discard { secure: true } => return Err(libc::EOPNOTSUPP),
            Operation::Discard { .. } if !self.image.discard => return Err(libc::EOPNOTSUPP),
            Operation::Read | Operation::Write if held != request.len => return Err(libc::EINVAL),
            _ => {}
        }
        let end = request
            .offset
            .checked_add(request.len)
            .ok_or(libc::EINVAL)?;
        match end <= self.image.size() {
            true => Ok(()),
            false => Err(libc::EINVAL),
        }
    }

    /// Where the request's data is, if it can be transferred from or to there as it is.
    fn find(&mut self, operation: Operation, at: u64, len: u64) -> io::Result<bool> {
        match (operation, self.image.writer()) {
            (Operation::Read, _) => self.image.runs(at, len, &mut self.runs),
            (Operation::Write, Some(top)) => Ok(top.in_place(at, len, &mut self.runs)),
            _ => Ok(false),
        }
    }

    /// Transfers the runs found.
    #[allow(unsafe_code)]
    fn transfer(&mut self, token: u64, operation: Operation) {
        let act = if operation == Operation::Read {
            Act::Read
        } else {
            Act::Write
        };
        let iov = self.slots.iovecs(token);
        let mut at = 0;
        for run in self.runs.drain(..) {
            let part = within(iov, at, run.len);
            at += run.len;
            match run.place {
                Place::File { file, offset } => {
                    self.progress.of(token).parts += 1;
                    // SAFETY: the slots keep the buffers until all parts have come back, and
                    // outlive the engine.
                    unsafe { self.engine.push(token, file, act, offset, part) }
                }
                // SAFETY: the pieces are lent until the request is answered.
                _ => unsafe { sys::zero(&part.collect::<Vec<_>>()) },
            }
        }
        if self.progress.of(token).parts == 0 {
            self.instant.push(token);
        }
    }

    /// Leaves the request to a thread.
    #[allow(unsafe_code)]
    fn hand_over(&mut self, token: u64) {
        let request = self.slots.get(token);
        let (at, len, operation) = (request.offset, request.len, request.operation);
        let iov: Vec<IoVec> = match operation {
            Operation::Read | Operation::Write => request.buffers.iovecs().to_vec(),
            _ => Vec::new(),
        };
        self.progress.of(token).parts = 1;
        let image = self.image.clone();
        self.pool
            .call(token, move || match (operation, image.writer()) {
                // SAFETY: the slots keep the buffers until the token has come back, and outlive the
                // pool.
                (Operation::Read, _) => unsafe { image.read(0, at, &iov) },
                // SAFETY: the same.
                (Operation::Write, Some(top)) => unsafe { top.write(&image, at, &iov) },
                (Operation::Flush, Some(top)) => top.flush(&image.files),
                (Operation::Discard { .. }, Some(top)) => top.discard(&image, at, len),
                (_, None) => Ok(()),
            });
    }

    fn part_done(&mut self, token: u64, result: io::Result<()>, done: &mut Vec<Done<B>>) {
        let progress = self.progress.of(token);
        progress.parts = progress.parts.saturating_sub(1);
        if let Err(error) = result {
            progress.error.get_or_insert(error);
        }
        if progress.parts == 0 {
            let result = progress.error.take().map_or(Ok(()), Err);
            if let Some(epoch) = progress.epoch.take() {
                self.image.leave(epoch);
            }
            done.push(self.slots.take(token, result));
        }
    }
}

impl<B: IoBuffers> Queue<B> for ImageQueue<B> {
    fn submit(&mut self, request: Request<B>) {
        let checked = self.check(&request);
        let (operation, at, len) = (request.operation, request.offset, request.len);
        let token = self.slots.put(request);
        if let Err(errno) = checked {
            self.slots.refuse(token, errno);
            return;
        }
        self.progress.of(token).epoch = Some(self.image.enter());
        match self.find(operation, at, len) {
            Ok(true) => self.transfer(token, operation),
            Ok(false) => self.hand_over(token),
            Err(error) => {
                self.progress.of(token).error = Some(error);
                self.instant.push(token);
            }
        }
    }

    fn kick(&mut self) {
        if self.slots.any_refused() || !self.instant.is_empty() {
            self.engine.mailbox().ring();
        }
        self.engine.start();
    }

    fn completed(&mut self, done: &mut Vec<Done<B>>) {
        self.slots.take_refused(done);
        let mut answers = std::mem::take(&mut self.answers);
        self.engine.reap(&mut answers);
        answers.extend(self.instant.drain(..).map(|token| (token, Ok(()))));
        for (token, result) in answers.drain(..) {
            self.part_done(token, result, done);
        }
        self.answers = answers;
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.engine.event()
    }

    fn clear(&mut self) {
        self.engine.clear();
    }
}
