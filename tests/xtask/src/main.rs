//! The project's own chores: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod rig;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the xenner project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Boot real Xen (x) or real KVM (k) under QEMU and run something in it
    Rig(rig::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Rig(arguments) => rig::main(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
