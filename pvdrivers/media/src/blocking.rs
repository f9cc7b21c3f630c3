//! A disk used by one request at a time, waiting for each: for tools and tests.

use std::io;
use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Disk, Done, Memory, Operation, Queue, Request};

/// A disk used by one request at a time.
pub struct Blocking {
    queue: Box<dyn Queue<Memory>>,
}

impl Blocking {
    /// Access to a disk.
    ///
    /// # Errors
    /// The host's.
    pub fn new(disk: &Disk) -> io::Result<Self> {
        Ok(Self::on(disk.queue(1)?))
    }

    /// Access by a queue that is used by nobody else.
    pub fn on(queue: Box<dyn Queue<Memory>>) -> Self {
        Self { queue }
    }

    /// Reads.
    ///
    /// # Errors
    /// The medium's.
    pub fn read(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let done = self.run(Operation::Read, offset, len as u64, Memory::zeroed(len))?;
        done.result?;
        Ok(done.buffers.bytes().to_vec())
    }

    /// Writes.
    ///
    /// # Errors
    /// The medium's.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.run(Operation::Write, offset, len, Memory::of(bytes))?
            .result
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// The medium's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.run(Operation::Flush, 0, 0, Memory::zeroed(0))?.result
    }

    /// Discards.
    ///
    /// # Errors
    /// The medium's.
    pub fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let operation = Operation::Discard { secure: false };
        self.run(operation, offset, len, Memory::zeroed(0))?.result
    }

    /// Discards such that nothing of it can be read any more.
    ///
    /// # Errors
    /// The medium's.
    pub fn discard_secure(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let operation = Operation::Discard { secure: true };
        self.run(operation, offset, len, Memory::zeroed(0))?.result
    }

    fn run(
        &mut self,
        operation: Operation,
        offset: u64,
        len: u64,
        buffers: Memory,
    ) -> io::Result<Done<Memory>> {
        self.queue.submit(Request {
            tag: 0,
            operation,
            offset,
            len,
            buffers,
        });
        self.queue.kick();
        let mut done = Vec::new();
        loop {
            self.queue.completed(&mut done);
            match done.pop() {
                Some(done) => return Ok(done),
                None => {
                    wait(self.queue.event())?;
                    self.queue.clear();
                }
            }
        }
    }
}

/// Waits for an event to become readable.
fn wait(event: BorrowedFd<'_>) -> io::Result<()> {
    match poll(
        &mut [PollFd::new(event, PollFlags::POLLIN)],
        PollTimeout::NONE,
    ) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
