//! The Xen hypervisor ABI as a library over a small machine trait.
