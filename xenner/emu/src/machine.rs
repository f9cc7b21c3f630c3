//! The guest's CPU and memory as ring 0 sees them: [`xenner_core::Machine`]
//! over the direct map.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xen_sys::errno::Errno;
use xenner_core::image::*;
use xenner_core::mmu::pte;
use xenner_core::{Base, Flush, MAX_VCPUS, Machine, Physical, mmu};

use crate::cpu::{CPUS, Cpu, LDT_SELECTOR, system_descriptor};
use crate::{host, stubs};

const FS_BASE: u32 = 0xc000_0100;
/// The guest's GS base while ring 0 runs with its own.
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The running virtual CPU.
pub struct Ring0 {
    cpu: *mut Cpu,
}

impl Ring0 {
    /// The machine of the virtual CPU whose memory this is.
    pub fn new(cpu: *mut Cpu) -> Self {
        Self { cpu }
    }

    /// Its number.
    fn id(&self) -> usize {
        // SAFETY: `cpu` is this virtual CPU's memory.
        unsafe { (*self.cpu).id }
    }

    /// The timer is not set any more.
    pub fn timer_fired(&mut self) {
        // SAFETY: `cpu` is this virtual CPU's memory.
        unsafe { (*self.cpu).deadline = 0 };
    }

    /// Does what other virtual CPUs asked by [`Machine::flush_vcpus`].
    pub fn answer_flush(&mut self) {
        // SAFETY: `cpu` is this virtual CPU's memory; `flush` is atomic.
        let asked = unsafe { &(*self.cpu).flush };
        if asked.load(Ordering::Acquire) != 0 {
            self.flush(Flush::All);
            asked.store(0, Ordering::Release);
        }
    }
}

/// Where guest-physical memory appears.
fn direct(at: Maddr) -> *mut u8 {
    (DIRECT_MAP + at.0) as *mut u8
}

/// The atomic word at `at`.
///
/// # Safety
/// `at` is aligned for `T` and lies in memory of the virtual machine, all of
/// which is in the direct map for good.
unsafe fn word<T>(at: Maddr) -> &'static T {
    // SAFETY: per the contract; atomics may be shared with the guest.
    unsafe { &*direct(at).cast() }
}

/// Writes a model-specific register.
///
/// # Safety
/// The value keeps ring 0 working.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: per the contract.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register that exists.
fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; callers name registers KVM always has.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Whether RDGSBASE and its like are there and switched on.
pub fn has_fsgsbase() -> bool {
    let cr4: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nostack, nomem, preserves_flags)) };
    cr4 >> 16 & 1 != 0
}

/// Whether a guest-virtual range keeps clear of the emulator's.
fn guest_range(at: Vaddr, bytes: usize) -> Result<(), Errno> {
    let last =
        at.0.checked_add(bytes.saturating_sub(1) as u64)
            .ok_or(Errno::EFAULT)?;
    if mmu::in_hole(at) || mmu::in_hole(Vaddr(last)) || (at.0 as i64) < 0 && at.0 < DIRECT_MAP {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// Shows each virtual CPU its descriptor tables' pages.
pub fn map_tables(cpu: &mut Cpu) {
    let own = &raw const cpu.gdt as u64 - DIRECT_MAP;
    table_page(cpu.id, 14, own | pte::PRESENT | pte::WRITABLE);
    table_page(cpu.id, 0, own | pte::PRESENT | pte::WRITABLE);
}

/// Sets what page `page` of a virtual CPU's descriptor tables shows.
fn table_page(cpu: usize, page: usize, entry: u64) {
    let index = cpu * 32 + page;
    // SAFETY: the element lies in the table; only virtual CPU `cpu` writes it.
    unsafe {
        (&raw mut host::TABLES_L1.0[index]).write_volatile(entry);
        invlpg(TABLES + cpu as u64 * TABLES_SIZE + page as u64 * PAGE_SIZE as u64);
    }
}

/// # Safety
/// None: dropping a translation is always sound.
unsafe fn invlpg(at: u64) {
    // SAFETY: see above.
    unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
}

impl Physical for Ring0 {
    fn is_ram(&self, mfn: Mfn) -> bool {
        let config = &host::domain().config;
        mfn.0.wrapping_sub(config.ram_base.0) < config.ram_pages
            || mfn.0.wrapping_sub(config.heap_base.0) < config.heap_pages
            || mfn == config.shared_info
    }

    fn load64(&self, at: Maddr) -> u64 {
        // SAFETY: callers pass aligned addresses in RAM.
        unsafe { word::<AtomicU64>(at) }.load(Ordering::Acquire)
    }

    fn store64(&self, at: Maddr, value: u64) {
        // SAFETY: as above.
        unsafe { word::<AtomicU64>(at) }.store(value, Ordering::Release);
    }

    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        // SAFETY: as above.
        unsafe { word::<AtomicU64>(at) }.compare_exchange(
            old,
            new,
            Ordering::SeqCst,
            Ordering::SeqCst,
        )
    }

    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32> {
        // SAFETY: as above.
        unsafe { word::<AtomicU32>(at) }.compare_exchange(
            old,
            new,
            Ordering::SeqCst,
            Ordering::SeqCst,
        )
    }

    fn load32(&self, at: Maddr) -> u32 {
        // SAFETY: as above.
        unsafe { word::<AtomicU32>(at) }.load(Ordering::Acquire)
    }

    fn store32(&self, at: Maddr, value: u32) {
        // SAFETY: as above.
        unsafe { word::<AtomicU32>(at) }.store(value, Ordering::Release);
    }

    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { word::<AtomicU64>(at) }.fetch_or(bits, Ordering::SeqCst)
    }

    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { word::<AtomicU64>(at) }.fetch_and(bits, Ordering::SeqCst)
    }

    fn store8(&self, at: Maddr, value: u8) {
        // SAFETY: as above.
        unsafe { word::<AtomicU8>(at) }.store(value, Ordering::Release);
    }

    fn load8(&self, at: Maddr) -> u8 {
        // SAFETY: as above.
        unsafe { word::<AtomicU8>(at) }.load(Ordering::Acquire)
    }

    fn read_frame(&self, from: Maddr, to: &mut [u8]) {
        // SAFETY: the bytes lie in one frame of RAM; a guest that writes them
        // meanwhile gives bytes of both times, no more.
        unsafe { stubs::copy_user(to.as_mut_ptr(), direct(from), to.len()) };
    }

    fn write_frame(&self, to: Maddr, from: &[u8]) {
        // SAFETY: as above.
        unsafe { stubs::copy_user(direct(to), from.as_ptr(), from.len()) };
    }
}

impl Machine for Ring0 {
    fn copy_from_guest(&mut self, from: Vaddr, to: &mut [u8]) -> Result<(), Errno> {
        guest_range(from, to.len())?;
        // SAFETY: `to` is ours; a fault on the guest's side is caught.
        match unsafe { stubs::copy_user(to.as_mut_ptr(), from.0 as *const u8, to.len()) } {
            0 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn copy_to_guest(&mut self, to: Vaddr, from: &[u8]) -> Result<(), Errno> {
        guest_range(to, from.len())?;
        // SAFETY: the range is the guest's, whatever lies there is its own
        // business; a fault is caught.
        match unsafe { stubs::copy_user(to.0 as *mut u8, from.as_ptr(), from.len()) } {
            0 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn copy_page(&mut self, to: Mfn, from: Mfn) {
        // SAFETY: both are whole frames of RAM.
        unsafe {
            asm!("rep movsq", inout("rcx") 512usize => _, inout("rdi") direct(to.addr()) => _, inout("rsi") direct(from.addr()) => _, options(nostack, preserves_flags));
        }
    }

    fn clear_page(&mut self, mfn: Mfn) {
        // SAFETY: a whole frame of RAM.
        unsafe {
            asm!("rep stosq", inout("rcx") 512usize => _, inout("rdi") direct(mfn.addr()) => _, in("rax") 0u64, options(nostack, preserves_flags));
        }
    }

    fn store_pte(&mut self, at: Maddr, value: u64) {
        self.store64(at, value);
    }

    fn cmpxchg_pte(&mut self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.cmpxchg64(at, old, new)
    }

    fn set_m2p(&mut self, mfn: Mfn, pfn: u64) {
        if mfn.0 < host::domain().config.m2p_entries {
            self.store64(Maddr(M2P_BASE + mfn.0 * 8), pfn);
        }
    }

    fn hole_entry(&self, slot: usize) -> u64 {
        host::boot()
            .hole
            .get(slot.wrapping_sub(256))
            .copied()
            .unwrap_or(0)
    }

    fn load_cr3(&mut self, l4: Mfn) {
        // SAFETY: every top-level table has the emulator's own slots.
        unsafe { asm!("mov cr3, {}", in(reg) l4.addr().0, options(nostack, preserves_flags)) };
    }

    fn flush(&mut self, what: Flush) {
        // SAFETY: dropping translations is always sound.
        unsafe {
            match what {
                Flush::Page(at) => invlpg(at.0),
                Flush::All => {
                    asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
                }
            }
        }
    }

    fn flush_vcpus(&mut self, vcpus: u64, _what: Flush) {
        // SAFETY: `flush` and `halted` are atomic and the only fields others
        // touch.
        let asked = |id: usize| unsafe { &(*(&raw const CPUS[id]).cast::<Cpu>()).flush };
        // SAFETY: as above.
        let halted = |id: usize| unsafe { &(*(&raw const CPUS[id]).cast::<Cpu>()).halted };
        let chosen = || (0..MAX_VCPUS).filter(|id| vcpus >> id & 1 != 0);
        for id in chosen() {
            asked(id).store(1, Ordering::SeqCst);
            if halted(id).load(Ordering::SeqCst) == 0 {
                self.send_ipi(id, VECTOR_FLUSH);
            }
        }
        for id in chosen() {
            while asked(id).load(Ordering::Acquire) != 0 && halted(id).load(Ordering::SeqCst) == 0 {
                // Whoever waits for us must not wait for ever.
                self.answer_flush();
                core::hint::spin_loop();
            }
        }
    }

    fn tsc(&self) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reads a counter.
        unsafe {
            asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags))
        };
        u64::from(high) << 32 | u64::from(low)
    }

    fn set_timer(&mut self, deadline: Option<u64>) {
        // SAFETY: `cpu` is this virtual CPU's memory.
        let set = unsafe { &mut (*self.cpu).deadline };
        let deadline = deadline.unwrap_or(0);
        if *set != deadline {
            *set = deadline;
            // SAFETY: the deadline timer interrupts with a vector of ours.
            unsafe { wrmsr(0x6e0, deadline) };
        }
    }

    fn kick(&self, vcpu: usize) {
        self.send_ipi(vcpu, VECTOR_KICK);
    }

    fn host_bound(&self, port: u32) -> bool {
        let word = host::doorbells().bound.get(port as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (port % 64) & 1 != 0)
    }

    fn notify_host(&self, port: u32) {
        host::ring(port);
    }

    fn unbind_host(&self, port: u32) {
        if let Some(word) = host::doorbells().bound.get(port as usize / 64) {
            word.fetch_and(!(1 << (port % 64)), Ordering::AcqRel);
        }
    }

    fn release_frames(&mut self, first: Mfn, count: u64) {
        host::call(CALL_RELEASE, first.0, count);
    }

    fn console_write(&mut self, text: &[u8]) {
        host::call(CALL_CONSOLE, text.as_ptr() as u64, text.len() as u64);
    }

    fn base(&self, which: Base) -> u64 {
        match which {
            Base::Fs => rdmsr(FS_BASE),
            Base::Gs => rdmsr(KERNEL_GS_BASE),
        }
    }

    fn set_base(&mut self, which: Base, value: u64) {
        let msr = match which {
            Base::Fs => FS_BASE,
            Base::Gs => KERNEL_GS_BASE,
        };
        // SAFETY: callers check that the value is canonical; ring 0's own GS
        // base is the other one.
        unsafe {
            wrmsr(
                msr,
                if Vaddr(value).is_canonical() {
                    value
                } else {
                    0
                },
            )
        };
    }

    fn set_debugreg(&mut self, nr: u32, value: u64) {
        // SAFETY: breakpoints lie outside the emulator, checked by the caller.
        unsafe {
            match nr {
                0 => asm!("mov dr0, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                1 => asm!("mov dr1, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                2 => asm!("mov dr2, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                3 => asm!("mov dr3, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                6 => asm!("mov dr6, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                7 => asm!("mov dr7, {}", in(reg) value, options(nostack, nomem, preserves_flags)),
                _ => {}
            }
        }
    }

    fn debug_status(&self) -> u64 {
        let value: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, dr6", out(reg) value, options(nostack, nomem, preserves_flags)) };
        value
    }

    fn set_task_switched(&mut self, on: bool) {
        // SAFETY: ring 0 uses no floating point.
        unsafe {
            if on {
                asm!("mov {0}, cr0", "or {0}, 8", "mov cr0, {0}", out(reg) _, options(nostack));
            } else {
                asm!("clts", options(nostack, nomem, preserves_flags));
            }
        }
    }

    fn load_gs_selector(&mut self, selector: u16) -> Option<u64> {
        const GS_BASE: u32 = 0xc000_0101;
        let own = rdmsr(GS_BASE);
        // SAFETY: a fault is caught; GS base is put back before it is used.
        unsafe {
            let failed = stubs::load_gs(selector.into()) != 0;
            if failed {
                stubs::load_gs(0);
            }
            let base = rdmsr(GS_BASE);
            wrmsr(GS_BASE, own);
            (!failed).then_some(base)
        }
    }

    fn data_selectors(&self) -> [u16; 4] {
        let (ds, es, fs, gs): (u64, u64, u64, u64);
        // SAFETY: reads registers, which hold the guest's: ring 0 uses none.
        unsafe {
            asm!("mov {}, ds", "mov {}, es", "mov {}, fs", "mov {}, gs",
                out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs,
                options(nostack, nomem, preserves_flags));
        }
        [ds as u16, es as u16, fs as u16, gs as u16]
    }

    fn load_gdt(&mut self, frames: &[Mfn], _entries: u32) {
        let id = self.id();
        for page in 0..14 {
            let entry = frames
                .get(page)
                .map_or(0, |f| f.addr().0 | pte::PRESENT | pte::WRITABLE);
            table_page(id, page, entry);
        }
        if frames.is_empty() {
            // SAFETY: `cpu` is this virtual CPU's memory.
            map_tables(unsafe { &mut *self.cpu });
        }
    }

    fn load_ldt(&mut self, frames: &[Mfn], entries: u32) {
        let id = self.id();
        for page in 0..16 {
            let entry = frames
                .get(page)
                .map_or(0, |f| f.addr().0 | pte::PRESENT | pte::WRITABLE);
            table_page(id, 16 + page, entry);
        }
        let selector = if entries == 0 { 0 } else { LDT_SELECTOR };
        let base = TABLES + id as u64 * TABLES_SIZE + 16 * PAGE_SIZE as u64;
        let [low, high] = system_descriptor(base, (entries * 8).saturating_sub(1), 2);
        let slot = (LDT_SELECTOR as usize - xen_sys::arch_x86::FIRST_RESERVED_GDT_BYTE) >> 3;
        // SAFETY: this virtual CPU's own table, and a descriptor just made.
        unsafe {
            (&raw mut (*self.cpu).gdt[slot]).write_volatile(low);
            (&raw mut (*self.cpu).gdt[slot + 1]).write_volatile(high);
            asm!("lldt {0:x}", in(reg) selector, options(nostack, preserves_flags));
        }
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let found = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        [found.eax, found.ebx, found.ecx, found.edx]
    }

    fn watchdog(&mut self, id: usize, deadline: u64) {
        let now = xenner_core::time::now(self, host::domain());
        host::call3(
            CALL_WATCHDOG,
            id as u64,
            deadline,
            deadline.saturating_sub(now),
        );
    }

    fn shutdown(&mut self, reason: u32) {
        host::call(CALL_SHUTDOWN, reason.into(), 0);
    }

    fn crash(&mut self, why: &'static str, detail: u64) {
        host::domain().shut_down.store(true, Ordering::Release);
        host::epitaph(why, detail, self.id() as u64);
    }
}

impl Ring0 {
    fn send_ipi(&self, vcpu: usize, vector: u8) {
        const ICR: u32 = 0x830;
        // SAFETY: the vector is one of ours.
        unsafe { wrmsr(ICR, (vcpu as u64) << 32 | u64::from(vector)) };
    }
}
