//! The Xen public ABI: types, constants, layouts.
