//! Creates domains and handles them, on a Xen host and on a KVM host.

use std::process::ExitCode;

fn main() -> ExitCode {
    xt::program::main(std::env::args_os())
}
