//! A disk in memory that can be told to be slow, to fail, and to say what is durable.
//!
//! The only accesses to the guest's memory are copies by [`RawPage`], within the pieces that
//! [`IoBuffers`] vouches for.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_media::{Done, Operation, Queue, Request};
use pv_ring::{IoBuffers, IoVec, RawPage, SharedPage};

use crate::back::{Medium, MediumInfo};
use crate::wire::SECTOR;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct RamDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    info: MediumInfo,
    /// Empty for a disk that keeps nothing.
    data: Vec<u8>,
    /// What a flush has saved.
    durable: Vec<u8>,
    bad: BTreeSet<u64>,
    held: bool,
    events: Vec<Arc<EventFd>>,
    operations: u64,
}

impl RamDisk {
    /// A disk of zeroes with these properties.
    pub fn new(info: MediumInfo) -> Self {
        let bytes = (info.sectors * SECTOR) as usize;
        Self::of(info, vec![0; bytes])
    }

    /// A disk that answers at once and keeps nothing.
    pub fn null(info: MediumInfo) -> Self {
        Self::of(info, Vec::new())
    }

    fn of(info: MediumInfo, data: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            info,
            durable: data.clone(),
            data,
            bad: BTreeSet::new(),
            held: false,
            events: Vec::new(),
            operations: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic inside")
    }

    /// From now on answers nothing.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Answers what is held, and at once from now on.
    pub fn release(&self) {
        let mut state = self.state();
        state.held = false;
        for event in &state.events {
            let _pending_already = event.write(1);
        }
    }

    /// Transfers that touch this sector fail from now on.
    pub fn break_sector(&self, sector: u64) {
        self.state().bad.insert(sector);
    }

    /// Grows or shrinks.
    pub fn resize(&self, sectors: u64) {
        let mut state = self.state();
        state.info.sectors = sectors;
        state.data.resize((sectors * SECTOR) as usize, 0);
    }

    /// What is on the disk.
    pub fn data(&self) -> Vec<u8> {
        self.state().data.clone()
    }

    /// What would be left after a power cut.
    pub fn durable(&self) -> Vec<u8> {
        self.state().durable.clone()
    }

    /// Requests it was given.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }
}

impl Medium for RamDisk {
    fn info(&self) -> MediumInfo {
        self.state().info
    }

    fn queue<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let event = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let mut state = self.state();
        state.events.push(event.clone());
        Ok(Box::new(RamQueue {
            null: state.data.is_empty(),
            disk: self.clone(),
            event,
            waiting: Vec::with_capacity(depth),
            done: Vec::with_capacity(depth),
        }))
    }
}

/// A thread's access to a [`RamDisk`].
#[derive(Debug)]
pub struct RamQueue<B> {
    disk: RamDisk,
    null: bool,
    event: Arc<EventFd>,
    waiting: Vec<Request<B>>,
    done: Vec<Done<B>>,
}

impl<B: IoBuffers> RamQueue<B> {
    /// Carries out what waits, the last first: answers come in another order than requests.
    fn run(&mut self) {
        let mut state = self.disk.state();
        if state.held {
            return;
        }
        while let Some(request) = self.waiting.pop() {
            let result = state.carry_out(&request);
            self.done.push(Done {
                tag: request.tag,
                result,
                buffers: request.buffers,
            });
        }
    }
}

impl<B: IoBuffers> Queue<B> for RamQueue<B> {
    fn submit(&mut self, request: Request<B>) {
        if self.null {
            self.done.push(Done {
                tag: request.tag,
                result: Ok(()),
                buffers: request.buffers,
            });
        } else {
            self.disk.state().operations += 1;
            self.waiting.push(request);
        }
    }

    fn kick(&mut self) {
        self.run();
        if !self.done.is_empty() {
            let _pending_already = self.event.write(1);
        }
    }

    fn completed(&mut self, done: &mut Vec<Done<B>>) {
        if !self.null {
            match self.event.read() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(error) => panic!("an eventfd cannot be read: {error}"),
            }
            self.run();
        }
        done.append(&mut self.done);
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn clear(&mut self) {
        let _not_set = self.event.read();
    }
}

impl State {
    fn carry_out<B: IoBuffers>(&mut self, request: &Request<B>) -> io::Result<()> {
        if request.operation == Operation::Flush {
            self.durable.clone_from(&self.data);
            return Ok(());
        }
        let (first, last) = (request.offset, request.offset + request.len);
        let range = first as usize..last as usize;
        if last > self.data.len() as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self
            .bad
            .range(first / SECTOR..last / SECTOR)
            .next()
            .is_some()
        {
            return Err(io::Error::other("bad sector"));
        }
        let mut data = &mut self.data[range];
        if let Operation::Discard { .. } = request.operation {
            data.fill(0);
            return Ok(());
        }
        for piece in request.buffers.iovecs() {
            let (part, rest) = data.split_at_mut(piece.len());
            data = rest;
            match request.operation {
                Operation::Read => memory(piece).write(0, part),
                _ => memory(piece).read(0, part),
            }
        }
        assert!(data.is_empty(), "the buffers have the request's length");
        Ok(())
    }
}

/// The memory of a piece, while its request is borrowed.
fn memory(piece: &IoVec) -> RawPage<'_> {
    let base = NonNull::new(piece.base()).expect("mapped");
    // SAFETY: the piece comes from `IoBuffers` of a request that lives as long as the borrow: it is
    // mapped, no reference to it exists, and it is only written to for a read. Sectors are aligned.
    unsafe { RawPage::new(base, piece.len()) }
}
