//! The program under test: where it is, and what a guest booted by it does.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::qemu::shell_quote;

/// Builds `xenner` optimised, unless the environment's `XENNER` names one, and
/// says where it is.
pub fn build() -> Result<PathBuf> {
    build_program("xenner", "XENNER")
}

/// The same of `xt`, which the environment's `XT` may name.
pub fn build_xt() -> Result<PathBuf> {
    build_program("xt", "XT")
}

/// Builds the firmware of HVM domains: a program that writes it to standard output.
pub fn build_hvmloader() -> Result<PathBuf> {
    build_program("hvmloader-image", "HVMLOADER")
}

/// Builds the program of the package `name`, unless `variable` names one.
fn build_program(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(variable) {
        return Ok(program.into());
    }
    let mut cargo = cargo();
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--package"])
        .arg(name);
    finish(
        cargo,
        format!("Set {variable} to a built {name} to do without"),
    )?;
    Ok(target_dir().join("release").join(name))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(top());
    cargo
}

/// Waits for a build.
fn finish(mut cargo: Command, advice: String) -> Result<()> {
    let status = cargo.status().map_err(|source| Error::Start {
        program: "cargo".into(),
        source,
        advice,
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Program {
            program: format!("{cargo:?}"),
            status,
            output: "see above".into(),
        }),
    }
}

/// Builds a small PV kernel of `tests/guests`, and says where it is.
pub fn build_guest(name: &str) -> Result<PathBuf> {
    let target = "x86_64-unknown-none";
    let mut cargo = cargo();
    cargo
        .args(["build", "--release", "--locked", "--quiet"])
        .args([
            "--package",
            "xenner-guests",
            "--bin",
            name,
            "--target",
            target,
        ])
        // Flags for the host must not reach the bare target.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    finish(
        cargo,
        format!("It needs the target: rustup target add {target}"),
    )?;
    Ok(target_dir().join(target).join("release").join(name))
}

/// A guest for `xenner run`.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The kernel's path, where `xenner` runs.
    pub kernel: String,
    /// The initial file system's.
    pub initrd: String,
    /// The kernel's command line.
    pub append: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
}

impl Guest {
    /// The arguments to `xenner`. A guest that reboots ends, instead of doing
    /// everything again.
    pub fn arguments(&self) -> Vec<String> {
        [
            "run",
            "--kernel",
            &self.kernel,
            "--initrd",
            &self.initrd,
            "--append",
            &self.append,
            "--memory",
            &format!("{}M", self.memory_mib),
            "--vcpus",
            &self.vcpus.to_string(),
            "--on-reboot",
            "destroy",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The whole command for a shell, by the name the program has there.
    pub fn command(&self, program: &str) -> String {
        let quoted: Vec<_> = self.arguments().iter().map(|a| shell_quote(a)).collect();
        format!("{program} {}", quoted.join(" "))
    }
}
