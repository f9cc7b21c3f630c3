//! `event_channel_op` (event_channel.h) with the two-level ABI.

use core::sync::atomic::Ordering::Relaxed;

use xenner_guests::abi::*;
use xenner_guests::boot::start_info;
use xenner_guests::events::{self, clear, clear_mask, mask, masked, op, pending, seen};
use xenner_guests::hypercall::{
    EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS, EPERM, ESRCH, OK, Ret, UNMAPPED,
};
use xenner_guests::report::{eq, see, yes};

pub fn run() {
    alloc_unbound();
    interdomain();
    delivery();
    virqs();
    ipis();
    bind_vcpu();
    status();
    closing();
    bad_ports();
    refusals();
}

fn alloc(dom: u16, remote: u16) -> (Ret, EvtchnPort) {
    let mut arg = EvtchnAllocUnbound {
        dom: DomId(dom),
        remote_dom: DomId(remote),
        port: EvtchnPort(0),
    };
    (op(EVTCHNOP_alloc_unbound, &mut arg), arg.port)
}

fn bind(remote_dom: u16, remote_port: EvtchnPort) -> (Ret, EvtchnPort) {
    let mut arg = EvtchnBindInterdomain {
        remote_dom: DomId(remote_dom),
        remote_port,
        ..EvtchnBindInterdomain::default()
    };
    (op(EVTCHNOP_bind_interdomain, &mut arg), arg.local_port)
}

fn close(port: EvtchnPort) -> Ret {
    op(EVTCHNOP_close, &EvtchnClose { port })
}

fn send(port: EvtchnPort) -> Ret {
    op(EVTCHNOP_send, &EvtchnSend { port })
}

fn unmask(port: EvtchnPort) -> Ret {
    op(EVTCHNOP_unmask, &EvtchnUnmask { port })
}

fn state(port: EvtchnPort) -> EvtchnStatus {
    let mut arg = EvtchnStatus {
        dom: DOMID_SELF,
        port,
        ..EvtchnStatus::default()
    };
    op(EVTCHNOP_status, &mut arg);
    arg
}

const SELF: u16 = DOMID_SELF.0;

fn alloc_unbound() {
    let (ret, port) = alloc(SELF, SELF);
    eq("alloc_unbound.self", ret, OK);
    yes("alloc_unbound.port", port.0 != 0);
    let (ret, other) = alloc(SELF, 0);
    eq("alloc_unbound.for_dom0", ret, OK);
    yes("alloc_unbound.lowest_free", other.0 == port.0 + 1);
    let (ret, nobody) = alloc(SELF, 0x7000);
    see("alloc_unbound.for_nobody", ret);
    eq("alloc_unbound.of_dom0", alloc(0, SELF).0, EPERM);
    eq("alloc_unbound.of_nobody", alloc(0x7000, SELF).0, ESRCH);
    eq(
        "alloc_unbound.of_reserved",
        alloc(DOMID_IO.0, SELF).0,
        ESRCH,
    );
    eq(
        "alloc_unbound.bad_pointer",
        op(EVTCHNOP_alloc_unbound, UNMAPPED),
        EFAULT,
    );
    for port in [port, other] {
        close(port);
    }
    if ret.ok() {
        close(nobody);
    }
}

fn interdomain() {
    let (_, unbound) = alloc(SELF, SELF);
    let (ret, local) = bind(SELF, unbound);
    eq("bind_interdomain.loopback", ret, OK);
    yes(
        "bind_interdomain.new_port",
        local.0 != 0 && local != unbound,
    );
    // The binding side starts pending, so that it looks whether the other has sent before.
    yes("bind_interdomain.local_pending", pending(local.0));
    yes("bind_interdomain.remote_not_pending", !pending(unbound.0));
    eq(
        "bind_interdomain.bound_twice",
        bind(SELF, unbound).0,
        EINVAL,
    );
    eq(
        "bind_interdomain.to_interdomain",
        bind(SELF, local).0,
        EINVAL,
    );
    eq(
        "bind_interdomain.free_port",
        bind(SELF, EvtchnPort(2000)).0,
        EINVAL,
    );
    eq(
        "bind_interdomain.port_0",
        bind(SELF, EvtchnPort(0)).0,
        EINVAL,
    );
    eq(
        "bind_interdomain.port_large",
        bind(SELF, EvtchnPort(u32::MAX)).0,
        EINVAL,
    );
    eq("bind_interdomain.nobody", bind(0x7000, unbound).0, ESRCH);
    see(
        "bind_interdomain.dom0_free_port",
        bind(0, EvtchnPort(3000)).0,
    );
    let (_, others) = alloc(SELF, 0);
    eq("bind_interdomain.not_for_us", bind(SELF, others).0, EINVAL);
    close(others);
    eq("interdomain.close_one", close(local), OK);
    eq(
        "interdomain.other_is_unbound",
        state(unbound).status,
        EVTCHNSTAT_unbound,
    );
    eq("interdomain.send_unbound", send(unbound), OK);
    close(unbound);
}

fn pair() -> (EvtchnPort, EvtchnPort) {
    let (_, unbound) = alloc(SELF, SELF);
    let (_, local) = bind(SELF, unbound);
    clear(local.0);
    (unbound, local)
}

/// Pending and mask bits, the selector, upcalls.
fn delivery() {
    // The host answers to what was printed when it likes.
    let info = start_info();
    let others = [info.console_evtchn.0, info.store_evtchn.0];
    others.into_iter().for_each(mask);
    let (a, b) = pair();
    mask(b.0);
    eq("send.masked", send(a), OK);
    yes("send.masked.pending", pending(b.0));
    let before = events::UPCALLS.load(Relaxed);
    events::enable();
    eq(
        "send.masked.no_upcall",
        events::UPCALLS.load(Relaxed) - before,
        0,
    );
    eq("unmask.pending", unmask(b), OK);
    eq(
        "unmask.pending.upcall",
        events::UPCALLS.load(Relaxed) - before,
        1,
    );
    eq("unmask.pending.seen", seen(b.0), 1);
    yes("unmask.clears_mask", !masked(b.0));
    eq("send.unmasked", send(a), OK);
    eq("send.unmasked.seen", seen(b.0), 2);
    events::disable();
    eq("send.upcalls_masked", send(a), OK);
    eq("send.upcalls_masked.not_seen", seen(b.0), 2);
    yes("send.upcalls_masked.pending", pending(b.0));
    eq(
        "send.upcalls_masked.upcall_pending",
        events::upcall_pending().load(Relaxed),
        1,
    );
    yes(
        "send.upcalls_masked.selector",
        events::shared(1).load(Relaxed) >> (b.0 / 64) & 1 == 1,
    );
    eq("send.again_while_pending", send(a), OK);
    events::enable();
    eq("send.one_upcall_for_two", seen(b.0), 3);
    events::disable();
    eq("send.other_way", send(b), OK);
    yes("send.other_way.pending", pending(a.0));
    eq(
        "unmask.not_pending",
        {
            clear(a.0);
            unmask(a)
        },
        OK,
    );
    mask(b.0);
    close(a);
    close(b);
    others.into_iter().for_each(clear_mask);
}

fn virq(virq: u32, vcpu: u32) -> (Ret, EvtchnPort) {
    let mut arg = EvtchnBindVirq {
        virq,
        vcpu,
        ..EvtchnBindVirq::default()
    };
    (op(EVTCHNOP_bind_virq, &mut arg), arg.port)
}

fn virqs() {
    let (ret, port) = virq(VIRQ_TIMER, 0);
    eq("bind_virq.timer", ret, OK);
    eq("bind_virq.twice", virq(VIRQ_TIMER, 0).0, EEXIST);
    let (ret, debug) = virq(VIRQ_DEBUG, 0);
    eq("bind_virq.debug", ret, OK);
    let (ret, second) = virq(VIRQ_TIMER, 1);
    see("bind_virq.timer.vcpu_1", ret);
    eq(
        "bind_virq.timer.no_such_vcpu",
        virq(VIRQ_TIMER, 77).0,
        ENOENT,
    );
    for (check, number, vcpu) in [
        ("bind_virq.console", VIRQ_CONSOLE, 0),
        ("bind_virq.dom_exc", VIRQ_DOM_EXC, 0),
        ("bind_virq.xenoprof", VIRQ_XENOPROF, 0),
        ("bind_virq.argo", VIRQ_ARGO, 0),
        ("bind_virq.global_on_vcpu_1", VIRQ_DOM_EXC, 1),
        ("bind_virq.arch_0", VIRQ_ARCH_0, 0),
        ("bind_virq.xenpmu", VIRQ_XENPMU, 0),
    ] {
        let (ret, port) = virq(number, vcpu);
        see(check, ret);
        if ret.ok() {
            close(port);
        }
    }
    eq("bind_virq.unknown", virq(NR_VIRQS, 0).0, EINVAL);
    eq("bind_virq.unknown.large", virq(u32::MAX, 0).0, EINVAL);
    see("virq.send", send(port));
    eq("virq.close", close(port), OK);
    let (ret, again) = virq(VIRQ_TIMER, 0);
    eq("virq.bind_after_close", ret, OK);
    for port in [again, debug, second] {
        close(port);
    }
}

fn ipi(vcpu: u32) -> (Ret, EvtchnPort) {
    let mut arg = EvtchnBindIpi {
        vcpu,
        ..EvtchnBindIpi::default()
    };
    (op(EVTCHNOP_bind_ipi, &mut arg), arg.port)
}

fn ipis() {
    let (ret, port) = ipi(0);
    eq("bind_ipi.vcpu_0", ret, OK);
    let (ret, second) = ipi(0);
    eq("bind_ipi.again", ret, OK);
    let (ret, other) = ipi(1);
    eq("bind_ipi.vcpu_1", ret, OK);
    eq("bind_ipi.no_such_vcpu", ipi(77).0, ENOENT);
    clear_mask(port.0);
    events::enable();
    eq("ipi.send", send(port), OK);
    eq("ipi.seen", seen(port.0) > 0, true);
    events::disable();
    eq("ipi.status", state(port).status, EVTCHNSTAT_ipi);
    see(
        "ipi.bind_vcpu",
        op(EVTCHNOP_bind_vcpu, &EvtchnBindVcpu { port, vcpu: 1 }),
    );
    mask(port.0);
    for port in [port, second, other] {
        close(port);
    }
}

fn bind_vcpu() {
    let (a, b) = pair();
    let bind = |port: EvtchnPort, vcpu: u32| op(EVTCHNOP_bind_vcpu, &EvtchnBindVcpu { port, vcpu });
    eq("bind_vcpu.interdomain", bind(a, 1), OK);
    eq("bind_vcpu.status", state(a).vcpu, 1);
    eq("bind_vcpu.back", bind(a, 0), OK);
    eq("bind_vcpu.no_such_vcpu", bind(a, 77), ENOENT);
    eq("bind_vcpu.free_port", bind(EvtchnPort(2000), 0), EINVAL);
    let (_, timer) = virq(VIRQ_TIMER, 0);
    eq("bind_vcpu.per_vcpu_virq", bind(timer, 0), EINVAL);
    let (_, global) = virq(VIRQ_DOM_EXC, 0);
    see("bind_vcpu.global_virq", bind(global, 1));
    let (_, unbound) = alloc(SELF, SELF);
    eq("bind_vcpu.unbound", bind(unbound, 1), OK);
    for port in [a, b, timer, global, unbound] {
        close(port);
    }
}

fn status() {
    let (a, b) = pair();
    let got = state(a);
    eq("status.interdomain", got.status, EVTCHNSTAT_interdomain);
    yes("status.interdomain.port", got.u.word1 == b.0);
    yes("status.interdomain.dom", got.u.word0 as u16 != SELF);
    let (_, unbound) = alloc(SELF, 0);
    let got = state(unbound);
    eq("status.unbound", got.status, EVTCHNSTAT_unbound);
    eq("status.unbound.dom", got.u.word0 as u16, 0);
    let (_, timer) = virq(VIRQ_TIMER, 0);
    let got = state(timer);
    eq("status.virq", got.status, EVTCHNSTAT_virq);
    eq("status.virq.number", got.u.word0, VIRQ_TIMER);
    eq(
        "status.closed",
        state(EvtchnPort(2000)).status,
        EVTCHNSTAT_closed,
    );
    let ask = |dom: u16, port: u32| {
        op(
            EVTCHNOP_status,
            &mut EvtchnStatus {
                dom: DomId(dom),
                port: EvtchnPort(port),
                ..EvtchnStatus::default()
            },
        )
    };
    see("status.port_0", ask(SELF, 0));
    see("status.free_port", ask(SELF, 2000));
    see("status.port_4096", ask(SELF, 4096));
    see("status.port_large", ask(SELF, u32::MAX));
    eq("status.dom0", ask(0, 1), EPERM);
    eq("status.nobody", ask(0x7000, 1), ESRCH);
    for port in [a, b, unbound, timer] {
        close(port);
    }
}

fn closing() {
    let (a, b) = pair();
    eq("close", close(a), OK);
    eq("close.again", close(a), EINVAL);
    eq("close.status", state(a).status, EVTCHNSTAT_closed);
    let (_, reused) = alloc(SELF, SELF);
    yes("close.reused", reused == a);
    eq("close.unbound", close(reused), OK);
    clear(b.0);
    send(b);
    close(b);
    let (a, b) = pair();
    mask(b.0);
    send(a);
    close(b);
    yes("close.clears_pending", !pending(b.0));
    see("close.mask_bit_stays", masked(b.0));
    close(a);
}

fn bad_ports() {
    for (check, port) in [
        ("bad_port.send.0", 0),
        ("bad_port.send.free", 2000),
        ("bad_port.send.4096", 4096),
        ("bad_port.send.large", u32::MAX),
    ] {
        eq(check, send(EvtchnPort(port)), EINVAL);
    }
    for (check, port) in [
        ("bad_port.close.0", 0),
        ("bad_port.close.free", 2000),
        ("bad_port.close.4096", 4096),
        ("bad_port.close.large", u32::MAX),
    ] {
        eq(check, close(EvtchnPort(port)), EINVAL);
    }
    for (check, port) in [
        ("bad_port.unmask.0", 0),
        ("bad_port.unmask.free", 2000),
        ("bad_port.unmask.4096", 4096),
        ("bad_port.unmask.large", u32::MAX),
    ] {
        see(check, unmask(EvtchnPort(port)));
    }
}

fn refusals() {
    eq("event_op.unknown", op(99, 0), ENOSYS);
    let mut pirq = EvtchnBindPirq {
        pirq: 5,
        ..EvtchnBindPirq::default()
    };
    see("bind_pirq", op(EVTCHNOP_bind_pirq, &mut pirq));
    see(
        "set_priority.two_level",
        op(
            EVTCHNOP_set_priority,
            &EvtchnSetPriority {
                port: EvtchnPort(1),
                priority: 0,
            },
        ),
    );
    see(
        "expand_array.two_level",
        op(EVTCHNOP_expand_array, &EvtchnExpandArray { array_gfn: 0 }),
    );
    let reset = |dom: u16| op(EVTCHNOP_reset, &EvtchnReset { dom: DomId(dom) });
    eq("reset.dom0", reset(0), EPERM);
    eq("reset.nobody", reset(0x7000), ESRCH);
    for (check, cmd) in [
        ("bad_pointer.bind_interdomain", EVTCHNOP_bind_interdomain),
        ("bad_pointer.bind_virq", EVTCHNOP_bind_virq),
        ("bad_pointer.bind_ipi", EVTCHNOP_bind_ipi),
        ("bad_pointer.bind_pirq", EVTCHNOP_bind_pirq),
        ("bad_pointer.close", EVTCHNOP_close),
        ("bad_pointer.send", EVTCHNOP_send),
        ("bad_pointer.status", EVTCHNOP_status),
        ("bad_pointer.bind_vcpu", EVTCHNOP_bind_vcpu),
        ("bad_pointer.unmask", EVTCHNOP_unmask),
        ("bad_pointer.reset", EVTCHNOP_reset),
        ("bad_pointer.init_control", EVTCHNOP_init_control),
        ("bad_pointer.expand_array", EVTCHNOP_expand_array),
        ("bad_pointer.set_priority", EVTCHNOP_set_priority),
    ] {
        eq(check, op(cmd, UNMAPPED), EFAULT);
    }
    many();
}

/// All ports that the toolstack allows: `max_event_channels` of xl.cfg, 1023 when it is not given.
fn many() {
    let mut first = None;
    let mut last = 0;
    let refused = loop {
        let (ret, port) = alloc(SELF, SELF);
        if !ret.ok() {
            break ret;
        }
        first.get_or_insert(port.0);
        last = port.0;
    };
    see("alloc_unbound.all_taken", refused);
    see("alloc_unbound.highest", last);
    for port in first.unwrap_or(4096)..4096 {
        close(EvtchnPort(port));
    }
    let (ret, port) = alloc(SELF, SELF);
    eq("alloc_unbound.after_closing", ret, OK);
    close(port);
}
