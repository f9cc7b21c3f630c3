//! The seam between the tool and the machine it runs: everything the command line, the control
//! socket and the restart logic need to know of a virtual machine, and nothing more.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use pv_stats::DeviceStats;
use serde::{Deserialize, Serialize};
use xenner_vmm::shelf::Shelf;

use crate::console::Console;
use crate::crash::CrashReport;
use crate::devices::desk::Desk;
use crate::dumpcore::DumpSource;
use crate::sandbox::Files;
use crate::spec::DomainSpec;
use crate::status::{Failure, Status};
use crate::symbols::Symbols;

/// Builds machines. The program has one; tests have a fake.
pub trait Launcher: Sync {
    /// Builds the domain `spec` describes, ready to run. Called again with the same `spec` for
    /// a restart.
    fn build(&self, spec: &DomainSpec, ports: Ports) -> Result<Box<dyn Machine>, StartError>;

    /// The names of the functions of the domain's kernel, as far as they can be known. Asked for
    /// only when they are needed.
    fn symbols(&self, _spec: &DomainSpec) -> Symbols {
        Symbols::default()
    }

    /// Files that building needs besides those the specification names and `/dev/kvm`.
    fn files(&self) -> Files {
        Files::default()
    }
}

/// What a machine is given to talk to the world with.
pub struct Ports {
    /// The console.
    pub console: Arc<Console>,
    /// Where clients of the domain's xenstore connect: bound, listening and non-blocking.
    pub xenstore: UnixListener,
    /// What its devices are on; the same at each start.
    pub shelf: Shelf,
}

/// A built domain. Dropping it frees everything.
pub trait Machine: Send {
    /// The controls, for other threads.
    fn control(&self) -> Arc<dyn Control>;

    /// Runs the domain until it ends. The memory and the vCPU state stay readable through
    /// [`Control::dump_source`] until the machine is dropped.
    fn run(&mut self) -> Result<DomainExit, MachineError>;
}

/// What can be done to a domain from outside while it runs, from any thread. No call may wait for
/// the guest: each returns in bounded time whatever the guest does.
pub trait Control: Send + Sync {
    /// Stops all vCPUs. Pausing a paused domain does nothing.
    fn pause(&self) -> Result<(), ControlError>;

    /// Lets the vCPUs run again.
    fn unpause(&self) -> Result<(), ControlError>;

    /// Asks the guest to shut down, through `control/shutdown` of its xenstore.
    fn request_shutdown(&self, reason: ShutdownRequest) -> Result<(), ControlError>;

    /// Ends the domain now: [`Machine::run`] returns [`DomainExit::Destroyed`].
    fn destroy(&self);

    /// Sends a SysRq key, through `control/sysrq`.
    fn sysrq(&self, key: char) -> Result<(), ControlError>;

    /// Its disks and network cards, if it can have any.
    fn desk(&self) -> Option<Arc<Desk>> {
        None
    }

    /// The counters now.
    fn stats(&self) -> Stats;

    /// The memory and vCPU state for a core file. The caller pauses the domain around its use.
    fn dump_source(&self) -> Result<Box<dyn DumpSource>, ControlError>;
}

/// What a guest can be asked for: the values of `control/shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownRequest {
    /// Power off.
    Poweroff,
    /// Reboot.
    Reboot,
}

/// How a domain ended: the `SHUTDOWN_*` reasons of `public/sched.h`, and being destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainExit {
    /// `SHUTDOWN_poweroff`.
    Poweroff,
    /// `SHUTDOWN_reboot`.
    Reboot,
    /// `SHUTDOWN_suspend`, though nobody asked for it.
    Suspend,
    /// `SHUTDOWN_crash`, or a fault the guest can't be brought back from.
    Crash(Box<CrashReport>),
    /// `SHUTDOWN_watchdog`.
    Watchdog,
    /// [`Control::destroy`] was called.
    Destroyed,
}

impl DomainExit {
    /// The exit status of a `run` whose domain ended this way.
    pub fn status(&self) -> Status {
        match self {
            DomainExit::Poweroff | DomainExit::Reboot | DomainExit::Suspend => Status::Success,
            DomainExit::Crash(_) => Status::GuestCrashed,
            DomainExit::Watchdog => Status::Watchdog,
            DomainExit::Destroyed => Status::Destroyed,
        }
    }

    /// The reason in a word, as in `--json` output.
    pub fn word(&self) -> &'static str {
        match self {
            DomainExit::Poweroff => "poweroff",
            DomainExit::Reboot => "reboot",
            DomainExit::Suspend => "suspend",
            DomainExit::Crash(_) => "crash",
            DomainExit::Watchdog => "watchdog",
            DomainExit::Destroyed => "destroyed",
        }
    }
}

/// What the vCPUs of a domain do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Some vCPU runs.
    #[default]
    Running,
    /// Every vCPU waits for an event.
    Blocked,
    /// Paused from outside.
    Paused,
    /// Ended, and kept for inspection.
    Shutdown,
    /// Crashed, and kept for inspection.
    Crashed,
}

impl RunState {
    /// The state as `xl list` prints it.
    pub fn letters(self) -> &'static str {
        match self {
            RunState::Running => "r-----",
            RunState::Blocked => "-b----",
            RunState::Paused => "--p---",
            RunState::Shutdown => "---s--",
            RunState::Crashed => "----c-",
        }
    }
}

/// Counters of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuStats {
    /// Whether the guest brought it up.
    pub online: bool,
    /// Time spent running, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Exits to the host process.
    pub exits: u64,
}

/// The counter that tells when the guest was first entered, in nanoseconds of CLOCK_MONOTONIC.
pub const ENTERED: &str = "start.entered_monotonic_ns";
/// The counter that tells how much processor time the domain's process had used by then.
pub const ENTERED_CPU: &str = "start.cpu_ns";

/// Counters of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// What it does now.
    pub state: RunState,
    /// Memory it has now, in pages of 4 KiB.
    pub memory_pages: u64,
    /// The most it may have, in pages of 4 KiB.
    pub max_pages: u64,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuStats>,
    /// Everything else, by dotted name, such as `hypercall.mmu_update` or `console.out_bytes`.
    pub counters: BTreeMap<String, u64>,
    /// Its devices and their queues.
    #[serde(default)]
    pub devices: Vec<DeviceStats>,
}

impl Stats {
    /// Time spent running by all vCPUs, in nanoseconds.
    pub fn cpu_time_ns(&self) -> u64 {
        self.vcpus
            .iter()
            .fold(0, |sum, vcpu| sum.saturating_add(vcpu.cpu_time_ns))
    }
}

/// A domain that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel or the initrd is unusable, or does not fit.
    #[error("{0}")]
    Image(String),
    /// A setting of the specification is unusable.
    #[error("{0}")]
    Config(String),
    /// KVM is missing or may not be used.
    #[error("{0}")]
    Host(String),
    /// The host lacks memory or another resource.
    #[error("{0}")]
    Resources(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let status = match error {
            StartError::Image(_) => Status::Image,
            StartError::Config(_) => Status::Config,
            StartError::Host(_) => Status::Host,
            StartError::Resources(_) => Status::Resources,
            StartError::Other(_) => Status::Failed,
        };
        Failure::new(status, error.to_string())
    }
}

/// A running machine the host can't run any further: not the guest's doing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);

/// A request the domain can't fulfil.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(pub String);
