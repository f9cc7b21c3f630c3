//! The guest's memory.
//!
//! Invariant: `base` is an allocation of `frames` pages that lives as long as the [`Memory`], is
//! page-aligned, and is reached by [`RawPage`] only; each [`LoopbackPage`] holds the memory alive
//! and lies within it.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pv_ring::{HostPage, RawPage, SharedPage};
use xen_sys::addr::PAGE_SIZE;

#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
    frames: usize,
    next: AtomicUsize,
}

// SAFETY: an address of memory which is only accessed by volatile and atomic operations.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`; `next` is atomic.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(frames: usize) -> Self {
        assert!(frames > 0, "a guest without memory");
        let layout = Layout::from_size_align(frames * PAGE_SIZE, PAGE_SIZE)
            .expect("guest memory fits the address space");
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else {
            handle_alloc_error(layout)
        };
        Self {
            base,
            layout,
            frames,
            next: AtomicUsize::new(0),
        }
    }

    /// The next free frame.
    pub(super) fn alloc(memory: &Arc<Self>) -> LoopbackPage {
        let frame = memory.next.fetch_add(1, Ordering::Relaxed);
        assert!(
            frame < memory.frames,
            "all {} pages are taken",
            memory.frames
        );
        Self::page(memory, frame as u32)
    }

    /// A frame that was handed out.
    pub(super) fn page(memory: &Arc<Self>, frame: u32) -> LoopbackPage {
        assert!((frame as usize) < memory.frames);
        LoopbackPage {
            frame,
            memory: memory.clone(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; every page has held an `Arc` of it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// A page of the guest's memory; clones are the same page.
#[derive(Clone, Debug)]
pub struct LoopbackPage {
    frame: u32,
    memory: Arc<Memory>,
}

impl LoopbackPage {
    /// Its number.
    pub(super) fn frame(&self) -> u32 {
        self.frame
    }

    fn raw(&self) -> RawPage<'_> {
        // SAFETY: `frame` was checked against the allocation, which is aligned and lives as long as
        // `self.memory`; only `RawPage`s access it.
        unsafe { RawPage::new(self.as_ptr(), PAGE_SIZE) }
    }
}

impl SharedPage for LoopbackPage {
    fn len(&self) -> usize {
        PAGE_SIZE
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.raw().load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.raw().store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.raw().read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.raw().write(offset, from);
    }
}

impl HostPage for LoopbackPage {
    fn as_ptr(&self) -> NonNull<u8> {
        // SAFETY: `frame` is below the number of frames of the allocation.
        unsafe { self.memory.base.add(self.frame as usize * PAGE_SIZE) }
    }
}
