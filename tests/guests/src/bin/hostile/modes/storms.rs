//! As much of one thing as the domain can do for two seconds.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::events::{self, op};
use xenner_guests::hypercall::{call1, call2, call3};
use xenner_guests::memory::mmuext;
use xenner_guests::report::{see, yes};
use xenner_guests::time::system_time;

fn for_two_seconds(mut round: impl FnMut()) {
    let end = system_time() + 2_000_000_000;
    while system_time() < end {
        (0..100).for_each(|_| round());
    }
}

pub fn hypercalls() {
    for_two_seconds(|| {
        call2(__HYPERVISOR_xen_version, XENVER_version, 0);
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    });
    see("hostile.hypercall_storm", "survived");
}

pub fn events() {
    let mut unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        ..EvtchnAllocUnbound::default()
    };
    op(EVTCHNOP_alloc_unbound, &mut unbound);
    let mut bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: unbound.port,
        ..EvtchnBindInterdomain::default()
    };
    op(EVTCHNOP_bind_interdomain, &mut bind);
    events::clear_mask(unbound.port.0);
    events::enable();
    let info = xenner_guests::boot::start_info();
    for_two_seconds(|| {
        for port in [bind.local_port, info.console_evtchn, info.store_evtchn] {
            op(EVTCHNOP_send, &EvtchnSend { port });
        }
    });
    events::disable();
    yes(
        "hostile.event_storm.seen",
        events::seen(unbound.port.0) > 100,
    );
}

pub fn timers() {
    let mut virq = EvtchnBindVirq {
        virq: VIRQ_TIMER,
        ..EvtchnBindVirq::default()
    };
    op(EVTCHNOP_bind_virq, &mut virq);
    events::clear_mask(virq.port.0);
    events::enable();
    call3(
        __HYPERVISOR_vcpu_op,
        VCPUOP_set_periodic_timer,
        0,
        &VcpuSetPeriodicTimer {
            period_ns: 1_000_000,
        },
    );
    for_two_seconds(|| {
        call1(__HYPERVISOR_set_timer_op, 1);
        call1(__HYPERVISOR_set_timer_op, system_time() + 10);
    });
    events::disable();
    yes("hostile.timer_storm.seen", events::seen(virq.port.0) > 100);
}

pub fn faults() {
    let mut count = 0u64;
    for_two_seconds(|| {
        count += u64::from(attempt!("ud2").is_some());
        count += u64::from(attempt!("mov rax, [0x1000]"; out("rax") _).is_some());
        count += u64::from(attempt!("hlt").is_some());
    });
    yes(
        "hostile.fault_storm.all_delivered",
        count.is_multiple_of(3) && count > 100,
    );
}

pub fn flushes() {
    for_two_seconds(|| {
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        mmuext(MMUEXT_INVLPG_ALL, 0x1000, 0);
    });
    see("hostile.flush_storm", "survived");
}
