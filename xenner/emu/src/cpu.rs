//! One virtual CPU: its tables, its stack, and what each entry does.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_sys::addr::Vaddr;
use xen_sys::arch_x86::{
    FIRST_RESERVED_GDT_BYTE, FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_SS64,
};
use xen_sys::xen::VMASST_TYPE_architectural_iopl;
use xenner_core::entry::{self, Next};
use xenner_core::image::*;
use xenner_core::{Domain, MAX_VCPUS, Regs, Vcpu, evtchn, hypercall};

use crate::host;
use crate::machine::{self, Ring0};
use crate::stubs;

const STACK: usize = 16 * 1024;

/// A virtual CPU's memory. Assembly knows `scratch`, `stack_end` and the size.
#[repr(C, align(4096))]
pub struct Cpu {
    /// The page of Xen's reserved descriptors, at selector 0xe000.
    pub gdt: [u64; 512],
    /// Its own address, also in GS base while in ring 0.
    pub this: u64,
    /// End of the stack.
    pub stack_end: u64,
    /// Where SYSCALL's entry keeps the guest's RSP for a moment.
    pub scratch: u64,
    /// Where `HYPERVISOR_iret` keeps RCX.
    pub scratch_rcx: u64,
    /// Address of the `vcpu_info`.
    pub info: u64,
    /// Whether the short ways of `fast.rs` may be taken.
    pub usual: bool,
    /// `Config::kernel_cs`.
    pub kernel_cs: u64,
    /// `Config::kernel_ss`.
    pub kernel_ss: u64,
    /// Its number.
    pub id: usize,
    tss: [u8; 104],
    /// Translations another virtual CPU wants dropped: bit 0 asks for it.
    pub flush: AtomicU64,
    /// 1 while it waits in HLT: it answers `flush` before it runs the guest.
    pub halted: AtomicU64,
    /// What the timer is set to, 0 for nothing.
    pub deadline: u64,
    /// KVM sets bit 0 when an interrupt needs no EOI.
    pv_eoi: AtomicU32,
    /// The Xen ABI's state.
    pub vcpu: Vcpu,
    stack: [u8; STACK],
}

impl Cpu {
    /// Offset of the end of the stack; the CPU aligns it to 16 bytes.
    pub const STACK_END: usize = (offset_of!(Self, stack) + STACK) & !15;
}

/// All virtual CPUs, zero until [`emu_start`] fills in its own. Each is touched
/// by itself only, but for `flush` and `halted`.
pub static mut CPUS: [core::mem::MaybeUninit<Cpu>; MAX_VCPUS] =
    [const { core::mem::MaybeUninit::zeroed() }; MAX_VCPUS];

/// The interrupt descriptor table, shared by all virtual CPUs.
static mut IDT: [[u64; 2]; 256] = [[0; 2]; 256];

/// The virtual CPU that runs this.
fn this() -> *mut Cpu {
    let cpu: *mut Cpu;
    // SAFETY: in ring 0 GS base is the address of this virtual CPU's `Cpu`,
    // whose field `this` holds it too.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) cpu, const offset_of!(Cpu, this), options(nostack, readonly, preserves_flags))
    };
    cpu
}

/// Selectors in the reserved page, as on Xen.
const RING0_CS: u16 = 0xe008;
const TSS_SELECTOR: u16 = 0xe040;
/// Local descriptor table selector.
pub const LDT_SELECTOR: u16 = 0xe050;

const CODE64_RING3: u64 = 0x00af_fb00_0000_ffff;
const CODE32_RING3: u64 = 0x00cf_fb00_0000_ffff;
const DATA_RING3: u64 = 0x00cf_f300_0000_ffff;
const CODE64_RING0: u64 = 0x00af_9b00_0000_ffff;
const DATA_RING0: u64 = 0x00cf_9300_0000_ffff;

/// A system segment's two descriptor words.
pub fn system_descriptor(base: u64, limit: u32, kind: u64) -> [u64; 2] {
    let low = u64::from(limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | kind << 40
        | 1 << 47
        | u64::from(limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

/// Fills the reserved descriptors and the page that stands in for the guest's
/// until it sets its own.
fn fill_gdt(cpu: &mut Cpu, tss: u64) {
    let slot = |selector: u16| (selector as usize - FIRST_RESERVED_GDT_BYTE) >> 3;
    cpu.gdt[slot(RING0_CS)] = CODE64_RING0;
    cpu.gdt[slot(RING0_CS) + 1] = DATA_RING0;
    cpu.gdt[slot(FLAT_RING3_CS32)] = CODE32_RING3;
    cpu.gdt[slot(FLAT_RING3_SS64)] = DATA_RING3;
    cpu.gdt[slot(FLAT_RING3_CS64)] = CODE64_RING3;
    // A pagetable-based KVM runs ring 3 with these three, which stand where
    // the guest's own table has the same.
    (cpu.gdt[4], cpu.gdt[5], cpu.gdt[6]) = (CODE32_RING3, DATA_RING3, CODE64_RING3);
    let [low, high] = system_descriptor(tss, 103, 9);
    (cpu.gdt[slot(TSS_SELECTOR)], cpu.gdt[slot(TSS_SELECTOR) + 1]) = (low, high);
}

fn fill_idt() {
    let base = &raw const stubs::stub_table as u64;
    let table = &raw mut IDT;
    // SAFETY: the first virtual CPU fills the table before any other starts.
    let idt = unsafe { &mut *table };
    for (vector, gate) in idt.iter_mut().enumerate() {
        let target = match vector {
            1 => &raw const stubs::debug_entry as u64,
            2 => &raw const stubs::nmi_entry as u64,
            14 if machine::has_fsgsbase() => &raw const stubs::page_fault_entry as u64,
            _ => base + vector as u64 * 16,
        };
        // Breakpoints, overflow and the system call vector may be raised by
        // ring 3 itself; double faults and NMIs get a stack of their own.
        let dpl: u64 = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let ist: u64 = match vector {
            2 => 1,
            8 => 2,
            18 => 3,
            1 => 4,
            _ => 0,
        };
        let low = target & 0xffff
            | u64::from(RING0_CS) << 16
            | ist << 32
            | (0x8e | dpl << 5) << 40
            | (target >> 16 & 0xffff) << 48;
        *gate = [low, target >> 32];
    }
}

/// Puts this virtual CPU's tables in force.
fn load_tables(cpu: &mut Cpu) {
    let stack_end = cpu as *mut Cpu as u64 + Cpu::STACK_END as u64;
    cpu.this = cpu as *mut Cpu as u64;
    cpu.stack_end = stack_end;
    let word = |tss: &mut [u8; 104], at: usize, value: u64| {
        tss[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    word(&mut cpu.tss, 4, stack_end);
    // Their own stacks lie at the cold end of the same one.
    for ist in 0..4 {
        let end = stack_end - STACK as u64 + 1024 * (ist + 1);
        word(&mut cpu.tss, 36 + 8 * ist as usize, end);
    }
    cpu.tss[102..104].copy_from_slice(&104u16.to_le_bytes());
    let tss = cpu.tss.as_ptr() as u64;
    fill_gdt(cpu, tss);
    crate::machine::map_tables(cpu);
    let table = |base: u64, limit: u16| {
        let mut pseudo = [0u8; 10];
        pseudo[..2].copy_from_slice(&limit.to_le_bytes());
        pseudo[2..].copy_from_slice(&base.to_le_bytes());
        pseudo
    };
    let gdt = table(TABLES + cpu.id as u64 * TABLES_SIZE, 0xefff);
    let idt = table(&raw const IDT as u64, 0xfff);
    // SAFETY: both tables are in place and stay; the code selector names a
    // 64-bit ring 0 segment, so the far return continues right after itself.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "lidt [{idt}]",
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "xor {tmp:e}, {tmp:e}",
            "mov ss, {tmp:e}",
            "mov ds, {tmp:e}",
            "mov es, {tmp:e}",
            "mov fs, {tmp:e}",
            "mov gs, {tmp:e}",
            "mov {tmp:e}, {tss}",
            "ltr {tmp:x}",
            gdt = in(reg) gdt.as_ptr(),
            idt = in(reg) idt.as_ptr(),
            cs = in(reg) u64::from(RING0_CS),
            tss = const TSS_SELECTOR,
            tmp = out(reg) _,
        );
        set_msrs(cpu.this);
    }
}

/// # Safety
/// `cpu` is the address of this virtual CPU's `Cpu`.
unsafe fn set_msrs(cpu: u64) {
    use crate::machine::wrmsr;
    const STAR: u64 = 0x0023_0000_0000_0000 | (RING0_CS as u64) << 32;
    // SAFETY: the entry points lie in this image and expect GS base as set.
    unsafe {
        wrmsr(0xc000_0101, cpu);
        wrmsr(0xc000_0102, 0);
        wrmsr(0xc000_0081, STAR);
        let entry = if machine::has_fsgsbase() {
            &raw const stubs::syscall_entry
        } else {
            &raw const stubs::syscall_entry_msr
        };
        wrmsr(0xc000_0082, entry as u64);
        wrmsr(0xc000_0083, &raw const stubs::syscall32_entry as u64);
        // Interrupts, traps, direction, nested task, alignment check off.
        wrmsr(0xc000_0084, 0x4_7700);
        // KVM's own: an EOI by memory instead of an exit. Every KVM has it, and
        // one that had not would refuse it.
        const PV_EOI_EN: u32 = 0x4b56_4d04;
        let eoi = cpu - DIRECT_MAP + offset_of!(Cpu, pv_eoi) as u64;
        stubs::try_wrmsr(PV_EOI_EN, eoi | 1);
        // x2APIC: software enable; the timer's vector, in deadline mode.
        wrmsr(0x80f, 0x1ff);
        wrmsr(0x808, 0);
        wrmsr(0x832, 2 << 17 | u64::from(VECTOR_TIMER));
    }
}

/// A virtual CPU starts. Returns when its guest is to run.
#[unsafe(no_mangle)]
extern "C" fn emu_start(id: usize) {
    // SAFETY: the host starts each virtual CPU once, with its own number, so
    // this is the only reference to the element.
    let cpu = unsafe {
        let cpu = (&raw mut CPUS[id]).cast::<Cpu>();
        (&raw mut (*cpu).id).write(id);
        (&raw mut (*cpu).vcpu).write(Vcpu::new(id));
        // Zero is a value of every other field.
        &mut *cpu
    };
    if id == 0 {
        fill_idt();
    }
    load_tables(cpu);
    if id == 0 {
        host::set_up_domain(&mut Ring0::new(this()));
    }
    // SAFETY: the registers' place at the end of the stack is reserved by
    // `emu_entry`, which leaves through it.
    let regs = unsafe { &mut *((cpu.stack_end as usize - size_of::<Regs>()) as *mut Regs) };
    *regs = Regs::default();
    let mut m = Ring0::new(this());
    if id == 0 {
        let context = &host::boot().context;
        cpu.vcpu.started = true;
        cpu.vcpu.down = false;
        entry_runstate(&mut m, &mut cpu.vcpu);
        xenner_core::vcpu_op::load_context(&mut m, host::domain(), &mut cpu.vcpu, regs, context);
    }
    // Whoever asked before the interrupt controller was on sent in vain.
    m.answer_flush();
    run(&mut m, host::domain(), &mut cpu.vcpu, regs);
    refresh(cpu, host::domain());
}

fn entry_runstate(m: &mut Ring0, v: &mut Vcpu) {
    xenner_core::vcpu_op::enter_runstate(m, host::domain(), v, 0);
}

/// Brings up to date what `fast.rs` goes by, after a change that may concern it.
fn refresh(cpu: &mut Cpu, d: &Domain) {
    const ARCHITECTURAL_IOPL: u64 = 1 << VMASST_TYPE_architectural_iopl;
    let v = &cpu.vcpu;
    cpu.info = DIRECT_MAP + d.vcpus[v.id].vcpu_info().0;
    cpu.kernel_cs = d.config.kernel_cs.into();
    cpu.kernel_ss = d.config.kernel_ss.into();
    // SYSRETQ takes them as they are.
    let usable = |address| address != 0 && Vaddr(address).is_canonical();
    cpu.usual = usable(v.syscall.address)
        && usable(v.gates[14].address)
        && d.vm_assist.load(Ordering::Relaxed) & ARCHITECTURAL_IOPL == 0;
}

/// Passes through `resume` until the guest may run.
fn run(m: &mut Ring0, d: &Domain, v: &mut Vcpu, r: &mut Regs) {
    while entry::resume(m, d, v, r) == Next::Wait {
        // SAFETY: `halted` is atomic.
        let halted = unsafe { &(*this()).halted };
        halted.store(1, Ordering::SeqCst);
        // SAFETY: interrupts are taken by `ring0` in the stubs, which leaves
        // everything as it was but for the step over HLT.
        unsafe { stubs::wait_for_interrupt() };
        // Pairs with the load in `flush_vcpus`: whoever still sees us halted
        // has asked before we look.
        halted.store(0, Ordering::SeqCst);
        m.answer_flush();
        after_interrupts(m, d, v);
    }
}

/// Interrupt vectors that arrived since last looked at.
static ARRIVED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

fn note_interrupt(id: usize, vector: u8) {
    ARRIVED[id].fetch_or(1 << (vector & 31), Ordering::Relaxed);
    // SAFETY: `pv_eoi` is atomic, and nobody has a reference to more.
    let pv_eoi = unsafe { &(*(&raw const CPUS[id]).cast::<Cpu>()).pv_eoi };
    if pv_eoi.fetch_and(!1, Ordering::AcqRel) & 1 == 0 {
        // SAFETY: end of interrupt.
        unsafe { crate::machine::wrmsr(0x80b, 0) };
    }
}

/// Acts on interrupts that have arrived.
fn after_interrupts(m: &mut Ring0, d: &Domain, v: &mut Vcpu) {
    let arrived = ARRIVED[v.id].swap(0, Ordering::Relaxed);
    let has = |vector: u8| arrived >> (vector & 31) & 1 != 0;
    if has(VECTOR_FLUSH) {
        m.answer_flush();
    }
    if has(VECTOR_TIMER) {
        m.timer_fired();
        entry::timer(m, d, v);
    }
    if has(VECTOR_HOST) {
        for (word, bits) in host::doorbells().to_guest.iter().enumerate() {
            let mut bits = bits.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let port = word as u32 * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                evtchn::deliver(m, d, v.id, port);
            }
        }
    }
}

/// The machine, the domain and this virtual CPU's state, for an entry.
fn entered() -> (Ring0, &'static Domain, &'static mut Vcpu) {
    // SAFETY: this virtual CPU's own state; entries do not nest, since ring 0
    // runs with interrupts off, and each takes this once.
    let vcpu = unsafe { &mut (*this()).vcpu };
    (Ring0::new(this()), host::domain(), vcpu)
}

/// SYSRETQ gives the kernel the selectors of user mode. Nothing in the kernel's
/// descriptor table need stand behind them when IRETQ is to load them.
fn settle_selectors(d: &Domain, v: &Vcpu, r: &mut Regs) {
    if v.in_kernel && r.cs == 0x33 {
        r.cs = d.config.kernel_cs.into();
    }
    if v.in_kernel && r.ss == 0x2b {
        r.ss = d.config.kernel_ss.into();
    }
}

/// An exception or interrupt from ring 3.
#[unsafe(no_mangle)]
extern "C" fn emu_trap(r: &mut Regs) {
    let (mut machine, d, v) = entered();
    let m = &mut machine;
    settle_selectors(d, v, r);
    let (code, vector) = (r.error_code as u32, (r.error_code >> 32) as u8);
    match vector {
        14 => {
            let cr2: u64;
            // SAFETY: reads a register.
            unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
            entry::exception(m, d, v, r, 14, code, cr2);
        }
        8 | 18 => host::die("Double fault or machine check: vector", &[0, vector.into()]),
        0xff => xenner_core::trap::iret_failed(m, d, v, r),
        0x80 => entry::software_interrupt(m, d, v, r, 0x80),
        vector if vector >= 32 => {
            note_interrupt(v.id, vector);
            after_interrupts(m, d, v);
        }
        vector => entry::exception(m, d, v, r, vector, code, 0),
    }
    run(m, d, v, r);
}

/// A 64-bit system call instruction, the long way.
#[unsafe(no_mangle)]
extern "C" fn emu_syscall(r: &mut Regs) {
    let (mut machine, d, v) = entered();
    let m = &mut machine;
    settle_selectors(d, v, r);
    entry::syscall(m, d, v, r);
    run(m, d, v, r);
}

/// A hypercall other than `HYPERVISOR_iret`; the registers a function keeps
/// are not in `r` yet. Nonzero when [`emu_resume`] is to follow.
#[unsafe(no_mangle)]
extern "C" fn emu_hypercall(r: &mut Regs) -> u32 {
    let (mut machine, d, v) = entered();
    let m = &mut machine;
    let common = hypercall::is_common(r.rax);
    hypercall::call(m, d, v, r);
    let settled = common && !core::mem::take(&mut v.unsettled);
    (!settled || evtchn::upcall_due(m, d, v.id)).into()
}

/// What is left to do after a hypercall.
#[unsafe(no_mangle)]
extern "C" fn emu_resume(r: &mut Regs) {
    let (mut machine, d, v) = entered();
    let m = &mut machine;
    run(m, d, v, r);
    // SAFETY: as in `entered`; `v` is not used any more.
    refresh(unsafe { &mut *this() }, d);
}

/// A system call instruction in compatibility mode.
#[unsafe(no_mangle)]
extern "C" fn emu_syscall32(r: &mut Regs) {
    let (mut machine, d, v) = entered();
    let m = &mut machine;
    entry::syscall32(m, d, v, r, false);
    run(m, d, v, r);
}

/// A fault of the emulator, or an interrupt while it waits. GS base may be the
/// guest's: an interrupt that meets the first instruction of another's stub
/// (seen where KVM itself runs nested) comes before the exchange.
#[unsafe(no_mangle)]
extern "C" fn emu_ring0(r: &mut Regs) {
    let vector = (r.error_code >> 32) as u8;
    let from = &raw const CPUS as usize;
    let id = (&raw const *r as usize).wrapping_sub(from) / size_of::<Cpu>() % MAX_VCPUS;
    if vector >= 32 {
        note_interrupt(id, vector);
        if r.rip == &raw const stubs::wait_hlt as u64 {
            r.rip = &raw const stubs::wait_done as u64;
        }
        return;
    }
    let cr2: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
    host::die(
        "The emulator faulted: vector, rip, cr2",
        &[vector.into(), r.rip, cr2, r.error_code],
    );
}
