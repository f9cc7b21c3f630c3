//! `cargo xtask test`: all a submission must pass, cheapest first.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use xenner_rigs::{packages, rig_l};

use crate::{HOST_PACKAGES, cargo, licences, top};

/// Formatting, lints, licences, documentation, then every test, those with
/// rigs among them. All of it runs, whatever fails.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Leave out the tests that boot a machine
    #[arg(long)]
    quick: bool,
}

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.quick {
        packages::install(HOST_PACKAGES)?;
        packages::install(TEST_PACKAGES)?;
    }
    match rig_l::detect() {
        Ok(kvm) => println!("== this machine's KVM: {kvm:?}"),
        Err(skipped) => println!("== guests on this machine's KVM: {skipped}"),
    }
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    // What runs in ring 0 is not compiled for the host.
    let bare = [
        "clippy",
        "--locked",
        "--package",
        "xenner-emu",
        "--package",
        "xenner-guests",
        "--package",
        "hvmloader",
        "--target",
        "x86_64-unknown-none",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let mut documentation = cargo(["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    let results = [
        step("formatting", &mut cargo(["fmt", "--all", "--check"])),
        check_licences(),
        step("lints", &mut cargo(clippy)),
        step("lints of what runs on the bare machine", &mut cargo(bare)),
        step("documentation", &mut documentation),
        step(
            "tests",
            &mut tests(if arguments.quick {
                Extent::Quick
            } else {
                Extent::Usual
            }),
        ),
        fuzz(FUZZ_SECONDS),
    ];
    all_passed(results)
}

/// Every failure, a line each.
fn all_passed(results: impl IntoIterator<Item = Result<()>>) -> Result<ExitCode> {
    let failures: Vec<_> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|e| format!("{e:#}"))
        .collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the tests compare with and work on: images, networks, HTTP.
const TEST_PACKAGES: &[&str] = &[
    "acpica-tools",
    "curl",
    "dnsmasq-base",
    "e2fsprogs",
    "grub-common",
    "grub-pc-bin",
    "iproute2",
    "passt",
    "qemu-utils",
    "xfsprogs",
    "xorriso",
];

/// What takes too long for every change: hours. All of it runs, whatever fails.
pub fn nightly() -> Result<ExitCode> {
    packages::install(HOST_PACKAGES)?;
    packages::install(TEST_PACKAGES)?;
    let mut tests = tests(Extent::All);
    tests
        .env("XENNER_MATRIX", "full")
        .env("PROPTEST_CASES", "10000");
    let mut xl = cargo(["xtask", "record-xl", "--check"]);
    all_passed([
        step("tests of everything", &mut tests),
        step("xl's answers to the test configurations", &mut xl),
        fuzz(NIGHTLY_FUZZ_SECONDS),
        step("figures", &mut cargo(["xtask", "bench"])),
    ])
}

/// For how long each fuzz target runs with every change, and at night.
const FUZZ_SECONDS: u32 = 5;
const NIGHTLY_FUZZ_SECONDS: u32 = 300;

/// Runs every fuzz target. They need a nightly toolchain, which not every
/// machine has, and cargo-fuzz, which is installed when missing.
fn fuzz(seconds: u32) -> Result<()> {
    let nightly = Command::new("cargo")
        .args(["+nightly", "--version"])
        .output();
    if !nightly.is_ok_and(|o| o.status.success()) {
        println!(
            "== fuzzing: skipped: there is no nightly toolchain (rustup toolchain install nightly)"
        );
        return Ok(());
    }
    if !has_subcommand("fuzz") {
        step(
            "installing cargo-fuzz",
            &mut cargo(["install", "--locked", "--quiet", "cargo-fuzz"]),
        )?;
    }
    let run = top().join("tests/fuzz/run");
    step("fuzzing", Command::new(run).arg(seconds.to_string()))
}

fn check_licences() -> Result<()> {
    if has_subcommand("deny") {
        step("licences", &mut cargo(["deny", "check", "licenses"]))
    } else {
        licences::check()
    }
}

/// Which tests to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Those that boot no machine.
    Quick,
    /// Those for every change.
    Usual,
    /// Those marked `#[ignore]`, too: they take too long for every change.
    All,
}

/// nextest gives each test a process and a time; cargo's own runner will do.
fn tests(extent: Extent) -> Command {
    let nextest = has_subcommand("nextest");
    let mut command = if nextest {
        cargo([
            "nextest",
            "run",
            "--locked",
            "--workspace",
            "--no-fail-fast",
        ])
    } else {
        cargo(["test", "--locked", "--workspace", "--no-fail-fast"])
    };
    match extent {
        Extent::Quick => command.args(["--lib", "--bins"]),
        Extent::Usual => &mut command,
        Extent::All if nextest => command.args(["--run-ignored", "all"]),
        Extent::All => command.args(["--", "--include-ignored"]),
    };
    command
}

fn has_subcommand(name: &str) -> bool {
    cargo([name, "--version"])
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Runs one step and says how long it took.
fn step(what: &str, command: &mut Command) -> Result<()> {
    println!("== {what}");
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("Cannot run {command:?}"))?;
    if !status.success() {
        bail!("{what} failed: {command:?} ended with {status}");
    }
    println!("== {what}: passed in {:.0?}", start.elapsed());
    Ok(())
}
