//! `cargo xtask boot`: Debian's kernel as a PV guest, on this terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use xenner_rigs::packages::{self, Cache, Kernel};
use xenner_rigs::xenner::{self, Guest};
use xenner_rigs::{RigSpec, guest, rig_k, rig_l};

use crate::HOST_PACKAGES;

/// The kernel is fetched from Debian's archive once; without a network the test
/// guest inside xenner boots instead. Where this machine has no KVM, all of it
/// runs on an emulated machine that has.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask boot --run checks,poweroff --vcpus 4")]
pub struct Arguments {
    /// What the guest is to do: a list of shell, checks, bench, poweroff, reboot, crash
    #[arg(long, default_value = "shell")]
    run: String,
    /// Boot this kernel instead of Debian's
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// More words for the kernel's command line
    #[arg(long, default_value = "quiet")]
    append: String,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Use the emulated machine even where this one has KVM
    #[arg(long)]
    emulate: bool,
}

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let program = xenner::build()?;
    let Some((kernel, initrd)) = files(arguments)? else {
        return here(&program, &["run".into()]);
    };
    let guest = |kernel: &str, initrd: &str| Guest {
        kernel: kernel.into(),
        initrd: initrd.into(),
        append: format!(
            "console=hvc0 {} xenner.test={}",
            arguments.append, arguments.run
        ),
        memory_mib: arguments.memory,
        vcpus: arguments.vcpus,
    };
    let local = if arguments.emulate {
        Err(rig_l::Skipped("--emulate was given".into()))
    } else {
        rig_l::detect()
    };
    match local {
        Ok(_) => here(
            &program,
            &guest(&kernel.to_string_lossy(), &initrd.path.to_string_lossy()).arguments(),
        ),
        Err(reason) => {
            eprintln!(
                "Not on this machine's KVM ({reason}), but on an emulated machine (Ctrl-A X ends it)."
            );
            emulated(
                &program,
                &kernel,
                &initrd.path,
                &guest("/boot/vmlinuz", "/boot/initrd"),
            )
        }
    }
}

/// A file that goes with its directory.
struct Initrd {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// The kernel and the initial file system; `None` when Debian's archive cannot
/// be reached and nothing is cached.
fn files(arguments: &Arguments) -> Result<Option<(PathBuf, Initrd)>> {
    let cache = Cache::open()?;
    let kernel = match &arguments.kernel {
        Some(kernel) => Ok(kernel.clone()),
        None => cache.kernel(Kernel::CLOUD).map(|files| files.image),
    };
    let both = kernel.and_then(|kernel| Ok((kernel, guest::shell_initramfs(&cache)?)));
    let (kernel, fs) = match both {
        Ok(both) => both,
        Err(error) => {
            eprintln!("{error}\nBooting the test guest inside xenner instead.");
            return Ok(None);
        }
    };
    let dir = tempfile::Builder::new()
        .prefix("xenner-boot")
        .tempdir()
        .context("Cannot create a temporary directory")?;
    let path = dir.path().join("initrd");
    fs.write(&path)?;
    Ok(Some((kernel, Initrd { path, _dir: dir })))
}

pub(crate) fn here(program: &Path, arguments: &[String]) -> Result<ExitCode> {
    eprintln!("{} {}", program.display(), arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("Cannot run {}", program.display()))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

fn emulated(program: &Path, kernel: &Path, initrd: &Path, guest: &Guest) -> Result<ExitCode> {
    packages::install(HOST_PACKAGES)?;
    let status_file = "/share/status";
    let spec = RigSpec::default()
        .program(program, "/usr/bin/xenner")
        .file(kernel, "/boot/vmlinuz")
        .file(initrd, "/boot/initrd")
        .on_terminal(format!(
            "{}; echo $? >{status_file}",
            guest.command("xenner")
        ));
    let rig = rig_k::prepare(&spec, "rig.terminal")?;
    rig.qemu.run_on_terminal()?;
    let status = std::fs::read_to_string(rig.share().join("status"));
    let status = status.context("The emulated machine ended before the guest did")?;
    Ok(ExitCode::from(status.trim().parse().unwrap_or(1)))
}
