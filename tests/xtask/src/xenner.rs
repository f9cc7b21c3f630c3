//! The program under test, built.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cargo, top};

/// Builds `xenner` optimised and says where it is.
pub fn build() -> Result<PathBuf> {
    let mut command = cargo([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "xenner",
    ]);
    let status = command.status().context("Cannot run cargo build")?;
    if !status.success() {
        bail!("Building xenner failed");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from);
    Ok(target.join("release/xenner"))
}
