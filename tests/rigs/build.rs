//! Builds the static program that is `/init` of test guests, so that plain
//! `cargo test` has it. Cargo cannot yet depend on another crate's binary for
//! another target.

use std::path::{Path, PathBuf};
use std::process::Command;

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let top = var("CARGO_MANIFEST_DIR").join("../..");
    let target_dir = var("OUT_DIR").join("workload");
    let target = if has_target(MUSL) { MUSL } else { GNU };
    let mut cargo = Command::new(var("CARGO"));
    cargo
        .args([
            "build",
            "--locked",
            "--quiet",
            "--release",
            "--package",
            "xenner-workload",
        ])
        .args(["--target", target, "--target-dir"])
        .arg(&target_dir)
        .current_dir(&top)
        // What the outer cargo was told is not for this program: lints, coverage.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true");
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "{cargo:?} failed: {status}");

    let program = target_dir.join(target).join("release/xenner-workload");
    println!("cargo:rustc-env=XENNER_WORKLOAD={}", program.display());
    let workload = top.join("tests/workload");
    println!("cargo:rerun-if-changed={}", workload.display());
    println!("cargo:rerun-if-changed=build.rs");
}

fn var(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("cargo sets {name}"))
        .into()
}

fn has_target(target: &str) -> bool {
    let output = Command::new(var("RUSTC"))
        .args(["--print", "target-libdir", "--target", target])
        .output();
    output.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_dir())
}
