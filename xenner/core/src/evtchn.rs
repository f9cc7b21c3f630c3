//! Event channels: what `HYPERVISOR_event_channel_op` does.
//!
//! A domain has a table of ports. Each is free or bound to something: to a
//! virtual IRQ, to a virtual CPU of the domain (an IPI), to another port of
//! the same domain, or it waits for a remote domain. There is one remote
//! domain, dom0, and it is the host: such a port stays "unbound" here and
//! [`Machine::host_bound`] tells whether the host has taken the other end.
//!
//! Two ABIs tell the guest of events. The 2-level one (`two_level`) keeps
//! bits in `shared_info`; the FIFO one (`fifo`) queues in pages of the
//! guest's. A domain starts with the first and may switch once.
//!
//! Ports are read without a lock, since sending is the hot path; a sender that
//! races with a close may at worst mark a port that is free again, which the
//! guest ignores. Changes are made under one lock.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use xen_sys::addr::Vaddr;
use xen_sys::errno::Errno;
use xen_sys::event_channel::*;
use xen_sys::xen::*;
use xen_sys::{DomId, EvtchnPort};

use crate::domain::{MAX_VCPUS, VCPU_BLOCKED};
use crate::misc::own_domain;
use crate::{Domain, Machine, Ret, Vcpu, guest};

mod fifo;
mod two_level;

/// The ports this table has room for, port 0 (never used) included.
pub const NR_PORTS: usize = EVTCHN_2L_NR_CHANNELS;

/// Xen makes room for ports in buckets of 64; one beyond the last bucket does
/// not exist, one inside is merely closed.
const BUCKET: u32 = 64;

/// `EVTCHNOP_reset_cont`, by which Xen continues a long reset.
const EVTCHNOP_RESET_CONT: u32 = 14;

/// PIRQs a domU of Xen may name: the interrupts of one I/O APIC and
/// `extra_guest_irqs`.
pub(crate) const NR_PIRQS: u32 = 24 + 32;

/// The poll word of a virtual CPU that waits for several ports.
const POLL_MANY: u32 = u32::MAX;

/// A domain's event channels.
pub struct EventChannels {
    ports: [AtomicU64; NR_PORTS],
    /// Ports from here on were never in use.
    used: AtomicU32,
    changes: Mutex<()>,
    fifo: fifo::Fifo,
    /// A page for `PHYSDEVOP_pirq_eoi_gmfn_v2` has been registered.
    pub(crate) pirq_eoi: AtomicBool,
}

impl EventChannels {
    /// No port is bound. All bits are zero.
    pub const fn new() -> Self {
        Self {
            ports: [const { AtomicU64::new(0) }; NR_PORTS],
            used: AtomicU32::new(0),
            changes: Mutex::new(()),
            fifo: fifo::Fifo::new(),
            pirq_eoi: AtomicBool::new(false),
        }
    }

    /// The word of a port, 0 for one that cannot be.
    pub fn word(&self, port: u32) -> u64 {
        let word = self.ports.get(port as usize);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// The port, if it lies in the part of the table that has been in use.
    fn get(&self, port: u32) -> Option<Channel> {
        if port >= self.used.load(Ordering::Acquire).max(BUCKET) {
            return None;
        }
        let word = self.ports.get(port as usize)?.load(Ordering::Acquire);
        Some(Channel::unpack(word))
    }

    fn set(&self, port: u32, channel: Channel) {
        if let Some(word) = self.ports.get(port as usize) {
            word.store(channel.pack(), Ordering::Release);
        }
    }
}

impl Default for EventChannels {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the words of the ports begin in [`EventChannels`], for a host that looks
/// at a domain's memory.
pub const PORTS: usize = core::mem::offset_of!(EventChannels, ports);

/// Whether a port, by its word, waits for domain 0 or is bound to it: then the
/// virtual CPU it notifies. What is not a port's word gives any answer.
pub fn waits_for_host(word: u64) -> Option<usize> {
    let channel = Channel::unpack(word);
    (channel.binding == Binding::Unbound(DomId(0))).then_some(channel.vcpu)
}

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    Free,
    /// Waits for, or is bound to, a port of this domain's number.
    Unbound(DomId),
    /// The other end is this port of the same domain.
    Loopback(u32),
    Virq(u32),
    Ipi,
}

/// One port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    binding: Binding,
    /// The virtual CPU to notify.
    vcpu: usize,
    /// The FIFO queue for its events.
    priority: usize,
}

impl Channel {
    const FREE: Self = Self {
        binding: Binding::Free,
        vcpu: 0,
        priority: 0,
    };

    fn new(binding: Binding, vcpu: usize) -> Self {
        Self {
            binding,
            vcpu,
            priority: EVTCHN_FIFO_PRIORITY_DEFAULT as usize,
        }
    }

    /// Bits 0-7 kind, 8-15 virtual CPU, 16-23 priority, 32-63 what the kind
    /// needs. A free port is all zero.
    fn pack(self) -> u64 {
        let (kind, data) = match self.binding {
            Binding::Free => return 0,
            Binding::Unbound(domid) => (1, u64::from(domid.0)),
            Binding::Loopback(port) => (2, u64::from(port)),
            Binding::Virq(virq) => (3, u64::from(virq)),
            Binding::Ipi => (4, 0),
        };
        kind | (self.vcpu as u64) << 8 | (self.priority as u64) << 16 | data << 32
    }

    fn unpack(word: u64) -> Self {
        let data = (word >> 32) as u32;
        let binding = match word as u8 {
            1 => Binding::Unbound(DomId(data as u16)),
            2 => Binding::Loopback(data),
            3 => Binding::Virq(data),
            4 => Binding::Ipi,
            _ => return Self::FREE,
        };
        Self {
            binding,
            vcpu: (word >> 8) as usize & (MAX_VCPUS - 1),
            priority: (word >> 16) as usize & (EVTCHN_FIFO_MAX_QUEUES - 1),
        }
    }
}

/// `HYPERVISOR_event_channel_op` (`xen/include/public/event_channel.h`).
///
/// # Errors
/// Xen's: `EFAULT` when the argument cannot be copied, `ENOSYS` for an unknown
/// command, else what the command gives.
pub fn event_channel_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    arg: Vaddr,
) -> Ret {
    match cmd as u32 {
        EVTCHNOP_send => {
            let op: EvtchnSend = guest::get(m, arg)?;
            send(m, d, v.id, op.port.0)
        }
        EVTCHNOP_unmask => {
            let op: EvtchnUnmask = guest::get(m, arg)?;
            unmask(m, d, v.id, op.port.0)
        }
        EVTCHNOP_alloc_unbound => in_out(m, arg, |m, op| alloc_unbound(m, d, op)),
        EVTCHNOP_bind_interdomain => in_out(m, arg, |m, op| bind_interdomain(m, d, v.id, op)),
        EVTCHNOP_bind_virq => in_out(m, arg, |m, op| bind_virq(m, d, op)),
        EVTCHNOP_bind_ipi => in_out(m, arg, |m, op| bind_ipi(m, d, op)),
        EVTCHNOP_bind_pirq => in_out(m, arg, |_, op| bind_pirq(op)),
        EVTCHNOP_status => in_out(m, arg, |m, op| status(m, d, op)),
        EVTCHNOP_init_control => in_out(m, arg, |m, op| fifo::init_control(m, d, op)),
        EVTCHNOP_close => {
            let op: EvtchnClose = guest::get(m, arg)?;
            let _changes = d.evtchn.changes.lock();
            close(m, d, op.port.0)
        }
        EVTCHNOP_bind_vcpu => bind_vcpu(d, guest::get(m, arg)?),
        EVTCHNOP_reset => {
            let op: EvtchnReset = guest::get(m, arg)?;
            reset(m, d, op)
        }
        EVTCHNOP_expand_array => {
            let op: EvtchnExpandArray = guest::get(m, arg)?;
            fifo::expand_array(m, d, v.id, op)
        }
        EVTCHNOP_set_priority => set_priority(d, guest::get(m, arg)?),
        EVTCHNOP_RESET_CONT => {
            // Only Xen itself makes this call, while a reset is under way.
            let op: EvtchnReset = guest::get(m, arg)?;
            own_domain(d, op.dom)?;
            Err(Errno::EBUSY)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_event_channel_op_compat`: the command lies in memory, in front
/// of its argument (`struct evtchn_op`).
///
/// # Errors
/// As [`event_channel_op`]; `ENOSYS` for commands newer than this call.
pub fn event_channel_op_compat<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, arg: Vaddr) -> Ret {
    let cmd: u32 = guest::get(m, arg)?;
    if cmd > EVTCHNOP_unmask {
        return Err(Errno::ENOSYS);
    }
    event_channel_op(m, d, v, u64::from(cmd), Vaddr(arg.0.wrapping_add(4)))
}

/// Copies the argument in, and out again when the command succeeded.
fn in_out<M: Machine, T>(
    m: &mut M,
    arg: Vaddr,
    command: impl FnOnce(&mut M, &mut T) -> Result<(), Errno>,
) -> Ret
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    let mut op: T = guest::get(m, arg)?;
    command(m, &mut op)?;
    guest::put(m, arg, &op)?;
    Ok(0)
}

/// Binds the lowest port that is free.
fn bind<M: Machine>(m: &M, d: &Domain, channel: Channel) -> Result<u32, Errno> {
    let ports = &d.evtchn;
    let limit = d.config.max_evtchn_port.min(NR_PORTS as u32);
    for port in 1..limit {
        let free = ports.ports[port as usize].load(Ordering::Relaxed) == 0;
        if free && !fifo::is_linked(m, d, port) {
            ports.set(port, channel);
            let end = port / BUCKET * BUCKET + BUCKET;
            ports.used.fetch_max(end, Ordering::AcqRel);
            return Ok(port);
        }
    }
    Err(Errno::ENOSPC)
}

/// Allocates a port for a domain to bind, as the toolstack does for the
/// domain's xenstore and console before it starts.
///
/// # Errors
/// `ENOSPC` when every port is in use.
pub fn alloc_toolstack_port<M: Machine>(m: &M, d: &Domain, remote: DomId) -> Result<u32, Errno> {
    let _changes = d.evtchn.changes.lock();
    bind(m, d, Channel::new(Binding::Unbound(remote), 0))
}

fn alloc_unbound<M: Machine>(
    m: &mut M,
    d: &Domain,
    op: &mut EvtchnAllocUnbound,
) -> Result<(), Errno> {
    own_domain(d, op.dom)?;
    let remote = if op.remote_dom == DOMID_SELF {
        DomId(d.config.domid)
    } else {
        op.remote_dom
    };
    op.port = EvtchnPort(alloc_toolstack_port(m, d, remote)?);
    Ok(())
}

fn bind_interdomain<M: Machine>(
    m: &mut M,
    d: &Domain,
    current: usize,
    op: &mut EvtchnBindInterdomain,
) -> Result<(), Errno> {
    match own_domain(d, op.remote_dom) {
        // Dom0 exists, and has no port that waits for us.
        Err(Errno::EPERM) => return Err(Errno::EINVAL),
        other => other?,
    }
    let changes = d.evtchn.changes.lock();
    let me = DomId(d.config.domid);
    let remote = op.remote_port.0;
    let local = bind(m, d, Channel::new(Binding::Loopback(remote), 0))?;
    // Xen looks for a free port first: without one, ENOSPC wins.
    match d.evtchn.get(remote) {
        Some(far) if far.binding == Binding::Unbound(me) && remote != local => {
            d.evtchn.set(
                remote,
                Channel {
                    binding: Binding::Loopback(local),
                    ..far
                },
            );
        }
        _ => {
            d.evtchn.set(local, Channel::FREE);
            return Err(Errno::EINVAL);
        }
    }
    drop(changes);
    // What was sent to the far end while it was unbound is lost; a
    // notification in advance makes up for it.
    set_pending(m, d, current, local);
    op.local_port = EvtchnPort(local);
    Ok(())
}

fn is_global(virq: u32) -> bool {
    !matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

fn vcpu_exists(d: &Domain, vcpu: u32) -> Result<usize, Errno> {
    let vcpu = vcpu as usize;
    if vcpu < MAX_VCPUS && vcpu < d.config.nr_vcpus as usize {
        Ok(vcpu)
    } else {
        Err(Errno::ENOENT)
    }
}

fn bind_virq<M: Machine>(m: &mut M, d: &Domain, op: &mut EvtchnBindVirq) -> Result<(), Errno> {
    if op.virq >= NR_VIRQS || (is_global(op.virq) && op.vcpu != 0) {
        return Err(Errno::EINVAL);
    }
    let vcpu = vcpu_exists(d, op.vcpu)?;
    let _changes = d.evtchn.changes.lock();
    let bound = d.vcpus[vcpu]
        .virq
        .get(op.virq as usize)
        .ok_or(Errno::EINVAL)?;
    if bound.load(Ordering::Relaxed) != 0 {
        return Err(Errno::EEXIST);
    }
    let port = bind(m, d, Channel::new(Binding::Virq(op.virq), vcpu))?;
    bound.store(port, Ordering::Release);
    op.port = EvtchnPort(port);
    Ok(())
}

fn bind_ipi<M: Machine>(m: &mut M, d: &Domain, op: &mut EvtchnBindIpi) -> Result<(), Errno> {
    let vcpu = vcpu_exists(d, op.vcpu)?;
    let _changes = d.evtchn.changes.lock();
    op.port = EvtchnPort(bind(m, d, Channel::new(Binding::Ipi, vcpu))?);
    Ok(())
}

/// A domU without devices has PIRQ numbers, and permission for none.
fn bind_pirq(op: &mut EvtchnBindPirq) -> Result<(), Errno> {
    Err(if op.pirq >= NR_PIRQS {
        Errno::EINVAL
    } else {
        Errno::EPERM
    })
}

fn bind_vcpu(d: &Domain, op: EvtchnBindVcpu) -> Ret {
    let vcpu = vcpu_exists(d, op.vcpu)?;
    let _changes = d.evtchn.changes.lock();
    let port = op.port.0;
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    match channel.binding {
        Binding::Virq(virq) if !is_global(virq) => return Err(Errno::EINVAL),
        Binding::Virq(_) | Binding::Unbound(_) | Binding::Loopback(_) => {}
        Binding::Free | Binding::Ipi => return Err(Errno::EINVAL),
    }
    d.evtchn.set(port, Channel { vcpu, ..channel });
    Ok(0)
}

fn set_priority(d: &Domain, op: EvtchnSetPriority) -> Ret {
    let _changes = d.evtchn.changes.lock();
    let port = op.port.0;
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    if !d.evtchn.fifo.is_on() {
        return Err(Errno::ENOSYS);
    }
    if op.priority > EVTCHN_FIFO_PRIORITY_MIN {
        return Err(Errno::EINVAL);
    }
    d.evtchn.set(
        port,
        Channel {
            priority: op.priority as usize,
            ..channel
        },
    );
    Ok(0)
}

/// Frees a port; the caller holds the lock for changes.
fn close<M: Machine>(m: &M, d: &Domain, port: u32) -> Ret {
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    match channel.binding {
        Binding::Free => return Err(Errno::EINVAL),
        Binding::Unbound(remote) => {
            if remote.0 == 0 && m.host_bound(port) {
                m.unbind_host(port);
            }
        }
        Binding::Ipi => {}
        Binding::Virq(virq) => {
            // A global VIRQ stays registered where it was first bound.
            for vcpu in &d.vcpus {
                if let Some(bound) = vcpu.virq.get(virq as usize) {
                    let _ = bound.compare_exchange(port, 0, Ordering::AcqRel, Ordering::Relaxed);
                }
            }
        }
        Binding::Loopback(far) => {
            if let Some(channel) = d.evtchn.get(far) {
                let binding = Binding::Unbound(DomId(d.config.domid));
                d.evtchn.set(far, Channel { binding, ..channel });
            }
        }
    }
    clear_pending(m, d, port);
    d.evtchn.set(port, Channel::FREE);
    Ok(0)
}

fn reset<M: Machine>(m: &M, d: &Domain, op: EvtchnReset) -> Ret {
    own_domain(d, op.dom)?;
    let _changes = d.evtchn.changes.lock();
    for port in 1..d.evtchn.used.load(Ordering::Relaxed) {
        // A free port has nothing to close.
        let _ = close(m, d, port);
    }
    fifo::reset(d);
    Ok(0)
}

fn status<M: Machine>(m: &mut M, d: &Domain, op: &mut EvtchnStatus) -> Result<(), Errno> {
    own_domain(d, op.dom)?;
    let port = op.port.0;
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    (op.status, op.u) = match channel.binding {
        Binding::Free => (EVTCHNSTAT_closed, op.u),
        Binding::Unbound(DomId(0)) if m.host_bound(port) => {
            // The host's port has no number of its own.
            (
                EVTCHNSTAT_interdomain,
                EvtchnStatusU::interdomain(DomId(0), EvtchnPort(port)),
            )
        }
        Binding::Unbound(remote) => (EVTCHNSTAT_unbound, EvtchnStatusU::unbound(remote)),
        Binding::Loopback(far) => {
            let me = DomId(d.config.domid);
            (
                EVTCHNSTAT_interdomain,
                EvtchnStatusU::interdomain(me, EvtchnPort(far)),
            )
        }
        Binding::Virq(virq) => (EVTCHNSTAT_virq, EvtchnStatusU::irq(virq)),
        Binding::Ipi => (EVTCHNSTAT_ipi, op.u),
    };
    op.vcpu = channel.vcpu as u32;
    Ok(())
}

/// `EVTCHNOP_send`: notifies the far end of a port.
///
/// # Errors
/// `EINVAL` for a port that does not exist or cannot be sent on.
pub fn send<M: Machine>(m: &M, d: &Domain, current: usize, port: u32) -> Ret {
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    match channel.binding {
        Binding::Ipi => raise(m, d, current, port, channel),
        Binding::Loopback(far) => set_pending(m, d, current, far),
        Binding::Unbound(DomId(0)) if m.host_bound(port) => m.notify_host(port),
        // Nobody listens: Xen drops it without a word.
        Binding::Unbound(_) => {}
        Binding::Free | Binding::Virq(_) => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `EVTCHNOP_unmask`: unmasks a port and delivers what is pending on it.
///
/// # Errors
/// `EINVAL` for a port that does not exist.
pub fn unmask<M: Machine>(m: &M, d: &Domain, current: usize, port: u32) -> Ret {
    let channel = d.evtchn.get(port).ok_or(Errno::EINVAL)?;
    if channel.binding == Binding::Free {
        return Ok(0);
    }
    if d.evtchn.fifo.is_on() {
        fifo::unmask(m, d, current, port, channel);
    } else {
        two_level::unmask(m, d, current, port, channel);
    }
    Ok(0)
}

/// The host notified a port. Ignored when the port does not wait for dom0:
/// the host's table and the guest's may differ for a moment, and the host is
/// told nothing by that.
pub fn deliver<M: Machine>(m: &M, d: &Domain, current: usize, port: u32) {
    if let Some(channel) = d.evtchn.get(port)
        && channel.binding == Binding::Unbound(DomId(0))
    {
        raise(m, d, current, port, channel);
    }
}

/// Raises a virtual IRQ of a virtual CPU; nothing happens when it is not
/// bound.
pub fn send_virq<M: Machine>(m: &M, d: &Domain, current: usize, vcpu: usize, virq: u32) {
    let bound = d
        .vcpus
        .get(vcpu)
        .and_then(|vcpu| vcpu.virq.get(virq as usize));
    match bound.map(|port| port.load(Ordering::Acquire)) {
        None | Some(0) => {}
        Some(port) => set_pending(m, d, current, port),
    }
}

/// Marks a port pending and tells the virtual CPU it notifies. `current` is
/// the virtual CPU that runs this.
pub fn set_pending<M: Machine>(m: &M, d: &Domain, current: usize, port: u32) {
    if let Some(channel) = d.evtchn.get(port)
        && channel.binding != Binding::Free
    {
        raise(m, d, current, port, channel);
    }
}

fn raise<M: Machine>(m: &M, d: &Domain, current: usize, port: u32, channel: Channel) {
    let fresh = if d.evtchn.fifo.is_on() {
        fifo::set_pending(m, d, current, port, channel)
    } else {
        two_level::set_pending(m, d, current, port, channel)
    };
    if fresh {
        wake_pollers(m, d, current, port);
    }
}

fn clear_pending<M: Machine>(m: &M, d: &Domain, port: u32) {
    if d.evtchn.fifo.is_on() {
        fifo::clear_pending(m, d, port);
    } else {
        two_level::clear_pending(m, d, port);
    }
}

/// Whether a port exists, in the sense of `SCHEDOP_poll`: one inside the table
/// does, be it closed.
pub fn port_valid(d: &Domain, port: u32) -> bool {
    d.evtchn.get(port).is_some()
}

/// Whether a port is pending; masked or not does not matter.
pub fn port_pending<M: Machine>(m: &M, d: &Domain, port: u32) -> bool {
    if d.evtchn.fifo.is_on() {
        fifo::is_pending(m, d, port)
    } else {
        two_level::is_pending(m, d, port)
    }
}

/// Sets `evtchn_upcall_pending` of a virtual CPU and gets it out of guest code
/// or out of its sleep.
pub fn mark_events_pending<M: Machine>(m: &M, d: &Domain, current: usize, vcpu: usize) {
    let Some(shared) = d.vcpus.get(vcpu) else {
        return;
    };
    let at = shared.vcpu_info();
    if at.0 == 0 || m.fetch_or64(at, 1) & 1 != 0 {
        return;
    }
    wake(m, d, current, vcpu);
}

/// `evtchn_upcall_pending` of a virtual CPU.
pub fn upcall_pending<M: Machine>(m: &M, d: &Domain, vcpu: usize) -> bool {
    upcall_word(m, d, vcpu) & 0xff != 0
}

/// Whether a virtual CPU has an upcall to take: pending and not masked.
pub fn upcall_due<M: Machine>(m: &M, d: &Domain, vcpu: usize) -> bool {
    let word = upcall_word(m, d, vcpu);
    word & 0xff != 0 && word & 0xff00 == 0
}

fn upcall_word<M: Machine>(m: &M, d: &Domain, vcpu: usize) -> u64 {
    match d.vcpus.get(vcpu).map(|vcpu| vcpu.vcpu_info()) {
        None => 0,
        Some(at) if at.0 == 0 => 0,
        Some(at) => m.load64(at),
    }
}

/// Ends a virtual CPU's sleep in `SCHEDOP_block` or `SCHEDOP_poll`, as any
/// upcall does, or nudges it out of guest code.
fn wake<M: Machine>(m: &M, d: &Domain, current: usize, vcpu: usize) {
    let Some(shared) = d.vcpus.get(vcpu) else {
        return;
    };
    if shared.state.fetch_and(!VCPU_BLOCKED, Ordering::SeqCst) & VCPU_BLOCKED != 0 {
        shared.poll.store(0, Ordering::SeqCst);
    }
    if vcpu != current {
        m.kick(vcpu);
    }
}

fn wake_pollers<M: Machine>(m: &M, d: &Domain, current: usize, port: u32) {
    for (vcpu, shared) in d.vcpus.iter().enumerate().take(d.config.nr_vcpus as usize) {
        let waits_for = shared.poll.load(Ordering::SeqCst);
        let hit = waits_for == port || waits_for == POLL_MANY;
        // Whoever clears the word wakes the sleeper.
        if hit
            && shared
                .poll
                .compare_exchange(waits_for, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        {
            wake(m, d, current, vcpu);
        }
    }
}

#[cfg(test)]
mod tests;
