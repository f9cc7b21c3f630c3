//! The `xenner` program as a library: the command line, the process of a domain and everything
//! around the machine itself, which a [`machine::Launcher`] builds.
//!
//! Begin at [`program::main`]. `xenner run` forks: [`run`] stays in the foreground with the
//! terminal, [`domain`] is the process of the domain, and [`front`] is what they say to each other.
//! The other commands reach a running domain through its control socket, [`control`], in its run
//! directory, [`rundir`]. The console goes through one hub, [`console::Console`], which never makes
//! the guest wait. [`machine`] is the seam to the VMM.
//!
//! Principles: nothing a client or a guest does stalls a domain; nothing is left behind whatever
//! ends a process; every failure says what to do and has an exit status of its own.
#![deny(unsafe_code)]

pub mod check;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod crash;
pub mod devices;
pub mod docs;
pub mod domain;
pub mod front;
pub mod image;
pub mod kallsyms;
pub mod kvm;
pub mod live;
pub mod machine;
pub mod metrics;
pub mod program;
pub mod restart;
pub mod run;
pub mod rundir;
pub mod sandbox;
pub mod spec;
pub mod status;
pub mod survey;
pub mod symbols;
#[allow(unsafe_code, reason = "the only module with unsafe code")]
mod sys;
pub mod top;

pub use xt_corefile as dumpcore;
