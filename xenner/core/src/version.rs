//! To be written.
#![allow(missing_docs, unused)]
use crate::*;
use xen_sys::addr::Vaddr;
pub const XEN_VERSION: u32 = 4 << 16 | 17;
pub fn xen_version<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    Ok(0)
}
