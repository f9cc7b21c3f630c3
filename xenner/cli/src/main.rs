//! Runs Xen PV guests on KVM.

use std::process::ExitCode;

fn main() -> ExitCode {
    xenner::program::main(std::env::args_os(), &xenner::kvm::KvmLauncher)
}
