//! `HYPERVISOR_sched_op`.

use core::sync::atomic::Ordering;

use xen_sys::addr::{DomId, Vaddr};
use xen_sys::errno::Errno;
use xen_sys::sched::*;

use crate::domain::VCPU_BLOCKED;
use crate::{Domain, Machine, Ret, Vcpu, evtchn, guest, time, trap, vcpu_op};

/// Poll word: several ports.
const POLL_MANY: u32 = u32::MAX;

/// `HYPERVISOR_sched_op` (`xen/include/public/sched.h`).
///
/// # Errors
/// `EFAULT`, `EINVAL`, `ENOSYS`, as Xen.
pub fn sched_op<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    match cmd as u32 {
        SCHEDOP_yield => Ok(0),
        SCHEDOP_block => {
            trap::mask_events(m, d, v, false);
            block(m, d, v);
            Ok(0)
        }
        SCHEDOP_shutdown => {
            let request: SchedShutdown = guest::get(m, arg)?;
            shutdown(m, d, request.reason);
            Ok(0)
        }
        SCHEDOP_shutdown_code => {
            let request: SchedShutdown = guest::get(m, arg)?;
            d.shutdown_code.store(request.reason, Ordering::Relaxed);
            Ok(0)
        }
        SCHEDOP_poll => {
            let request = guest::get(m, arg)?;
            poll(m, d, v, request)
        }
        SCHEDOP_remote_shutdown => {
            let request: SchedRemoteShutdown = guest::get(m, arg)?;
            // A domU has power over itself only, and that not by this call.
            match request.domain_id {
                DomId(0) => Err(Errno::EPERM),
                _ => Err(Errno::ESRCH),
            }
        }
        SCHEDOP_watchdog => {
            let request = guest::get(m, arg)?;
            watchdog(m, d, request)
        }
        SCHEDOP_pin_override => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_sched_op_compat`: the two calls old kernels made without an
/// argument block.
///
/// # Errors
/// `ENOSYS` for others.
pub fn sched_op_compat<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: u64) -> Ret {
    match cmd as u32 {
        SCHEDOP_yield | SCHEDOP_block => sched_op(m, d, v, cmd, Vaddr(0)),
        SCHEDOP_shutdown => {
            shutdown(m, d, arg as u32);
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Ends the domain's run.
pub fn shutdown<M: Machine>(m: &mut M, d: &Domain, reason: u32) {
    if !d.shut_down.swap(true, Ordering::AcqRel) {
        m.shutdown(reason);
    }
    for vcpu in 0..d.config.nr_vcpus as usize {
        m.kick(vcpu);
    }
}

/// Sleeps until an event is pending, unless one is.
pub fn block<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu) {
    let shared = &d.vcpus[v.id];
    shared.state.fetch_or(VCPU_BLOCKED, Ordering::SeqCst);
    if evtchn::upcall_due(m, d, v.id) {
        shared.state.fetch_and(!VCPU_BLOCKED, Ordering::SeqCst);
        return;
    }
    v.blocked = true;
    vcpu_op::enter_runstate(m, d, v, vcpu_op::RUNSTATE_BLOCKED);
}

fn poll<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, request: SchedPoll) -> Ret {
    if request.nr_ports > 128 {
        return Err(Errno::EINVAL);
    }
    let ports = Vaddr(request.ports.0);
    let one: u32 = if request.nr_ports == 1 {
        guest::get(m, ports)?
    } else {
        POLL_MANY
    };
    let shared = &d.vcpus[v.id];
    shared.poll.store(one, Ordering::SeqCst);
    shared.state.fetch_or(VCPU_BLOCKED, Ordering::SeqCst);
    let due = ports_due(m, d, v, ports, request.nr_ports);
    let expired = request.timeout != 0 && request.timeout <= time::now(m, d);
    if expired || !matches!(due, Ok(false)) {
        shared.poll.store(0, Ordering::SeqCst);
        shared.state.fetch_and(!VCPU_BLOCKED, Ordering::SeqCst);
        return due.map(|_| 0);
    }
    v.poll_until = request.timeout;
    if request.timeout != 0 {
        time::rearm(m, d, v);
    }
    v.blocked = true;
    vcpu_op::enter_runstate(m, d, v, vcpu_op::RUNSTATE_BLOCKED);
    Ok(0)
}

fn ports_due<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &Vcpu,
    ports: Vaddr,
    count: u32,
) -> Result<bool, Errno> {
    // An event the guest would be told of ends the wait at once.
    if evtchn::upcall_pending(m, d, v.id) && !trap::events_masked(m, d, v) {
        return Ok(true);
    }
    for index in 0..u64::from(count) {
        let port: u32 = guest::get(m, guest::element::<u32>(ports, index))?;
        if !evtchn::port_valid(d, port) {
            return Err(Errno::EINVAL);
        }
        if evtchn::port_pending(m, d, port) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a sleeping virtual CPU has a reason to wake.
pub fn wake_due<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu) -> bool {
    evtchn::upcall_due(m, d, v.id) || (v.poll_until != 0 && v.poll_until <= time::now(m, d))
}

/// Leaves the sleep.
pub fn woken<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu) {
    let shared = &d.vcpus[v.id];
    shared.poll.store(0, Ordering::SeqCst);
    shared.state.fetch_and(!VCPU_BLOCKED, Ordering::SeqCst);
    v.blocked = false;
    if v.poll_until != 0 {
        v.poll_until = 0;
        time::rearm(m, d, v);
    }
    vcpu_op::enter_runstate(m, d, v, vcpu_op::RUNSTATE_RUNNING);
}

/// `SCHEDOP_watchdog`: the host keeps the time, it must fire even when every
/// virtual CPU is stuck.
fn watchdog<M: Machine>(m: &mut M, d: &Domain, request: SchedWatchdog) -> Ret {
    let mut ids = d.watchdogs.lock();
    let (id, timeout) = (request.id as usize, request.timeout);
    let deadline = time::now(m, d).saturating_add(u64::from(timeout) * 1_000_000_000);
    match (id, timeout) {
        (0, _) => match ids.iter().position(|at| *at == 0) {
            Some(free) => {
                ids[free] = deadline;
                m.watchdog(free, deadline);
                Ok(free as u64 + 1)
            }
            // Xen's function returns -ENOSPC as an unsigned 32-bit number.
            None => Ok(u64::from((-28i32) as u32)),
        },
        (id, _) if id > ids.len() || ids[id - 1] == 0 => Err(Errno::EINVAL),
        (id, timeout) => {
            ids[id - 1] = if timeout == 0 { 0 } else { deadline };
            m.watchdog(id - 1, ids[id - 1]);
            Ok(0)
        }
    }
}
