//! Back ends of disks and network cards on a Xen host, for guests that `xl` creates.
//!
//! - `serve`: finds devices in xenstore and serves them; `watch` sees when to end.
//! - `model`: being what `libxl` starts in QEMU's place, with `qemu` its command line and `qmp` its
//!   monitor's protocol. It keeps a process of `serve` running.
//! - `disk`, `card`: from a device's nodes to a driver.
//! - `journal`: what outlives a process that is killed.
//! - `stats`: the counters of all back ends here.
//! - `docs`: manual pages and completions.
//! - `claim`: no two processes serve the same device.
//!
//! The handshake is `pv-backend`'s, the rings are `pv-block`'s and `pv-net`'s, what they are served
//! from is `pv-media`'s and `pv-netdev`'s, and `xt-host-xen` is the way to the hypervisor.
#![forbid(unsafe_code)]

mod card;
mod claim;
mod cli;
mod disk;
mod docs;
mod journal;
mod model;
mod qemu;
mod qmp;
mod ready;
mod serve;
mod stats;
mod watch;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use cli::{Cli, Command, Level, StatsArgs};
use qemu::{MARK, ModelSpec};

/// Locks and sockets.
const RUN_DIR: &str = "/run/xt-backend";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = if arguments.first().is_some_and(|first| first == MARK) {
        log(Level::Info);
        ModelSpec::parse(&arguments).and_then(|spec| model::run(&spec, Path::new(RUN_DIR)))
    } else {
        let cli = Cli::parse();
        log(cli.log);
        run(&cli)
    };
    result.unwrap_or_else(|error| {
        eprintln!("xt-backend: {error:#}");
        ExitCode::FAILURE
    })
}

fn log(level: Level) {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::from(level))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Some(Command::Stats(args)) => stats(args),
        Some(Command::Completions { shell }) => {
            docs::completions(*shell, &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man { dir }) => {
            docs::manual()
                .write(dir)
                .with_context(|| format!("Cannot write to {}", dir.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            if cli.serve.supervised {
                end_with_parent()?;
            }
            serve::serve(&cli.serve, Path::new(RUN_DIR))
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// A worker without its device model would outlive the guest.
fn end_with_parent() -> Result<()> {
    prctl::set_name(c"xt-backend").context("Cannot name this process")?;
    prctl::set_pdeathsig(Signal::SIGTERM)
        .context("Cannot bind this process's life to another's")?;
    if nix::unistd::getppid().as_raw() == 1 {
        bail!("The process that started this one has ended");
    }
    Ok(())
}

fn stats(args: &StatsArgs) -> Result<ExitCode> {
    let devices = match &args.stats_socket {
        Some(path) => stats::ask(path)?,
        None => stats::gather(Path::new(RUN_DIR))?,
    };
    let text = if args.json {
        serde_json::to_string_pretty(&devices)? + "\n"
    } else if args.prometheus {
        stats::metrics(&devices)
    } else {
        stats::table(&devices)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
