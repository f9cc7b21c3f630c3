//! To be written.
#![allow(missing_docs, unused)]
use crate::*;
use xen_sys::addr::Vaddr;
pub struct GrantTable {}
impl GrantTable {
    pub const fn new() -> Self {
        Self {}
    }
}
pub fn grant_table_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    arg: Vaddr,
    count: u64,
) -> Ret {
    Ok(0)
}
