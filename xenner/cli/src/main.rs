//! Runs Xen PV guests on KVM.

use std::process::ExitCode;

use xenner::machine::{Launcher, Machine, Ports, StartError};
use xenner::spec::DomainSpec;

/// Stands where the VMM will be.
struct NoVmm;

impl Launcher for NoVmm {
    fn build(&self, _: &DomainSpec, _: Ports) -> Result<Box<dyn Machine>, StartError> {
        Err(StartError::Other(
            "This xenner was built without a VMM and can run no domain".into(),
        ))
    }
}

fn main() -> ExitCode {
    xenner::program::main(std::env::args_os(), &NoVmm)
}
