//! A disk of nothing: every request is answered at once and nothing is transferred. For
//! measurements.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pv_ring::IoBuffers;

use crate::engine::Mailbox;
use crate::{Done, Queue, Request};

pub(crate) struct NullQueue<B> {
    done: Vec<Done<B>>,
    rung: bool,
    mailbox: Mailbox,
}

impl<B> NullQueue<B> {
    pub(crate) fn new(depth: usize) -> io::Result<Self> {
        Ok(Self {
            done: Vec::with_capacity(depth),
            rung: false,
            mailbox: Mailbox::new()?,
        })
    }
}

impl<B: IoBuffers> Queue<B> for NullQueue<B> {
    fn submit(&mut self, request: Request<B>) {
        self.done.push(Done {
            tag: request.tag,
            result: Ok(()),
            buffers: request.buffers,
        });
    }

    fn kick(&mut self) {
        if !self.done.is_empty() && !self.rung {
            self.mailbox.ring();
            self.rung = true;
        }
    }

    fn completed(&mut self, done: &mut Vec<Done<B>>) {
        if std::mem::take(&mut self.rung) {
            self.mailbox.take(&mut Vec::new());
        }
        done.append(&mut self.done);
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    fn clear(&mut self) {
        self.mailbox.clear();
    }
}
