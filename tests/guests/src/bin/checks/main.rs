//! What Linux 6.1 and 6.12 PV guests ask of the hypervisor, subject by subject, with the answers Xen gives.
//!
//! Every subject has its file and its word: `only=mmu,events` on the command line runs just those, `without=xenstore`
//! all others. A check may use only what a sane guest can observe; those that see Xen's page type counting are in the
//! group `typecount`, because a hypervisor that confines the guest otherwise need not have it.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "as a hypercall argument a reference is its address, a number is itself"
)]

#[cfg(not(target_os = "none"))]
fn main() {
    xenner_guests::explain("checks");
}

#[cfg(target_os = "none")]
mod subjects;
