//! To be written.
#![allow(missing_docs, unused)]
use crate::*;
use xen_sys::addr::Vaddr;
pub struct EventChannels {}
impl EventChannels {
    pub const fn new() -> Self {
        Self {}
    }
}
pub fn event_channel_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    arg: Vaddr,
) -> Ret {
    Ok(0)
}
pub fn upcall_due<M: Machine>(m: &M, d: &Domain, vcpu: usize) -> bool {
    false
}
pub fn upcall_pending<M: Machine>(m: &M, d: &Domain, vcpu: usize) -> bool {
    false
}
pub fn port_valid(d: &Domain, port: u32) -> bool {
    false
}
pub fn port_pending<M: Machine>(m: &M, d: &Domain, port: u32) -> bool {
    false
}
pub fn send_virq<M: Machine>(m: &mut M, d: &Domain, current: usize, vcpu: usize, virq: usize) {}
pub fn mark_events_pending<M: Machine>(m: &mut M, d: &Domain, current: usize, vcpu: usize) {}
pub fn deliver<M: Machine>(m: &mut M, d: &Domain, current: usize, port: u32) {}
