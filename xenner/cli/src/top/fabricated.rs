//! Domains for tests.

use std::time::{Duration, Instant};

use pv_stats::{DeviceStats, Histogram, QueueStats};

use crate::control::Info;
use crate::machine::{RunState, Stats, VcpuStats};
use crate::survey::Sighting;

/// A domain that has done `work` units of everything.
pub fn sighting(name: &str, at: Instant, work: u64) -> Sighting {
    let mut calls = std::collections::BTreeMap::new();
    calls.insert("hypercall.mmu_update".to_owned(), 10 * work);
    calls.insert("hypercall.sched_op".to_owned(), 2 * work);
    calls.insert("console.out_bytes".to_owned(), work);
    let stats = Stats {
        state: RunState::Running,
        memory_pages: 64 << 8,
        max_pages: 64 << 8,
        vcpus: vec![
            VcpuStats {
                online: true,
                cpu_time_ns: work * 10_000_000,
                exits: 5 * work,
            },
            VcpuStats::default(),
        ],
        counters: calls,
        devices: vec![
            disk(51712, "xvda", work),
            disk(51728, "xvdb", 0),
            card(work),
        ],
    };
    Sighting {
        name: name.into(),
        at,
        info: Some(info(name)),
        stats: Some(stats),
        trouble: None,
    }
}

/// A domain that does not answer.
pub fn silent(name: &str, at: Instant) -> Sighting {
    Sighting {
        name: name.into(),
        at,
        info: None,
        stats: None,
        trouble: Some(format!("Domain \"{name}\" does not answer\u{1b}[2J")),
    }
}

pub fn info(name: &str) -> Info {
    Info {
        name: name.into(),
        id: 1,
        uuid: uuid::Uuid::nil(),
        pid: 1,
        state: RunState::Running,
        memory_mib: 64,
        maxmem_mib: 64,
        vcpus: 1,
        cpu_time_ns: 0,
        started: 0,
        uptime: 0,
        restarts: 0,
        kernel: String::new(),
        console: String::new(),
    }
}

fn disk(devid: u32, name: &str, work: u64) -> DeviceStats {
    let latency = Histogram::default();
    (0..work).for_each(|_| latency.record(100_000));
    let mut queue = QueueStats::default();
    queue.counters.insert("read_requests".into(), work);
    queue.counters.insert("read_bytes".into(), work * 4096);
    queue.counters.insert("write_requests".into(), 0);
    queue.counters.insert("read_errors".into(), work);
    queue.gauges.insert("in_flight".into(), 3);
    let latency = latency.snapshot();
    queue.histograms.insert("read_latency_ns".into(), latency);
    DeviceStats {
        kind: "vbd".into(),
        devid,
        name: name.into(),
        state: "connected".into(),
        queues: vec![queue, QueueStats::default()],
    }
}

fn card(work: u64) -> DeviceStats {
    let mut queue = QueueStats::default();
    queue.counters.insert("rx_bytes".into(), work * 1500);
    queue.counters.insert("rx_packets".into(), work);
    queue.counters.insert("tx_bytes".into(), work * 100);
    DeviceStats {
        kind: "vif".into(),
        devid: 0,
        name: "vif1.0".into(),
        state: "connected".into(),
        queues: vec![queue],
    }
}

/// A moment, and one two seconds later.
pub fn moments() -> (Instant, Instant) {
    let now = Instant::now();
    (now, now + Duration::from_secs(2))
}
