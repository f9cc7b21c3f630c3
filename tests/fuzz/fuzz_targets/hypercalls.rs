//! A domain of two virtual CPUs that does what it likes: hypercalls with any arguments, exceptions,
//! privileged instructions, its memory and page tables full of anything.
//!
//! The fake machine refuses accesses outside the domain by panicking, so that a frame number or an
//! address believed without a check shows.
#![no_main]
#![allow(
    non_upper_case_globals,
    reason = "constants keep the spelling of the public headers"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::Ordering;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use xen_sys::addr::{Maddr, Mfn, Vaddr};
use xen_sys::arch_x86::VcpuGuestContext;
use xen_sys::hypercall::{
    __HYPERVISOR_console_io, __HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op,
    __HYPERVISOR_multicall, __HYPERVISOR_vcpu_op,
};
use xen_sys::vcpu::{VCPUOP_initialise, VCPUOP_up};
use xenner_core::domain::{VCPU_INITIALISED, VCPU_UP};
use xenner_core::entry::{self, Next};
use xenner_core::fake::Fake;
use xenner_core::machine::Machine;
use xenner_core::{Physical as _, Regs, Vcpu};
use zerocopy::{FromZeros, IntoBytes};

/// A number that may mean something.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Small(u8),
    /// A guest-virtual address that can be accessed.
    Virtual(u16),
    /// The number of a frame of the domain's.
    Frame(u16),
    /// The number of a frame of the hypervisor's.
    HeapFrame(u8),
    /// A machine address of the domain's, in one of its first frames.
    Machine(u16),
    /// A page table entry.
    Entry {
        frame: u16,
        flags: u8,
    },
    Any(u64),
}

impl Word {
    fn value(self) -> u64 {
        let frame = |number: u16| Fake::RAM + u64::from(number) % (Fake::MAX_PAGES + 2);
        match self {
            Word::Small(value) => value.into(),
            Word::Virtual(offset) => Fake::VIRT + u64::from(offset),
            Word::Frame(number) => frame(number),
            Word::HeapFrame(number) => Fake::HEAP + u64::from(number),
            Word::Machine(offset) => (Fake::RAM << 12) + u64::from(offset),
            Word::Entry {
                frame: number,
                flags,
            } => frame(number) << 12 | u64::from(flags),
            Word::Any(value) => value,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Hypercall {
        nr: u8,
        args: [Word; 6],
    },
    /// The same, its arguments in memory: most hypercalls take the address of a structure.
    Structure {
        nr: u8,
        command: u8,
        words: [Word; 6],
        count: u8,
    },
    Poke {
        offset: u16,
        value: Word,
    },
    Bytes {
        offset: u16,
        bytes: Vec<u8>,
    },
    /// The kernel comes upon an instruction that ring 3 may not execute.
    Instruction {
        bytes: [u8; 15],
        registers: [Word; 4],
    },
    Exception {
        vector: u8,
        error_code: u32,
        cr2: Word,
    },
    /// A system call instruction, in whatever mode the virtual CPU is in.
    Syscall {
        sysenter: Option<bool>,
    },
    Interrupt(u8),
    Timer,
    /// Time passes, in units of 2^16 ticks.
    Wait(u16),
    Event(u16),
    HostBinds(u16),
    Stack(Word),
    /// The other virtual CPU is given a context and brought up.
    Initialise {
        kernel_cr3: Word,
        user_cr3: Word,
        gdt: Word,
        gdt_entries: u16,
        rip: Word,
    },
    /// The other virtual CPU goes on.
    Switch,
}

/// A virtual CPU with its registers.
struct Cpu {
    v: Vcpu,
    r: Regs,
}

struct Guest {
    f: Fake,
    cpus: [Cpu; 2],
    running: usize,
}

/// Entries of a hypercall's list that are looked at.
const LONGEST_LIST: u32 = 10_000;

const KERNEL_CS: u16 = 0xe033;
const KERNEL_SS: u16 = 0xe02b;
/// Where structures are put.
const ARG: u64 = Fake::VIRT + 0x3000;
/// A chain of page tables begins in this frame of the domain's.
const L4: u64 = Fake::RAM + 8;

fuzz_target!(init: tolerate_crashes(), |steps: Vec<Step>| {
    let mut guest = Guest::new();
    for step in steps.into_iter().take(300) {
        // A crash of the domain is no crash of ours; nothing runs after it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| guest.step(step))) {
            if crashed(&*panic) {
                return;
            }
            resume_unwind(panic);
        }
        guest.check();
    }
});

/// The fake machine panics where a real one ends the domain.
fn tolerate_crashes() {
    let abort = take_hook();
    set_hook(Box::new(move |info| {
        if !crashed(info.payload()) {
            abort(info);
        }
    }));
}

fn crashed(payload: &(dyn std::any::Any + Send)) -> bool {
    let message = payload.downcast_ref::<String>();
    message.is_some_and(|message| message.starts_with("the domain crashed: "))
}

impl Guest {
    fn new() -> Self {
        let mut f = Fake::new();
        f.d.config.kernel_cs = KERNEL_CS;
        f.d.config.kernel_ss = KERNEL_SS;
        f.d.config.tsc_khz = 1_000_000;
        f.d.config.tsc_to_system_mul = 0x8000_0000;
        f.d.config.tsc_shift = 1;
        // The first frame is mapped where Linux maps its memory, by four tables in a row.
        let chain = [(L4, 272), (L4 + 1, 0), (L4 + 2, 0), (L4 + 3, 0)];
        for (table, slot) in chain {
            let next = if table == L4 + 3 {
                Fake::RAM
            } else {
                table + 1
            };
            f.m.store64(Maddr((table << 12) + slot * 8), next << 12 | 7);
        }
        let up = |id| {
            let mut cpu = Cpu {
                v: Vcpu::new(id),
                r: Regs::default(),
            };
            cpu.v.kernel_l4 = Mfn(L4);
            cpu.r.cs = KERNEL_CS.into();
            cpu.r.ss = KERNEL_SS.into();
            cpu.r.rsp = Fake::VIRT + 0x7000;
            cpu.r.rip = Fake::VIRT + 0x1000;
            cpu
        };
        let mut cpus = [up(0), up(1)];
        cpus[0].v.started = true;
        cpus[0].v.down = false;
        f.d.vcpus[0]
            .state
            .store(VCPU_UP | VCPU_INITIALISED, Ordering::Relaxed);
        Guest {
            f,
            cpus,
            running: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let Fake { m, d, .. } = &mut self.f;
        // A list of 2^32 entries is worked off until the host wants the domain's end.
        m.ends_after.set(Some(LONGEST_LIST));
        let Cpu { v, r } = &mut self.cpus[self.running];
        let poke = |m: &mut xenner_core::fake::FakeMachine, offset: u16, bytes: &[u8]| {
            let room = 0x1_0000 - usize::from(offset);
            let bytes = &bytes[..bytes.len().min(room)];
            m.copy_to_guest(Vaddr(Fake::VIRT + u64::from(offset)), bytes)
                .expect("is mapped");
        };
        match step {
            Step::Poke { offset, value } => return poke(m, offset, &value.value().to_le_bytes()),
            Step::Bytes { offset, bytes } => return poke(m, offset, &bytes),
            Step::Wait(ticks) => {
                d.config.tsc_base = d.config.tsc_base.wrapping_sub(u64::from(ticks) << 16);
                return;
            }
            Step::HostBinds(port) => {
                m.bound.borrow_mut().insert(u32::from(port) % 1025);
                return;
            }
            Step::Event(port) => xenner_core::evtchn::deliver(m, d, v.id, u32::from(port) % 1025),
            Step::Switch => self.running ^= 1,
            // Nothing else happens to a virtual CPU that does not run.
            _ if v.down || v.blocked => {}
            Step::Hypercall { nr, args } => {
                set_arguments(r, nr, args.map(Word::value));
                entry::syscall(m, d, v, r);
            }
            Step::Structure {
                nr,
                command,
                words,
                count,
            } => {
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.value().to_le_bytes()).collect();
                poke(m, (ARG - Fake::VIRT) as u16, &bytes);
                set_arguments(r, nr, structure_arguments(nr, command, count));
                entry::syscall(m, d, v, r);
            }
            Step::Initialise {
                kernel_cr3,
                user_cr3,
                gdt,
                gdt_entries,
                rip,
            } => {
                let mut context = VcpuGuestContext::new_zeroed();
                context.ctrlreg[3] = kernel_cr3.value() << 12;
                context.ctrlreg[1] = user_cr3.value() << 12;
                context.gdt_frames[0] = Mfn(gdt.value());
                context.gdt_ents = gdt_entries.into();
                context.user_regs.rip = rip.value();
                poke(m, (ARG - Fake::VIRT) as u16, context.as_bytes());
                let other = v.id as u64 ^ 1;
                for command in [VCPUOP_initialise, VCPUOP_up] {
                    let args = [command.into(), other, ARG, 0, 0, 0];
                    set_arguments(r, __HYPERVISOR_vcpu_op as u8, args);
                    entry::syscall(m, d, v, r);
                }
            }
            Step::Instruction { bytes, registers } => {
                poke(m, 0x1000, &bytes);
                r.rip = Fake::VIRT + 0x1000;
                [r.rax, r.rcx, r.rdx, r.rsi] = registers.map(Word::value);
                entry::exception(m, d, v, r, entry::vector::GP, 0, 0);
            }
            Step::Exception {
                vector,
                error_code,
                cr2,
            } => {
                entry::exception(m, d, v, r, vector % 32, error_code, cr2.value());
            }
            Step::Syscall { sysenter: None } => entry::syscall(m, d, v, r),
            Step::Syscall {
                sysenter: Some(sysenter),
            } => entry::syscall32(m, d, v, r, sysenter),
            Step::Interrupt(vector) => entry::software_interrupt(m, d, v, r, vector),
            Step::Timer => entry::timer(m, d, v),
            Step::Stack(at) => r.rsp = at.value(),
        }
        let Cpu { v, r } = &mut self.cpus[self.running];
        if entry::resume(m, d, v, r) == Next::Run {
            assert!(!v.down && !v.blocked);
        }
    }

    /// What must hold whatever the guest does.
    fn check(&mut self) {
        let d = &self.f.d;
        assert!(
            d.memory.try_lock().is_some() && d.grant.try_lock().is_some(),
            "a lock is held"
        );
        assert!(
            d.contexts.iter().all(|c| c.try_lock().is_some()),
            "a context is locked"
        );
        for Cpu { v, r } in &self.cpus {
            assert_eq!(
                (r.cs & 3, r.cs >> 16),
                (3, 0),
                "the guest would run in ring 0: {r:x?}"
            );
            const IOPL_VM: u64 = 3 << 12 | 1 << 17;
            assert_eq!(r.rflags & IOPL_VM, 0, "{r:x?}");
            assert!(self.f.m.is_ram(v.kernel_l4), "{:?}", v.kernel_l4);
            assert!(
                v.user_l4 == Mfn(0) || self.f.m.is_ram(v.user_l4),
                "{:?}",
                v.user_l4
            );
        }
    }
}

/// Lists are kept short: they are the guest's own time, but ours, too.
fn set_arguments(r: &mut Regs, nr: u8, mut args: [u64; 6]) {
    r.rax = u64::from(nr % 64);
    if [
        __HYPERVISOR_mmu_update,
        __HYPERVISOR_mmuext_op,
        __HYPERVISOR_multicall,
    ]
    .contains(&r.rax)
    {
        args[1] %= 16;
    }
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
}

/// `op(command, structure, …)`, or `op(list, count, done, domain)`.
fn structure_arguments(nr: u8, command: u8, count: u8) -> [u64; 6] {
    const SELF: u64 = 0x7ff0;
    match u64::from(nr % 64) {
        __HYPERVISOR_mmu_update | __HYPERVISOR_mmuext_op | __HYPERVISOR_multicall => {
            [ARG, count.into(), 0, SELF, 0, 0]
        }
        __HYPERVISOR_vcpu_op | __HYPERVISOR_console_io => {
            [u64::from(command) % 64, count.into(), ARG, 0, 0, 0]
        }
        _ => [u64::from(command) % 64, ARG, count.into(), 0, 0, 0],
    }
}
