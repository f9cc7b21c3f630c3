//! Requests that a queue has taken and not yet answered, with the memory they lend.

use std::io;

use pv_ring::{IoBuffers, IoVec};

use crate::{Done, Request};

/// Requests by token.
pub(crate) struct Slots<B> {
    slots: Vec<Option<Request<B>>>,
    free: Vec<u64>,
    refused: Vec<Done<B>>,
}

impl<B: IoBuffers> Slots<B> {
    pub(crate) fn new(depth: usize) -> Self {
        Self {
            slots: Vec::with_capacity(depth),
            free: Vec::with_capacity(depth),
            refused: Vec::new(),
        }
    }

    /// Keeps a request.
    pub(crate) fn put(&mut self, request: Request<B>) -> u64 {
        match self.free.pop() {
            Some(token) => {
                self.slots[token as usize] = Some(request);
                token
            }
            None => {
                self.slots.push(Some(request));
                self.slots.len() as u64 - 1
            }
        }
    }

    /// Its request.
    pub(crate) fn get(&self, token: u64) -> &Request<B> {
        self.slots[token as usize]
            .as_ref()
            .expect("a token of a kept request")
    }

    /// The memory it lends.
    pub(crate) fn iovecs(&self, token: u64) -> &[IoVec] {
        self.get(token).buffers.iovecs()
    }

    /// Answers it.
    pub(crate) fn take(&mut self, token: u64, result: io::Result<()>) -> Done<B> {
        let request = self.slots[token as usize].take();
        let request = request.expect("a token of a kept request");
        self.free.push(token);
        Done {
            tag: request.tag,
            result,
            buffers: request.buffers,
        }
    }

    /// Answers it with an error, which is collected by `take_refused`.
    pub(crate) fn refuse(&mut self, token: u64, errno: i32) {
        let done = self.take(token, Err(io::Error::from_raw_os_error(errno)));
        self.refused.push(done);
    }

    pub(crate) fn any_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    pub(crate) fn take_refused(&mut self, done: &mut Vec<Done<B>>) {
        done.append(&mut self.refused);
    }
}
