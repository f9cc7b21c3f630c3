//! To be written.
#![allow(missing_docs, unused)]
use crate::*;
use xen_sys::addr::Vaddr;
pub fn physdev_op<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    Ok(0)
}
pub fn console_io<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    count: u64,
    arg: Vaddr,
) -> Ret {
    Ok(0)
}
pub fn vm_assist<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, cmd: u64, kind: u64) -> Ret {
    Ok(0)
}
pub fn refused(nr: u64) -> xen_sys::errno::Errno {
    xen_sys::errno::Errno::ENOSYS
}
