//! Instructions a PV kernel cannot execute itself, done for it.
//!
//! A paravirtualised kernel avoids most of them; what is left (model-specific
//! registers, control and debug registers, ports, CPUID) arrives as a general
//! protection fault from kernel mode, and CPUID also as the forced-emulation
//! prefix (`XEN_EMULATE_PREFIX` in `arch-x86/xen.h`) as an invalid opcode.

use xen_sys::addr::{Mfn, Vaddr};
use xen_sys::arch_x86::XEN_EMULATE_PREFIX;
use xen_sys::errno::Errno;

use crate::entry;
use crate::machine::Base;
use crate::regs::flags;
use crate::{Domain, Machine, Regs, Vcpu, cpuid, mmu};

/// The longest instruction.
const LONGEST: usize = 15;

/// Instruction bytes, read one after the other.
pub(crate) struct Code {
    bytes: [u8; LONGEST],
    have: usize,
    pub(crate) at: usize,
    pub(crate) rex: u8,
    pub(crate) operand16: bool,
    repeat: bool,
}

impl Code {
    /// Bytes at hand.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut code = Self {
            bytes: [0; LONGEST],
            have: bytes.len().min(LONGEST),
            at: 0,
            rex: 0,
            operand16: false,
            repeat: false,
        };
        for (to, from) in code.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
        code
    }

    /// Reads as many bytes from `rip` on as can be read.
    pub(crate) fn fetch<M: Machine>(m: &mut M, rip: u64) -> Self {
        let mut code = Self::of(&[]);
        let to_page_end = 4096 - (rip & 4095) as usize;
        let first = to_page_end.min(LONGEST);
        if m.copy_from_guest(Vaddr(rip), &mut code.bytes[..first])
            .is_ok()
        {
            code.have = first;
            let rest = Vaddr(rip.wrapping_add(first as u64));
            if first < LONGEST && m.copy_from_guest(rest, &mut code.bytes[first..]).is_ok() {
                code.have = LONGEST;
            }
        }
        code
    }

    pub(crate) fn next(&mut self) -> Option<u8> {
        let byte = self.bytes[..self.have].get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// Skips prefixes, returns the opcode's first byte.
    pub(crate) fn opcode(&mut self) -> Option<u8> {
        loop {
            let byte = self.next()?;
            match byte {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf0 => {}
                0x66 => self.operand16 = true,
                0xf2 | 0xf3 => self.repeat = true,
                0x40..=0x4f => {
                    self.rex = byte;
                    return self.next();
                }
                _ => return Some(byte),
            }
        }
    }
}

/// A general register by its number in an instruction.
pub(crate) fn register(r: &mut Regs, number: u8) -> &mut u64 {
    match number & 15 {
        0 => &mut r.rax,
        1 => &mut r.rcx,
        2 => &mut r.rdx,
        3 => &mut r.rbx,
        4 => &mut r.rsp,
        5 => &mut r.rbp,
        6 => &mut r.rsi,
        7 => &mut r.rdi,
        8 => &mut r.r8,
        9 => &mut r.r9,
        10 => &mut r.r10,
        11 => &mut r.r11,
        12 => &mut r.r12,
        13 => &mut r.r13,
        14 => &mut r.r14,
        _ => &mut r.r15,
    }
}

/// CPUID behind the forced-emulation prefix. False when it is no such thing.
pub fn forced<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) -> bool {
    let code = Code::fetch(m, r.rip);
    let (prefix, rest) = code.bytes.split_at(XEN_EMULATE_PREFIX.len());
    if code.have < 7 || prefix != XEN_EMULATE_PREFIX || rest[..2] != [0x0f, 0xa2] {
        return false;
    }
    execute_cpuid(m, d, v, r);
    r.rip = r.rip.wrapping_add(7);
    true
}

fn execute_cpuid<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu, r: &mut Regs) {
    let [a, b, c, x] = cpuid::policy(m, d, v, r.rax as u32, r.rcx as u32);
    (r.rax, r.rbx, r.rcx, r.rdx) = (a.into(), b.into(), c.into(), x.into());
}

/// Whether a gate of the guest's table is open to the mode it is in. Xen has a
/// way of its own for `int 0x80`, which asks for no privilege.
pub(crate) fn may_raise(v: &Vcpu, vector: u8) -> bool {
    const SYSTEM_CALL: u8 = 0x80;
    let privilege = if v.in_kernel { 1 } else { 3 };
    vector == SYSTEM_CALL || v.gates[usize::from(vector)].dpl >= privilege
}

/// `int n` that the processor refused since no gate may be used from ring 3:
/// the guest's trap table decides. False when this was something else.
pub fn software_interrupt<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    error_code: u32,
) -> bool {
    const IDT: u32 = 2;
    if error_code & 7 != IDT {
        return false;
    }
    let vector = (error_code >> 3) as u8;
    let gate = v.gates[usize::from(vector)];
    let privileged_gate = !may_raise(v, vector);
    let code = Code::fetch(m, r.rip);
    if gate.address == 0 || privileged_gate || code.have < 2 || code.bytes[0] != 0xcd {
        return false;
    }
    r.rip = r.rip.wrapping_add(2);
    entry::deliver(m, d, v, r, vector, 0);
    true
}

/// A privileged instruction of the kernel. False when it stays a fault.
pub fn privileged<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) -> bool {
    if r.error_code as u32 != 0 {
        return false;
    }
    let mut code = Code::fetch(m, r.rip);
    let done = match code.opcode() {
        Some(0x0f) if v.in_kernel => match code.next() {
            Some(opcode) => two_byte(m, d, v, r, &mut code, opcode),
            None => None,
        },
        Some(opcode) => one_byte(m, v, r, &mut code, opcode),
        None => None,
    };
    if done.is_none() {
        return false;
    }
    r.rip = r.rip.wrapping_add(code.at as u64);
    r.rflags &= !flags::RF;
    true
}

fn two_byte<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    code: &mut Code,
    opcode: u8,
) -> Option<()> {
    match opcode {
        0x01 => match code.next()? {
            0xd1 => set_xcr0(m, v, r),
            _ => None,
        },
        0x06 => {
            v.task_switched = false;
            m.set_task_switched(false);
            Some(())
        }
        // A domain without passed-through devices has no caches to flush.
        0x09 => Some(()),
        0x20..=0x23 => {
            let modrm = code.next()?;
            let number = (modrm >> 3 & 7) | (code.rex & 4) << 1;
            let gpr = (modrm & 7) | (code.rex & 1) << 3;
            let value = *register(r, gpr);
            match opcode {
                0x20 => *register(r, gpr) = read_cr(m, d, v, number)?,
                0x21 => *register(r, gpr) = get_debugreg(v, number.into())?,
                0x22 => write_cr(m, d, v, number, value)?,
                _ => {
                    set_debugreg(m, v, number.into(), value).ok()?;
                }
            }
            Some(())
        }
        0x30 => crate::msr::write(m, d, v, r.rcx as u32, r.rdx << 32 | r.rax & 0xffff_ffff),
        0x31 => {
            let tsc = m.tsc();
            (r.rax, r.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
            Some(())
        }
        0x32 => {
            let value = crate::msr::read(m, d, v, r.rcx as u32)?;
            (r.rax, r.rdx) = (value & 0xffff_ffff, value >> 32);
            Some(())
        }
        0xa2 => {
            execute_cpuid(m, d, v, r);
            Some(())
        }
        _ => None,
    }
}

fn one_byte<M: Machine>(
    m: &mut M,
    v: &Vcpu,
    r: &mut Regs,
    code: &mut Code,
    opcode: u8,
) -> Option<()> {
    // Kernel mode is privilege level 1 to Xen here.
    let ports = v.iopl >= if v.in_kernel { 1 } else { 3 };
    match opcode {
        // Interrupt flag changes are dropped, as Xen does: the guest could
        // not rely on POPF doing the same.
        0xfa | 0xfb if ports => Some(()),
        // No port is the domain's: reads float, writes vanish.
        0x6c..=0x6f if ports => string_port(m, v, r, code, opcode),
        0xe4..=0xe7 | 0xec..=0xef if ports => {
            let port = if opcode < 0xe8 {
                code.next()?.into()
            } else {
                r.rdx as u16
            };
            let width: u64 = match (opcode & 1, code.operand16) {
                (0, _) => 0xff,
                (_, true) => 0xffff,
                _ => 0xffff_ffff,
            };
            if opcode & 2 == 0 {
                let kept = if width == 0xffff_ffff {
                    0
                } else {
                    r.rax & !width
                };
                let floating = if PIT_COUNTERS.contains(&port) {
                    0
                } else {
                    width
                };
                r.rax = kept | floating;
            }
            Some(())
        }
        _ => None,
    }
}

/// Ports of the interval timer's counters. On Xen they float too, but Linux
/// then polls a counter that stands at 0xff a hundred thousand times before it
/// gives up; one that stands at 0 it leaves at once, with the same outcome.
const PIT_COUNTERS: core::ops::RangeInclusive<u16> = 0x40..=0x42;

/// INS and OUTS: INS stores what a floating bus reads.
fn string_port<M: Machine>(
    m: &mut M,
    _v: &Vcpu,
    r: &mut Regs,
    code: &Code,
    opcode: u8,
) -> Option<()> {
    let size = match (opcode & 1, code.operand16) {
        (0, _) => 1,
        (_, true) => 2,
        _ => 4,
    };
    let backwards = r.rflags & flags::DF != 0;
    let step = if backwards {
        0u64.wrapping_sub(size)
    } else {
        size
    };
    // One element a fault; a repeated instruction is entered again.
    if code.repeat && r.rcx == 0 {
        return Some(());
    }
    let index = if opcode & 2 == 0 {
        m.copy_to_guest(Vaddr(r.rdi), &[0xff; 4][..size as usize])
            .ok()?;
        &mut r.rdi
    } else {
        &mut r.rsi
    };
    *index = index.wrapping_add(step);
    if code.repeat {
        r.rcx -= 1;
        if r.rcx != 0 {
            r.rip = r.rip.wrapping_sub(code.at as u64);
        }
    }
    Some(())
}

const CR0_SEEN: u64 = 0x8005_003b & !8;
const CR0_TS: u64 = 8;
/// Bits of CR4 that are on whatever the guest does: PAE, OSFXSR, OSXMMEXCPT.
const CR4_ON: u64 = 0x620;

fn read_cr<M: Machine>(m: &M, d: &Domain, v: &Vcpu, number: u8) -> Option<u64> {
    match number {
        0 => Some(CR0_SEEN | if v.task_switched { CR0_TS } else { 0 }),
        2 => Some(m.load64(d.vcpus[v.id].vcpu_info().offset(16))),
        3 => Some(v.kernel_l4.0 << 12),
        4 => Some(v.cr4 | CR4_ON),
        _ => None,
    }
}

fn write_cr<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, number: u8, value: u64) -> Option<()> {
    match number {
        0 => {
            if (value ^ CR0_SEEN) & !CR0_TS != 0 {
                return None;
            }
            v.task_switched = value & CR0_TS != 0;
            m.set_task_switched(v.task_switched);
        }
        2 => m.store64(d.vcpus[v.id].vcpu_info().offset(16), value),
        3 => {
            let l4 = Mfn(value >> 12);
            if !m.is_ram(l4) {
                return None;
            }
            mmu::install_hole(m, l4);
            v.kernel_l4 = l4;
            m.load_cr3(l4);
        }
        4 => v.cr4 = value & cpuid::CR4_ALLOWED | v.cr4 & !cpuid::CR4_ALLOWED,
        _ => return None,
    }
    Some(())
}

/// What `HYPERVISOR_get_debugreg` and a debug register read give.
pub fn get_debugreg(v: &Vcpu, number: u64) -> Option<u64> {
    match number {
        0..=3 => v.debugreg.get(number as usize).copied(),
        4 | 6 if number == 6 || v.cr4 & 8 == 0 => Some(v.debugreg[6]),
        5 | 7 if number == 7 || v.cr4 & 8 == 0 => Some(v.debugreg[7]),
        _ => None,
    }
}

/// What `HYPERVISOR_set_debugreg` and a debug register write do; `None` when
/// the value is refused.
pub fn set_debugreg<M: Machine>(m: &mut M, v: &mut Vcpu, number: u64, value: u64) -> crate::Ret {
    let number = match number {
        4 | 5 if v.cr4 & 8 == 0 => number + 2,
        number => number,
    };
    let value = match number {
        0..=3 => {
            if !Vaddr(value).is_canonical() || mmu::in_hole(Vaddr(value)) {
                return Err(Errno::EPERM);
            }
            value
        }
        6 => {
            if value >> 32 != 0 {
                return Err(Errno::EINVAL);
            }
            (value | 0xffff_0ff0) & !0x1000 & 0xffff_ffff
        }
        7 => {
            if value >> 32 != 0 {
                return Err(Errno::EINVAL);
            }
            if breakpoints_on_ports(value) || value & 1 << 13 != 0 {
                return Err(Errno::EPERM);
            }
            (value | 0x400) & !0xd800 & 0xffff_ffff
        }
        _ => return Err(Errno::ENODEV),
    };
    v.debugreg[number as usize] = value;
    m.set_debugreg(number as u32, value);
    Ok(0)
}

/// Ports are not the domain's to watch.
fn breakpoints_on_ports(dr7: u64) -> bool {
    (0..4).any(|n| dr7 >> (n * 2) & 3 != 0 && dr7 >> (16 + n * 4) & 3 == 2)
}

/// XSETBV: the host has chosen the features in XCR0 by the CPUID it shows, so
/// only that choice or less is taken, and less only in the guest's eyes.
fn set_xcr0<M: Machine>(m: &M, v: &mut Vcpu, r: &Regs) -> Option<()> {
    let value = r.rdx << 32 | r.rax & 0xffff_ffff;
    let [low, _, _, high] = m.cpuid(13, 0);
    let possible = u64::from(high) << 32 | u64::from(low);
    let avx_needs_sse = value & 4 == 0 || value & 2 != 0;
    if r.rcx as u32 != 0 || value & 1 == 0 || value & !possible != 0 || !avx_needs_sse {
        return None;
    }
    v.xcr0 = value;
    Some(())
}

/// `HYPERVISOR_set_segment_base`.
///
/// # Errors
/// `EINVAL` for an address that is none or a register that is none.
pub fn set_segment_base<M: Machine>(m: &mut M, v: &mut Vcpu, which: u64, base: u64) -> crate::Ret {
    use xen_sys::arch_x86::*;
    let canonical = || {
        if Vaddr(base).is_canonical() {
            Ok(base)
        } else {
            Err(Errno::EINVAL)
        }
    };
    match which as u32 {
        SEGBASE_FS => m.set_base(Base::Fs, canonical()?),
        SEGBASE_GS_USER => v.gs_base_user = canonical()?,
        SEGBASE_GS_KERNEL => m.set_base(Base::Gs, canonical()?),
        SEGBASE_GS_USER_SEL => {
            v.gs_base_user = m.load_gs_selector(base as u16).unwrap_or(0);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
