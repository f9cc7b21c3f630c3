//! The project's own chores: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod bench;
mod boot;
mod debian;
mod install;
mod licences;
mod record_xl;
mod rig;
mod test;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What rigs need on the host beyond what every Debian has.
const HOST_PACKAGES: &[&str] = &["qemu-system-x86", "gzip", "util-linux"];

/// Chores of the xenner project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check and test everything, as CI does
    #[command(visible_alias = "ci")]
    Test(test::Arguments),
    /// Boot Debian's kernel as a PV guest of xenner, with a shell on the terminal
    Boot(boot::Arguments),
    /// Boot a Debian system from a disk, with a network, to its login prompt
    Debian(debian::Arguments),
    /// Measure a guest's system calls on the bare machine, on Xen and on xenner
    Bench(bench::Arguments),
    /// Test every kernel, vCPU count and memory size, more random cases, and measure
    Nightly,
    /// Boot real Xen (x) or real KVM (k) under QEMU and run something in it
    Rig(rig::Arguments),
    /// Install the programs, their manual pages, completions and systemd units
    Install(install::Arguments),
    /// Record anew what Xen's xl makes of the test configurations
    RecordXl(record_xl::Arguments),
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Nightly => test::nightly(),
        Chore::Test(arguments) => test::main(&arguments),
        Chore::Boot(arguments) => boot::main(&arguments),
        Chore::Debian(arguments) => debian::main(&arguments),
        Chore::Bench(arguments) => bench::main(&arguments),
        Chore::Rig(arguments) => rig::main(&arguments),
        Chore::Install(arguments) => install::main(&arguments),
        Chore::RecordXl(arguments) => record_xl::main(&arguments),
    }
}

/// The top of the source tree.
fn top() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// A cargo command on the workspace, by the cargo that runs this.
fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(top());
    command
}
