extern crate std;

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;
use xen_sys::EvtchnPort;
use xen_sys::xen::DOMID_SELF;

use super::super::{event_channel_op, port_pending};
use super::*;
use crate::Physical as _;
use crate::fake::{Fake, FakeMachine};

/// The frames the guest gives: control blocks, and the event array.
const CONTROL: u64 = Fake::RAM + 40;
const ARRAY: u64 = Fake::RAM + 50;

fn op<T>(f: &mut Fake, cmd: u32, arg: T) -> Result<T, Errno>
where
    T: zerocopy::IntoBytes + zerocopy::FromBytes + zerocopy::Immutable,
{
    f.poke(Fake::ARG, &arg);
    f.call(|m, d, v| event_channel_op(m, d, v, u64::from(cmd), Fake::ARG))?;
    Ok(f.peek(Fake::ARG))
}

fn control_op(vcpu: u32, gfn: u64, offset: u32) -> EvtchnInitControl {
    EvtchnInitControl {
        control_gfn: gfn,
        offset,
        vcpu,
        ..Default::default()
    }
}

fn expand(f: &mut Fake, gfn: u64) -> Result<(), Errno> {
    op(
        f,
        EVTCHNOP_expand_array,
        EvtchnExpandArray { array_gfn: gfn },
    )
    .map(drop)
}

fn bind_ipi(f: &mut Fake, vcpu: u32) -> u32 {
    let op = op(
        f,
        EVTCHNOP_bind_ipi,
        EvtchnBindIpi {
            vcpu,
            port: EvtchnPort(0),
        },
    );
    op.expect("a free port").port.0
}

fn send(f: &mut Fake, port: u32) {
    op(
        f,
        EVTCHNOP_send,
        EvtchnSend {
            port: EvtchnPort(port),
        },
    )
    .expect("a bound port");
}

/// The guest's half of the ABI.
#[derive(Default)]
struct Guest {
    /// Heads of the queues as the guest keeps them, per virtual CPU.
    heads: [[u32; EVTCHN_FIFO_MAX_QUEUES]; 2],
}

impl Guest {
    fn start(f: &mut Fake) -> Self {
        for vcpu in 0..2 {
            let arg = control_op(vcpu, CONTROL + u64::from(vcpu), 8 * vcpu);
            let op = op(f, EVTCHNOP_init_control, arg).expect("a good control block");
            assert_eq!(op.link_bits, 17);
        }
        expand(f, ARRAY).expect("a good page");
        Self::default()
    }

    fn word(port: u32) -> Maddr {
        Maddr((ARRAY << 12) + u64::from(port) * 4)
    }

    fn control(vcpu: usize) -> Maddr {
        Maddr(((CONTROL + vcpu as u64) << 12) + 8 * vcpu as u64)
    }

    fn ready(m: &FakeMachine, vcpu: usize) -> u32 {
        let at = Self::control(vcpu);
        let ready = m.load32(at);
        m.store32(at, 0);
        ready
    }

    /// Takes the events of a virtual CPU, as its upcall handler does.
    fn upcall(&mut self, f: &Fake, vcpu: usize) -> Vec<u32> {
        let info = f.d.vcpus[vcpu].vcpu_info();
        if f.m.load8(info) == 0 {
            return Vec::new();
        }
        f.m.store8(info, 0);
        let mut handled = Vec::new();
        let mut ready = Self::ready(&f.m, vcpu);
        while ready != 0 {
            let priority = ready.trailing_zeros() as usize;
            if !self.consume(&f.m, vcpu, priority, &mut handled) {
                ready &= !(1 << priority);
            }
            ready |= Self::ready(&f.m, vcpu);
        }
        handled
    }

    /// Takes one event off a queue; false when that was the last.
    fn consume(
        &mut self,
        m: &FakeMachine,
        vcpu: usize,
        priority: usize,
        out: &mut Vec<u32>,
    ) -> bool {
        let head = &mut self.heads[vcpu][priority];
        if *head == 0 {
            *head = m.load32(Maddr(Self::control(vcpu).0 + 8 + 4 * priority as u64));
        }
        let port = *head;
        assert!(port > 0 && port < 1024, "a head that is no port: {port}");
        let seen = m.load32(Self::word(port));
        assert_ne!(seen & LINKED, 0, "port {port} in a queue but not linked");
        m.store32(Self::word(port), seen & !(LINKED | EVTCHN_FIFO_LINK_MASK));
        *head = seen & EVTCHN_FIFO_LINK_MASK;
        if seen >> EVTCHN_FIFO_PENDING & 1 != 0 && seen & MASKED == 0 {
            clear32(m, Self::word(port), 1 << EVTCHN_FIFO_PENDING);
            out.push(port);
        }
        *head != 0
    }

    fn mask(f: &Fake, port: u32) {
        or32(&f.m, Self::word(port), MASKED);
    }

    fn unmask(f: &mut Fake, port: u32) {
        op(
            f,
            EVTCHNOP_unmask,
            EvtchnUnmask {
                port: EvtchnPort(port),
            },
        )
        .expect("a bound port");
    }
}

#[test]
fn events_arrive_in_order_and_by_priority() {
    let mut f = Fake::new();
    let mut guest = Guest::start(&mut f);
    let ports: Vec<u32> = (0..5).map(|_| bind_ipi(&mut f, 1)).collect();
    let urgent = EvtchnSetPriority {
        port: EvtchnPort(ports[4]),
        priority: 2,
    };
    op(&mut f, EVTCHNOP_set_priority, urgent).unwrap();
    for port in &ports {
        send(&mut f, *port);
        send(&mut f, *port);
    }
    // The first event of each queue makes it ready, one of both the upcall.
    assert_eq!(*f.m.kicked.borrow(), [1]);
    assert_eq!(f.m.load32(Guest::control(1)), 1 << 7 | 1 << 2);
    let expected = [ports[4], ports[0], ports[1], ports[2], ports[3]];
    assert_eq!(guest.upcall(&f, 1), expected);
    assert!(guest.upcall(&f, 1).is_empty() && guest.upcall(&f, 0).is_empty());
}

#[test]
fn a_masked_event_waits() {
    let mut f = Fake::new();
    let mut guest = Guest::start(&mut f);
    let port = bind_ipi(&mut f, 0);
    Guest::mask(&f, port);
    send(&mut f, port);
    assert!(port_pending(&f.m, &f.d, port));
    assert!(guest.upcall(&f, 0).is_empty());
    Guest::unmask(&mut f, port);
    assert_eq!(guest.upcall(&f, 0), [port]);
    Guest::unmask(&mut f, port);
    assert!(guest.upcall(&f, 0).is_empty());
}

#[test]
fn an_event_changes_its_queue() {
    let mut f = Fake::new();
    let mut guest = Guest::start(&mut f);
    let first = super::super::alloc_toolstack_port(&f.m, &f.d, xen_sys::DomId(0)).unwrap();
    let second = bind_ipi(&mut f, 0);
    let deliver = |f: &Fake, port| super::super::deliver(&f.m, &f.d, 0, port);
    deliver(&f, first);
    assert_eq!(guest.upcall(&f, 0), [first]);
    let rebind = EvtchnBindVcpu {
        port: EvtchnPort(first),
        vcpu: 1,
    };
    op(&mut f, EVTCHNOP_bind_vcpu, rebind).unwrap();
    deliver(&f, first);
    // The port must not be taken for the tail of its old queue.
    send(&mut f, second);
    assert_eq!(guest.upcall(&f, 1), [first]);
    assert_eq!(guest.upcall(&f, 0), [second]);
}

#[test]
fn what_was_pending_before_the_switch_arrives() {
    let mut f = Fake::new();
    let port = bind_ipi(&mut f, 0);
    send(&mut f, port);
    f.m.store64(f.d.vcpus[0].vcpu_info(), 0);
    let mut guest = Guest::start(&mut f);
    assert_eq!(guest.upcall(&f, 0), [port]);
}

#[test]
fn an_event_waits_for_its_page() {
    let mut f = Fake::new();
    op(&mut f, EVTCHNOP_init_control, control_op(0, CONTROL, 0)).unwrap();
    let port = bind_ipi(&mut f, 0);
    send(&mut f, port);
    assert!(!port_pending(&f.m, &f.d, port));
    expand(&mut f, ARRAY).unwrap();
    assert_eq!(Guest::default().upcall(&f, 0), [port]);
}

#[test]
fn control_blocks_are_checked() {
    let mut f = Fake::new();
    let mut init = |arg| op(&mut f, EVTCHNOP_init_control, arg).map(drop);
    assert_eq!(init(control_op(2, CONTROL, 0)), Err(Errno::ENOENT));
    assert_eq!(init(control_op(0, CONTROL, 4096 - 71)), Err(Errno::EINVAL));
    assert_eq!(init(control_op(0, CONTROL, 4)), Err(Errno::EINVAL));
    assert_eq!(init(control_op(0, Fake::HEAP, 0)), Err(Errno::EINVAL));
    assert_eq!(init(control_op(0, CONTROL, 4024)), Ok(()));
    assert_eq!(init(control_op(0, CONTROL, 0)), Err(Errno::EINVAL));
    let priority = |priority| EvtchnSetPriority {
        port: EvtchnPort(1),
        priority,
    };
    assert_eq!(
        op(&mut f, EVTCHNOP_set_priority, priority(16)),
        Err(Errno::EINVAL)
    );
    assert!(op(&mut f, EVTCHNOP_set_priority, priority(15)).is_ok());
}

#[test]
fn the_array_has_an_end() {
    let mut f = Fake::new();
    assert_eq!(expand(&mut f, ARRAY), Err(Errno::EOPNOTSUPP));
    op(&mut f, EVTCHNOP_init_control, control_op(0, CONTROL, 0)).unwrap();
    assert_eq!(expand(&mut f, 7), Err(Errno::EINVAL));
    for _ in 0..128 {
        assert_eq!(expand(&mut f, ARRAY), Ok(()));
    }
    assert_eq!(expand(&mut f, ARRAY), Err(Errno::ENOSPC));
}

#[test]
fn a_port_in_a_queue_is_not_bound_again() {
    let mut f = Fake::new();
    let mut guest = Guest::start(&mut f);
    let port = bind_ipi(&mut f, 0);
    send(&mut f, port);
    op(
        &mut f,
        EVTCHNOP_close,
        EvtchnClose {
            port: EvtchnPort(port),
        },
    )
    .unwrap();
    assert_ne!(bind_ipi(&mut f, 0), port);
    assert!(guest.upcall(&f, 0).is_empty());
    assert_eq!(bind_ipi(&mut f, 0), port);
}

#[test]
fn reset_goes_back_to_two_levels() {
    let mut f = Fake::new();
    Guest::start(&mut f);
    op(&mut f, EVTCHNOP_reset, EvtchnReset { dom: DOMID_SELF }).unwrap();
    let port = bind_ipi(&mut f, 0);
    send(&mut f, port);
    assert!(two_level::is_pending(&f.m, &f.d, port));
    // And it may switch again.
    op(&mut f, EVTCHNOP_init_control, control_op(0, CONTROL, 0)).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Upcall(usize),
    Mask(usize),
    Unmask(usize),
    Priority(usize, u32),
    Vcpu(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 0..6usize;
    prop_oneof![
        4 => port.clone().prop_map(Step::Send),
        3 => (0..2usize).prop_map(Step::Upcall),
        1 => port.clone().prop_map(Step::Mask),
        1 => port.clone().prop_map(Step::Unmask),
        1 => (port.clone(), 0..16u32).prop_map(|(port, priority)| Step::Priority(port, priority)),
        1 => (port, 0..2u32).prop_map(|(port, vcpu)| Step::Vcpu(port, vcpu)),
    ]
}

proptest! {
    /// No event is lost, none arrives that was not sent, whatever the order.
    #[test]
    fn no_event_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut f = Fake::new();
        let mut guest = Guest::start(&mut f);
        let remote = xen_sys::DomId(0);
        let ports: Vec<u32> = (0..6)
            .map(|_| super::super::alloc_toolstack_port(&f.m, &f.d, remote).unwrap())
            .collect();
        let mut sent = BTreeSet::new();
        let mut handle = |f: &Fake, sent: &mut BTreeSet<u32>, vcpu: usize| {
            for port in guest.upcall(f, vcpu) {
                assert!(sent.remove(&port), "port {port} was not sent");
            }
        };
        for step in steps {
            match step {
                Step::Send(index) => {
                    super::super::deliver(&f.m, &f.d, 0, ports[index]);
                    sent.insert(ports[index]);
                }
                Step::Upcall(vcpu) => handle(&f, &mut sent, vcpu),
                Step::Mask(index) => Guest::mask(&f, ports[index]),
                Step::Unmask(index) => Guest::unmask(&mut f, ports[index]),
                Step::Priority(index, priority) => {
                    let arg = EvtchnSetPriority { port: EvtchnPort(ports[index]), priority };
                    op(&mut f, EVTCHNOP_set_priority, arg).unwrap();
                }
                Step::Vcpu(index, vcpu) => {
                    let arg = EvtchnBindVcpu { port: EvtchnPort(ports[index]), vcpu };
                    op(&mut f, EVTCHNOP_bind_vcpu, arg).unwrap();
                }
            }
        }
        for port in &ports {
            Guest::unmask(&mut f, *port);
        }
        handle(&f, &mut sent, 0);
        handle(&f, &mut sent, 1);
        prop_assert!(sent.is_empty(), "lost: {:?}", sent);
    }

    /// A guest that scribbles over its pages hurts only itself.
    #[test]
    fn garbage_in_the_pages_does_no_harm(
        words in prop::collection::vec((0..2u64, 0..64u64, any::<u32>(), 1..8u32), 1..100)
    ) {
        let mut f = Fake::new();
        Guest::start(&mut f);
        for _ in 0..8 {
            bind_ipi(&mut f, 1);
        }
        for (page, index, value, port) in words {
            let frame = if page == 0 { CONTROL } else { ARRAY };
            f.m.store32(Maddr((frame << 12) + index * 4), value);
            send(&mut f, port);
            Guest::unmask(&mut f, port);
        }
    }
}
