//! `cargo xtask rig`: a rig on the terminal, or one command in it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use xenner_rigs::{Prepared, RigSpec, Shell, packages, rig_k, rig_x};

use crate::HOST_PACKAGES;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Xen with its tools in dom0 (about 10 s)
    X,
    /// Linux with KVM on an emulated AMD machine (about 6 s)
    K,
}

/// Without a command the rig's shell is on the terminal: `exit` ends it, and so
/// does Ctrl-A X. With one, its output is printed and its status returned.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask rig x -- xl info")]
pub struct Arguments {
    #[arg(value_enum)]
    which: Which,
    /// Let the clock count instructions: slower, but figures repeat
    #[arg(long)]
    icount: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// Number of CPUs (one with --icount)
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Rig X: put in QEMU and the firmware files, for HVM domains
    #[arg(long)]
    hvm: bool,
    /// Put a file in: path here, path there
    #[arg(long = "file", value_name = "HERE:THERE")]
    files: Vec<String>,
    /// Put a program in, with its shared libraries: path here, path there
    #[arg(long = "program", value_name = "HERE:THERE")]
    programs: Vec<String>,
    /// Give up on the command after so many seconds
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Print QEMU's command line and end
    #[arg(long)]
    print_qemu: bool,
    /// The command to run, by the rig's shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    packages::install(HOST_PACKAGES)?;
    let spec = spec(arguments)?;
    let words = if arguments.command.is_empty() {
        "rig.terminal"
    } else {
        ""
    };
    let prepared = match arguments.which {
        Which::X => rig_x::prepare(&spec, words)?,
        Which::K => rig_k::prepare(&spec, words)?,
    };
    if arguments.print_qemu {
        println!("{}", prepared.qemu.command_line());
    } else if arguments.command.is_empty() {
        prepared.qemu.run_on_terminal()?;
    } else {
        return run(prepared, arguments);
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(arguments: &Arguments) -> Result<RigSpec> {
    let mut spec = RigSpec {
        memory_mib: arguments.memory,
        cpus: arguments.cpus,
        device_model: arguments.hvm,
        ..RigSpec::default()
    };
    for pair in &arguments.files {
        let (here, there) = split(pair)?;
        spec = spec.file(here, there);
    }
    for pair in &arguments.programs {
        let (here, there) = split(pair)?;
        spec = spec.program(here, there);
    }
    Ok(if arguments.icount {
        spec.counting_instructions()
    } else {
        spec
    })
}

fn split(pair: &str) -> Result<(PathBuf, &str)> {
    let (here, there) = pair
        .split_once(':')
        .with_context(|| format!("{pair:?} is not HERE:THERE"))?;
    if !there.starts_with('/') {
        bail!("{there:?} must be an absolute path in the rig");
    }
    Ok((here.into(), there))
}

fn run(prepared: Prepared, arguments: &Arguments) -> Result<ExitCode> {
    let mut shell = Shell::boot(prepared)?;
    let command = arguments.command.join(" ");
    let deadline = Duration::from_secs(arguments.timeout);
    let mut stdout = std::io::stdout();
    let output = shell.run_with(&command, deadline, &mut |part| {
        // A closed pipe ends the chore at the next print, not the rig midway.
        let _ = stdout.write_all(part).and_then(|()| stdout.flush());
    })?;
    Ok(ExitCode::from(u8::try_from(output.status).unwrap_or(1)))
}
