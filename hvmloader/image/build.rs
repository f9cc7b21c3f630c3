//! Builds the firmware for the bare target and packs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "src/narrow.rs"]
mod narrow;

const TARGET: &str = "x86_64-unknown-none";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here
        .ancestors()
        .nth(2)
        .expect("the crate lies two folders down");
    for watched in [
        "hvmloader/src",
        "hvmloader/link.ld",
        "hvmloader/build.rs",
        "hvmloader/Cargo.toml",
        "pvdrivers/ring/src",
        "pvdrivers/xenbus/src",
        "xen-sys/src",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let program = build(root, &out.join("bare"));
    let file = std::fs::read(&program).expect("the linker wrote it");
    let image = narrow::narrow(&file).expect("the linker's output is in order");
    let to = out.join("hvmloader");
    std::fs::write(&to, image).expect("the build's folder can be written to");
    println!("cargo:rustc-env=HVMLOADER_IMAGE={}", to.display());
}

fn build(root: &Path, target_dir: &Path) -> PathBuf {
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(root)
        .args([
            "build",
            "--release",
            "--package",
            "hvmloader",
            "--bin",
            "hvmloader",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        // Flags for the host must not reach the bare target.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .status()
        .expect("cargo can be run");
    assert!(
        status.success(),
        "the firmware does not build. If the target is missing: rustup target add {TARGET}"
    );
    target_dir.join(TARGET).join("release/hvmloader")
}
