//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::console::backend::ConsoleSpec;
use crate::sandbox;
use crate::spec::{Action, MemorySize};
use crate::status::Status;
use crate::top::{SortKey, parse_delay};

/// Runs Xen PV guests on KVM, without Xen.
///
/// Each domain is one process. There is no daemon: commands find a running domain by its name,
/// through a socket in a run directory of the user.
#[derive(Debug, Parser)]
#[command(
    name = "xenner",
    bin_name = "xenner",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "See 'xenner help COMMAND' for each command and 'xenner help exit-status' for exit statuses.",
    after_long_help = Status::table() + "\n" + FILES,
    disable_help_subcommand = true,
)]
pub struct Cli {
    /// Where domains keep their sockets [default: /run/xenner for root, $XDG_RUNTIME_DIR/xenner
    /// for others]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "XENNER_RUN_DIR",
        hide_env = true
    )]
    pub run_dir: Option<PathBuf>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The manual's section on files and the environment.
pub const FILES: &str = "\
Files and environment:
  $XDG_RUNTIME_DIR/xenner/NAME/   the run directory of domain NAME (for root: /run/xenner/NAME/):
                                  control.sock, xenstore.sock, console, pid, domain.json, lock
  XENNER_RUN_DIR                  where run directories are, as --run-dir
";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a domain and run it
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// List the domains that run
    #[command(after_long_help = "\
Examples:
  xenner list
  xenner list --json | jq -r '.[].name'

States: r running, b blocked, p paused, s ended and kept, c crashed and kept.")]
    List(Json),
    /// Use the console of a domain; Ctrl-] leaves it
    #[command(after_long_help = "\
The last few KiB of output are shown first. One user has the keyboard, any number may watch.

Examples:
  xenner console web
  xenner console --watch web")]
    Console(ConsoleArgs),
    /// Ask the guest to power off
    #[command(after_long_help = "\
The guest must support it (Linux does); what follows is up to on_poweroff.

Examples:
  xenner shutdown web
  xenner shutdown --wait --timeout 60 web")]
    Shutdown(EndArgs),
    /// Ask the guest to reboot
    #[command(after_long_help = "\
The guest must support it (Linux does); what follows is up to on_reboot.

Example:
  xenner reboot web")]
    Reboot(Name),
    /// End a domain at once, without asking the guest
    #[command(after_long_help = "\
Returns when the name is free again. Also ends a domain kept by on_crash=preserve.

Example:
  xenner destroy web")]
    Destroy(Name),
    /// Stop the vCPUs of a domain
    #[command(after_long_help = "Example:\n  xenner pause web")]
    Pause(Name),
    /// Let the vCPUs of a paused domain run again
    #[command(after_long_help = "Example:\n  xenner unpause web")]
    Unpause(Name),
    /// Write the memory and the vCPUs of a domain to a core file
    #[command(after_long_help = "\
The file has the format of xl dump-core; the crash utility reads it. The domain stands still
meanwhile. Pages of zeroes take no room on disk.

Example:
  xenner dump-core web web.core && crash vmlinux web.core")]
    DumpCore(DumpCoreArgs),
    /// Send a SysRq key to the guest
    #[command(after_long_help = "\
Example, showing the guest's tasks on its console:
  xenner sysrq web t")]
    Sysrq(SysrqArgs),
    /// Show the counters of a domain
    #[command(after_long_help = "\
start.entered_monotonic_ns is when the guest's first instruction ran, by CLOCK_MONOTONIC, and
start.cpu_ns the processor time its process had used by then.

With --prometheus the output is for node_exporter's textfile collector, or whatever else reads
Prometheus' text format. The same text is at /metrics of a domain's control.sock, by HTTP.
docs/statistics.md has all names and what they mean.

Examples:
  xenner stats web
  xenner stats --json web | jq .counters
  xenner stats --all --prometheus > xenner.prom.new && mv xenner.prom.new xenner.prom
  curl --unix-socket /run/xenner/web/control.sock http://localhost/metrics")]
    Stats(StatsArgs),
    /// Show what all domains do, as they do it
    #[command(after_long_help = "\
Keys: q leaves; arrows choose a domain, Enter opens it into its vCPUs, disks and network cards, and
a device into its queues; S sorts by the next column; V, B and N show vCPUs, block devices and
networks of every domain; D sets the delay; ? lists them all.

Rates are per second between two looks. RDp99 and WRp99 are the times that 99 in 100 of the reads
and writes of disks answered in between did not exceed. With --batch the first look is not printed,
so that everything has rates.

Examples:
  xenner top
  xenner top --sort read-latency --disks
  xenner top --batch --iterations 10 --delay 1 > top.txt
  xenner top --batch --json -i 1 -d 1 | jq '.domains[] | {name, cpu_percent}'")]
    Top(TopArgs),
    /// Say what this host can do, and how to mend what it can't
    #[command(after_long_help = "\
Exit status 0 if domains can run, 5 if not.

Examples:
  xenner check
  xenner check --json")]
    Check(Json),
    /// Print a shell completion script
    #[command(after_long_help = "\
Example:
  xenner completions bash > ~/.local/share/bash-completion/completions/xenner")]
    Completions(CompletionsArgs),
    /// Write the manual pages to a folder
    #[command(after_long_help = "Example:\n  xenner man docs/man")]
    Man(ManArgs),
    /// Explain a command, or the exit statuses
    Help(HelpArgs),
}

const RUN_EXAMPLES: &str = "\
The domain runs until it ends by itself, is destroyed, or a signal arrives: the first SIGINT or
SIGTERM asks the guest to shut down, the second, or 30 seconds, destroys it. On a terminal, keys go to the guest,
Ctrl-C included; Ctrl-] leaves the console and the domain running.

Without a kernel an embedded test guest boots, which shows that this host works.

Examples:
  xenner run
  xenner run --kernel vmlinuz --initrd initrd.img --append 'console=hvc0' --memory 512M
  xenner run guest.cfg
  xenner run guest.cfg --vcpus 2 --console file:guest.log --report end.json
  xenner run --detach --name web guest.cfg && xenner console web";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// An xl.cfg; options given beside it take precedence
    #[arg(value_name = "CONFIG")]
    pub config: Option<PathBuf>,

    /// Settings as in the configuration file, read after it
    #[arg(value_name = "KEY=VALUE", requires = "config")]
    pub settings: Vec<String>,

    /// The kernel, a bzImage or an ELF file with Xen notes
    #[arg(short, long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// The initial RAM disk
    #[arg(short, long, alias = "ramdisk", value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// The kernel command line; together with a configuration file it is added to the one there
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Option<String>,

    /// Memory, such as 256M or 4G; a plain number is MiB [default: 256M]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,

    /// The most memory the guest may grow to [default: as --memory]
    #[arg(long, value_name = "SIZE")]
    pub maxmem: Option<MemorySize>,

    /// Number of vCPUs, 1 to 32 [default: 1]
    #[arg(long, value_name = "N")]
    pub vcpus: Option<u32>,

    /// The most vCPUs the guest may bring up [default: as --vcpus]
    #[arg(long, value_name = "N")]
    pub maxvcpus: Option<u32>,

    /// The name of the domain [default: guest-PID]
    #[arg(short, long)]
    pub name: Option<String>,

    /// The UUID of the domain [default: a random one]
    #[arg(long)]
    pub uuid: Option<uuid::Uuid>,

    /// Where the console is: stdio, pty, socket:PATH, file:PATH or none
    #[arg(short, long, value_name = "WHERE")]
    pub console: Option<ConsoleSpec>,

    /// Return as soon as the domain runs
    #[arg(short, long)]
    pub detach: bool,

    /// What to do when the guest powers off [default: destroy]
    #[arg(long, value_name = "ACTION", value_parser = action())]
    pub on_poweroff: Option<Action>,

    /// What to do when the guest reboots [default: restart]
    #[arg(long, value_name = "ACTION", value_parser = action())]
    pub on_reboot: Option<Action>,

    /// What to do when the guest crashes [default: destroy]
    #[arg(long, value_name = "ACTION", value_parser = action())]
    pub on_crash: Option<Action>,

    /// What to do when the guest's watchdog expires [default: destroy]
    #[arg(long, value_name = "ACTION", value_parser = action())]
    pub on_watchdog: Option<Action>,

    /// Where core files of crashes go [default: /var/lib/xenner/dump for root,
    /// $XDG_STATE_HOME/xenner/dump for others]
    #[arg(long, value_name = "DIR")]
    pub core_dir: Option<PathBuf>,

    /// A System.map or an unstripped vmlinux, for the names in a crash report [default: what the
    /// kernel image itself knows]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,

    /// Write how the domain ended to this file, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    pub report: Option<PathBuf>,

    /// What a forbidden system call of the domain's process does: on ends it, log lets it pass
    /// with a line in the kernel log, off is no sandbox
    #[arg(long, value_name = "MODE", default_value = "on")]
    pub sandbox: sandbox::Mode,
}

/// Parses an action, with the possible values known to help and completions.
fn action() -> impl clap::builder::TypedValueParser<Value = Action> {
    use clap::builder::TypedValueParser;
    let names = Action::ALL.map(|(name, _)| name);
    clap::builder::PossibleValuesParser::new(names).try_map(|name| name.parse::<Action>())
}

/// Arguments of `list` and `check`.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A running domain.
#[derive(Debug, Args)]
pub struct Name {
    /// The name of the domain
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Arguments of `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The name of the domain
    pub name: String,
    /// Only watch; leave the keyboard to others
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `shutdown`.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// The name of the domain
    pub name: String,
    /// Wait until the domain is gone
    #[arg(short, long)]
    pub wait: bool,
    /// Give up waiting after that many seconds
    #[arg(short, long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

/// Arguments of `dump-core`.
#[derive(Debug, Args)]
pub struct DumpCoreArgs {
    /// The name of the domain
    pub name: String,
    /// The file to write; an existing one is replaced
    pub file: PathBuf,
}

/// Arguments of `sysrq`.
#[derive(Debug, Args)]
pub struct SysrqArgs {
    /// The name of the domain
    pub name: String,
    /// The key, such as t; h shows the guest's list of keys
    pub key: char,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The name of the domain
    #[arg(required_unless_present = "all")]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
    /// All domains that run
    #[arg(long, requires = "prometheus", conflicts_with = "name")]
    pub all: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print lines instead of using the terminal
    #[arg(short, long)]
    pub batch: bool,
    /// How often to print [default: for ever]
    #[arg(short, long, value_name = "N", requires = "batch")]
    pub iterations: Option<u64>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "3", value_parser = parse_delay)]
    pub delay: Duration,
    /// Print a line of JSON a time
    #[arg(long, requires = "batch")]
    pub json: bool,
    /// What to sort by, the greatest first (names from A)
    #[arg(short, long, value_name = "KEY", default_value = "cpu")]
    pub sort: SortKey,
    /// Turn the order round
    #[arg(short, long)]
    pub reverse: bool,
    /// Show the vCPUs of every domain
    #[arg(short, long)]
    pub vcpus: bool,
    /// Show the disks of every domain
    #[arg(short = 'x', long, visible_alias = "vbds")]
    pub disks: bool,
    /// Show the network cards of every domain
    #[arg(short, long)]
    pub networks: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder, which must exist
    pub dir: PathBuf,
}

/// Arguments of `help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, or a topic
    #[arg(value_name = "COMMAND|exit-status")]
    pub topic: Option<String>,
}
