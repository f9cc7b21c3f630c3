//! The table of hypercalls.

use core::sync::atomic::Ordering;

use xen_sys::addr::{Maddr, Vaddr};
use xen_sys::arch_x86::TrapInfo;
use xen_sys::callback::*;
use xen_sys::errno::Errno;
use xen_sys::hypercall::*;
use xen_sys::xen::MulticallEntry;

use crate::vcpu::{Callback, Gate};
use crate::{
    Domain, Machine, Regs, Ret, Vcpu, emulate, evtchn, grant, guest, memory, misc, mmu, sched,
    trap, vcpu_op, version,
};

/// A hypercall by SYSCALL from kernel mode: number in RAX, arguments in RDI,
/// RSI, RDX, R10, R8, R9, result in RAX.
pub fn call<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) {
    if r.rax == __HYPERVISOR_iret {
        return trap::iret(m, d, v, r);
    }
    let nr = r.rax;
    let args = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
    count(d, nr);
    r.rax = if nr == __HYPERVISOR_multicall {
        value(multicall(m, d, v, Vaddr(args[0]), args[1]))
    } else {
        value(dispatch(m, d, v, nr, args))
    };
}

/// Whether a hypercall changes nothing that entries to the kernel depend on
/// (callbacks, the place of `vcpu_info`), and does not wait.
pub fn is_common(nr: u64) -> bool {
    const COMMON: u64 = 1 << __HYPERVISOR_mmu_update
        | 1 << __HYPERVISOR_mmuext_op
        | 1 << __HYPERVISOR_update_va_mapping
        | 1 << __HYPERVISOR_stack_switch
        | 1 << __HYPERVISOR_multicall
        | 1 << __HYPERVISOR_fpu_taskswitch
        | 1 << __HYPERVISOR_set_segment_base
        | 1 << __HYPERVISOR_update_descriptor
        | 1 << __HYPERVISOR_xen_version
        | 1 << __HYPERVISOR_event_channel_op
        | 1 << __HYPERVISOR_set_timer_op
        | 1 << __HYPERVISOR_grant_table_op;
    nr < 64 && COMMON >> nr & 1 != 0
}

/// The value for RAX.
fn value(result: Ret) -> u64 {
    match result {
        Ok(value) => value,
        Err(errno) => i64::from(errno.0).wrapping_neg() as u64,
    }
}

/// Counts a hypercall for the host's statistics.
fn count(d: &Domain, nr: u64) {
    if let Some(counter) = d.hypercalls.get(nr as usize) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }
}

/// `HYPERVISOR_multicall`: runs a list of calls, each result in its entry.
fn multicall<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, list: Vaddr, count: u64) -> Ret {
    let count = u64::from(count as u32);
    for index in 0..count {
        if m.is_ending() {
            break;
        }
        let at = guest::element::<MulticallEntry>(list, index);
        let entry: MulticallEntry = guest::get(m, at)?;
        let result = match entry.op {
            // Neither may be nested.
            __HYPERVISOR_multicall => Err(Errno::EINVAL),
            __HYPERVISOR_iret => Err(Errno::ENOSYS),
            op => {
                v.unsettled |= !is_common(op);
                dispatch(m, d, v, op, entry.args)
            }
        };
        guest::put(m, at.offset(8), &value(result))?;
    }
    Ok(0)
}

fn dispatch<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, nr: u64, args: [u64; 6]) -> Ret {
    let [a, b, c, x, ..] = args;
    let arg = |n: u64| Vaddr(n);
    match nr {
        __HYPERVISOR_mmu_update => mmu::mmu_update(m, d, v, arg(a), b, arg(c), x),
        __HYPERVISOR_mmuext_op => mmu::mmuext_op(m, d, v, arg(a), b, arg(c), x),
        __HYPERVISOR_update_va_mapping => mmu::update_va_mapping(m, d, v, arg(a), b, c),
        __HYPERVISOR_update_va_mapping_otherdomain => other_domain(m, d, v, args),
        __HYPERVISOR_stack_switch => stack_switch(v, a, b),
        __HYPERVISOR_sched_op => sched::sched_op(m, d, v, a, arg(b)),
        __HYPERVISOR_event_channel_op => evtchn::event_channel_op(m, d, v, a, arg(b)),
        __HYPERVISOR_vcpu_op => vcpu_op::vcpu_op(m, d, v, a, b, arg(c)),
        __HYPERVISOR_set_timer_op => vcpu_op::set_timer_op(m, d, v, a),
        __HYPERVISOR_fpu_taskswitch => {
            v.task_switched = a != 0;
            m.set_task_switched(a != 0);
            Ok(0)
        }
        __HYPERVISOR_set_segment_base => emulate::set_segment_base(m, v, a, b),
        __HYPERVISOR_update_descriptor => mmu::update_descriptor(m, d, Maddr(a), b),
        __HYPERVISOR_xen_version => version::xen_version(m, d, v, a, arg(b)),
        __HYPERVISOR_grant_table_op => grant::grant_table_op(m, d, v, a, arg(b), c),
        __HYPERVISOR_memory_op => memory::memory_op(m, d, v, a, arg(b)),
        __HYPERVISOR_physdev_op => misc::physdev_op(m, d, v, a, arg(b)),
        __HYPERVISOR_console_io => misc::console_io(m, d, v, a, b, arg(c)),
        __HYPERVISOR_vm_assist => misc::vm_assist(m, d, v, a, b),
        __HYPERVISOR_set_trap_table => set_trap_table(m, v, arg(a)),
        __HYPERVISOR_set_gdt => mmu::set_gdt(m, v, arg(a), b),
        __HYPERVISOR_set_callbacks => set_callbacks(v, a, b, c),
        __HYPERVISOR_callback_op => callback_op(m, v, a, arg(b)),
        __HYPERVISOR_nmi_op => nmi_op(m, v, a, arg(b)),
        __HYPERVISOR_set_debugreg => emulate::set_debugreg(m, v, a, b),
        __HYPERVISOR_get_debugreg => emulate::get_debugreg(v, a).ok_or(Errno::ENODEV),
        __HYPERVISOR_sched_op_compat => sched::sched_op_compat(m, d, v, a, b),
        __HYPERVISOR_event_channel_op_compat => evtchn::event_channel_op_compat(m, d, v, arg(a)),
        __HYPERVISOR_physdev_op_compat => misc::physdev_op_compat(m, d, v, arg(a)),
        _ => Err(misc::refused(m, nr, args)),
    }
}

/// `HYPERVISOR_update_va_mapping_otherdomain`: for a domain's own memory only.
fn other_domain<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, args: [u64; 6]) -> Ret {
    let [va, entry, flags, domid, ..] = args;
    mmu::own_domain(d, domid)?;
    mmu::update_va_mapping(m, d, v, Vaddr(va), entry, flags)
}

/// `HYPERVISOR_stack_switch`: where frames for entries from user mode go.
fn stack_switch(v: &mut Vcpu, _ss: u64, sp: u64) -> Ret {
    v.set_kernel_sp(sp);
    Ok(0)
}

/// `HYPERVISOR_set_trap_table`: a list ended by a null address; no list at
/// all clears the table.
fn set_trap_table<M: Machine>(m: &mut M, v: &mut Vcpu, list: Vaddr) -> Ret {
    if list.0 == 0 {
        v.gates = [Gate::default(); 256];
        return Ok(0);
    }
    let mut index = 0;
    loop {
        let info: TrapInfo = guest::get(m, guest::element::<TrapInfo>(list, index))?;
        if info.address.0 == 0 {
            return Ok(0);
        }
        if !info.address.is_canonical() {
            return Err(Errno::EINVAL);
        }
        v.gates[usize::from(info.vector)] = Gate {
            address: info.address.0,
            cs: info.cs,
            dpl: info.dpl(),
            masks_events: info.masks_events(),
        };
        index += 1;
        // A list without an end would keep this virtual CPU here for ever.
        if index > 0x1_0000 {
            return Err(Errno::EINVAL);
        }
    }
}

/// `HYPERVISOR_set_callbacks`: an address that cannot be registered is passed
/// over without an error.
fn set_callbacks(v: &mut Vcpu, event: u64, failsafe: u64, syscall: u64) -> Ret {
    for (callback, address) in [
        (&mut v.event, event),
        (&mut v.failsafe, failsafe),
        (&mut v.syscall, syscall),
    ] {
        if Vaddr(address).is_canonical() {
            *callback = Callback {
                address,
                masks_events: false,
            };
        }
    }
    Ok(0)
}

/// `HYPERVISOR_callback_op` (`xen/include/public/callback.h`).
fn callback_op<M: Machine>(m: &mut M, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    match cmd as u32 {
        CALLBACKOP_register => {
            let request: CallbackRegister = guest::get(m, arg)?;
            register_callback(v, request)
        }
        CALLBACKOP_unregister => {
            let request: CallbackUnregister = guest::get(m, arg)?;
            match request.kind {
                CALLBACKTYPE_event
                | CALLBACKTYPE_failsafe
                | CALLBACKTYPE_syscall
                | CALLBACKTYPE_sysenter
                | CALLBACKTYPE_syscall32 => Err(Errno::EINVAL),
                CALLBACKTYPE_nmi => {
                    v.nmi.address = 0;
                    Ok(0)
                }
                _ => Err(Errno::ENOSYS),
            }
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn register_callback(v: &mut Vcpu, request: CallbackRegister) -> Ret {
    if !request.address.is_canonical() {
        return Err(Errno::EINVAL);
    }
    let callback = Callback {
        address: request.address.0,
        masks_events: request.flags & CALLBACKF_mask_events != 0,
    };
    let slot = match request.kind {
        CALLBACKTYPE_event => &mut v.event,
        CALLBACKTYPE_failsafe => &mut v.failsafe,
        CALLBACKTYPE_syscall => &mut v.syscall,
        CALLBACKTYPE_syscall32 => &mut v.syscall32,
        CALLBACKTYPE_sysenter => &mut v.sysenter,
        CALLBACKTYPE_nmi => &mut v.nmi,
        _ => return Err(Errno::ENOSYS),
    };
    *slot = callback;
    Ok(0)
}

/// `HYPERVISOR_nmi_op`: the old way to register the NMI callback.
fn nmi_op<M: Machine>(m: &mut M, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    use xen_sys::nmi::*;
    match cmd as u32 {
        XENNMI_register_callback => {
            let request: XennmiCallback = guest::get(m, arg)?;
            v.nmi = Callback {
                address: request.handler_address.0,
                masks_events: false,
            };
            Ok(0)
        }
        XENNMI_unregister_callback => {
            v.nmi.address = 0;
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}
