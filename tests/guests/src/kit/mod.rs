//! The modules of the kit, compiled for the bare machine only.

pub mod abi;
pub mod boot;
pub mod channel;
pub mod console;
pub mod events;
pub mod hypercall;
pub mod memory;
pub mod report;
pub mod time;
pub mod trap;
pub mod user;
