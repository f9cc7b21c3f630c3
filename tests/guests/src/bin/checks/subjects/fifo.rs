//! The FIFO event channel ABI (event_channel.h). Comes last: a domain does not go back to two levels.

use xenner_guests::abi::*;
use xenner_guests::events::{self, op};
use xenner_guests::hypercall::{EFAULT, EINVAL, ENOENT, OK, Ret, UNMAPPED};
use xenner_guests::memory::Page;
use xenner_guests::report::{eq, see, yes};

const NO_FRAME: u64 = 0x000f_0000_0000;

fn init_control(gfn: u64, offset: u32, vcpu: u32) -> (Ret, u8) {
    let mut arg = EvtchnInitControl {
        control_gfn: gfn,
        offset,
        vcpu,
        ..EvtchnInitControl::default()
    };
    (op(EVTCHNOP_init_control, &mut arg), arg.link_bits)
}

fn expand(gfn: u64) -> Ret {
    op(EVTCHNOP_expand_array, &EvtchnExpandArray { array_gfn: gfn })
}

/// The event word of a port.
fn word(array: Page, port: EvtchnPort) -> u32 {
    (array.read(port.0 as usize / 2) >> (port.0 % 2 * 32)) as u32
}

fn bits(word: u32) -> (u32, u32, u32) {
    (word >> 31, word >> 30 & 1, word >> 29 & 1)
}

fn set_masked(array: Page, port: EvtchnPort, masked: bool) {
    let shift = port.0 % 2 * 32 + 30;
    let at = port.0 as usize / 2;
    let value = array.read(at) & !(1 << shift);
    array.write(at, value | u64::from(masked) << shift);
}

pub fn run() {
    let (control, array) = (Page::new(), Page::new());
    eq(
        "fifo.init_control.bad_frame",
        init_control(NO_FRAME, 0, 0).0,
        EINVAL,
    );
    eq(
        "fifo.init_control.over_page_end",
        init_control(control.mfn(), 4096 - 64, 0).0,
        EINVAL,
    );
    eq(
        "fifo.init_control.unaligned",
        init_control(control.mfn(), 4, 0).0,
        EINVAL,
    );
    eq(
        "fifo.init_control.no_such_vcpu",
        init_control(control.mfn(), 0, 77).0,
        ENOENT,
    );
    let (ret, link_bits) = init_control(control.mfn(), 0, 0);
    eq("fifo.init_control", ret, OK);
    if ret != OK {
        return;
    }
    events::now_fifo();
    eq("fifo.init_control.link_bits", link_bits, 17);
    see(
        "fifo.init_control.again",
        init_control(control.mfn(), 0, 0).0,
    );
    eq("fifo.expand_array.bad_frame", expand(NO_FRAME), EINVAL);
    eq(
        "fifo.expand_array.bad_pointer",
        op(EVTCHNOP_expand_array, UNMAPPED),
        EFAULT,
    );
    array.fill(1 << 30 | 1 << 62);
    eq("fifo.expand_array", expand(array.mfn()), OK);
    delivery(control, array);
    priorities(control, array);
    errors(array);
}

fn pair() -> (EvtchnPort, EvtchnPort) {
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
    (unbound.port, bind.local_port)
}

fn send(port: EvtchnPort) -> Ret {
    op(EVTCHNOP_send, &EvtchnSend { port })
}

fn head(control: Page, priority: u32) -> u32 {
    let index = 2 + priority as usize;
    (control.read(index / 2) >> (index % 2 * 32)) as u32
}

fn ready(control: Page) -> u32 {
    control.read(0) as u32
}

/// Takes one event off a queue as event_channel.h tells guests to.
fn consume(control: Page, array: Page, priority: u32) -> u32 {
    let port = head(control, priority);
    let at = port as usize / 2;
    let shift = port % 2 * 32;
    let link = word(array, EvtchnPort(port)) & 0x1_ffff;
    let cleared = !(((1u64 << 31) | (1 << 29) | 0x1_ffff) << shift);
    array.write(at, array.read(at) & cleared);
    let index = 2 + priority as usize;
    let half = index % 2 * 32;
    let rest = control.read(index / 2) & !(0xffff_ffff << half);
    control.write(index / 2, rest | u64::from(link) << half);
    if link == 0 {
        control.write(0, control.read(0) & !(1 << priority));
    }
    port
}

fn delivery(control: Page, array: Page) {
    let (a, b) = pair();
    // Take away what binding made pending.
    set_masked(array, b, true);
    while ready(control) != 0 {
        consume(control, array, ready(control).trailing_zeros());
    }
    let at = b.0 as usize / 2;
    array.write(at, array.read(at) & !(1 << (b.0 % 2 * 32 + 31)));
    events::upcall_pending().store(0, core::sync::atomic::Ordering::SeqCst);
    eq("fifo.send.masked", send(a), OK);
    see(
        "fifo.send.masked.word",
        format_args!("{:?}", bits(word(array, b))),
    );
    eq("fifo.send.masked.ready", ready(control), 0);
    eq(
        "fifo.unmask",
        op(EVTCHNOP_unmask, &EvtchnUnmask { port: b }),
        OK,
    );
    see(
        "fifo.unmask.word",
        format_args!("{:?}", bits(word(array, b))),
    );
    eq(
        "fifo.unmask.ready",
        ready(control),
        1 << EVTCHN_FIFO_PRIORITY_DEFAULT,
    );
    yes(
        "fifo.unmask.head",
        head(control, EVTCHN_FIFO_PRIORITY_DEFAULT) == b.0,
    );
    eq(
        "fifo.unmask.upcall_pending",
        events::upcall_pending().load(core::sync::atomic::Ordering::SeqCst),
        1,
    );
    eq(
        "fifo.consume",
        consume(control, array, EVTCHN_FIFO_PRIORITY_DEFAULT) == b.0,
        true,
    );
    let (c, d) = pair();
    for port in [c, d, a] {
        set_masked(array, port, false);
    }
    while ready(control) != 0 {
        consume(control, array, ready(control).trailing_zeros());
    }
    let at = d.0 as usize / 2;
    array.write(at, array.read(at) & !(1 << (d.0 % 2 * 32 + 31)));
    send(a);
    send(c);
    eq(
        "fifo.two.ready",
        ready(control),
        1 << EVTCHN_FIFO_PRIORITY_DEFAULT,
    );
    yes(
        "fifo.two.order",
        consume(control, array, 7) == b.0 && consume(control, array, 7) == d.0,
    );
    eq("fifo.two.empty", ready(control), 0);
    for port in [a, b, c, d] {
        op(EVTCHNOP_close, &EvtchnClose { port });
    }
}

fn priorities(control: Page, array: Page) {
    let (a, b) = pair();
    let set = |port: EvtchnPort, priority: u32| {
        op(EVTCHNOP_set_priority, &EvtchnSetPriority { port, priority })
    };
    eq("fifo.set_priority", set(b, 0), OK);
    eq(
        "fifo.set_priority.lowest",
        set(a, EVTCHN_FIFO_PRIORITY_MIN),
        OK,
    );
    eq("fifo.set_priority.too_low", set(a, 16), EINVAL);
    eq(
        "fifo.set_priority.free_port",
        set(EvtchnPort(1500), 0),
        EINVAL,
    );
    set_masked(array, b, false);
    set_masked(array, a, false);
    while ready(control) != 0 {
        consume(control, array, ready(control).trailing_zeros());
    }
    let at = b.0 as usize / 2;
    array.write(at, array.read(at) & !(1 << (b.0 % 2 * 32 + 31)));
    send(a);
    send(b);
    eq("fifo.priority.ready", ready(control), 1 | 1 << 15);
    yes(
        "fifo.priority.heads",
        head(control, 0) == b.0 && head(control, 15) == a.0,
    );
    consume(control, array, 0);
    consume(control, array, 15);
    for port in [a, b] {
        op(EVTCHNOP_close, &EvtchnClose { port });
    }
}

fn errors(array: Page) {
    see("fifo.send.free_port", send(EvtchnPort(900)));
    see("fifo.send.port_4096", send(EvtchnPort(4096)));
    see(
        "fifo.unmask.port_4096",
        op(
            EVTCHNOP_unmask,
            &EvtchnUnmask {
                port: EvtchnPort(4096),
            },
        ),
    );
    see("fifo.expand_array.same_frame", expand(array.mfn()));
    let more = Page::new();
    more.fill(1 << 30 | 1 << 62);
    see("fifo.expand_array.second", expand(more.mfn()));
    let mut ipi = EvtchnBindIpi::default();
    eq("fifo.bind_ipi", op(EVTCHNOP_bind_ipi, &mut ipi), OK);
    set_masked(array, ipi.port, true);
    eq("fifo.ipi.send", send(ipi.port), OK);
    see(
        "fifo.ipi.word",
        format_args!("{:?}", bits(word(array, ipi.port))),
    );
    eq(
        "fifo.ipi.close",
        op(EVTCHNOP_close, &EvtchnClose { port: ipi.port }),
        OK,
    );
    see(
        "fifo.ipi.closed.word",
        format_args!("{:?}", bits(word(array, ipi.port))),
    );
}
