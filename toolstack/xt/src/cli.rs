//! The command line: `xl`'s names, options and order of arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xt_host::HostKind;

use crate::status::Status;

/// Creates domains and handles them, on a Xen host and on a KVM host: what xl is, for both.
///
/// Commands, options, configuration files and output are those of xl(1); an unambiguous beginning of a
/// command's name is enough. A domain is named by its name or its number.
#[derive(Debug, Parser)]
#[command(
    name = "xt",
    bin_name = "xt",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "See 'xt help COMMAND' for each command and 'xt help exit-status' for exit statuses.",
    after_long_help = Status::table() + "\n" + FILES,
    disable_help_subcommand = true,
)]
pub struct Cli {
    /// Say more of what is done; may be repeated
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Do nothing, and show what create would make
    #[arg(short = 'N')]
    pub dry_run: bool,

    /// Go on even if another toolstack seems to run; for scripts made for xl
    #[arg(short = 'f')]
    pub force: bool,

    /// Messages of progress overwrite each other; for scripts made for xl
    #[arg(short = 't')]
    pub carriage_return: bool,

    /// Messages begin with the time
    #[arg(short = 'T')]
    pub timestamps: bool,

    /// Which hypervisor drives domains [default: Xen where this is a Xen control domain, else KVM]
    #[arg(
        long,
        global = true,
        value_name = "KIND",
        env = "XT_HOST",
        hide_env = true
    )]
    pub host: Option<Kind>,

    /// Where domains on KVM keep their sockets, as xenner's --run-dir
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
  /proc/xen/capabilities          says control_d where this is a Xen control domain
  /var/lock/xl                    held while a domain is created on Xen, as by xl
  /var/lib/xen/userdata-*         what Xen's toolstacks keep of a domain
  /run/xt/supervise.lock          held by the one process that restarts domains on Xen
  /run/xenner/NAME/               the run directory of domain NAME on KVM ($XDG_RUNTIME_DIR/xenner/
                                  for users other than root)
  XT_HOST                         which hypervisor, as --host
  XENNER_RUN_DIR                  where run directories are, as --run-dir
  XENNER                          the program that runs a domain on KVM [default: xenner beside xt,
                                  else in PATH]
";

/// Kinds of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Xen, from its control domain
    Xen,
    /// Linux' KVM
    Kvm,
}

impl From<Kind> for HostKind {
    fn from(kind: Kind) -> HostKind {
        match kind {
            Kind::Xen => HostKind::Xen,
            Kind::Kvm => HostKind::Kvm,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a domain from a configuration file
    #[command(after_long_help = "\
The file has the format of xl.cfg(5). KEY=VALUE settings are read after it and take precedence.

Examples:
  xt create web.cfg
  xt create -c web.cfg memory=512 'extra=\"console=hvc0 single\"'
  xt create -n web.cfg")]
    Create(CreateArgs),
    /// Replace the configuration a domain is restarted with
    ConfigUpdate(ConfigUpdateArgs),
    /// List domains
    #[command(after_long_help = "\
States: r running, b blocked, p paused, s shut down, d dying. Behind the s is why: r reboot, s suspend,
c crash, w watchdog, S soft reset.

Examples:
  xt list
  xt list -l web
  xt list --json | jq -r '.[].name'")]
    List(ListArgs),
    /// End a domain at once, without asking the guest
    Destroy(DestroyArgs),
    /// Ask a domain to shut down
    #[command(after_long_help = "Examples:\n  xt shutdown -w web\n  xt shutdown -a -w")]
    Shutdown(EndArgs),
    /// Ask a domain to reboot
    Reboot(EndArgs),
    /// Stop the vCPUs of a domain
    Pause(Domain),
    /// Let the vCPUs of a paused domain run again
    Unpause(Domain),
    /// Use the console of a domain; Ctrl-] leaves it
    Console(ConsoleArgs),
    /// Write the memory and the vCPUs of a domain to a core file
    DumpCore(DumpCoreArgs),
    /// Put a medium into a CD-ROM drive of a domain
    CdInsert(CdInsertArgs),
    /// Take the medium out of a CD-ROM drive of a domain
    CdEject(CdEjectArgs),
    /// Set the most memory a domain may have
    MemMax(MemArgs),
    /// Set the memory of a domain
    #[command(after_long_help = "Example:\n  xt mem-set web 512\n  xt mem-set web 1g")]
    MemSet(MemArgs),
    /// List the vCPUs of all domains, or of some
    VcpuList(VcpuListArgs),
    /// Set where a vCPU may run
    #[command(after_long_help = "\
Processors are written as 0-3,6 or all, ^ takes away, node:1 or nodes:0-1 is those of NUMA nodes; -
leaves what is.

Examples:
  xt vcpu-pin web 0 2
  xt vcpu-pin web all 0-3,^2 -")]
    VcpuPin(VcpuPinArgs),
    /// Set how many vCPUs of a domain are online
    VcpuSet(VcpuSetArgs),
    /// List domains by their UUIDs
    VmList(Json),
    /// Tell of the host
    Info(InfoArgs),
    /// Show or set parameters of the credit2 scheduler
    #[command(name = "sched-credit2")]
    SchedCredit2(SchedArgs),
    /// Tell the number of a domain
    Domid(NameOnly),
    /// Tell the name of a domain
    Domname(NumberOnly),
    /// Give a domain another name
    Rename(RenameArgs),
    /// Inject something into a domain
    Trigger(TriggerArgs),
    /// Send a SysRq key to a domain
    Sysrq(SysrqArgs),
    /// Send keys to the hypervisor's console
    DebugKeys(KeysArgs),
    /// Show the hypervisor's messages
    Dmesg(DmesgArgs),
    /// Show what all domains do, again and again
    #[command(after_long_help = "\
Examples:
  xt top
  xt top -b -i 2 -d 1
  xt top -b -i 1 --json | jq '.domains[] | {name, cpu_percent}'")]
    Top(TopArgs),
    /// Attach a network card to a domain
    #[command(after_long_help = "\
Example:\n  xt network-attach web bridge=xenbr0 mac=00:16:3e:12:34:56")]
    NetworkAttach(AttachArgs),
    /// List the network cards of domains
    NetworkList(DomainsArgs),
    /// Detach a network card from a domain
    NetworkDetach(DetachArgs),
    /// List the channels of domains
    ChannelList(DomainsArgs),
    /// Attach a disk to a domain
    #[command(after_long_help = "\
Examples:
  xt block-attach web /srv/data.img,raw,xvdb,rw
  xt block-attach web format=qcow2 vdev=xvdc access=ro target=/srv/base.qcow2")]
    BlockAttach(AttachArgs),
    /// List the disks of domains
    BlockList(DomainsArgs),
    /// Detach a disk from a domain
    BlockDetach(DetachArgs),
    /// Tell how long domains run
    Uptime(UptimeArgs),
    /// Restart and end domains on Xen as their on_* settings say; create starts it
    #[command(after_long_help = "\
One process does this for all domains that xt created, and ends once there are none. It can be ended
and started again without losing a domain. On KVM the process of each domain does it by itself.

Example:
  xt supervise --stay")]
    Supervise(SuperviseArgs),
    /// Print a shell completion script
    #[command(after_long_help = "\
Example:
  xt completions bash > ~/.local/share/bash-completion/completions/xt")]
    Completions(CompletionsArgs),
    /// Write the manual pages to a folder
    #[command(after_long_help = "Example:\n  xt man docs/man")]
    Man(ManArgs),
    /// Explain a command, or the exit statuses
    Help(HelpArgs),
}

/// A domain.
#[derive(Debug, Args)]
pub struct Domain {
    /// The name or number of the domain
    pub domain: String,
}

/// Nothing but the format.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `create`.
#[derive(Debug, Default, Args)]
pub struct CreateArgs {
    /// The configuration file, and settings as in it, read after it
    #[arg(value_name = "CONFIG|KEY=VALUE")]
    pub arguments: Vec<String>,
    /// The configuration file
    #[arg(short = 'f', long = "defconfig", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use the domain's console afterwards; nothing it prints is lost
    #[arg(short = 'c')]
    pub console: bool,
    /// Say more of what is done
    #[arg(short = 'd')]
    pub debug: bool,
    /// Do not look after the domain: it stays when it ends
    #[arg(short = 'e')]
    pub unsupervised: bool,
    /// Stay in the foreground until the domain is gone
    #[arg(short = 'F')]
    pub foreground: bool,
    /// Create nothing, and show the resulting configuration as JSON
    #[arg(short = 'n', long = "dryrun")]
    pub dry_run: bool,
    /// Leave the domain paused
    #[arg(short = 'p')]
    pub paused: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long = "quiet")]
    pub quiet: bool,
    /// Taken for scripts made for xl; there is no viewer yet
    #[arg(short = 'V', long = "vncviewer", hide = true)]
    pub vncviewer: bool,
    /// Taken for scripts made for xl
    #[arg(short = 'A', long = "vncviewer-autopass", hide = true)]
    pub vncviewer_autopass: bool,
    /// Taken for scripts made for xl: there are no global masks
    #[arg(long = "ignore-global-affinity-masks", hide = true)]
    pub ignore_global_affinity_masks: bool,
    /// Print the number and the name of the domain as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `config-update`.
#[derive(Debug, Args)]
pub struct ConfigUpdateArgs {
    /// The name or number of the domain
    pub domain: String,
    /// The configuration file, and settings as in it, read after it
    #[arg(value_name = "CONFIG|KEY=VALUE")]
    pub arguments: Vec<String>,
    /// The configuration file
    #[arg(short = 'f', long = "defconfig", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `list`.
#[derive(Debug, Default, Args)]
pub struct ListArgs {
    /// Only this domain
    pub domain: Option<String>,
    /// Print all details, as JSON
    #[arg(short, long)]
    pub long: bool,
    /// Print UUIDs, reasons of shutdowns and security labels, too
    #[arg(short, long)]
    pub verbose: bool,
    /// Print security labels, too
    #[arg(short = 'Z', long)]
    pub context: bool,
    /// Print pools of processors, too
    #[arg(short, long)]
    pub cpupool: bool,
    /// Print the NUMA nodes they may run on, too
    #[arg(short, long)]
    pub numa: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The name or number of the domain
    pub domain: String,
    /// Permit destroying domain 0
    #[arg(short)]
    pub force: bool,
}

/// Arguments of `shutdown` and `reboot`.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// The name or number of the domain
    #[arg(required_unless_present = "all")]
    pub domain: Option<String>,
    /// All domains but domain 0
    #[arg(short, long)]
    pub all: bool,
    /// Wait until they have shut down
    #[arg(short, long)]
    pub wait: bool,
    /// Press the power button of an HVM guest without PV drivers
    #[arg(short = 'F')]
    pub fallback: bool,
}

/// Arguments of `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The name or number of the domain
    pub domain: String,
    /// Which kind of console
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<ConsoleType>,
    /// Which one of its kind
    #[arg(short = 'n', value_name = "NUMBER", default_value_t = 0)]
    pub number: u32,
}

/// Kinds of consoles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConsoleType {
    /// Paravirtualised
    Pv,
    /// An emulated serial line
    Serial,
}

/// Arguments of `dump-core`.
#[derive(Debug, Args)]
pub struct DumpCoreArgs {
    /// The name or number of the domain
    pub domain: String,
    /// The file to write
    pub file: PathBuf,
}

/// Arguments of `cd-insert`.
#[derive(Debug, Args)]
pub struct CdInsertArgs {
    /// The name or number of the domain
    pub domain: String,
    /// What the guest calls the drive
    pub vdev: String,
    /// The image; a prefix such as phy: or file: is xl's and means nothing
    pub target: String,
}

/// Arguments of `cd-eject`.
#[derive(Debug, Args)]
pub struct CdEjectArgs {
    /// The name or number of the domain
    pub domain: String,
    /// What the guest calls the drive
    pub vdev: String,
}

/// Arguments of `mem-set` and `mem-max`.
#[derive(Debug, Args)]
pub struct MemArgs {
    /// The name or number of the domain
    pub domain: String,
    /// MiB, or a number with b, k, m, g or t
    #[arg(value_name = "MEMORY")]
    pub memory: String,
}

/// Arguments of `vcpu-list`.
#[derive(Debug, Args)]
pub struct VcpuListArgs {
    /// Only these domains
    #[arg(value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `vcpu-pin`.
#[derive(Debug, Args)]
pub struct VcpuPinArgs {
    /// The name or number of the domain
    pub domain: String,
    /// Which vCPU, or all
    pub vcpu: String,
    /// Where it may run
    #[arg(value_name = "HARD", allow_hyphen_values = true)]
    pub hard: String,
    /// Where it likes to run
    #[arg(value_name = "SOFT", allow_hyphen_values = true)]
    pub soft: Option<String>,
    /// Undo a pinning by the domain's kernel
    #[arg(short, long)]
    pub force: bool,
    /// Taken for scripts made for xl: there are no global masks
    #[arg(long = "ignore-global-affinity-masks", hide = true)]
    pub ignore_global_affinity_masks: bool,
}

/// Arguments of `vcpu-set`.
#[derive(Debug, Args)]
pub struct VcpuSetArgs {
    /// The name or number of the domain
    pub domain: String,
    /// How many
    pub count: u32,
    /// Taken for scripts made for xl: more than there are processors are never refused
    #[arg(short, long = "ignore-host")]
    pub ignore_host: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print the topology, too
    #[arg(short, long)]
    pub numa: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sched-credit2`.
#[derive(Debug, Args)]
pub struct SchedArgs {
    /// Of this domain
    #[arg(short, long)]
    pub domain: Option<String>,
    /// Set its weight
    #[arg(short, long, requires = "domain")]
    pub weight: Option<u32>,
    /// Set its cap, in percent of a processor
    #[arg(short, long, requires = "domain")]
    pub cap: Option<u32>,
    /// Of a pool, not of domains
    #[arg(short, long, conflicts_with = "domain")]
    pub schedparam: bool,
    /// Set the rate limit of a pool, in microseconds
    #[arg(short, long = "ratelimit_us", requires = "schedparam")]
    pub ratelimit_us: Option<u32>,
    /// Of this pool
    #[arg(short = 'p', long)]
    pub cpupool: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `domid`.
#[derive(Debug, Args)]
pub struct NameOnly {
    /// The name of the domain
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `domname`.
#[derive(Debug, Args)]
pub struct NumberOnly {
    /// The number of the domain
    pub domid: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// The name or number of the domain
    pub domain: String,
    /// Its name to be
    pub name: String,
}

/// Arguments of `trigger`.
#[derive(Debug, Args)]
pub struct TriggerArgs {
    /// The name or number of the domain
    pub domain: String,
    /// What to inject
    pub trigger: TriggerKind,
    /// Into which vCPU
    #[arg(default_value_t = 0)]
    pub vcpu: u32,
}

/// What can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TriggerKind {
    /// A non-maskable interrupt
    Nmi,
    /// A reset
    Reset,
    /// An INIT
    Init,
    /// The power button
    Power,
    /// The sleep button
    Sleep,
    /// Wake from S3
    S3resume,
}

/// Arguments of `sysrq`.
#[derive(Debug, Args)]
pub struct SysrqArgs {
    /// The name or number of the domain
    pub domain: String,
    /// One character
    pub key: String,
}

/// Arguments of `debug-keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// The keys
    pub keys: String,
}

/// Arguments of `dmesg`.
#[derive(Debug, Args)]
pub struct DmesgArgs {
    /// Clear them, too
    #[arg(short)]
    pub clear: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Write one table after the other, for a file or a pipe
    #[arg(short, long)]
    pub batch: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub delay: f64,
    /// End after so many looks
    #[arg(short, long, value_name = "COUNT")]
    pub iterations: Option<u64>,
    /// Print JSON, one line a look
    #[arg(long, requires = "batch")]
    pub json: bool,
    /// Print whole names
    #[arg(short, long)]
    pub full_name: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds between 0.01 and 86400".to_owned()),
    }
}

/// Arguments of `block-attach` and `network-attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The name or number of the domain
    pub domain: String,
    /// The device, as in xl.cfg; several arguments are joined by commas
    #[arg(value_name = "SPEC")]
    pub spec: Vec<String>,
}

/// Arguments of the lists of devices.
#[derive(Debug, Args)]
pub struct DomainsArgs {
    /// The names or numbers of domains
    #[arg(value_name = "DOMAIN", required = true)]
    pub domains: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `block-detach` and `network-detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The name or number of the domain
    pub domain: String,
    /// The device: its name or number, or a network card's address
    pub device: String,
    /// Whatever the guest does with it
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `uptime`.
#[derive(Debug, Args)]
pub struct UptimeArgs {
    /// Only these domains
    #[arg(value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// In the form of uptime(1)
    #[arg(short, long)]
    pub short: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `supervise`.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// Stay when there is no domain to look after
    #[arg(long)]
    pub stay: bool,
    /// Return once it watches, and leave it in the background
    #[arg(long)]
    pub detach: bool,
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
    /// The folder
    pub dir: PathBuf,
}

/// Arguments of `help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, or exit-status
    pub topic: Option<String>,
}
