//! The FIFO ABI (Xen's design document "FIFO-based event channels").
//!
//! The guest gives pages for the event array, a word per port, and a control
//! block per virtual CPU with the heads of 16 queues, one per priority. The
//! hypervisor appends a port to a queue by writing its number into the LINK
//! field of the queue's last word; the guest takes ports off the front. Who
//! finds a word LINKED knows that it is in a queue.
//!
//! Everything in those pages may be garbage: the guest can write it at any
//! time. So the tails are kept here, a LINK field is written and never
//! followed, and each loop has a fixed number of turns.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE};
use xen_sys::errno::Errno;
use xen_sys::event_channel::*;

use super::{Channel, NR_PORTS, mark_events_pending, two_level, vcpu_exists};
use crate::domain::MAX_VCPUS;
use crate::{Domain, Machine, Ret, memory};

const WORDS_PER_PAGE: usize = PAGE_SIZE / 4;
const MAX_PAGES: usize = EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE;

const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;

/// How often an event word is tried before the guest is told to keep off, and
/// after. A guest that follows the ABI changes a word a few times at most.
const TRIES: u32 = 4;

/// The last port of each queue of a virtual CPU; 0 when it was consumed for
/// certain.
type Tails = [u32; EVTCHN_FIFO_MAX_QUEUES];

pub(super) struct Fifo {
    on: AtomicBool,
    /// Pages in the event array.
    pages: AtomicU32,
    /// Their machine addresses.
    array: [AtomicU64; MAX_PAGES],
    /// Control blocks' machine addresses; 0 when there is none yet.
    control: [AtomicU64; MAX_VCPUS],
    queues: [Mutex<Tails>; MAX_VCPUS],
    /// The queue a port was linked in last: virtual CPU << 8 | priority.
    last: [AtomicU16; NR_PORTS],
    /// Ports that became pending before their page of the array was there.
    early: [AtomicU64; NR_PORTS / 64],
}

impl Fifo {
    pub(super) const fn new() -> Self {
        Self {
            on: AtomicBool::new(false),
            pages: AtomicU32::new(0),
            array: [const { AtomicU64::new(0) }; MAX_PAGES],
            control: [const { AtomicU64::new(0) }; MAX_VCPUS],
            queues: [const { Mutex::new([0; EVTCHN_FIFO_MAX_QUEUES]) }; MAX_VCPUS],
            last: [const { AtomicU16::new(0) }; NR_PORTS],
            early: [const { AtomicU64::new(0) }; NR_PORTS / 64],
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// The event word of a port, if its page is there.
    fn word(&self, port: u32) -> Option<Maddr> {
        let page = self
            .array
            .get(port as usize / WORDS_PER_PAGE)?
            .load(Ordering::Acquire);
        let offset = port as usize % WORDS_PER_PAGE * 4;
        (page != 0).then_some(Maddr(page + offset as u64))
    }

    fn take_early(&self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        let word = self.early.get(port as usize / 64);
        word.is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    fn set_early(&self, port: u32) {
        if let Some(word) = self.early.get(port as usize / 64) {
            word.fetch_or(1 << (port % 64), Ordering::AcqRel);
        }
    }
}

/// Sets bits of a 32-bit word and returns what it was. Cannot be starved by
/// the guest, as a compare-and-exchange loop could.
fn or32<M: Machine>(m: &M, at: Maddr, bits: u32) -> u32 {
    let shift = (at.0 & 4) * 8;
    (m.fetch_or64(Maddr(at.0 & !7), u64::from(bits) << shift) >> shift) as u32
}

/// Clears bits of a 32-bit word and returns what it was.
fn clear32<M: Machine>(m: &M, at: Maddr, bits: u32) -> u32 {
    let shift = (at.0 & 4) * 8;
    (m.fetch_and64(Maddr(at.0 & !7), !(u64::from(bits) << shift)) >> shift) as u32
}

/// A frame of the domain's that it gives for the ABI.
fn guest_frame<M: Machine>(m: &M, d: &Domain, gfn: u64) -> Result<Maddr, Errno> {
    let mfn = Mfn(gfn);
    if memory::is_owned(m, d, mfn) {
        Ok(mfn.addr())
    } else {
        Err(Errno::EINVAL)
    }
}

/// `EVTCHNOP_init_control`: registers a virtual CPU's control block; the first
/// one switches the domain to this ABI.
pub(super) fn init_control<M: Machine>(
    m: &mut M,
    d: &Domain,
    op: &mut EvtchnInitControl,
) -> Result<(), Errno> {
    op.link_bits = EVTCHN_FIFO_LINK_BITS as u8;
    let vcpu = vcpu_exists(d, op.vcpu)?;
    let offset = op.offset as usize;
    if offset > PAGE_SIZE - size_of::<EvtchnFifoControlBlock>() || offset & 7 != 0 {
        return Err(Errno::EINVAL);
    }
    let _changes = d.evtchn.changes.lock();
    let fifo = &d.evtchn.fifo;
    if fifo.control[vcpu].load(Ordering::Relaxed) != 0 {
        return Err(Errno::EINVAL);
    }
    let block = guest_frame(m, d, op.control_gfn)?.0 + offset as u64;
    fifo.control[vcpu].store(block, Ordering::Release);
    if !fifo.is_on() {
        switch(m, d);
    }
    Ok(())
}

/// Keeps what is pending for the time when the event array has room for it,
/// and gives every port the default priority.
fn switch<M: Machine>(m: &M, d: &Domain) {
    let ports = &d.evtchn;
    for port in 1..ports.used.load(Ordering::Relaxed) {
        if two_level::is_pending(m, d, port) {
            ports.fifo.set_early(port);
        }
        if let Some(channel) = ports.get(port) {
            ports.set(port, Channel::new(channel.binding, channel.vcpu));
        }
    }
    ports.fifo.on.store(true, Ordering::Release);
}

/// `EVTCHNOP_expand_array`: adds a page to the event array.
pub(super) fn expand_array<M: Machine>(
    m: &mut M,
    d: &Domain,
    current: usize,
    op: EvtchnExpandArray,
) -> Ret {
    let changes = d.evtchn.changes.lock();
    let fifo = &d.evtchn.fifo;
    if !fifo.is_on() {
        return Err(Errno::EOPNOTSUPP);
    }
    let pages = fifo.pages.load(Ordering::Relaxed);
    let slot = fifo.array.get(pages as usize).ok_or(Errno::ENOSPC)?;
    slot.store(guest_frame(m, d, op.array_gfn)?.0, Ordering::Release);
    fifo.pages.store(pages + 1, Ordering::Relaxed);
    drop(changes);
    let first = pages as usize * WORDS_PER_PAGE;
    for port in first..(first + WORDS_PER_PAGE).min(NR_PORTS) {
        let port = port as u32;
        if fifo.take_early(port) {
            super::set_pending(m, d, current, port);
        }
    }
    Ok(0)
}

/// Back to the 2-level ABI.
pub(super) fn reset(d: &Domain) {
    let fifo = &d.evtchn.fifo;
    fifo.on.store(false, Ordering::Release);
    fifo.pages.store(0, Ordering::Relaxed);
    for word in fifo.array.iter().chain(&fifo.control).chain(&fifo.early) {
        word.store(0, Ordering::Release);
    }
    for last in &fifo.last {
        last.store(0, Ordering::Relaxed);
    }
    for queue in &fifo.queues {
        *queue.lock() = [0; EVTCHN_FIFO_MAX_QUEUES];
    }
}

/// True when the port was not pending before.
pub(super) fn set_pending<M: Machine>(
    m: &M,
    d: &Domain,
    current: usize,
    port: u32,
    channel: Channel,
) -> bool {
    let fifo = &d.evtchn.fifo;
    if fifo.word(port).is_none() {
        fifo.set_early(port);
        // The page may have come in between; then nobody looks at the bit.
        if fifo.word(port).is_none() || !fifo.take_early(port) {
            return false;
        }
    }
    let Some(word) = fifo.word(port) else {
        return false;
    };
    let before = or32(m, word, 1 << EVTCHN_FIFO_PENDING);
    if before & (MASKED | LINKED) == 0 {
        link(m, d, current, port, channel, word);
    }
    before >> EVTCHN_FIFO_PENDING & 1 == 0
}

pub(super) fn unmask<M: Machine>(m: &M, d: &Domain, current: usize, port: u32, channel: Channel) {
    let Some(word) = d.evtchn.fifo.word(port) else {
        return;
    };
    if clear32(m, word, MASKED) >> EVTCHN_FIFO_PENDING & 1 != 0 {
        super::raise(m, d, current, port, channel);
    }
}

/// Appends a port to the queue of its virtual CPU and priority.
fn link<M: Machine>(m: &M, d: &Domain, current: usize, port: u32, channel: Channel, word: Maddr) {
    let fifo = &d.evtchn.fifo;
    let control = fifo.control[channel.vcpu].load(Ordering::Acquire);
    // A virtual CPU without a control block cannot have unmasked an event.
    let Some(last) = fifo.last.get(port as usize).filter(|_| control != 0) else {
        return;
    };
    let first_in_queue = loop {
        let queue = last.load(Ordering::Acquire);
        let (old_vcpu, old_priority) = (usize::from(queue >> 8), usize::from(queue & 15));
        // The port may be the tail of the queue it was in last. Of two
        // virtual CPUs the lower one's queues are locked first.
        let low = fifo.queues[old_vcpu.min(channel.vcpu) % MAX_VCPUS].lock();
        let high = (old_vcpu != channel.vcpu)
            .then(|| fifo.queues[old_vcpu.max(channel.vcpu) % MAX_VCPUS].lock());
        if last.load(Ordering::Acquire) != queue {
            continue;
        }
        if or32(m, word, LINKED) & LINKED != 0 {
            return;
        }
        let (mut low, mut high) = (low, high);
        let (old, new) = match &mut high {
            None => (None, &mut *low),
            Some(high) if old_vcpu < channel.vcpu => (Some(&mut *low), &mut **high),
            Some(high) => (Some(&mut **high), &mut *low),
        };
        // Linked anew, it no longer ends the old queue.
        let old_tail = match old {
            Some(old) => &mut old[old_priority],
            None => &mut new[old_priority],
        };
        if *old_tail == port {
            *old_tail = 0;
        }
        last.store(
            (channel.vcpu << 8 | channel.priority) as u16,
            Ordering::Release,
        );
        break append(
            m,
            fifo,
            &mut new[channel.priority],
            Maddr(control),
            port,
            channel.priority,
        );
    };
    let ready = Maddr(control);
    let bit = 1 << channel.priority;
    if first_in_queue && or32(m, ready, bit) & bit == 0 {
        mark_events_pending(m, d, current, channel.vcpu);
    }
}

/// True when the port became the queue's head.
fn append<M: Machine>(
    m: &M,
    fifo: &Fifo,
    tail: &mut u32,
    control: Maddr,
    port: u32,
    priority: usize,
) -> bool {
    let behind = *tail != 0 && fifo.word(*tail).is_some_and(|word| set_link(m, word, port));
    *tail = port;
    if !behind {
        m.store32(Maddr(control.0 + 8 + 4 * priority as u64), port);
    }
    !behind
}

/// Writes the LINK field of a word that is in a queue. False when the guest
/// has taken it off: then the queue is empty.
fn set_link<M: Machine>(m: &M, word: Maddr, port: u32) -> bool {
    for turn in 0..2 * TRIES {
        // BUSY makes a guest that unmasks the event wait.
        let seen = if turn >= TRIES {
            or32(m, word, BUSY) | BUSY
        } else {
            m.load32(word)
        };
        if seen & LINKED == 0 {
            if turn >= TRIES {
                clear32(m, word, BUSY);
            }
            return false;
        }
        let linked = seen & !(BUSY | EVTCHN_FIFO_LINK_MASK) | port;
        if m.cmpxchg32(word, seen, linked).is_ok() {
            return true;
        }
    }
    // The guest breaks the ABI, and loses events by it.
    clear32(m, word, BUSY);
    true
}

pub(super) fn clear_pending<M: Machine>(m: &M, d: &Domain, port: u32) {
    let fifo = &d.evtchn.fifo;
    fifo.take_early(port);
    if let Some(word) = fifo.word(port) {
        clear32(m, word, 1 << EVTCHN_FIFO_PENDING);
    }
}

pub(super) fn is_pending<M: Machine>(m: &M, d: &Domain, port: u32) -> bool {
    let word = d.evtchn.fifo.word(port);
    word.is_some_and(|word| m.load32(word) >> EVTCHN_FIFO_PENDING & 1 != 0)
}

/// A port that is free but still in a queue must not be bound again: its old
/// event would show up as the new one's.
pub(super) fn is_linked<M: Machine>(m: &M, d: &Domain, port: u32) -> bool {
    let fifo = &d.evtchn.fifo;
    fifo.is_on()
        && fifo
            .word(port)
            .is_some_and(|word| m.load32(word) & LINKED != 0)
}

#[cfg(test)]
mod tests;
