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
    /// Show the counters of a domain and of its devices
    #[command(after_long_help = "\
start.entered_monotonic_ns is when the guest's first instruction ran, by CLOCK_MONOTONIC, and
start.cpu_ns the processor time its process had used by then.

Each queue of a connected device has its counters, and its latencies as quantiles: half of all
requests took no longer than p50, 99 in a hundred than p99, 999 in a thousand than p99.9.

With --prometheus the output is for node_exporter's textfile collector, or whatever else reads
Prometheus' text format. The same text is at /metrics of a domain's control.sock, by HTTP.
docs/statistics.md has all names and what they mean.

Examples:
  xenner stats web
  xenner stats --json web | jq .counters
  xenner stats --json web | jq '.devices[].queues[].counters.read_bytes'
  xenner stats --all --prometheus > xenner.prom.new && mv xenner.prom.new xenner.prom
  curl --unix-socket /run/xenner/web/control.sock http://localhost/metrics")]
    Stats(StatsArgs),
    /// Show what all domains do, as they do it
    #[command(after_long_help = "\
Keys: q leaves; arrows choose a domain, Enter opens it into its vCPUs, disks and network cards, and
a device into its queues; S sorts by the next column; V, B and N show vCPUs, block devices and
networks of every domain; D sets the delay; ? lists them all.

Rates are per second between two looks. RDp99 and WRp99 are the times that 99 in 100 of the reads
and writes of disks answered in between did not exceed; a disk's line has p50/p99/p99.9. With
--batch the first look is not printed, so that everything has rates.

Examples:
  xenner top
  xenner top --sort read-latency --disks
  xenner top --batch --iterations 10 --delay 1 > top.txt
  xenner top --batch --json -i 1 -d 1 | jq '.domains[] | {name, cpu_percent}'")]
    Top(TopArgs),
    /// Attach a disk to a running domain
    #[command(after_long_help = DISK_HELP)]
    BlockAttach(AttachArgs),
    /// Detach a disk from a running domain
    #[command(after_long_help = "\
The guest is asked to let go of the disk, which it does once nothing there uses it. With --force it
is taken away at once, and what the guest has not written is lost.

Examples:
  xenner block-detach web xvdb
  xenner block-detach --force web 51728")]
    BlockDetach(DetachArgs),
    /// List the disks of a running domain
    #[command(after_long_help = "\
Examples:
  xenner block-list web
  xenner block-list --json web | jq -r '.[].name'")]
    BlockList(ListArgs),
    /// Make a disk of a running domain larger, or tell the guest that it is
    #[command(after_long_help = "\
With SIZE the image grows to that; a disk never shrinks. Without, the medium is asked for its size
again, which something else has changed, such as truncate(1) or lvextend(8).

Examples:
  xenner block-resize web xvda 20G
  lvextend -L 20G vg/web && xenner block-resize web xvda")]
    BlockResize(ResizeArgs),
    /// Attach a network card to a running domain
    #[command(after_long_help = NIC_HELP)]
    NetworkAttach(NetworkAttachArgs),
    /// Detach a network card from a running domain
    #[command(after_long_help = "\
Examples:
  xenner network-detach web 1
  xenner network-detach web 00:16:3e:12:34:56")]
    NetworkDetach(DetachArgs),
    /// List the network cards of a running domain
    #[command(after_long_help = "\
Examples:
  xenner network-list web
  xenner network-list --json web | jq -r '.[].name'")]
    NetworkList(ListArgs),
    /// Put a medium into a CD-ROM drive of a running domain
    #[command(after_long_help = "\
Example:
  xenner cd-insert web xvdc /srv/debian.iso")]
    CdInsert(CdInsertArgs),
    /// Take the medium out of a CD-ROM drive of a running domain
    #[command(after_long_help = "Example:\n  xenner cd-eject web xvdc")]
    CdEject(CdEjectArgs),
    /// Undo what was made for a network card once its domain is gone
    #[command(hide = true, name = "keep-network")]
    KeepNetwork,
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

/// What a disk can be.
const DISK_HELP: &str = "\
A disk is written as in disk=[...] of xl.cfg (see xl-disk-configuration(5)): TARGET,FORMAT,VDEV,ACCESS
or KEY=VALUE parameters; formats are raw, qcow2, vhd (reading and, if fixed, writing) and vmdk
(reading). A path alone is PATH,raw,xvdN,rw with the next free name; its format is what its extension
says (.qcow2, .vhd, .vmdk, .iso), never what is in the file. nbd://HOST[:PORT]/EXPORT and
nbd+unix:///EXPORT?socket=PATH are network block devices.

The command opens the files with the rights of its user and hands them to the domain, which could
not open them itself. While a domain writes to an image no other one can use it.

Examples:
  xenner block-attach web /srv/data.img
  xenner block-attach web /srv/data.qcow2,qcow2,xvdb,w
  xenner block-attach web format=raw,vdev=xvdc,access=ro,target=/dev/vg/backup
  xenner block-attach web nbd://server/export";

/// What a network card can be.
const NIC_HELP: &str = "\
A network card is a kind and its options:
  user                  a network of its own that needs no root, by passt: DHCP, DNS, connections out;
                        hostfwd=tcp:PORT:GUESTPORT leads a port of the host to the guest
  tap[=IF]              a tap interface; bridge=BR puts it on a bridge, which create makes
  bridge=BR             short for tap,bridge=BR
  macvtap=IF            on a host's interface; mode=bridge|private|vepa|passthru
  unix:PATH             a UNIX socket; type=stream|seqpacket|dgram
  fd=N                  a descriptor that xenner inherits (xenner run only)
with mac=ADDRESS and mtu=BYTES for each; or parameters as in vif=[...] of xl.cfg (see
xl-network-configuration(5)). Without anything it is user.

Examples:
  xenner network-attach web
  xenner network-attach web user,hostfwd=tcp:2222:22
  xenner network-attach web bridge=xenbr0 mac=00:16:3e:12:34:56";

const RUN_EXAMPLES: &str = "\
The domain runs until it ends by itself, is destroyed, or a signal arrives: the first SIGINT or
SIGTERM asks the guest to shut down, the second, or 30 seconds, destroys it. On a terminal, keys go to the guest,
Ctrl-C included; Ctrl-] leaves the console and the domain running.

Without a kernel an embedded test guest boots, which shows that this host works.

Examples:
  xenner run
  xenner run --kernel vmlinuz --initrd initrd.img --append 'console=hvc0' --memory 512M
  xenner run --kernel vmlinuz --append 'root=/dev/xvda' --disk debian.img --nic user,hostfwd=tcp:2222:22
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

    /// A disk: an image, or as in disk=[...] of xl.cfg (see xenner help block-attach); may be
    /// repeated
    #[arg(long, value_name = "SPEC")]
    pub disk: Vec<String>,

    /// A network card: user, tap, bridge=BR, macvtap=IF, unix:PATH, or as in vif=[...] of xl.cfg (see
    /// xenner help network-attach); may be repeated
    #[arg(long, value_name = "SPEC")]
    pub nic: Vec<String>,

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

    /// Leave the domain paused before its first instruction
    #[arg(long)]
    pub paused: bool,

    /// Read the whole specification from standard input, in JSON as domain.json has it: what other
    /// programs use
    #[arg(long, hide = true, conflicts_with_all = ["config", "kernel", "initrd", "append", "memory",
        "maxmem", "vcpus", "maxvcpus", "disk", "nic", "name", "uuid"])]
    pub spec: bool,

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

    /// Write how the domain ended to this file, as JSON, with its counters at that time
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

/// Arguments of `block-attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The name of the domain
    pub name: String,
    /// The disk
    #[arg(value_name = "SPEC", required = true)]
    pub spec: Vec<String>,
}

/// Arguments of `network-attach`.
#[derive(Debug, Args)]
pub struct NetworkAttachArgs {
    /// The name of the domain
    pub name: String,
    /// The network card [default: user]
    #[arg(value_name = "SPEC")]
    pub spec: Vec<String>,
}

/// Arguments of `block-detach` and `network-detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The name of the domain
    pub name: String,
    /// The device: a disk's name, a card's address, or the number of either
    pub device: String,
    /// Do not wait for the guest to let go of it
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `block-list` and `network-list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The name of the domain
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `block-resize`.
#[derive(Debug, Args)]
pub struct ResizeArgs {
    /// The name of the domain
    pub name: String,
    /// The disk, such as xvda
    pub device: String,
    /// Its size to be, such as 20G; a plain number is MiB
    pub size: Option<MemorySize>,
}

/// Arguments of `cd-insert`.
#[derive(Debug, Args)]
pub struct CdInsertArgs {
    /// The name of the domain
    pub name: String,
    /// The drive, such as xvdc
    pub device: String,
    /// The image or block device
    pub target: String,
}

/// Arguments of `cd-eject`.
#[derive(Debug, Args)]
pub struct CdEjectArgs {
    /// The name of the domain
    pub name: String,
    /// The drive, such as xvdc
    pub device: String,
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
