//! Rates from one look at the domains to the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use pv_stats::text::Quantiles;
use pv_stats::{DeviceStats, QueueStats, gone_by, per_second};
use serde::Serialize;
use uuid::Uuid;

use crate::machine::{RunState, Stats};
use crate::survey::Sighting;

/// How many looks a trend goes back.
const TREND: usize = 60;

/// What a domain does. Rates are per second and `None` before the second look.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its UUID; `None` if it does not answer.
    pub uuid: Option<Uuid>,
    /// What its vCPUs do; `None` if it does not answer, or is being started or ended.
    pub state: Option<RunState>,
    /// Why anything is missing.
    pub trouble: Option<String>,
    /// Processor time used since it was started.
    pub cpu_seconds: f64,
    /// Processor time used, in hundredths of one processor.
    pub cpu_percent: Option<f64>,
    /// Memory it has.
    pub memory_mib: u64,
    /// The most it may have.
    pub maxmem_mib: u64,
    /// Exits to the host's process.
    pub exits: Option<f64>,
    /// Hypercalls of all kinds.
    pub hypercalls: Option<f64>,
    /// What its network cards received.
    pub net_rx_bytes: Option<f64>,
    /// What they sent.
    pub net_tx_bytes: Option<f64>,
    /// What it read of its disks.
    pub disk_read_bytes: Option<f64>,
    /// What it wrote.
    pub disk_write_bytes: Option<f64>,
    /// How long reads took, of all disks.
    pub read_latency_ns: Option<Quantiles>,
    /// How long writes took.
    pub write_latency_ns: Option<Quantiles>,
    /// Each of its vCPUs.
    pub vcpus: Vec<VcpuRow>,
    /// Each of its devices.
    pub devices: Vec<DeviceRow>,
    /// Processor use at the last looks, the newest last.
    #[serde(skip)]
    pub trend: Vec<f64>,
}

impl Row {
    /// How many vCPUs are up.
    pub fn online(&self) -> usize {
        self.vcpus.iter().filter(|vcpu| vcpu.online).count()
    }
}

/// What a vCPU does.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VcpuRow {
    /// Whether the guest brought it up.
    pub online: bool,
    /// Processor time used, in hundredths of one processor.
    pub cpu_percent: Option<f64>,
    /// Exits to the host's process.
    pub exits: Option<f64>,
}

/// What a device does.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceRow {
    /// `vbd` or `vif`.
    pub kind: String,
    /// Its number.
    pub devid: u32,
    /// What it is called.
    pub name: String,
    /// Its state in a word.
    pub state: String,
    /// All queues together.
    pub total: Figures,
    /// Each queue.
    pub queues: Vec<Figures>,
}

/// What a queue does, by the names of its numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Growth of the counters, per second.
    pub rates: Option<BTreeMap<String, f64>>,
    /// Gauges, as they are now.
    pub gauges: BTreeMap<String, u64>,
    /// Distributions since the look before; those without a value are left out.
    pub quantiles: BTreeMap<String, Quantiles>,
}

impl Figures {
    /// The growth of a counter.
    pub fn rate(&self, name: &str) -> Option<f64> {
        Some(self.rates.as_ref()?.get(name).copied().unwrap_or(0.0))
    }

    fn new(now: &QueueStats, span: Option<(&QueueStats, Duration)>) -> Figures {
        let mut figures = Figures {
            gauges: now.gauges.clone(),
            ..Figures::default()
        };
        let Some((before, elapsed)) = span else {
            return figures;
        };
        let since = now.since(before);
        let rate =
            |(name, count): (&String, &u64)| Some((name.clone(), per_second(*count, elapsed)?));
        figures.rates = Some(since.counters.iter().filter_map(rate).collect());
        let histograms = since.histograms.iter();
        figures.quantiles = histograms
            .filter_map(|(name, histogram)| Some((name.clone(), histogram.quantiles()?)))
            .collect();
        figures
    }
}

/// Remembers what was seen last.
#[derive(Default)]
pub struct Meter {
    earlier: HashMap<String, Sighting>,
    trends: HashMap<String, VecDeque<f64>>,
}

impl Meter {
    /// What the domains have done since the look before.
    pub fn measure(&mut self, seen: Vec<Sighting>) -> Vec<Row> {
        let rows: Vec<Row> = seen
            .iter()
            .map(|now| {
                let before = self.earlier.get(&now.name);
                row(now, before.filter(|before| same_run(now, before)))
            })
            .collect();
        self.earlier = seen
            .into_iter()
            .map(|sighting| (sighting.name.clone(), sighting))
            .collect();
        self.trends
            .retain(|name, _| self.earlier.contains_key(name));
        rows.into_iter().map(|row| self.with_trend(row)).collect()
    }

    fn with_trend(&mut self, mut row: Row) -> Row {
        let trend = self.trends.entry(row.name.clone()).or_default();
        if let Some(percent) = row.cpu_percent {
            trend.push_back(percent);
        }
        while trend.len() > TREND {
            trend.pop_front();
        }
        row.trend = trend.iter().copied().collect();
        row
    }
}

/// Whether both are of the same run of the same domain, so that counters go on.
fn same_run(now: &Sighting, before: &Sighting) -> bool {
    match (&now.info, &before.info) {
        (Some(now), Some(before)) => {
            (now.uuid, now.pid, now.restarts) == (before.uuid, before.pid, before.restarts)
        }
        _ => false,
    }
}

fn row(now: &Sighting, before: Option<&Sighting>) -> Row {
    let mut row = Row {
        name: now.name.clone(),
        trouble: now.trouble.clone(),
        ..Row::default()
    };
    if let Some(info) = &now.info {
        row.uuid = Some(info.uuid);
        (row.memory_mib, row.maxmem_mib) = (info.memory_mib, info.maxmem_mib);
    }
    let Some(stats) = &now.stats else {
        return row;
    };
    row.state = Some(stats.state);
    row.cpu_seconds = stats.cpu_time_ns() as f64 / 1e9;
    let span = before.and_then(|before| {
        let elapsed = now.at.checked_duration_since(before.at)?;
        let span = (before.stats.as_ref()?, elapsed);
        (!elapsed.is_zero()).then_some(span)
    });
    processors(&mut row, stats, span);
    devices(&mut row, stats, span);
    row
}

fn processors(row: &mut Row, stats: &Stats, span: Option<(&Stats, Duration)>) {
    for (number, now) in stats.vcpus.iter().enumerate() {
        let mut vcpu = VcpuRow {
            online: now.online,
            ..VcpuRow::default()
        };
        if let Some((before, elapsed)) = span {
            let before = before.vcpus.get(number).copied().unwrap_or_default();
            let used = gone_by(now.cpu_time_ns, before.cpu_time_ns);
            vcpu.cpu_percent = per_second(used, elapsed).map(|used| used / 1e7);
            vcpu.exits = per_second(gone_by(now.exits, before.exits), elapsed);
        }
        row.vcpus.push(vcpu);
    }
    let sum = |of: fn(&VcpuRow) -> Option<f64>| row.vcpus.iter().map(of).sum();
    let (percent, exits) = (sum(|vcpu| vcpu.cpu_percent), sum(|vcpu| vcpu.exits));
    if let Some((before, elapsed)) = span {
        (row.cpu_percent, row.exits) = (percent, exits);
        row.hypercalls = per_second(gone_by(hypercalls(stats), hypercalls(before)), elapsed);
    }
}

fn hypercalls(stats: &Stats) -> u64 {
    let counters = stats.counters.iter();
    let calls = counters.filter(|(name, _)| name.starts_with("hypercall."));
    calls.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn devices(row: &mut Row, stats: &Stats, span: Option<(&Stats, Duration)>) {
    // Summed before quantiles are taken: those of disks cannot be added up.
    let mut since = QueueStats::default();
    for now in &stats.devices {
        let total = now.total();
        let before = span.map(|(before, elapsed)| (of_device(before, now), elapsed));
        // A device that was not there before has done everything since.
        let before_total = before.map_or_else(QueueStats::default, |(before, _)| {
            before.map(DeviceStats::total).unwrap_or_default()
        });
        let queues = now.queues.iter().enumerate();
        let none = QueueStats::default();
        row.devices.push(DeviceRow {
            kind: now.kind.clone(),
            devid: now.devid,
            name: now.label(),
            state: now.state.clone(),
            total: Figures::new(&total, before.map(|(_, elapsed)| (&before_total, elapsed))),
            queues: queues
                .map(|(number, queue)| {
                    let before = before.map(|(before, elapsed)| {
                        let before = before.and_then(|before| before.queues.get(number));
                        (before.unwrap_or(&none), elapsed)
                    });
                    Figures::new(queue, before)
                })
                .collect(),
        });
        since.merge(&total.since(&before_total));
    }
    let Some((_, elapsed)) = span else {
        return;
    };
    let rate = |name: &str| per_second(since.counter(name), elapsed);
    let quantiles = |name: &str| since.histograms.get(name)?.quantiles();
    row.net_rx_bytes = rate("rx_bytes");
    row.net_tx_bytes = rate("tx_bytes");
    row.disk_read_bytes = rate("read_bytes");
    row.disk_write_bytes = rate("write_bytes");
    row.read_latency_ns = quantiles("read_latency_ns");
    row.write_latency_ns = quantiles("write_latency_ns");
}

fn of_device<'a>(stats: &'a Stats, device: &DeviceStats) -> Option<&'a DeviceStats> {
    let key = (&device.kind, device.devid);
    let mut devices = stats.devices.iter();
    devices.find(|other| (&other.kind, other.devid) == key)
}
