//! What is told of a host, a domain, a vCPU and a device.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xt_config::DomainType;

/// Kinds of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKind {
    /// Xen, with this program in dom0.
    Xen,
    /// Linux' KVM, with `xenner` for each domain.
    Kvm,
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostKind::Xen => "xen",
            HostKind::Kvm => "kvm",
        })
    }
}

/// A host, as `xl info` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Its kind.
    pub kind: HostKind,
    /// `uname`'s nodename.
    pub host: String,
    /// `uname`'s release: the version of Linux.
    pub release: String,
    /// `uname`'s version: the build of Linux.
    pub version: String,
    /// `uname`'s machine.
    pub machine: String,
    /// Processors online.
    pub nr_cpus: u32,
    /// Highest number of a processor.
    pub max_cpu_id: u32,
    /// NUMA nodes.
    pub nr_nodes: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Frequency of the time stamp counter in kHz.
    pub cpu_khz: u64,
    /// The words of features as Xen has them; empty where they are not known.
    pub hw_caps: Vec<u32>,
    /// What virtualisation there is, in `xl`'s words: `pv`, `hvm`, `hap` …
    pub virt_caps: Vec<String>,
    /// Memory of the machine, in KiB.
    pub total_memory_kib: u64,
    /// Memory that is free for domains, in KiB.
    pub free_memory_kib: u64,
    /// Pages freed by sharing.
    pub sharing_freed_pages: u64,
    /// Pages used by sharing.
    pub sharing_used_pages: u64,
    /// Pages claimed and not yet allocated.
    pub outstanding_pages: u64,
    /// Processors in no pool.
    pub free_cpus: u32,
    /// The hypervisor.
    pub hypervisor: HypervisorInfo,
    /// Where each processor is: `(core, socket, node)` by its number.
    pub topology: Vec<(u32, u32, u32)>,
    /// NUMA nodes: size and free memory in KiB, and distances to each.
    pub nodes: Vec<NodeInfo>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its memory, in KiB.
    pub size_kib: u64,
    /// What of it is free, in KiB.
    pub free_kib: u64,
    /// Distances to each node; 10 is here.
    pub distances: Vec<u32>,
}

/// A hypervisor. Of KVM only the versions, the capabilities and the size of pages have a meaning; what
/// does not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HypervisorInfo {
    /// Major version of the Xen interface that guests see.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// What follows: `.7`.
    pub extra: String,
    /// Kinds of guests: `xen-3.0-x86_64 hvm-3.0-x86_32 …`.
    pub caps: String,
    /// The scheduler: `credit2`.
    pub scheduler: String,
    /// Size of a page in bytes.
    pub pagesize: u32,
    /// Where the hypervisor's part of a PV guest's address space begins.
    pub virt_start: u64,
    /// The change set of its source.
    pub changeset: String,
    /// Its command line.
    pub commandline: String,
    /// The compiler.
    pub compiler: String,
    /// Who compiled it.
    pub compile_by: String,
    /// Where.
    pub compile_domain: String,
    /// When.
    pub compile_date: String,
    /// The linker's build id, in hexadecimal digits.
    pub build_id: String,
}

/// Why a domain has shut down: the `SHUTDOWN_*` of `public/sched.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownReason {
    /// `SHUTDOWN_poweroff`.
    Poweroff,
    /// `SHUTDOWN_reboot`.
    Reboot,
    /// `SHUTDOWN_suspend`.
    Suspend,
    /// `SHUTDOWN_crash`.
    Crash,
    /// `SHUTDOWN_watchdog`.
    Watchdog,
    /// `SHUTDOWN_soft_reset`.
    SoftReset,
    /// A code that means nothing.
    Other(u32),
}

impl ShutdownReason {
    /// From the hypervisor's code.
    pub fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Poweroff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            5 => Self::SoftReset,
            other => Self::Other(other),
        }
    }

    /// The hypervisor's code.
    pub fn code(self) -> u32 {
        match self {
            Self::Poweroff => 0,
            Self::Reboot => 1,
            Self::Suspend => 2,
            Self::Crash => 3,
            Self::Watchdog => 4,
            Self::SoftReset => 5,
            Self::Other(code) => code,
        }
    }
}

/// What a domain does. Several may be true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    /// A vCPU runs.
    pub running: bool,
    /// Every vCPU waits.
    pub blocked: bool,
    /// Paused by the toolstack.
    pub paused: bool,
    /// It has shut down, and is still there.
    pub shutdown: Option<ShutdownReason>,
    /// It is being taken apart.
    pub dying: bool,
}

impl DomainState {
    /// The six letters of `xl list`; behind the `s` of a domain that has shut down is that of the reason.
    pub fn letters(&self) -> String {
        let reason = match self.shutdown {
            None | Some(ShutdownReason::Poweroff | ShutdownReason::Other(_)) => '-',
            Some(ShutdownReason::Reboot) => 'r',
            Some(ShutdownReason::Suspend) => 's',
            Some(ShutdownReason::Crash) => 'c',
            Some(ShutdownReason::Watchdog) => 'w',
            Some(ShutdownReason::SoftReset) => 'S',
        };
        [
            (self.running, 'r'),
            (self.blocked, 'b'),
            (self.paused, 'p'),
            (self.shutdown.is_some(), 's'),
            (true, reason),
            (self.dying, 'd'),
        ]
        .map(|(is, letter)| if is { letter } else { '-' })
        .iter()
        .collect()
    }
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainInfo {
    /// Its number; a new one after each start.
    pub domid: u16,
    /// Its name; empty if it has none.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: DomainType,
    /// What it does.
    pub state: DomainState,
    /// Memory it has, in KiB.
    pub memory_kib: u64,
    /// Memory it has the page tables and such of, in KiB: what `xl list` adds.
    pub outstanding_kib: u64,
    /// Most memory it may have, in KiB.
    pub max_memory_kib: u64,
    /// Memory shared with others, in KiB.
    pub shared_memory_kib: u64,
    /// Processor time used, in nanoseconds.
    pub cpu_time_ns: u64,
    /// vCPUs online.
    pub vcpus_online: u32,
    /// Highest number of a vCPU, plus one.
    pub vcpus: u32,
    /// Its pool of processors.
    pub cpupool: u32,
    /// The name of that.
    pub cpupool_name: String,
    /// Its security label; empty without.
    pub security_label: String,
    /// When it was started, in seconds since 1970; see [`Host::started`](crate::Host::started).
    pub started: Option<u64>,
    /// Whether its host ends or restarts it as its `on_*` settings say, without `xt supervise`.
    pub self_supervised: bool,
}

/// What a vCPU does, as the fourth column of `xl vcpu-list` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VcpuState {
    /// Not brought up by the guest.
    Offline,
    /// It waits.
    Blocked,
    /// It runs.
    Running,
    /// It is neither: ready to run, or paused.
    Idle,
}

/// A set of processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuSet(pub BTreeSet<u32>);

impl CpuSet {
    /// Processors 0 to `count` - 1.
    pub fn all(count: u32) -> Self {
        Self((0..count).collect())
    }

    /// The set in `xl`'s notation: `0-3,6`, or `all` if it has every one of `count` processors.
    pub fn text(&self, count: u32) -> String {
        if (0..count).all(|cpu| self.0.contains(&cpu)) {
            return "all".to_owned();
        }
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for &cpu in &self.0 {
            match parts.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => parts.push((cpu, cpu)),
            }
        }
        let parts = parts.iter().map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        });
        parts.collect::<Vec<_>>().join(",")
    }
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuInfo {
    /// Its number.
    pub vcpu: u32,
    /// What it does.
    pub state: VcpuState,
    /// The processor it runs or ran on last; `None` while it is offline.
    pub cpu: Option<u32>,
    /// Processor time used, in nanoseconds.
    pub time_ns: u64,
    /// Where it may run.
    pub hard_affinity: CpuSet,
    /// Where it likes to run.
    pub soft_affinity: CpuSet,
}

/// The credit2 scheduler's settings of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit2 {
    /// The pool's name.
    pub pool: String,
    /// Rate limit in microseconds.
    pub ratelimit_us: u32,
}

/// The credit2 scheduler's settings of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit2Domain {
    /// The domain.
    pub domid: u16,
    /// Its weight.
    pub weight: u32,
    /// Its cap in percent of a processor; 0 is none.
    pub cap: u32,
}

/// A channel: a console device of its own, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its number.
    pub devid: u32,
    /// The back end's domain.
    pub backend_domid: i64,
    /// The front end's state; -1 for none, as for the next two.
    pub state: i64,
    /// The guest's event channel.
    pub event_channel: i64,
    /// The ring's grant reference.
    pub ring_ref: i64,
    /// `pty` or `socket`.
    pub connection: String,
    /// The path of that.
    pub path: String,
    /// Its name.
    pub name: String,
}

/// A domain at one moment, for `xt top`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The domain.
    pub domain: DomainInfo,
    /// Processor time of each vCPU that is online, in nanoseconds, by its number.
    pub vcpus: Vec<(u32, u64)>,
    /// Bytes sent by its network cards.
    pub net_tx_bytes: u64,
    /// Bytes received by them.
    pub net_rx_bytes: u64,
    /// Network cards.
    pub nets: u32,
    /// Requests to its disks: reads, writes, and those that found nothing to do.
    pub disk_reads: u64,
    /// Writes.
    pub disk_writes: u64,
    /// Requests that the back end could not take at once.
    pub disk_out_of_requests: u64,
    /// Sectors of 512 bytes read.
    pub disk_read_sectors: u64,
    /// Sectors of 512 bytes written.
    pub disk_write_sectors: u64,
    /// Disks.
    pub disks: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_xls() {
        let mut state = DomainState {
            running: true,
            ..Default::default()
        };
        assert_eq!(state.letters(), "r-----");
        state = DomainState {
            paused: true,
            shutdown: Some(ShutdownReason::Poweroff),
            ..Default::default()
        };
        assert_eq!(state.letters(), "--ps--");
        state.shutdown = Some(ShutdownReason::Crash);
        assert_eq!(state.letters(), "--psc-");
        state.shutdown = Some(ShutdownReason::Reboot);
        assert_eq!(state.letters(), "--psr-");
    }

    #[test]
    fn reasons_keep_their_codes() {
        for code in 0..8 {
            assert_eq!(ShutdownReason::from_code(code).code(), code);
        }
    }

    #[test]
    fn sets_are_written_as_xl_does() {
        let set = |cpus: &[u32]| CpuSet(cpus.iter().copied().collect());
        assert_eq!(set(&[0, 1, 2, 3]).text(4), "all");
        assert_eq!(set(&[0, 1, 3]).text(4), "0-1,3");
        assert_eq!(set(&[2]).text(4), "2");
        assert_eq!(set(&[]).text(4), "none");
    }
}
