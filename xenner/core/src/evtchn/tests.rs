use super::*;
use crate::Physical as _;
use crate::fake::Fake;
use xen_sys::addr::Maddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

fn op<T: IntoBytes + FromBytes + Immutable>(f: &mut Fake, cmd: u32, arg: T) -> Result<T, Errno> {
    f.poke(Fake::ARG, &arg);
    f.call(|m, d, v| event_channel_op(m, d, v, u64::from(cmd), Fake::ARG))?;
    Ok(f.peek(Fake::ARG))
}

fn do_send(f: &mut Fake, port: u32) -> Result<(), Errno> {
    op(
        f,
        EVTCHNOP_send,
        EvtchnSend {
            port: EvtchnPort(port),
        },
    )
    .map(drop)
}

fn do_close(f: &mut Fake, port: u32) -> Result<(), Errno> {
    op(
        f,
        EVTCHNOP_close,
        EvtchnClose {
            port: EvtchnPort(port),
        },
    )
    .map(drop)
}

fn new_ipi(f: &mut Fake, vcpu: u32) -> u32 {
    let bound = op(
        f,
        EVTCHNOP_bind_ipi,
        EvtchnBindIpi {
            vcpu,
            port: EvtchnPort(0),
        },
    );
    bound.expect("a free port").port.0
}

fn unbound(f: &mut Fake, remote: u16) -> u32 {
    let arg = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DomId(remote),
        port: EvtchnPort(0),
    };
    op(f, EVTCHNOP_alloc_unbound, arg)
        .expect("a free port")
        .port
        .0
}

fn status_of(f: &mut Fake, port: u32) -> Result<EvtchnStatus, Errno> {
    let arg = EvtchnStatus {
        dom: DOMID_SELF,
        port: EvtchnPort(port),
        ..Default::default()
    };
    op(f, EVTCHNOP_status, arg)
}

fn info(f: &Fake, vcpu: usize) -> (u8, u64) {
    let at = f.d.vcpus[vcpu].vcpu_info();
    (f.m.load8(at), f.m.load64(Maddr(at.0 + 8)))
}

/// Masks or unmasks a port in `shared_info`, as a guest may.
fn mask(f: &Fake, port: u32, masked: bool) {
    let at = Maddr((Fake::HEAP << 12) + 2560 + u64::from(port / 64) * 8);
    if masked {
        f.m.fetch_or64(at, 1 << (port % 64));
    } else {
        f.m.fetch_and64(at, !(1 << (port % 64)));
    }
}

#[test]
fn an_ipi_reaches_the_other_vcpu() {
    let mut f = Fake::new();
    let port = new_ipi(&mut f, 1);
    do_send(&mut f, port).unwrap();
    assert!(port_pending(&f.m, &f.d, port));
    assert_eq!((info(&f, 0), info(&f, 1)), ((0, 0), (1, 1)));
    assert_eq!(*f.m.kicked.borrow(), [1]);
    // Already pending: nothing more happens.
    do_send(&mut f, port).unwrap();
    assert_eq!(*f.m.kicked.borrow(), [1]);
}

#[test]
fn a_masked_port_waits_for_its_unmasking() {
    let mut f = Fake::new();
    let port = new_ipi(&mut f, 0);
    mask(&f, port, true);
    do_send(&mut f, port).unwrap();
    assert_eq!(info(&f, 0), (0, 0));
    op(
        &mut f,
        EVTCHNOP_unmask,
        EvtchnUnmask {
            port: EvtchnPort(port),
        },
    )
    .unwrap();
    assert_eq!(info(&f, 0), (1, 1));
    assert!(upcall_due(&f.m, &f.d, 0));
    f.m.store8(Maddr(f.d.vcpus[0].vcpu_info().0 + 1), 1);
    assert!(upcall_pending(&f.m, &f.d, 0) && !upcall_due(&f.m, &f.d, 0));
}

#[test]
fn ports_of_the_toolstack_belong_to_the_host() {
    let mut f = Fake::new();
    let port = alloc_toolstack_port(&f.m, &f.d, DomId(0)).unwrap();
    assert_eq!(port, 1);
    do_send(&mut f, port).unwrap();
    assert!(f.m.notified.borrow().is_empty());
    assert_eq!(status_of(&mut f, port).unwrap().status, EVTCHNSTAT_unbound);

    f.m.bound.borrow_mut().insert(port);
    do_send(&mut f, port).unwrap();
    assert_eq!(*f.m.notified.borrow(), [port]);
    let status = status_of(&mut f, port).unwrap();
    assert_eq!(
        (status.status, status.u.dom()),
        (EVTCHNSTAT_interdomain, DomId(0))
    );
    deliver(&f.m, &f.d, 1, port);
    assert_eq!(info(&f, 0), (1, 1));
    assert_eq!(*f.m.kicked.borrow(), [0]);

    do_close(&mut f, port).unwrap();
    assert!(f.m.bound.borrow().is_empty());
    assert!(!port_pending(&f.m, &f.d, port));
}

#[test]
fn the_host_can_raise_no_port_but_its_own() {
    let mut f = Fake::new();
    let ipi = new_ipi(&mut f, 0);
    let own = unbound(&mut f, Fake::DOMID);
    for port in [0, ipi, own, 63, 64, 5000, u32::MAX] {
        deliver(&f.m, &f.d, 0, port);
    }
    assert_eq!(info(&f, 0), (0, 0));
}

#[test]
fn loopback() {
    let mut f = Fake::new();
    let far = unbound(&mut f, DOMID_SELF.0);
    assert_eq!(status_of(&mut f, far).unwrap().u.dom(), DomId(Fake::DOMID));
    let bind = |dom: DomId, port: u32| EvtchnBindInterdomain {
        remote_dom: dom,
        remote_port: EvtchnPort(port),
        ..Default::default()
    };
    let cmd = EVTCHNOP_bind_interdomain;
    assert_eq!(op(&mut f, cmd, bind(DomId(0), far)), Err(Errno::EINVAL));
    assert_eq!(op(&mut f, cmd, bind(DomId(3), far)), Err(Errno::ESRCH));
    assert_eq!(op(&mut f, cmd, bind(DOMID_SELF, 60)), Err(Errno::EINVAL));
    let near = op(&mut f, cmd, bind(DOMID_SELF, far)).unwrap().local_port.0;
    // Bound ports start with a notification.
    assert!(port_pending(&f.m, &f.d, near));
    assert_eq!(op(&mut f, cmd, bind(DOMID_SELF, far)), Err(Errno::EINVAL));
    do_send(&mut f, near).unwrap();
    assert!(port_pending(&f.m, &f.d, far));
    do_close(&mut f, near).unwrap();
    assert_eq!(status_of(&mut f, far).unwrap().status, EVTCHNSTAT_unbound);
}

#[test]
fn a_port_does_not_bind_to_itself() {
    let mut f = Fake::new();
    // The next port would be 1: Xen refuses it since it is not unbound yet.
    let arg = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: EvtchnPort(1),
        ..Default::default()
    };
    assert_eq!(
        op(&mut f, EVTCHNOP_bind_interdomain, arg),
        Err(Errno::EINVAL)
    );
    assert_eq!(new_ipi(&mut f, 0), 1);
}

#[test]
fn virqs() {
    let mut f = Fake::new();
    let bind = |virq: u32, vcpu: u32| EvtchnBindVirq {
        virq,
        vcpu,
        port: EvtchnPort(0),
    };
    let cmd = EVTCHNOP_bind_virq;
    assert_eq!(op(&mut f, cmd, bind(24, 0)), Err(Errno::EINVAL));
    assert_eq!(op(&mut f, cmd, bind(VIRQ_CONSOLE, 1)), Err(Errno::EINVAL));
    assert_eq!(op(&mut f, cmd, bind(VIRQ_TIMER, 2)), Err(Errno::ENOENT));
    let port = op(&mut f, cmd, bind(VIRQ_TIMER, 1)).unwrap().port.0;
    assert_eq!(op(&mut f, cmd, bind(VIRQ_TIMER, 1)), Err(Errno::EEXIST));
    assert_eq!(do_send(&mut f, port), Err(Errno::EINVAL));
    send_virq(&f.m, &f.d, 1, 1, VIRQ_TIMER);
    assert_eq!((info(&f, 1), f.m.kicked.borrow().len()), ((1, 1), 0));
    send_virq(&f.m, &f.d, 0, 0, VIRQ_TIMER);
    assert_eq!(info(&f, 0), (0, 0));

    let rebind = |port: u32, vcpu: u32| EvtchnBindVcpu {
        port: EvtchnPort(port),
        vcpu,
    };
    assert_eq!(
        op(&mut f, EVTCHNOP_bind_vcpu, rebind(port, 0)),
        Err(Errno::EINVAL)
    );
    let global = op(&mut f, cmd, bind(VIRQ_CONSOLE, 0)).unwrap().port.0;
    assert!(op(&mut f, EVTCHNOP_bind_vcpu, rebind(global, 1)).is_ok());
    assert_eq!(status_of(&mut f, global).unwrap().vcpu, 1);
    do_close(&mut f, port).unwrap();
    assert!(op(&mut f, cmd, bind(VIRQ_TIMER, 1)).is_ok());
}

#[test]
fn bind_vcpu_moves_what_may_move() {
    let mut f = Fake::new();
    let (ipi, port) = (new_ipi(&mut f, 0), unbound(&mut f, 0));
    let rebind = |port: u32, vcpu: u32| EvtchnBindVcpu {
        port: EvtchnPort(port),
        vcpu,
    };
    let cmd = EVTCHNOP_bind_vcpu;
    assert_eq!(op(&mut f, cmd, rebind(ipi, 1)), Err(Errno::EINVAL));
    assert_eq!(op(&mut f, cmd, rebind(port, 2)), Err(Errno::ENOENT));
    assert_eq!(op(&mut f, cmd, rebind(64, 1)), Err(Errno::EINVAL));
    assert!(op(&mut f, cmd, rebind(port, 1)).is_ok());
    deliver(&f.m, &f.d, 0, port);
    assert_eq!((info(&f, 0), info(&f, 1)), ((0, 0), (1, 1)));
}

#[test]
fn ports_run_out_and_come_back() {
    let mut f = Fake::new();
    for expected in 1..1024 {
        assert_eq!(new_ipi(&mut f, 0), expected);
    }
    let arg = EvtchnBindIpi {
        vcpu: 0,
        port: EvtchnPort(0),
    };
    assert_eq!(op(&mut f, EVTCHNOP_bind_ipi, arg), Err(Errno::ENOSPC));
    do_close(&mut f, 500).unwrap();
    assert_eq!(new_ipi(&mut f, 0), 500);
}

#[test]
fn what_no_port_is() {
    let mut f = Fake::new();
    for port in [0, 5, 64, 4096, u32::MAX] {
        assert_eq!(do_send(&mut f, port), Err(Errno::EINVAL));
        assert_eq!(do_close(&mut f, port), Err(Errno::EINVAL));
    }
    // Inside the first bucket a port is closed; outside there is none.
    assert_eq!(status_of(&mut f, 5).unwrap().status, EVTCHNSTAT_closed);
    assert_eq!(status_of(&mut f, 64), Err(Errno::EINVAL));
    assert!(port_valid(&f.d, 63) && !port_valid(&f.d, 64));
}

#[test]
fn other_domains() {
    let mut f = Fake::new();
    let arg = |dom: u16| EvtchnAllocUnbound {
        dom: DomId(dom),
        remote_dom: DomId(0),
        port: EvtchnPort(0),
    };
    assert!(op(&mut f, EVTCHNOP_alloc_unbound, arg(Fake::DOMID)).is_ok());
    assert_eq!(
        op(&mut f, EVTCHNOP_alloc_unbound, arg(0)),
        Err(Errno::EPERM)
    );
    assert_eq!(
        op(&mut f, EVTCHNOP_alloc_unbound, arg(9)),
        Err(Errno::ESRCH)
    );
    assert_eq!(
        op(&mut f, EVTCHNOP_reset, EvtchnReset { dom: DomId(9) }),
        Err(Errno::ESRCH)
    );
}

#[test]
fn pirqs_and_unknown_commands() {
    let mut f = Fake::new();
    let arg = |pirq: u32| EvtchnBindPirq {
        pirq,
        flags: 0,
        port: EvtchnPort(0),
    };
    assert_eq!(op(&mut f, EVTCHNOP_bind_pirq, arg(9)), Err(Errno::EPERM));
    assert_eq!(op(&mut f, EVTCHNOP_bind_pirq, arg(900)), Err(Errno::EINVAL));
    assert_eq!(op(&mut f, 15, 0u32), Err(Errno::ENOSYS));
    let bad = f.call(|m, d, v| event_channel_op(m, d, v, 4, Vaddr(16)));
    assert_eq!(bad, Err(Errno::EFAULT));
    let priority = EvtchnSetPriority {
        port: EvtchnPort(1),
        priority: 0,
    };
    assert_eq!(
        op(&mut f, EVTCHNOP_set_priority, priority),
        Err(Errno::ENOSYS)
    );
}

#[test]
fn the_compat_call_has_its_argument_behind_the_command() {
    let mut f = Fake::new();
    let port = new_ipi(&mut f, 1);
    f.poke(
        Fake::ARG,
        &EvtchnOp {
            cmd: EVTCHNOP_send,
            u: [port, 0, 0, 0, 0, 0],
        },
    );
    assert_eq!(
        f.call(|m, d, v| event_channel_op_compat(m, d, v, Fake::ARG)),
        Ok(0)
    );
    assert!(port_pending(&f.m, &f.d, port));
    f.poke(
        Fake::ARG,
        &EvtchnOp {
            cmd: EVTCHNOP_reset,
            u: [0; 6],
        },
    );
    let reset = f.call(|m, d, v| event_channel_op_compat(m, d, v, Fake::ARG));
    assert_eq!(reset, Err(Errno::ENOSYS));
}

#[test]
fn reset_closes_everything() {
    let mut f = Fake::new();
    let (ipi, host) = (new_ipi(&mut f, 0), unbound(&mut f, 0));
    f.m.bound.borrow_mut().insert(host);
    do_send(&mut f, ipi).unwrap();
    op(&mut f, EVTCHNOP_reset, EvtchnReset { dom: DOMID_SELF }).unwrap();
    assert_eq!(do_send(&mut f, ipi), Err(Errno::EINVAL));
    assert!(f.m.bound.borrow().is_empty() && !port_pending(&f.m, &f.d, ipi));
    assert_eq!(new_ipi(&mut f, 0), 1);
}

#[test]
fn pollers_wake() {
    let mut f = Fake::new();
    let (one, other) = (new_ipi(&mut f, 0), new_ipi(&mut f, 0));
    mask(&f, one, true);
    mask(&f, other, true);
    let sleep = |f: &Fake, poll: u32| {
        f.d.vcpus[1].state.fetch_or(VCPU_BLOCKED, Ordering::SeqCst);
        f.d.vcpus[1].poll.store(poll, Ordering::SeqCst);
    };
    let asleep = |f: &Fake| f.d.vcpus[1].state.load(Ordering::SeqCst) & VCPU_BLOCKED != 0;
    sleep(&f, one);
    do_send(&mut f, other).unwrap();
    assert!(asleep(&f));
    do_send(&mut f, one).unwrap();
    assert!(!asleep(&f) && f.m.kicked.borrow().len() == 1);
    assert_eq!(f.d.vcpus[1].poll.load(Ordering::SeqCst), 0);

    clear_pending(&f.m, &f.d, one);
    sleep(&f, POLL_MANY);
    do_send(&mut f, one).unwrap();
    assert!(!asleep(&f));
    // An upcall ends the sleep, masked or not.
    sleep(&f, one);
    mark_events_pending(&f.m, &f.d, 0, 1);
    assert!(!asleep(&f) && f.d.vcpus[1].poll.load(Ordering::SeqCst) == 0);
}

#[test]
fn port_words_round_trip() {
    for binding in [
        Binding::Free,
        Binding::Unbound(DomId(0x7fef)),
        Binding::Loopback(4095),
        Binding::Virq(23),
        Binding::Ipi,
    ] {
        let channel = Channel {
            binding,
            vcpu: 31,
            priority: 15,
        };
        let back = Channel::unpack(channel.pack());
        assert_eq!(
            back,
            if binding == Binding::Free {
                Channel::FREE
            } else {
                channel
            }
        );
    }
}
