//! Small PV kernels that exercise the Xen ABI.

fn main() {}
