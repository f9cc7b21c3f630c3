//! Into the guest's kernel and back: bounce frames and `HYPERVISOR_iret`.
//!
//! A guest's kernel and its user processes both run in ring 3. Whatever
//! interrupts them is told to the kernel by a frame on its stack, laid out as
//! Xen's `create_bounce_frame` does (documented in
//! `xen/include/public/arch-x86/xen-x86_64.h`, "struct iret_context" and the
//! trap table's comment): RCX and R11 below what the CPU itself would push.

use xen_sys::addr::{Mfn, Vaddr};
use xen_sys::errno::Errno;

use crate::machine::Base;
use crate::regs::flags;
use crate::vcpu::Callback;
use crate::{Domain, Machine, Regs, Vcpu};

/// The selectors a kernel-mode frame shows: `FLAT_KERNEL_CS` with privilege 0.
const KERNEL_CS_SHOWN: u64 = 0xe030;
/// `FLAT_KERNEL_SS`.
const KERNEL_SS_SHOWN: u64 = 0xe02b;
/// `VGCF_in_syscall`: the guest does not care for RCX and R11.
const VGCF_IN_SYSCALL: u64 = 1 << 8;
/// Offset of `evtchn_upcall_mask` in `vcpu_info`.
const UPCALL_MASK: u64 = 1;

/// Whether events are masked on this virtual CPU.
pub fn events_masked<M: Machine>(m: &M, d: &Domain, v: &Vcpu) -> bool {
    m.load8(d.vcpus[v.id].vcpu_info().offset(UPCALL_MASK)) != 0
}

/// Masks or unmasks events on this virtual CPU.
pub fn mask_events<M: Machine>(m: &M, d: &Domain, v: &Vcpu, masked: bool) {
    m.store8(d.vcpus[v.id].vcpu_info().offset(UPCALL_MASK), masked as u8);
}

/// Enters kernel mode: its page tables and its GS base.
pub fn to_kernel<M: Machine>(m: &mut M, v: &mut Vcpu) {
    v.gs_base_user = m.base(Base::Gs);
    m.set_base(Base::Gs, v.gs_base_kernel);
    m.load_cr3(v.kernel_l4);
    v.in_kernel = true;
}

/// Enters user mode: its page tables and its GS base.
pub fn to_user<M: Machine>(m: &mut M, v: &mut Vcpu) {
    v.gs_base_kernel = m.base(Base::Gs);
    m.set_base(Base::Gs, v.gs_base_user);
    m.load_cr3(v.user_l4);
    v.in_kernel = false;
}

/// What a frame holds above RCX and R11, besides what the CPU itself pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// No more.
    Nothing,
    /// An exception's error code.
    ErrorCode(u32),
    /// DS, ES, FS and GS: the failsafe callback's.
    Selectors,
}

/// Makes the guest's kernel run `target` with a frame that tells what was
/// running. A frame that cannot be pushed ends the domain, as on Xen.
pub fn bounce<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    target: Callback,
    with: With,
) {
    if target.address == 0 {
        return m.crash("the kernel has no handler for", r.error_code >> 32);
    }
    let (cs, ss, stack) = if v.in_kernel {
        (KERNEL_CS_SHOWN, KERNEL_SS_SHOWN, r.rsp)
    } else {
        let seen = (r.cs & 0xffff, r.ss & 0xffff, v.kernel_sp);
        to_kernel(m, v);
        seen
    };
    let vcpu_info = d.vcpus[v.id].vcpu_info();
    let masked = m.load8(vcpu_info.offset(UPCALL_MASK));
    let rflags = (r.rflags & !(flags::IF | flags::IOPL))
        | if masked == 0 { flags::IF } else { 0 }
        | shown_iopl(d, v);
    // Longest: RCX, R11, four selectors, what the CPU pushes.
    let mut words = [r.rcx, r.r11, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let between = match with {
        With::Nothing => 0,
        With::ErrorCode(code) => {
            words[2] = code.into();
            1
        }
        With::Selectors => {
            let selectors = m.data_selectors();
            words[2..6].copy_from_slice(&selectors.map(u64::from));
            4
        }
    };
    let count = 2 + between + 5;
    words[2 + between..count].copy_from_slice(&[
        r.rip,
        cs | u64::from(masked) << 32,
        rflags,
        r.rsp,
        ss,
    ]);
    let frame = (stack & !0xf).wrapping_sub(count as u64 * 8);
    if push(m, Vaddr(frame), &words, count).is_err() {
        return m.crash("the kernel stack cannot be written at", frame);
    }
    if target.masks_events {
        m.store8(vcpu_info.offset(UPCALL_MASK), 1);
    }
    r.rip = target.address;
    r.rsp = frame;
    r.cs = u64::from(d.config.kernel_cs);
    r.ss = u64::from(d.config.kernel_ss);
    r.rflags &= !(flags::VM | flags::RF | flags::NT | flags::TF | flags::AC);
    r.rflags |= flags::IF;
}

fn push<M: Machine>(m: &mut M, at: Vaddr, words: &[u64; 11], count: usize) -> Result<(), Errno> {
    let mut bytes = [0u8; 88];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    m.copy_to_guest(at, &bytes[..count * 8])
}

/// `VMASST_TYPE_architectural_iopl` makes frames show the I/O privilege level.
fn shown_iopl(d: &Domain, v: &Vcpu) -> u64 {
    const ARCHITECTURAL_IOPL: u64 = 1 << 4;
    if d.vm_assist.load(core::sync::atomic::Ordering::Relaxed) & ARCHITECTURAL_IOPL != 0 {
        u64::from(v.iopl) << 12
    } else {
        0
    }
}

/// `HYPERVISOR_iret`: continues where the `struct iret_context` on the
/// kernel's stack says.
pub fn iret<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) {
    let mut bytes = [0u8; 72];
    if m.copy_from_guest(Vaddr(r.rsp), &mut bytes).is_err() {
        return m.crash("the iret frame cannot be read at", r.rsp);
    }
    let mut words = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| u64::from_le_bytes(*b));
    let mut next = || words.next().unwrap_or(0);
    let (rax, r11, rcx, how) = (next(), next(), next(), next());
    let (rip, cs, rflags, rsp, ss) = (next(), next(), next(), next(), next());

    if cs & 3 == 3 {
        if v.user_l4 == Mfn(0) {
            return m.crash(
                "the kernel returns to user mode without user page tables, rip",
                rip,
            );
        }
        to_user(m, v);
        r.cs = (cs & 0xffff) | 3;
        r.ss = (ss & 0xffff) | 3;
    } else {
        r.cs = u64::from(d.config.kernel_cs);
        r.ss = u64::from(d.config.kernel_ss);
    }
    if shown_iopl(d, v) != 0 || d.vm_assist.load(core::sync::atomic::Ordering::Relaxed) & 16 != 0 {
        v.iopl = (rflags >> 12 & 3) as u8;
    }
    r.rip = rip;
    r.rsp = rsp;
    r.rflags = (rflags & !(flags::IOPL | flags::VM)) | flags::IF | flags::RESERVED1;
    r.rax = rax;
    if how & VGCF_IN_SYSCALL == 0 {
        (r.r11, r.rcx) = (r11, rcx);
    } else {
        // As SYSRET leaves them.
        (r.r11, r.rcx) = (r.rflags, rip);
    }
    mask_events(m, d, v, rflags & flags::IF == 0);
}

/// A return to the guest faulted on what the guest's registers hold (a bad
/// selector, an address that is none): the failsafe callback is told.
pub fn iret_failed<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) {
    if v.failsafe.address == 0 {
        return m.crash(
            "the return to the guest faulted and there is no failsafe callback, rip",
            r.rip,
        );
    }
    let target = v.failsafe;
    bounce(m, d, v, r, target, With::Selectors);
}
