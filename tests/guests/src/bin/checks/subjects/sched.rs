//! `sched_op` (sched.h) and the vCPU's timers.

use core::sync::atomic::Ordering::Relaxed;

use xenner_guests::abi::*;
use xenner_guests::events::{self, seen, shared};
use xenner_guests::hypercall::{
    Arg, EFAULT, EINVAL, ENOENT, ENOSYS, OK, Ret, UNMAPPED, call1, call2, call3, handle,
};
use xenner_guests::memory::Page;
use xenner_guests::report::{eq, see, yes};
use xenner_guests::time::system_time;

fn sched(cmd: u32, arg: impl Arg) -> Ret {
    call2(__HYPERVISOR_sched_op, cmd, arg)
}

fn vcpu(cmd: u32, id: u32, arg: impl Arg) -> Ret {
    call3(__HYPERVISOR_vcpu_op, cmd, id, arg)
}

pub fn run() {
    let mut virq = EvtchnBindVirq {
        virq: VIRQ_TIMER,
        ..EvtchnBindVirq::default()
    };
    eq(
        "timer.bind_virq",
        events::op(EVTCHNOP_bind_virq, &mut virq),
        OK,
    );
    let port = virq.port.0;
    simple();
    clock();
    one_shot(port);
    poll(port);
    single_shot(port);
    periodic(port);
    watchdog();
    eq(
        "timer.close_virq",
        events::op(EVTCHNOP_close, &EvtchnClose { port: virq.port }),
        OK,
    );
}

fn simple() {
    eq("sched.yield", sched(SCHEDOP_yield, 0), OK);
    eq("sched.unknown", sched(99, 0), ENOSYS);
    eq(
        "sched.shutdown.bad_pointer",
        sched(SCHEDOP_shutdown, UNMAPPED),
        EFAULT,
    );
    see(
        "sched.shutdown.bad_reason",
        sched(SCHEDOP_shutdown_code, &SchedShutdown { reason: 6 }),
    );
    let remote = SchedRemoteShutdown {
        domain_id: DOMID_SELF,
        ..SchedRemoteShutdown::default()
    };
    see(
        "sched.remote_shutdown.self",
        sched(SCHEDOP_remote_shutdown, &remote),
    );
    let remote = SchedRemoteShutdown {
        domain_id: DomId(0x7000),
        ..SchedRemoteShutdown::default()
    };
    see(
        "sched.remote_shutdown.nobody",
        sched(SCHEDOP_remote_shutdown, &remote),
    );
    let remote = SchedRemoteShutdown {
        domain_id: DomId(0),
        ..SchedRemoteShutdown::default()
    };
    see(
        "sched.remote_shutdown.dom0",
        sched(SCHEDOP_remote_shutdown, &remote),
    );
    see(
        "sched.pin_override",
        sched(SCHEDOP_pin_override, &SchedPinOverride { pcpu: 0 }),
    );
}

fn clock() {
    let time = shared(4).load(Relaxed) as u32;
    eq("clock.version.even", time & 1, 0);
    yes(
        "clock.tsc_to_system_mul",
        shared(7).load(Relaxed) as u32 != 0,
    );
    let first = system_time();
    yes(
        "clock.monotonic",
        (0..1000)
            .fold((first, true), |(last, good), _| {
                let now = system_time();
                (now, good && now >= last)
            })
            .1,
    );
    let wallclock = shared((2048 + 1024) / 8);
    eq(
        "clock.wc_version.even",
        wallclock.load(Relaxed) as u32 & 1,
        0,
    );
    let seconds = wallclock.load(Relaxed) >> 32;
    yes("clock.wc_sec.after_2020", seconds > 1_577_836_800);
    yes(
        "clock.wc_nsec",
        (shared((2048 + 1024) / 8 + 1).load(Relaxed) as u32) < 1_000_000_000,
    );
}

/// Blocks with events unmasked until the port's count is above `count`; false after too many wake-ups.
fn wait(port: u32, count: u64) -> bool {
    for _ in 0..1000 {
        if seen(port) > count {
            return true;
        }
        sched(SCHEDOP_block, 0);
        events::disable();
    }
    false
}

fn one_shot(port: u32) {
    events::clear(port);
    events::clear_mask(port);
    let before = seen(port);
    let start = system_time();
    eq(
        "timer.set",
        call1(__HYPERVISOR_set_timer_op, start + 5_000_000),
        OK,
    );
    yes("timer.fires", wait(port, before));
    yes("timer.not_early", system_time() >= start + 5_000_000);
    let before = seen(port);
    eq("timer.past", call1(__HYPERVISOR_set_timer_op, 1), OK);
    yes("timer.past.fires", wait(port, before));
    eq(
        "timer.set_far",
        call1(__HYPERVISOR_set_timer_op, system_time() + 3_000_000_000),
        OK,
    );
    eq("timer.cancel", call1(__HYPERVISOR_set_timer_op, 0), OK);
    eq(
        "timer.negative",
        call1(__HYPERVISOR_set_timer_op, -1i64),
        OK,
    );
    call1(__HYPERVISOR_set_timer_op, 0);
    events::enable();
    events::disable();
    eq(
        "timer.block.unmasks",
        {
            events::upcall_mask().store(1, Relaxed);
            call1(__HYPERVISOR_set_timer_op, system_time() + 1_000_000);
            sched(SCHEDOP_block, 0);
            events::upcall_mask().load(Relaxed)
        },
        0,
    );
    events::disable();
}

fn poll_ports(ports: &[u32], count: u32, timeout: u64) -> Ret {
    let arg = SchedPoll {
        ports: handle(ports),
        nr_ports: count,
        timeout,
        ..SchedPoll::default()
    };
    sched(SCHEDOP_poll, &arg)
}

fn poll(port: u32) {
    events::disable();
    events::mask(port);
    events::clear(port);
    let start = system_time();
    eq(
        "poll.timeout",
        poll_ports(&[port], 1, start + 2_000_000),
        OK,
    );
    yes("poll.timeout.waited", system_time() >= start + 2_000_000);
    let start = system_time();
    call1(__HYPERVISOR_set_timer_op, start + 2_000_000);
    eq("poll.event", poll_ports(&[port], 1, 0), OK);
    yes("poll.event.pending", events::pending(port));
    eq("poll.pending_already", poll_ports(&[port], 1, 0), OK);
    eq(
        "poll.nothing",
        poll_ports(&[], 0, system_time() + 1_000_000),
        OK,
    );
    eq("poll.bad_port", poll_ports(&[0x7fff_ffff], 1, 0), EINVAL);
    eq("poll.too_many", poll_ports(&[port], 129, 0), EINVAL);
    let bad = SchedPoll {
        ports: GuestHandle(UNMAPPED),
        nr_ports: 1,
        ..SchedPoll::default()
    };
    eq("poll.bad_list", sched(SCHEDOP_poll, &bad), EFAULT);
    eq("poll.bad_pointer", sched(SCHEDOP_poll, UNMAPPED), EFAULT);
    events::clear(port);
}

fn single_shot(port: u32) {
    events::clear_mask(port);
    let timer = |timeout_abs_ns: u64, flags: u32| {
        let arg = VcpuSetSingleshotTimer {
            timeout_abs_ns,
            flags,
            ..VcpuSetSingleshotTimer::default()
        };
        vcpu(VCPUOP_set_singleshot_timer, 0, &arg)
    };
    let before = seen(port);
    eq("single_shot.set", timer(system_time() + 2_000_000, 0), OK);
    yes("single_shot.fires", wait(port, before));
    eq(
        "single_shot.future.past",
        timer(1, VCPU_SSHOTTMR_future),
        OK,
    );
    let before = seen(port);
    eq("single_shot.past", timer(1, 0), OK);
    yes("single_shot.past.fires", wait(port, before));
    let before = seen(port);
    eq(
        "single_shot.future",
        timer(system_time() + 20_000_000, VCPU_SSHOTTMR_future),
        OK,
    );
    yes("single_shot.future.fires", wait(port, before));
    eq(
        "single_shot.set_far",
        timer(system_time() + 3_000_000_000, 0),
        OK,
    );
    eq(
        "single_shot.stop",
        vcpu(VCPUOP_stop_singleshot_timer, 0, 0),
        OK,
    );
    eq(
        "single_shot.stop.again",
        vcpu(VCPUOP_stop_singleshot_timer, 0, 0),
        OK,
    );
    see(
        "single_shot.other_vcpu",
        vcpu(
            VCPUOP_set_singleshot_timer,
            1,
            &VcpuSetSingleshotTimer::default(),
        ),
    );
    see(
        "single_shot.stop.other_vcpu",
        vcpu(VCPUOP_stop_singleshot_timer, 1, 0),
    );
    eq(
        "single_shot.no_such_vcpu",
        vcpu(VCPUOP_set_singleshot_timer, 99, UNMAPPED),
        ENOENT,
    );
    eq(
        "single_shot.bad_pointer",
        vcpu(VCPUOP_set_singleshot_timer, 0, UNMAPPED),
        EFAULT,
    );
}

/// Runs with events unmasked until the port's count is above `count`: Xen stops the periodic timer while a vCPU blocks.
fn spin(port: u32, count: u64) -> bool {
    let end = system_time() + 2_000_000_000;
    events::enable();
    while seen(port) <= count && system_time() < end {
        core::hint::spin_loop();
    }
    events::disable();
    seen(port) > count
}

fn periodic(port: u32) {
    let timer = |period_ns: u64| {
        vcpu(
            VCPUOP_set_periodic_timer,
            0,
            &VcpuSetPeriodicTimer { period_ns },
        )
    };
    see("periodic.too_short", timer(500_000));
    see("periodic.too_long", timer(u64::MAX));
    let before = seen(port);
    eq("periodic.set", timer(2_000_000), OK);
    yes("periodic.fires_thrice", spin(port, before + 2));
    eq("periodic.stop", vcpu(VCPUOP_stop_periodic_timer, 0, 0), OK);
    eq(
        "periodic.stop.again",
        vcpu(VCPUOP_stop_periodic_timer, 0, 0),
        OK,
    );
    eq(
        "periodic.bad_pointer",
        vcpu(VCPUOP_set_periodic_timer, 0, UNMAPPED),
        EFAULT,
    );
    let page = Page::new();
    page.write(0, 10_000_000);
    events::mask(port);
    events::clear(port);
}

fn watchdog() {
    let call = |id: u32, timeout: u32| sched(SCHEDOP_watchdog, &SchedWatchdog { id, timeout });
    see("watchdog.new", call(0, 30));
    see("watchdog.pat", call(1, 30));
    see("watchdog.second", call(0, 30));
    see("watchdog.third", call(0, 30));
    see("watchdog.disable", call(1, 0));
    see("watchdog.disable.second", call(2, 0));
    see("watchdog.disable.again", call(1, 0));
    see("watchdog.unused.pat", call(1, 30));
    see("watchdog.bad_id", call(7, 30));
    see("watchdog.bad_pointer", sched(SCHEDOP_watchdog, UNMAPPED));
}
