//! One thread's access to a network block device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pv_ring::IoBuffers;

use super::Nbd;
use super::client::{Command, FLUSH, READ, TRIM, WRITE};
use crate::engine::{Answer, Mailbox};
use crate::slots::Slots;
use crate::{Done, Operation, Queue, Request};

pub(crate) struct NbdQueue<B> {
    disk: Arc<Nbd>,
    mailbox: Arc<Mailbox>,
    slots: Slots<B>,
    /// Parts of each slot's request that are not answered, and the first error.
    parts: Vec<(usize, Option<io::Error>)>,
    answers: Vec<Answer>,
}

impl<B: IoBuffers> NbdQueue<B> {
    pub(crate) fn new(disk: Arc<Nbd>, depth: usize) -> io::Result<Self> {
        Ok(Self {
            disk,
            mailbox: Arc::new(Mailbox::new()?),
            slots: Slots::new(depth),
            parts: Vec::new(),
            answers: Vec::with_capacity(depth),
        })
    }

    fn check(&self, request: &Request<B>) -> Result<Option<u16>, i32> {
        let info = self.disk.info();
        let held: u64 = request
            .buffers
            .iovecs()
            .iter()
            .map(|piece| piece.len() as u64)
            .sum();
        let command = match request.operation {
            // Without the command the server has no cache.
            Operation::Flush => return Ok(info.flush.then_some(FLUSH)),
            Operation::Read => READ,
            Operation::Write => WRITE,
            Operation::Discard { secure: true } => return Err(libc::EOPNOTSUPP),
            Operation::Discard { .. } if info.discard.is_none() => return Err(libc::EOPNOTSUPP),
            Operation::Discard { .. } => TRIM,
        };
        if command != READ && info.readonly {
            return Err(libc::EROFS);
        }
        if command != TRIM && held != request.len {
            return Err(libc::EINVAL);
        }
        let end = request
            .offset
            .checked_add(request.len)
            .ok_or(libc::EINVAL)?;
        match end <= self.disk.size() {
            true => Ok(Some(command)),
            false => Err(libc::EINVAL),
        }
    }
}

impl<B: IoBuffers> Queue<B> for NbdQueue<B> {
    fn submit(&mut self, request: Request<B>) {
        let checked = self.check(&request);
        let (offset, len) = (request.offset, request.len);
        let token = self.slots.put(request);
        if self.parts.len() <= token as usize {
            self.parts.resize_with(token as usize + 1, Default::default);
        }
        let command = match checked {
            Err(errno) => return self.slots.refuse(token, errno),
            Ok(None) => {
                self.parts[token as usize].0 = 1;
                return self.mailbox.put((token, Ok(())));
            }
            Ok(Some(command)) => command,
        };
        let lends = command == READ || command == WRITE;
        let iov = if lends { self.slots.iovecs(token) } else { &[] };
        self.parts[token as usize].0 = self.disk.send(Command {
            token,
            command,
            offset: if command == FLUSH { 0 } else { offset },
            len: if command == FLUSH { 0 } else { len },
            iov: iov.to_vec(),
            mailbox: self.mailbox.clone(),
        });
    }

    fn kick(&mut self) {
        if self.slots.any_refused() {
            self.mailbox.ring();
        }
    }

    fn completed(&mut self, done: &mut Vec<Done<B>>) {
        self.slots.take_refused(done);
        self.mailbox.take(&mut self.answers);
        for (token, result) in self.answers.drain(..) {
            let (parts, error) = &mut self.parts[token as usize];
            *parts = parts.saturating_sub(1);
            if let Err(new) = result {
                error.get_or_insert(new);
            }
            if *parts == 0 {
                let result = error.take().map_or(Ok(()), Err);
                done.push(self.slots.take(token, result));
            }
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    fn clear(&mut self) {
        self.mailbox.clear();
    }
}

impl<B> Drop for NbdQueue<B> {
    fn drop(&mut self) {
        self.disk.forget(&self.mailbox);
    }
}
