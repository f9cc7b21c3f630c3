//! KVM virtual machines that look like Xen PV domains from inside.
