//! The Xen public ABI for x86-64: types, constants, layouts.
//!
//! One module per public header, each naming its header. Constants keep the header's spelling;
//! structures are CamelCase, `repr(C)`, with named padding and the zerocopy traits, so they go to
//! and from bytes without `unsafe`. A C union appears as a field wide enough for all its members,
//! with accessors. Layouts are asserted at compile time and compared with the C headers of
//! Debian's `libxen-dev` by `tests/header_check.rs`.
//!
//! Values in these structures come from the other side of a trust boundary: copy them once, check
//! them, and use the copy.
#![no_std]
#![forbid(unsafe_code)]
#![allow(non_upper_case_globals, non_snake_case)] // the headers' own spelling

pub mod addr;
pub mod arch_x86;
pub mod callback;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod io;
pub mod memory;
pub mod nmi;
pub mod physdev;
pub mod pmu;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use addr::{DomId, EvtchnPort, GrantRef, GuestHandle};
