//! Builds the ring-0 image for the bare target and hands its path to the crate.

use std::env;
use std::path::PathBuf;
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
    let target_dir = out.join("bare");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(&root)
        .args([
            "build",
            "--release",
            "--package",
            "xenner-emu",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        // Flags for the host must not reach the bare target.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .expect("cargo can be run");
    assert!(
        status.success(),
        "The ring-0 image does not build. If the target is missing: rustup target add {TARGET}"
    );
    let image = target_dir.join(TARGET).join("release/xenner-emu");
    println!("cargo:rustc-env=XENNER_EMU={}", image.display());
}
