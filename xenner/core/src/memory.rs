//! To be written.
#![allow(missing_docs, unused)]
use crate::*;
use xen_sys::addr::Vaddr;
pub struct Memory {}
impl Memory {
    pub const fn new() -> Self {
        Self {}
    }
}
pub fn memory_op<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    Ok(0)
}
