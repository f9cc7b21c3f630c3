//! Run Xen PV guests on KVM.

fn main() {}
