//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Serves disks and network cards of Xen guests from this domain
///
/// Runs in dom0 or in a driver domain and takes the place of QEMU's qdisk, and of the kernel's
/// netback. For one guest in dom0, let xl start it: device_model_override="/usr/bin/xt-backend" in
/// the guest's configuration, and disks with backendtype=qdisk.
#[derive(Debug, Parser)]
#[command(
    name = "xt-backend",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  xt-backend                      disks of all guests, in a driver domain\n  \
                  xt-backend --domid 3 --once     disks of one guest, until it has none\n  \
                  xt-backend stats                what all back ends here have done\n\n\
                  Exit status: 0 what was asked for was done; 1 it was not, and standard error says \
                  why; 2 the arguments are wrong."
)]
pub struct Cli {
    #[command(flatten)]
    pub serve: ServeArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to tell on standard error
    #[arg(long, value_enum, default_value_t = Level::Info, global = true)]
    pub log: Level,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the counters of all back ends of this domain, the kernel's included
    Stats(StatsArgs),
    /// Print the completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a folder
    Man {
        /// The folder; it must exist
        dir: PathBuf,
    },
}

/// What to serve.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Kinds of devices
    #[arg(long, value_enum, value_delimiter = ',', default_value = "qdisk")]
    pub kinds: Vec<Kind>,
    /// Serve this guest only, and end with it
    #[arg(long)]
    pub domid: Option<u16>,
    /// End when the last device has gone
    #[arg(long)]
    pub once: bool,
    /// Where to tell the counters [default: /run/xt-backend/all.sock, or domain-N.sock]
    #[arg(long, value_name = "PATH")]
    pub stats_socket: Option<PathBuf>,
    /// End with the process that started this
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// What to print.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// All counters of every queue, for programs
    #[arg(long)]
    pub json: bool,
    /// All counters of every queue, in the text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
    /// Ask this socket only
    #[arg(long, value_name = "PATH")]
    pub stats_socket: Option<PathBuf>,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Disks that libxl means for QEMU (backendtype=qdisk)
    Qdisk,
    /// Network cards; the kernel's netback must not be loaded
    Vif,
}

impl Kind {
    /// As in xenstore.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qdisk => "qdisk",
            Self::Vif => "vif",
        }
    }

    /// The driver of the kernel that serves the same devices, and its module.
    pub fn kernel_driver(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Qdisk => None,
            Self::Vif => Some(("vif", "xen-netback")),
        }
    }
}

/// How much to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What went wrong
    Error,
    /// And what is odd
    Warn,
    /// And what begins and ends
    Info,
    /// And each step of the handshakes
    Debug,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["xt-backend", "--kinds", "qdisk,vif", "--domid", "3"]);
        assert_eq!(cli.serve.kinds, [Kind::Qdisk, Kind::Vif]);
        let cli = Cli::parse_from(["xt-backend", "stats", "--json", "--log", "debug"]);
        assert!(matches!(
            cli.command,
            Some(Command::Stats(StatsArgs { json: true, .. }))
        ));
    }
}
