//! What is told of domains.

use pv_stats::{DeviceStats, QueueStats};
use xen_sys::DomId;
use xenner::machine::{RunState, Stats};
use xenner::survey::{Sighting, survey};
use xt_config::DomainType;
use xt_host::{DomainInfo, DomainState, HostError, Result, Sample, ShutdownReason};

use crate::KvmHost;

const PAGE_KIB: u64 = 4;
const SECTOR: u64 = 512;

impl KvmHost {
    /// Every domain with what is known of it. One that does not answer has its name and number only,
    /// and why is said on standard error.
    pub(crate) fn sightings(&self) -> Result<Vec<(DomainInfo, Option<Stats>)>> {
        let seen = survey(&self.base).map_err(|error| HostError::Unusable(error.to_string()))?;
        let mut all = Vec::new();
        for sighting in seen {
            let Some(domain) = self.describe(&sighting) else {
                continue;
            };
            // One that is being started or ended tells what it is, but not what it does.
            if let (None, Some(trouble)) = (&sighting.info, &sighting.trouble) {
                eprintln!("xt: {trouble}");
            }
            all.push((domain, sighting.stats));
        }
        all.sort_by_key(|(domain, _)| domain.domid);
        Ok(all)
    }

    /// `None` if it has gone meanwhile.
    fn describe(&self, seen: &Sighting) -> Option<DomainInfo> {
        let domid = match &seen.info {
            Some(info) => info.id,
            None => self.id_of(&seen.name)?,
        };
        let (info, stats) = (seen.info.as_ref(), seen.stats.as_ref());
        let run_state = stats
            .map(|stats| stats.state)
            .or(info.map(|info| info.state));
        let pages = |pages: Option<u64>, mib: Option<u64>| {
            pages
                .map(|pages| pages * PAGE_KIB)
                .unwrap_or(mib.unwrap_or(0) * 1024)
        };
        Some(DomainInfo {
            domid,
            name: seen.name.clone(),
            uuid: info.map(|info| info.uuid).unwrap_or_default(),
            kind: DomainType::Pv,
            state: run_state
                .map_or_else(DomainState::default, |state| self.state(&seen.name, state)),
            memory_kib: pages(
                stats.map(|stats| stats.memory_pages),
                info.map(|info| info.memory_mib),
            ),
            outstanding_kib: 0,
            max_memory_kib: pages(
                stats.map(|stats| stats.max_pages),
                info.map(|info| info.maxmem_mib),
            ),
            shared_memory_kib: 0,
            cpu_time_ns: stats.map_or(0, Stats::cpu_time_ns),
            vcpus_online: info.map_or(0, |info| info.vcpus),
            vcpus: stats.map_or(0, |stats| stats.vcpus.len() as u32),
            cpupool: 0,
            cpupool_name: "Pool-0".to_owned(),
            security_label: String::new(),
            started: info.map(|info| info.started),
            self_supervised: true,
        })
    }

    /// What a domain does. One that has ended and is not kept will be gone, or run again, in a moment.
    fn state(&self, name: &str, state: RunState) -> DomainState {
        let mut seen = DomainState::default();
        match state {
            RunState::Running => seen.running = true,
            RunState::Blocked => seen.blocked = true,
            RunState::Paused => seen.paused = true,
            RunState::Shutdown | RunState::Crashed => {
                let path = self.base.of(name).join(xenner::rundir::ENDED);
                match std::fs::read_to_string(path) {
                    Ok(word) => seen.shutdown = Some(reason(word.trim())),
                    Err(_) => seen.dying = true,
                }
            }
        }
        seen
    }

    pub(crate) fn sample((domain, stats): (DomainInfo, Option<Stats>)) -> Sample {
        let stats = stats.unwrap_or_default();
        let of = |kind: &str, name: &str| {
            let devices = stats.devices.iter().filter(|device| device.kind == kind);
            let queues = devices.flat_map(|device: &DeviceStats| &device.queues);
            queues
                .map(|queue: &QueueStats| queue.counters.get(name).copied().unwrap_or(0))
                .sum::<u64>()
        };
        let count = |kind: &str| {
            stats
                .devices
                .iter()
                .filter(|device| device.kind == kind)
                .count() as u32
        };
        let online = (0..).zip(&stats.vcpus).filter(|(_, vcpu)| vcpu.online);
        Sample {
            vcpus: online.map(|(id, vcpu)| (id, vcpu.cpu_time_ns)).collect(),
            net_tx_bytes: of("vif", "tx_bytes"),
            net_rx_bytes: of("vif", "rx_bytes"),
            nets: count("vif"),
            disk_reads: of("vbd", "read_requests"),
            disk_writes: of("vbd", "write_requests"),
            disk_out_of_requests: 0,
            disk_read_sectors: of("vbd", "read_bytes") / SECTOR,
            disk_write_sectors: of("vbd", "write_bytes") / SECTOR,
            disks: count("vbd"),
            domain,
        }
    }

    /// Its counters.
    pub(crate) fn stats(&self, domid: DomId) -> Result<Stats> {
        use xenner::control::Command;
        use xenner::control::client::PATIENCE;
        let mut connection = self.connect(domid)?;
        let stats = connection.call(Command::Stats, &[], Some(PATIENCE));
        stats.map_err(crate::refused)
    }
}

/// By the word that `xenner` writes down.
fn reason(word: &str) -> ShutdownReason {
    match word {
        "reboot" => ShutdownReason::Reboot,
        "suspend" => ShutdownReason::Suspend,
        "crash" => ShutdownReason::Crash,
        "watchdog" => ShutdownReason::Watchdog,
        _ => ShutdownReason::Poweroff,
    }
}
