//! The ways in: what the guest did, and what happens before it goes on.

use core::sync::atomic::Ordering;

use xen_sys::addr::Vaddr;
use xen_sys::xen::VMASST_TYPE_writable_pagetables;

use crate::domain::{VCPU_BLOCKED, VCPU_UP, WORK_NMI};
use crate::machine::Flush;
use crate::regs::flags;
use crate::trap::With;
use crate::vcpu::Callback;
use crate::{
    Domain, Machine, Regs, Vcpu, emulate, evtchn, hypercall, mmu, ptwr, sched, time, trap, vcpu_op,
};

/// Exception vectors.
pub mod vector {
    #![allow(missing_docs, reason = "named in the processor manuals")]
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const AC: u8 = 17;
}

/// What the caller does after [`resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest with the registers as they are.
    Run,
    /// Wait for an interrupt, then call [`resume`] again.
    Wait,
}

/// The guest executed SYSCALL. RIP and RFLAGS are already in their places.
pub fn syscall<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) {
    if v.in_kernel {
        hypercall::call(m, d, v, r);
    } else if v.syscall.address == 0 {
        r.rip = r.rip.wrapping_sub(2);
        exception(m, d, v, r, vector::UD, 0, 0);
    } else {
        let target = v.syscall;
        trap::bounce(m, d, v, r, target, With::Nothing);
    }
}

/// A 32-bit process executed SYSCALL or SYSENTER.
pub fn syscall32<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs, sysenter: bool) {
    let target = if sysenter { v.sysenter } else { v.syscall32 };
    if v.in_kernel || target.address == 0 {
        if !sysenter {
            r.rip = r.rip.wrapping_sub(2);
        }
        let vector = if sysenter { vector::GP } else { vector::UD };
        return deliver(m, d, v, r, vector, 0);
    }
    trap::bounce(m, d, v, r, target, With::Nothing);
}

/// Ring 3 raised an exception. `cr2` counts for page faults only.
pub fn exception<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    vector: u8,
    error_code: u32,
    cr2: u64,
) {
    match vector {
        vector::PF => return page_fault(m, d, v, r, error_code, Vaddr(cr2)),
        vector::GP if emulate::privileged(m, d, v, r) => return,
        vector::GP if emulate::software_interrupt(m, d, v, r, error_code) => return,
        vector::UD if emulate::forced(m, d, v, r) => return,
        vector::NM if v.task_switched => {
            v.task_switched = false;
            m.set_task_switched(false);
        }
        vector::DB => {
            v.debugreg[6] = m.debug_status();
            m.set_debugreg(6, 0xffff_0ff0);
        }
        _ => {}
    }
    deliver(m, d, v, r, vector, error_code);
}

fn page_fault<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    error_code: u32,
    at: Vaddr,
) {
    const PRESENT: u32 = 1;
    const USER: u32 = 4;
    if error_code & PRESENT != 0 && mmu::admit_ring3(m, v, at) {
        return m.flush(Flush::Page(at));
    }
    const KERNEL_STORE: u32 = 3;
    if v.in_kernel
        && error_code & KERNEL_STORE == KERNEL_STORE
        && d.has_assist(VMASST_TYPE_writable_pagetables)
        && ptwr::write(m, d, v, r, at)
    {
        return;
    }
    const CR2: u64 = 16;
    m.store64(d.vcpus[v.id].vcpu_info().offset(CR2), at.0);
    let seen = if v.in_kernel {
        error_code & !USER
    } else {
        error_code | USER
    };
    deliver(m, d, v, r, vector::PF, seen);
}

/// `int 0x80` reached its gate; the trap table decides who may use it.
pub fn software_interrupt<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    vector: u8,
) {
    let gate = v.gates[usize::from(vector)];
    if gate.address != 0 && emulate::may_raise(v, vector) {
        return deliver(m, d, v, r, vector, 0);
    }
    r.rip = r.rip.wrapping_sub(2);
    deliver(m, d, v, r, vector::GP, u32::from(vector) << 3 | 2);
}

/// Tells the guest's kernel of an exception.
pub fn deliver<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    vector: u8,
    error_code: u32,
) {
    const WITH_ERROR_CODE: u32 =
        1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;
    let gate = v.gates[usize::from(vector)];
    if gate.address == 0 {
        return m.crash("the kernel has no handler for exception", u64::from(vector));
    }
    let target = Callback {
        address: gate.address,
        masks_events: gate.masks_events,
    };
    let with = if vector < 32 && WITH_ERROR_CODE >> vector & 1 != 0 {
        With::ErrorCode(error_code)
    } else {
        With::Nothing
    };
    trap::bounce(m, d, v, r, target, with);
}

/// The virtual CPU's timer fired.
pub fn timer<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu) {
    time::expire(m, d, v);
}

/// What stands between any entry and the guest's next instruction: bringing
/// the virtual CPU up, waking it, telling it of events.
pub fn resume<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) -> Next {
    if d.shut_down.load(Ordering::Relaxed) {
        return Next::Wait;
    }
    let shared = &d.vcpus[v.id];
    let down = v.down || shared.state.load(Ordering::Acquire) & VCPU_UP == 0;
    if down && !vcpu_op::come_up(m, d, v, r) {
        return Next::Wait;
    }
    if v.blocked {
        if shared.state.load(Ordering::Acquire) & VCPU_BLOCKED != 0 && !sched::wake_due(m, d, v) {
            return Next::Wait;
        }
        sched::woken(m, d, v);
    }
    if v.nmi.address != 0
        && shared.work.load(Ordering::Relaxed) & WORK_NMI != 0
        && shared.work.fetch_and(!WORK_NMI, Ordering::AcqRel) & WORK_NMI != 0
    {
        let target = v.nmi;
        trap::bounce(m, d, v, r, target, With::Nothing);
    }
    if evtchn::upcall_due(m, d, v.id) && v.event.address != 0 {
        let target = Callback {
            masks_events: true,
            ..v.event
        };
        trap::bounce(m, d, v, r, target, With::Nothing);
    }
    r.rflags |= flags::IF;
    Next::Run
}
