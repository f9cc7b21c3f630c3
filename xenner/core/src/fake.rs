//! A machine made of a map of frames, for tests and fuzzing.
//!
//! Guest-virtual memory is a window on the domain's frames and nothing else:
//! [`Fake::VIRT`] is the first byte of the first frame. Every other address
//! faults. What would reach the host is recorded.

extern crate std;

use core::cell::{Cell, RefCell};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xen_sys::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::domain::Config;
use crate::machine::{Base, Flush};
use crate::{Domain, Machine, Physical, Vcpu, memory};

type Frame = [u64; PAGE_SIZE / 8];

/// The machine alone.
#[derive(Default)]
pub struct FakeMachine {
    frames: RefCell<BTreeMap<u64, Box<Frame>>>,
    /// Virtual CPUs kicked.
    pub kicked: RefCell<Vec<usize>>,
    /// Ports the host was notified on.
    pub notified: RefCell<Vec<u32>>,
    /// Ports the host has bound.
    pub bound: RefCell<BTreeSet<u32>>,
    /// The machine-to-physical table.
    pub m2p: BTreeMap<u64, u64>,
    /// What was told to be free: first frame and count.
    pub released: Vec<(u64, u64)>,
    /// Text written to the console.
    pub console: Vec<u8>,
    /// Translations dropped.
    pub flushed: Vec<Flush>,
    /// After so many more looks the domain is at its end; `None`: it does not end.
    pub ends_after: Cell<Option<u32>>,
}

/// A machine, a domain of two virtual CPUs, and the first of these.
pub struct Fake {
    /// The machine.
    pub m: FakeMachine,
    /// The domain.
    pub d: Box<Domain>,
    /// Virtual CPU 0.
    pub v: Vcpu,
}

impl Fake {
    /// The domain's first frame. Not a multiple of the largest extent.
    pub const RAM: u64 = 0x10180;
    /// Frames the domain may own.
    pub const MAX_PAGES: u64 = 4096;
    /// Frames there are.
    pub const RAM_PAGES: u64 = Self::MAX_PAGES + 512;
    /// Frames it owns at start.
    pub const NR_PAGES: u64 = 2048;
    /// First frame of the hypervisor's memory.
    pub const HEAP: u64 = 0x20000;
    /// Frames of the hypervisor's memory.
    pub const HEAP_PAGES: u64 = 256;
    /// Guest-virtual address of the domain's first frame.
    pub const VIRT: u64 = 0xffff_8880_0000_0000;
    /// A place for arguments.
    pub const ARG: Vaddr = Vaddr(Self::VIRT + 0x3000);
    /// A place for lists.
    pub const LIST: Vaddr = Vaddr(Self::VIRT + 0x8000);
    /// The domain's number.
    pub const DOMID: u16 = 7;

    /// A domain at its start.
    pub fn new() -> Self {
        let mut d = Box::new(Domain::new());
        d.config = Config {
            domid: Self::DOMID,
            nr_vcpus: 2,
            ram_base: Mfn(Self::RAM),
            ram_pages: Self::RAM_PAGES,
            max_pages: Self::MAX_PAGES,
            nr_pages: Self::NR_PAGES,
            shared_info: Mfn(Self::HEAP),
            tables: Mfn(Self::HEAP + Self::HEAP_PAGES - 2),
            heap_base: Mfn(Self::HEAP + 1),
            heap_pages: Self::HEAP_PAGES - 3,
            m2p: 0xffff_8000_0000_0000,
            m2p_entries: Self::HEAP + Self::HEAP_PAGES,
            max_grant_frames: 4,
            max_evtchn_port: 1024,
            ..d.config
        };
        let m = FakeMachine::default();
        memory::init(&m, &d.config);
        for (id, vcpu) in d.vcpus.iter().enumerate().take(2) {
            let home = (Self::HEAP << 12) + id as u64 * 64;
            vcpu.vcpu_info
                .store(home, core::sync::atomic::Ordering::Relaxed);
        }
        Self {
            m,
            d,
            v: Vcpu::new(0),
        }
    }

    /// Makes a call as the hypercall table does.
    pub fn call<T>(&mut self, f: impl FnOnce(&mut FakeMachine, &Domain, &mut Vcpu) -> T) -> T {
        f(&mut self.m, &self.d, &mut self.v)
    }

    /// Writes guest-virtual memory.
    pub fn poke<T: IntoBytes + Immutable>(&mut self, at: Vaddr, value: &T) {
        self.m
            .copy_to_guest(at, value.as_bytes())
            .expect("a mapped address");
    }

    /// Reads guest-virtual memory.
    pub fn peek<T: FromBytes + IntoBytes>(&mut self, at: Vaddr) -> T {
        crate::guest::get(&mut self.m, at).expect("a mapped address")
    }

    /// Fills guest-virtual memory.
    pub fn fill(&mut self, at: Vaddr, byte: u8, count: usize) {
        let bytes = std::vec![byte; count];
        self.m.copy_to_guest(at, &bytes).expect("a mapped address");
    }

    /// Where a frame of the domain's is mapped.
    pub fn virt(mfn: u64) -> Vaddr {
        Vaddr(Self::VIRT + ((mfn - Self::RAM) << 12))
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeMachine {
    fn with<T>(&self, at: Maddr, f: impl FnOnce(&mut u64) -> T) -> T {
        assert!(self.is_ram(at.frame()), "no memory at {at}");
        let mut frames = self.frames.borrow_mut();
        let frame = frames
            .entry(at.frame().0)
            .or_insert_with(|| Box::new([0; PAGE_SIZE / 8]));
        f(&mut frame[at.page_offset() / 8])
    }

    fn word<T>(&self, at: Maddr, f: impl FnOnce(&mut u64) -> T) -> T {
        assert_eq!(at.0 & 7, 0, "unaligned access to {at}");
        self.with(at, f)
    }

    fn half<T>(&self, at: Maddr, f: impl FnOnce(&mut u32) -> T) -> T {
        assert_eq!(at.0 & 3, 0, "unaligned access to {at}");
        self.with(at, |word| {
            let shift = (at.0 & 4) * 8;
            let mut half = (*word >> shift) as u32;
            let result = f(&mut half);
            *word = *word & !(0xffff_ffff << shift) | u64::from(half) << shift;
            result
        })
    }

    fn resolve(at: u64) -> Result<Maddr, Errno> {
        let offset = at.checked_sub(Fake::VIRT).ok_or(Errno::EFAULT)?;
        if offset >= Fake::MAX_PAGES << 12 {
            return Err(Errno::EFAULT);
        }
        Ok(Maddr((Fake::RAM << 12) + offset))
    }
}

impl Physical for FakeMachine {
    fn is_ram(&self, mfn: Mfn) -> bool {
        (Fake::RAM..Fake::RAM + Fake::RAM_PAGES).contains(&mfn.0)
            || (Fake::HEAP..Fake::HEAP + Fake::HEAP_PAGES).contains(&mfn.0)
    }

    fn load64(&self, at: Maddr) -> u64 {
        self.word(at, |word| *word)
    }

    fn store64(&self, at: Maddr, value: u64) {
        self.word(at, |word| *word = value);
    }

    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.word(at, |word| exchange(word, old, new))
    }

    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32> {
        self.half(at, |half| exchange(half, old, new))
    }

    fn load32(&self, at: Maddr) -> u32 {
        self.half(at, |half| *half)
    }

    fn store32(&self, at: Maddr, value: u32) {
        self.half(at, |half| *half = value);
    }

    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64 {
        self.word(at, |word| core::mem::replace(word, *word | bits))
    }

    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64 {
        self.word(at, |word| core::mem::replace(word, *word & bits))
    }

    fn store8(&self, at: Maddr, value: u8) {
        let shift = (at.0 & 7) * 8;
        self.with(at, |word| {
            *word = *word & !(0xff << shift) | u64::from(value) << shift
        });
    }

    fn load8(&self, at: Maddr) -> u8 {
        self.with(at, |word| (*word >> ((at.0 & 7) * 8)) as u8)
    }

    fn read_frame(&self, from: Maddr, to: &mut [u8]) {
        assert!(
            from.page_offset() + to.len() <= PAGE_SIZE,
            "{from} leaves its frame"
        );
        for (offset, byte) in to.iter_mut().enumerate() {
            *byte = self.load8(Maddr(from.0 + offset as u64));
        }
    }

    fn write_frame(&self, to: Maddr, from: &[u8]) {
        assert!(
            to.page_offset() + from.len() <= PAGE_SIZE,
            "{to} leaves its frame"
        );
        for (offset, byte) in from.iter().enumerate() {
            self.store8(Maddr(to.0 + offset as u64), *byte);
        }
    }
}

impl Machine for FakeMachine {
    fn copy_from_guest(&mut self, from: Vaddr, to: &mut [u8]) -> Result<(), Errno> {
        for (offset, byte) in to.iter_mut().enumerate() {
            *byte = self.load8(Self::resolve(from.0.wrapping_add(offset as u64))?);
        }
        Ok(())
    }

    fn copy_to_guest(&mut self, to: Vaddr, from: &[u8]) -> Result<(), Errno> {
        for (offset, byte) in from.iter().enumerate() {
            self.store8(Self::resolve(to.0.wrapping_add(offset as u64))?, *byte);
        }
        Ok(())
    }

    fn copy_page(&mut self, to: Mfn, from: Mfn) {
        for offset in (0..PAGE_SIZE as u64).step_by(8) {
            let word = self.load64(Maddr(from.addr().0 + offset));
            self.store64(Maddr(to.addr().0 + offset), word);
        }
    }

    fn clear_page(&mut self, mfn: Mfn) {
        assert!(self.is_ram(mfn), "no memory at frame {mfn}");
        self.frames.borrow_mut().remove(&mfn.0);
    }

    fn store_pte(&mut self, at: Maddr, value: u64) {
        self.store64(at, value);
    }

    fn cmpxchg_pte(&mut self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.cmpxchg64(at, old, new)
    }

    fn set_m2p(&mut self, mfn: Mfn, pfn: u64) {
        self.m2p.insert(mfn.0, pfn);
    }

    fn hole_entry(&self, _slot: usize) -> u64 {
        0
    }

    fn load_cr3(&mut self, _l4: Mfn) {}

    fn flush(&mut self, what: Flush) {
        self.flushed.push(what);
    }

    fn flush_vcpus(&mut self, _vcpus: u64, what: Flush) {
        self.flushed.push(what);
    }

    fn tsc(&self) -> u64 {
        0
    }

    fn set_timer(&mut self, _deadline: Option<u64>) {}

    fn kick(&self, vcpu: usize) {
        self.kicked.borrow_mut().push(vcpu);
    }

    fn host_bound(&self, port: u32) -> bool {
        self.bound.borrow().contains(&port)
    }

    fn notify_host(&self, port: u32) {
        self.notified.borrow_mut().push(port);
    }

    fn unbind_host(&self, port: u32) {
        self.bound.borrow_mut().remove(&port);
    }

    fn release_frames(&mut self, first: Mfn, count: u64) {
        for frame in first.0..first.0 + count {
            self.clear_page(Mfn(frame));
        }
        self.released.push((first.0, count));
    }

    fn console_write(&mut self, text: &[u8]) {
        self.console.extend_from_slice(text);
    }

    fn base(&self, _which: Base) -> u64 {
        0
    }

    fn set_base(&mut self, _which: Base, _value: u64) {}

    fn set_debugreg(&mut self, _nr: u32, _value: u64) {}

    fn debug_status(&self) -> u64 {
        0
    }

    fn set_task_switched(&mut self, _on: bool) {}

    fn load_gs_selector(&mut self, _selector: u16) -> Option<u64> {
        Some(0)
    }

    fn data_selectors(&self) -> [u16; 4] {
        [0; 4]
    }

    fn load_gdt(&mut self, _frames: &[Mfn], _entries: u32) {}

    fn load_ldt(&mut self, _frames: &[Mfn], _entries: u32) {}

    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> [u32; 4] {
        [0; 4]
    }

    fn watchdog(&mut self, _id: usize, _deadline: u64) {}

    fn shutdown(&mut self, _reason: u32) {}

    fn is_ending(&self) -> bool {
        let left = self.ends_after.get();
        self.ends_after.set(left.map(|left| left.saturating_sub(1)));
        left == Some(0)
    }

    fn crash(&mut self, why: &'static str, detail: u64) {
        panic!("the domain crashed: {why} ({detail:#x})");
    }
}

fn exchange<T: PartialEq + Copy>(at: &mut T, old: T, new: T) -> Result<T, T> {
    if *at != old {
        return Err(*at);
    }
    *at = new;
    Ok(old)
}
