//! Builds the ring-0 image and the test guest for the bare target and hands
//! their paths to the crate.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-none";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here
        .ancestors()
        .nth(2)
        .expect("the crate lies two folders down")
        .to_path_buf();
    for watched in ["xenner/emu", "xenner/core", "xen-sys", "tests/guests"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    for (package, binary, variable) in [
        ("xenner-emu", "xenner-emu", "XENNER_EMU"),
        ("xenner-guests", "hello", "XENNER_TEST_GUEST"),
    ] {
        let image = build(&root, &out.join("bare"), package, binary);
        println!("cargo:rustc-env={variable}={}", image.display());
    }
}

fn build(root: &Path, target_dir: &Path, package: &str, binary: &str) -> PathBuf {
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(root)
        .args(["build", "--release", "--package", package, "--bin", binary])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        // Flags for the host must not reach the bare target.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        // Symbols are of no use to whoever runs it.
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        // One unit, so that the hot paths become one piece.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .status()
        .expect("cargo can be run");
    assert!(
        status.success(),
        "{binary} does not build. If the target is missing: rustup target add {TARGET}"
    );
    target_dir.join(TARGET).join("release").join(binary)
}
