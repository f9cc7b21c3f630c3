//! The 2-level ABI: a bit per port in `shared_info.evtchn_pending` and
//! `evtchn_mask`, a selector bit per word of them in `vcpu_info`.

use core::mem::offset_of;

use xen_sys::addr::Maddr;
use xen_sys::xen::{SharedInfo, VcpuInfo};

use super::{Channel, NR_PORTS, mark_events_pending};
use crate::{Domain, Machine};

const PENDING: u64 = offset_of!(SharedInfo, evtchn_pending) as u64;
const MASK: u64 = offset_of!(SharedInfo, evtchn_mask) as u64;
const SEL: u64 = offset_of!(VcpuInfo, evtchn_pending_sel) as u64;

/// The word of an array in `shared_info` that holds the port's bit.
fn word(d: &Domain, array: u64, port: u32) -> Maddr {
    let index = u64::from(port) % NR_PORTS as u64 / 64;
    Maddr(d.config.shared_info.addr().0 + array + index * 8)
}

fn bit(port: u32) -> u64 {
    1 << (port % 64)
}

/// True when the port was not pending before.
pub(super) fn set_pending<M: Machine>(
    m: &M,
    d: &Domain,
    current: usize,
    port: u32,
    channel: Channel,
) -> bool {
    if m.fetch_or64(word(d, PENDING, port), bit(port)) & bit(port) != 0 {
        return false;
    }
    if m.load64(word(d, MASK, port)) & bit(port) == 0 {
        select(m, d, current, port, channel);
    }
    true
}

fn select<M: Machine>(m: &M, d: &Domain, current: usize, port: u32, channel: Channel) {
    let Some(shared) = d.vcpus.get(channel.vcpu) else {
        return;
    };
    let info = shared.vcpu_info();
    if info.0 == 0 {
        return;
    }
    let sel = bit(port / 64);
    if m.fetch_or64(Maddr(info.0 + SEL), sel) & sel == 0 {
        mark_events_pending(m, d, current, channel.vcpu);
    }
}

pub(super) fn unmask<M: Machine>(m: &M, d: &Domain, current: usize, port: u32, channel: Channel) {
    let masked = m.fetch_and64(word(d, MASK, port), !bit(port)) & bit(port) != 0;
    if masked && is_pending(m, d, port) {
        select(m, d, current, port, channel);
    }
}

pub(super) fn clear_pending<M: Machine>(m: &M, d: &Domain, port: u32) {
    m.fetch_and64(word(d, PENDING, port), !bit(port));
}

pub(super) fn is_pending<M: Machine>(m: &M, d: &Domain, port: u32) -> bool {
    m.load64(word(d, PENDING, port)) & bit(port) != 0
}
