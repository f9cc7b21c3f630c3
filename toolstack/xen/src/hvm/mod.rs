//! HVM domains: what of them is not as it is of other domains.
//!
//! - `plan`: what the specification leaves open is filled in as libxl does it, and what cannot be is
//!   refused, before anything is made.
//! - `build`: memory, the firmware in it, parameters, the first vCPU.
//! - `nodes`: what firmware and device model read in xenstore.
//! - `create`: the order of these within the creation of a domain, and what is done to it later.
//! - `confine`: whether the device model is more than what its domain needs it to be.
//! - `arguments`, `process`, `qmp`: the device model's command line, its life, and its monitor.
//! - `watch`: a domain whose device model has died has crashed.
//!
//! Facts: what `xl` 4.17 makes of the same configuration, seen by `xl -vvv create`, `xenstore-ls -fp`
//! and the parameters that the hypervisor tells.

pub(crate) mod arguments;
pub(crate) mod build;
pub(crate) mod confine;
pub(crate) mod create;
pub(crate) mod nodes;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod qmp;
pub(crate) mod watch;

pub(crate) use plan::Plan;

/// What only an HVM domain has, as it is asked for and as it is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hvm<'a> {
    pub spec: &'a xt_config::HvmSpec,
    pub plan: &'a Plan,
}
