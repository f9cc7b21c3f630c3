//! The machine itself, as Linux tells of it.

use std::fs;

use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};
use xenner_core::version;
use xt_host::info::NodeInfo;
use xt_host::{HostError, HostInfo, HostKind, HypervisorInfo, Result};

/// Processors this machine may have: their numbers are below that.
pub fn processors() -> u32 {
    let count = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten();
    count
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(1)
}

pub fn info() -> Result<HostInfo> {
    let system = uname().map_err(|errno| HostError::failed("Cannot ask for the system.", errno))?;
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let topology: Vec<_> = (0..processors()).map(place).collect();
    let count = |of: fn(&(u32, u32, u32)) -> u32| {
        let all: std::collections::BTreeSet<u32> = topology.iter().map(of).collect();
        all.len().max(1) as u32
    };
    let (sockets, nodes) = (count(|place| place.1), count(|place| place.2));
    let cores: std::collections::BTreeSet<_> =
        topology.iter().map(|place| (place.0, place.1)).collect();
    let cores = cores.len().max(1) as u32;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Ok(HostInfo {
        kind: HostKind::Kvm,
        host: text(system.nodename()),
        release: text(system.release()),
        version: text(system.version()),
        machine: text(system.machine()),
        nr_cpus: processors(),
        max_cpu_id: processors() - 1,
        nr_nodes: nodes,
        cores_per_socket: cores / sockets,
        threads_per_core: processors() / cores,
        cpu_khz: cpu_khz(),
        hw_caps: Vec::new(),
        virt_caps: vec!["pv".to_owned()],
        total_memory_kib: field(&memory, "MemTotal:"),
        free_memory_kib: field(&memory, "MemAvailable:"),
        sharing_freed_pages: 0,
        sharing_used_pages: 0,
        outstanding_pages: 0,
        free_cpus: 0,
        hypervisor: HypervisorInfo {
            major: version::XEN_VERSION >> 16,
            minor: version::XEN_VERSION & 0xffff,
            extra: version::EXTRAVERSION.to_owned(),
            caps: version::CAPABILITIES.to_owned(),
            scheduler: "linux".to_owned(),
            pagesize: 4096,
            virt_start: xen_sys::arch_x86::HYPERVISOR_VIRT_START,
            ..HypervisorInfo::default()
        },
        topology,
        nodes: (0..nodes).map(node).collect(),
    })
}

/// A line of `/proc/meminfo` or a node's `meminfo`, in KiB.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.split_once(name));
    let number = line.and_then(|(_, rest)| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn number(path: &str) -> u32 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Core, socket and node of a processor.
fn place(cpu: u32) -> (u32, u32, u32) {
    let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
    let node = fs::read_dir(&dir).into_iter().flatten().flatten();
    let node = node.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix("node")?.parse().ok()
    });
    let core = number(&format!("{dir}/topology/core_id"));
    let socket = number(&format!("{dir}/topology/physical_package_id"));
    (core, socket, node.min().unwrap_or(0))
}

fn node(id: u32) -> NodeInfo {
    let dir = format!("/sys/devices/system/node/node{id}");
    let memory = fs::read_to_string(format!("{dir}/meminfo"))
        .or_else(|_| fs::read_to_string("/proc/meminfo"))
        .unwrap_or_default();
    let distances = fs::read_to_string(format!("{dir}/distance")).unwrap_or("10".to_owned());
    let distances = distances.split_whitespace();
    NodeInfo {
        size_kib: field(&memory, "MemTotal:"),
        free_kib: field(&memory, "MemFree:"),
        distances: distances.filter_map(|text| text.parse().ok()).collect(),
    }
}

/// The frequency the kernel found, of the first processor.
fn cpu_khz() -> u64 {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("cpu MHz"));
    let mhz = line.and_then(|line| line.split_once(':'));
    let mhz = mhz.and_then(|(_, mhz)| mhz.trim().parse::<f64>().ok());
    mhz.map_or(0, |mhz| (mhz * 1000.0) as u64)
}
