//! The guest's CPU and memory as the host process sees them:
//! [`xenner_core::Machine`] over guest memory and a chain of ring-0 steps.

use std::sync::atomic::Ordering;

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xen_sys::errno::Errno;
use xenner_core::image::{M2P_BASE, VECTOR_FLUSH, VECTOR_KICK};
use xenner_core::mmu::{self, pte};
use xenner_core::{Base, Flush, Machine, Physical};

use super::Outside;
use super::asked::Asked;
use super::ring0::{Chain, Step};
use crate::shared::{CrashReport, DomainExit};

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const CR0_TS: u64 = 8;

/// One virtual CPU, while its thread answers for it.
pub struct HostMachine<'a> {
    outside: &'a Outside,
    id: usize,
    /// What ring 0 is to do.
    pub chain: Chain,
    /// Top-level table in force once the chain has run.
    pub cr3: Mfn,
    /// Segment bases, as ring 3 has them.
    pub fs_base: u64,
    /// See `fs_base`.
    pub gs_base: u64,
    /// CR0, CR2, DR6 as KVM tells them.
    pub cr0: u64,
    /// DR6.
    pub dr6: u64,
    /// DS, ES, FS and GS.
    pub data_selectors: [u16; 4],
    /// New timer deadline, if one was set: a time stamp, 0 for none.
    pub timer: Option<u64>,
    /// Debug registers to load.
    pub debug: Option<[u64; 8]>,
    debug_now: [u64; 8],
}

impl<'a> HostMachine<'a> {
    /// For a virtual CPU.
    pub fn new(outside: &'a Outside, id: usize) -> Self {
        Self {
            outside,
            id,
            chain: Chain::default(),
            cr3: outside.shared.hole.boot_l4,
            fs_base: 0,
            gs_base: 0,
            cr0: 0,
            dr6: 0xffff_0ff0,
            data_selectors: [0; 4],
            timer: None,
            debug: None,
            debug_now: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
        }
    }

    /// Adds a step; a guest that asks for more in one go than any sane one
    /// does is stopped.
    fn push(&mut self, step: Step) {
        if self.chain.fits() {
            self.chain.push(step);
        } else {
            self.crash("too many page table stores in one hypercall", 0);
        }
    }

    /// Where a guest-virtual address leads in the current address space.
    fn translate(&self, at: Vaddr, write: bool) -> Option<Maddr> {
        if mmu::in_hole(at) || !at.is_canonical() {
            return None;
        }
        let mut table = self.cr3;
        for level in [4u32, 3, 2, 1] {
            let index = at.0 >> (12 + 9 * (level - 1)) & 511;
            if !self.outside.is_ram(table) {
                return None;
            }
            let entry = self.load64(table.addr().offset(index * 8));
            if entry & pte::PRESENT == 0 || write && entry & pte::WRITABLE == 0 {
                return None;
            }
            if level > 1 && entry & pte::HUGE != 0 {
                let size = 1u64 << (12 + 9 * (level - 1));
                let base = entry & pte::FRAME & !(size - 1);
                return Some(Maddr(base + (at.0 & (size - 1))));
            }
            table = Maddr(entry & pte::FRAME).frame();
        }
        let found = table.addr().offset(at.page_offset() as u64);
        self.outside.is_ram(found.frame()).then_some(found)
    }

    /// Calls `access` for each piece of a guest-virtual range in one frame.
    fn pieces(
        &self,
        at: Vaddr,
        length: usize,
        write: bool,
        mut access: impl FnMut(Maddr, std::ops::Range<usize>) -> bool,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            let here = at.offset(done as u64);
            let piece = (length - done).min(PAGE_SIZE - here.page_offset());
            let found = self.translate(here, write).ok_or(Errno::EFAULT)?;
            if !access(found, done..done + piece) {
                return Err(Errno::EFAULT);
            }
            done += piece;
        }
        Ok(())
    }
}

impl Physical for HostMachine<'_> {
    fn is_ram(&self, mfn: Mfn) -> bool {
        self.outside.is_ram(mfn)
    }

    // Callers pass addresses of frames that `is_ram` admits, all of which are
    // mapped.
    fn load64(&self, at: Maddr) -> u64 {
        self.outside.memory.load64(at)
    }

    fn store64(&self, at: Maddr, value: u64) {
        self.outside.memory.store64(at, value);
    }

    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.outside.memory.cmpxchg64(at, old, new)
    }

    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32> {
        self.outside.memory.cmpxchg32(at, old, new)
    }

    fn load32(&self, at: Maddr) -> u32 {
        self.outside.memory.load32(at)
    }

    fn store32(&self, at: Maddr, value: u32) {
        self.outside.memory.store32(at, value);
    }

    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64 {
        self.outside.memory.fetch_or64(at, bits)
    }

    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64 {
        self.outside.memory.fetch_and64(at, bits)
    }

    fn store8(&self, at: Maddr, value: u8) {
        self.outside.memory.store8(at, value);
    }

    fn load8(&self, at: Maddr) -> u8 {
        self.outside.memory.load8(at)
    }

    fn read_frame(&self, from: Maddr, to: &mut [u8]) {
        self.outside.memory.read_frame(from, to);
    }

    fn write_frame(&self, to: Maddr, from: &[u8]) {
        self.outside.memory.write_frame(to, from);
    }
}

impl Machine for HostMachine<'_> {
    fn copy_from_guest(&mut self, from: Vaddr, to: &mut [u8]) -> Result<(), Errno> {
        let memory = &self.outside.memory;
        self.pieces(from, to.len(), false, |at, range| {
            memory.read(at, &mut to[range]).is_ok()
        })
    }

    fn copy_to_guest(&mut self, to: Vaddr, from: &[u8]) -> Result<(), Errno> {
        let memory = &self.outside.memory;
        self.pieces(to, from.len(), true, |at, range| {
            memory.write(at, &from[range]).is_ok()
        })
    }

    fn copy_page(&mut self, to: Mfn, from: Mfn) {
        let mut page = [0u8; PAGE_SIZE];
        self.read_frame(from.addr(), &mut page);
        self.write_frame(to.addr(), &page);
    }

    fn clear_page(&mut self, mfn: Mfn) {
        self.write_frame(mfn.addr(), &[0; PAGE_SIZE]);
    }

    /// The store is made at once, for whoever walks the tables next, and again
    /// by the guest's CPU when KVM may hold a copy of the entry: it does only
    /// of entries that were present and have been used.
    fn store_pte(&mut self, at: Maddr, value: u64) {
        let old = self.load64(at);
        self.store64(at, value);
        const USED: u64 = pte::PRESENT | pte::ACCESSED;
        if old & USED == USED && old != value {
            self.push(Step::Store { at, value });
        }
    }

    fn cmpxchg_pte(&mut self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        let found = self.cmpxchg64(at, old, new)?;
        if old & pte::PRESENT != 0 {
            self.push(Step::Store { at, value: new });
        }
        Ok(found)
    }

    fn set_m2p(&mut self, mfn: Mfn, pfn: u64) {
        if mfn.0 < self.outside.domain.config.m2p_entries {
            self.store64(Maddr(M2P_BASE + mfn.0 * 8), pfn);
        }
    }

    fn hole_entry(&self, slot: usize) -> u64 {
        self.outside
            .shared
            .hole
            .entries
            .get(slot.wrapping_sub(256))
            .copied()
            .unwrap_or(0)
    }

    fn load_cr3(&mut self, l4: Mfn) {
        self.cr3 = l4;
        self.push(Step::Cr3(l4.addr().0));
    }

    fn flush(&mut self, what: Flush) {
        match what {
            Flush::Page(at) => self.push(Step::Invlpg(at)),
            // Before its first address space there is nothing to drop.
            Flush::All if self.cr3.0 == 0 => {}
            Flush::All => self.push(Step::Cr3(self.cr3.addr().0)),
        }
    }

    /// A thread that is not in guest code flushes before it gets there; one
    /// that is, is interrupted and waited for.
    fn flush_vcpus(&mut self, vcpus: u64, _what: Flush) {
        let asked = |id: usize| self.outside.asked.get(id);
        for id in (0..64).filter(|id| vcpus >> id & 1 != 0) {
            if asked(id).is_some_and(Asked::flush) {
                self.interrupt(id, VECTOR_FLUSH);
            }
        }
        for id in (0..64).filter(|id| vcpus >> id & 1 != 0) {
            while asked(id).is_some_and(Asked::is_due) && !self.outside.shared.stopping() {
                std::thread::yield_now();
            }
        }
    }

    fn tsc(&self) -> u64 {
        crate::kvm::host_tsc()
    }

    fn set_timer(&mut self, deadline: Option<u64>) {
        self.timer = Some(deadline.unwrap_or(0));
    }

    fn kick(&self, vcpu: usize) {
        self.interrupt(vcpu, VECTOR_KICK);
    }

    fn host_bound(&self, port: u32) -> bool {
        self.outside.doorbell.is_bound(port)
    }

    fn notify_host(&self, port: u32) {
        self.outside.doorbell.ring(port);
    }

    fn unbind_host(&self, port: u32) {
        self.outside.doorbell.close(port);
    }

    fn release_frames(&mut self, first: Mfn, count: u64) {
        self.outside.memory.release(first, count);
    }

    fn console_write(&mut self, text: &[u8]) {
        if let Ok(mut console) = self.outside.shared.console.lock() {
            console(text);
        }
    }

    fn base(&self, which: Base) -> u64 {
        match which {
            Base::Fs => self.fs_base,
            Base::Gs => self.gs_base,
        }
    }

    fn set_base(&mut self, which: Base, value: u64) {
        let value = if Vaddr(value).is_canonical() {
            value
        } else {
            0
        };
        let (now, msr) = match which {
            Base::Fs => (&mut self.fs_base, FS_BASE),
            Base::Gs => (&mut self.gs_base, GS_BASE),
        };
        if *now != value {
            *now = value;
            self.push(Step::Wrmsr { msr, value });
        }
    }

    fn set_debugreg(&mut self, nr: u32, value: u64) {
        if let Some(slot) = self.debug_now.get_mut(nr as usize) {
            *slot = value;
            self.debug = Some(self.debug_now);
        }
    }

    fn debug_status(&self) -> u64 {
        self.dr6
    }

    fn set_task_switched(&mut self, on: bool) {
        let wanted = if on {
            self.cr0 | CR0_TS
        } else {
            self.cr0 & !CR0_TS
        };
        if wanted != self.cr0 {
            self.cr0 = wanted;
            self.push(Step::Cr0(wanted));
        }
    }

    /// Ring 3 loads selectors natively there, from the host's own table: only
    /// the null selector means the same.
    fn load_gs_selector(&mut self, selector: u16) -> Option<u64> {
        (selector & !3 == 0).then_some(0)
    }

    fn data_selectors(&self) -> [u16; 4] {
        self.data_selectors
    }

    fn load_gdt(&mut self, _frames: &[Mfn], _entries: u32) {}

    fn load_ldt(&mut self, _frames: &[Mfn], _entries: u32) {}

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.outside.cpuid.find(self.id, leaf, subleaf)
    }

    fn watchdog(&mut self, id: usize, deadline: u64) {
        let now = xenner_core::time::now(self, &self.outside.domain);
        let left = std::time::Duration::from_nanos(deadline.saturating_sub(now));
        self.outside
            .shared
            .set_watchdog(id, (deadline != 0).then_some(left));
    }

    fn shutdown(&mut self, reason: u32) {
        self.outside
            .shared
            .end(DomainExit::from_reason(reason.into(), self.id));
    }

    fn is_ending(&self) -> bool {
        self.outside.shared.stopping()
    }

    fn crash(&mut self, why: &'static str, detail: u64) {
        self.outside.domain.shut_down.store(true, Ordering::Release);
        self.outside.shared.end(DomainExit::Killed(CrashReport {
            reason: format!("{why} {detail:#x}"),
            vcpu: self.id,
        }));
    }
}

impl HostMachine<'_> {
    fn interrupt(&self, vcpu: usize, vector: u8) {
        crate::kvm::interrupt(&self.outside.vm, vcpu, vector);
    }
}
