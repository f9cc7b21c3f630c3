//! `HYPERVISOR_vcpu_op` and the life of a virtual CPU.

use core::sync::atomic::Ordering;

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xen_sys::arch_x86::*;
use xen_sys::errno::Errno;
use xen_sys::vcpu::*;
use xen_sys::xen::{VMASST_TYPE_runstate_update_flag, VcpuInfo};
use zerocopy::IntoBytes;

use crate::domain::{VCPU_INITIALISED, VCPU_UP, WORK_NMI};
use crate::machine::Base;
use crate::regs::flags;
use crate::vcpu::{Callback, Gate};
use crate::{Domain, Machine, Regs, Ret, Vcpu, evtchn, guest, mmu, time};

/// `RUNSTATE_running`.
pub const RUNSTATE_RUNNING: u32 = RUNSTATE_running as u32;
/// `RUNSTATE_blocked`.
pub const RUNSTATE_BLOCKED: u32 = RUNSTATE_blocked as u32;
/// `RUNSTATE_offline`.
pub const RUNSTATE_OFFLINE: u32 = RUNSTATE_offline as u32;

/// `HYPERVISOR_vcpu_op` (`xen/include/public/vcpu.h`).
///
/// # Errors
/// `ENOENT` for a virtual CPU that does not exist, and what each call says.
pub fn vcpu_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    id: u64,
    arg: Vaddr,
) -> Ret {
    let id = id as u32 as usize;
    if id >= d.config.nr_vcpus as usize {
        return Err(Errno::ENOENT);
    }
    let target = &d.vcpus[id];
    let state = target.state.load(Ordering::Acquire);
    match cmd as u32 {
        VCPUOP_initialise => initialise(m, d, id, arg),
        VCPUOP_up => {
            if state & VCPU_INITIALISED == 0 {
                return Err(Errno::EINVAL);
            }
            target.state.fetch_or(VCPU_UP, Ordering::AcqRel);
            m.kick(id);
            Ok(0)
        }
        VCPUOP_down => {
            let others = (0..d.config.nr_vcpus as usize)
                .any(|n| n != id && d.vcpus[n].state.load(Ordering::Acquire) & VCPU_UP != 0);
            if !others {
                crate::sched::shutdown(m, d, d.shutdown_code.load(Ordering::Relaxed));
                return Ok(0);
            }
            target.state.fetch_and(!VCPU_UP, Ordering::AcqRel);
            m.kick(id);
            Ok(0)
        }
        VCPUOP_is_up => Ok(u64::from(state & VCPU_UP != 0)),
        VCPUOP_get_runstate_info => {
            let info = runstate_info(m, d, v, id);
            guest::put(m, arg, &info)?;
            Ok(0)
        }
        VCPUOP_register_runstate_memory_area => {
            let area: VcpuRegisterRunstateMemoryArea = guest::get(m, arg)?;
            if mmu::in_hole(Vaddr(area.addr.0)) {
                return Err(Errno::EFAULT);
            }
            let info = runstate_info(m, d, v, id);
            if id == v.id {
                v.runstate_area = Vaddr(area.addr.0);
            } else {
                target.runstate_area.store(area.addr.0, Ordering::Release);
            }
            let _ = guest::put(m, Vaddr(area.addr.0), &info);
            Ok(0)
        }
        VCPUOP_register_vcpu_time_memory_area => {
            let area: VcpuRegisterTimeMemoryArea = guest::get(m, arg)?;
            if mmu::in_hole(Vaddr(area.addr.0)) {
                return Err(Errno::EFAULT);
            }
            let info = time_info(d);
            v.time_area = Vaddr(area.addr.0);
            let _ = guest::put(m, Vaddr(area.addr.0), &info);
            Ok(0)
        }
        VCPUOP_set_periodic_timer => {
            let timer: VcpuSetPeriodicTimer = guest::get(m, arg)?;
            const SHORTEST: u64 = 1_000_000;
            if timer.period_ns < SHORTEST || timer.period_ns > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            own(v, id)?;
            v.period = timer.period_ns;
            v.periodic_at = time::now(m, d) + timer.period_ns;
            time::rearm(m, d, v);
            Ok(0)
        }
        VCPUOP_stop_periodic_timer => {
            own(v, id)?;
            v.period = 0;
            time::rearm(m, d, v);
            Ok(0)
        }
        VCPUOP_set_singleshot_timer => {
            own(v, id)?;
            let timer: VcpuSetSingleshotTimer = guest::get(m, arg)?;
            // `VCPU_SSHOTTMR_future` means nothing any more.
            v.singleshot_at = timer.timeout_abs_ns.max(1);
            time::expire(m, d, v);
            Ok(0)
        }
        VCPUOP_stop_singleshot_timer => {
            own(v, id)?;
            v.singleshot_at = 0;
            time::rearm(m, d, v);
            Ok(0)
        }
        VCPUOP_register_vcpu_info => {
            let info: VcpuRegisterVcpuInfo = guest::get(m, arg)?;
            register_vcpu_info(m, d, v, id, info)
        }
        VCPUOP_send_nmi => {
            target.work.fetch_or(WORK_NMI, Ordering::AcqRel);
            if id != v.id {
                m.kick(id);
            }
            Ok(0)
        }
        // Only virtual CPUs pinned to a physical one have such a number.
        VCPUOP_get_physid => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// The single-shot timer may be set only for the caller.
fn own(v: &Vcpu, id: usize) -> Result<(), Errno> {
    if id == v.id {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// `HYPERVISOR_set_timer_op`: like the single-shot timer; 0 stops it, a time
/// long past counts as now.
///
/// # Errors
/// None.
pub fn set_timer_op<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, timeout: u64) -> Ret {
    v.singleshot_at = timeout;
    if timeout == 0 {
        time::rearm(m, d, v);
    } else {
        time::expire(m, d, v);
    }
    Ok(0)
}

fn initialise<M: Machine>(m: &mut M, d: &Domain, id: usize, arg: Vaddr) -> Ret {
    let target = &d.vcpus[id];
    if target.vcpu_info().0 == 0 {
        return Err(Errno::EINVAL);
    }
    let mut slot = d.contexts[id].lock();
    if target.state.load(Ordering::Acquire) & VCPU_INITIALISED != 0 {
        // An argument that cannot be read is told first.
        let mut unused = [0u8; 64];
        for offset in (0..size_of::<VcpuGuestContext>()).step_by(unused.len()) {
            let rest = (size_of::<VcpuGuestContext>() - offset).min(unused.len());
            m.copy_from_guest(
                Vaddr(arg.0.wrapping_add(offset as u64)),
                &mut unused[..rest],
            )?;
        }
        return Err(Errno::EEXIST);
    }
    m.copy_from_guest(arg, slot.as_mut_bytes())?;
    if !slot.event_callback_eip.is_canonical()
        || !slot.syscall_callback_eip.is_canonical()
        || ![slot.fs_base, slot.gs_base_kernel, slot.gs_base_user]
            .iter()
            .all(|base| Vaddr(*base).is_canonical())
        || slot.gdt_ents > 512 * 16
        || slot.ldt_ents > 8192
        || !m.is_ram(Mfn(slot.ctrlreg[3] >> 12))
        || (slot.ctrlreg[1] != 0 && !m.is_ram(Mfn(slot.ctrlreg[1] >> 12)))
    {
        return Err(Errno::EINVAL);
    }
    target.state.fetch_or(VCPU_INITIALISED, Ordering::AcqRel);
    Ok(0)
}

/// Takes up the context `VCPUOP_initialise` gave once `VCPUOP_up` has come.
/// False while the virtual CPU is down.
pub fn come_up<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, r: &mut Regs) -> bool {
    const BOTH: u32 = VCPU_UP | VCPU_INITIALISED;
    let up = d.vcpus[v.id].state.load(Ordering::Acquire) & BOTH == BOTH;
    if !up {
        if !v.down {
            v.down = true;
            enter_runstate(m, d, v, RUNSTATE_OFFLINE);
        }
        return false;
    }
    v.down = false;
    if !v.started {
        v.started = true;
        let context = d.contexts[v.id].lock();
        load_context(m, d, v, r, &context);
    }
    enter_runstate(m, d, v, RUNSTATE_RUNNING);
    true
}

/// Loads a whole `vcpu_guest_context`, also the first virtual CPU's.
pub fn load_context<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    r: &mut Regs,
    c: &VcpuGuestContext,
) {
    for (gate, info) in v.gates.iter_mut().zip(&c.trap_ctxt) {
        *gate = Gate {
            address: info.address.0,
            cs: info.cs,
            dpl: info.dpl(),
            masks_events: info.masks_events(),
        };
    }
    let masked = |bit| c.flags & bit != 0;
    v.event = Callback {
        address: c.event_callback_eip.0,
        masks_events: true,
    };
    v.failsafe = Callback {
        address: c.failsafe_callback_eip.0,
        masks_events: masked(VGCF_failsafe_disables_events),
    };
    v.syscall = Callback {
        address: c.syscall_callback_eip.0,
        masks_events: masked(VGCF_syscall_disables_events),
    };
    v.set_kernel_sp(c.kernel_sp);
    v.cr4 = c.ctrlreg[4];
    v.kernel_l4 = Mfn(c.ctrlreg[3] >> 12);
    v.user_l4 = Mfn(c.ctrlreg[1] >> 12);
    v.gs_base_user = c.gs_base_user;
    v.gs_base_kernel = c.gs_base_kernel;
    v.in_kernel = true;
    mmu::install_hole(m, v.kernel_l4);
    if v.user_l4.0 != 0 && m.is_ram(v.user_l4) {
        mmu::install_hole(m, v.user_l4);
    }
    m.load_cr3(v.kernel_l4);
    m.set_base(Base::Fs, c.fs_base);
    m.set_base(Base::Gs, c.gs_base_kernel);
    let frames = (c.gdt_ents as usize).div_ceil(512).min(16);
    if c.gdt_frames[..frames].iter().all(|f| m.is_ram(*f)) {
        mmu::load_gdt(m, v, &c.gdt_frames[..frames], c.gdt_ents as u32);
    }
    let u = &c.user_regs;
    *r = Regs {
        r15: u.r15,
        r14: u.r14,
        r13: u.r13,
        r12: u.r12,
        rbp: u.rbp,
        rbx: u.rbx,
        r11: u.r11,
        r10: u.r10,
        r9: u.r9,
        r8: u.r8,
        rax: u.rax,
        rcx: u.rcx,
        rdx: u.rdx,
        rsi: u.rsi,
        rdi: u.rdi,
        error_code: 0,
        rip: u.rip,
        cs: u64::from(d.config.kernel_cs),
        rflags: (u.rflags & !(flags::IOPL | flags::VM)) | flags::IF | flags::RESERVED1,
        rsp: u.rsp,
        ss: u64::from(d.config.kernel_ss),
    };
    v.iopl = (u.rflags >> 12 & 3) as u8;
}

fn register_vcpu_info<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &Vcpu,
    id: usize,
    info: VcpuRegisterVcpuInfo,
) -> Ret {
    let offset = info.offset as usize;
    if offset > PAGE_SIZE - size_of::<VcpuInfo>() || offset & 7 != 0 {
        return Err(Errno::ENXIO);
    }
    let target = &d.vcpus[id];
    let old = target.vcpu_info();
    let home = vcpu_info_home(d, id);
    // It can be moved once only, and by another virtual CPU only while down.
    if old != home {
        return Err(Errno::EINVAL);
    }
    if id != v.id && target.state.load(Ordering::Acquire) & VCPU_UP != 0 {
        return Err(Errno::EINVAL);
    }
    if !m.is_ram(Mfn(info.mfn)) {
        return Err(Errno::EINVAL);
    }
    let new = Mfn(info.mfn).addr().offset(offset as u64);
    if old.0 != 0 {
        let mut bytes = [0u8; size_of::<VcpuInfo>()];
        m.read_frame(old, &mut bytes);
        m.write_frame(new, &bytes);
    } else {
        // A virtual CPU beyond shared_info starts with events masked.
        m.store8(new.offset(1), 1);
    }
    let time = time_info(d);
    m.write_frame(new.offset(32), time.as_bytes());
    target.vcpu_info.store(new.0, Ordering::SeqCst);
    // What was marked in the old place while it moved must not be lost.
    m.store64(new.offset(8), u64::MAX);
    evtchn::mark_events_pending(m, d, v.id, id);
    Ok(0)
}

/// Where a virtual CPU's `vcpu_info` is before it is moved.
pub fn vcpu_info_home(d: &Domain, id: usize) -> Maddr {
    d.config
        .shared_info
        .addr()
        .offset((id * size_of::<VcpuInfo>()) as u64)
}

/// The `vcpu_time_info` that holds for the domain's whole life.
pub fn time_info(d: &Domain) -> xen_sys::xen::VcpuTimeInfo {
    xen_sys::xen::VcpuTimeInfo {
        version: 2,
        tsc_timestamp: d.config.tsc_base,
        system_time: 0,
        tsc_to_system_mul: d.config.tsc_to_system_mul,
        tsc_shift: d.config.tsc_shift as i8,
        flags: xen_sys::xen::XEN_PVCLOCK_TSC_STABLE_BIT,
        ..Default::default()
    }
}

fn runstate_info<M: Machine>(m: &M, d: &Domain, v: &Vcpu, id: usize) -> VcpuRunstateInfo {
    if id != v.id {
        return VcpuRunstateInfo {
            state: d.vcpus[id].runstate.load(Ordering::Relaxed) as i32,
            ..Default::default()
        };
    }
    let mut time = v.runstate_time;
    let now = time::now(m, d);
    if let Some(slot) = time.get_mut(v.runstate as usize) {
        *slot += now.saturating_sub(v.runstate_entry);
    }
    VcpuRunstateInfo {
        state: v.runstate as i32,
        state_entry_time: v.runstate_entry,
        time,
        ..Default::default()
    }
}

/// Records a change of runstate and shows it to the guest where it asked.
pub fn enter_runstate<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, state: u32) {
    let now = time::now(m, d);
    if let Some(slot) = v.runstate_time.get_mut(v.runstate as usize) {
        *slot += now.saturating_sub(v.runstate_entry);
    }
    v.runstate = state;
    v.runstate_entry = now;
    let shared = &d.vcpus[v.id];
    shared.runstate.store(state, Ordering::Relaxed);
    let moved = shared.runstate_area.swap(0, Ordering::AcqRel);
    if moved != 0 {
        v.runstate_area = Vaddr(moved);
    }
    // The area's address means something in kernel mode's page tables only.
    if v.runstate_area.0 == 0 || !v.in_kernel {
        return;
    }
    let mut info = VcpuRunstateInfo {
        state: state as i32,
        state_entry_time: now,
        time: v.runstate_time,
        ..Default::default()
    };
    let flagged = d.vm_assist.load(Ordering::Relaxed) >> VMASST_TYPE_runstate_update_flag & 1 != 0;
    let entry_time = Vaddr(v.runstate_area.0.wrapping_add(8));
    if flagged {
        info.state_entry_time |= XEN_RUNSTATE_UPDATE;
        let _ = guest::put(m, entry_time, &info.state_entry_time);
    }
    let _ = guest::put(m, v.runstate_area, &info);
    if flagged {
        let _ = guest::put(m, entry_time, &now);
    }
}
