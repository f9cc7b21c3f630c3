//! The program `xt`: what `xl` is, for Xen hosts and for KVM hosts.
//!
//! Begin with [`program::main`]: it resolves a command's prefix ([`verbs`]), finds the host
//! ([`choose`]) and calls the command, one function each in [`verb`]. They speak to the host through
//! [`xt_host::Host`] only, so all of them are the same on both. What they print is made by [`output`],
//! in the shapes of `xl` of Xen 4.17, which its tests hold it to.
//!
//! On Xen [`supervise`] is the one process that restarts and ends domains as their settings say.
#![forbid(unsafe_code)]

pub mod choose;
pub mod cli;
pub mod config;
pub mod docs;
pub mod output;
pub mod program;
pub mod status;
pub mod supervise;
pub mod verb;
pub mod verbs;
