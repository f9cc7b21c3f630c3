//! The counters of domains as metrics; `docs/statistics.md` has their names.

use pv_stats::prometheus::Exposition;

use crate::control::Info;
use crate::machine::{ENTERED, ENTERED_CPU, RunState, Stats};

const STATES: [(RunState, &str); 5] = [
    (RunState::Running, "running"),
    (RunState::Blocked, "blocked"),
    (RunState::Paused, "paused"),
    (RunState::Shutdown, "shutdown"),
    (RunState::Crashed, "crashed"),
];

/// The metrics of domains in the text format of Prometheus.
pub fn text<'a>(domains: impl IntoIterator<Item = (&'a Info, &'a Stats)>) -> String {
    let mut metrics = Exposition::default();
    for (info, stats) in domains {
        let uuid = info.uuid.to_string();
        let labels = [("domain", info.name.as_str()), ("uuid", uuid.as_str())];
        domain(&mut metrics, &labels, info, stats);
        vcpus(&mut metrics, &labels, stats);
        counters(&mut metrics, &labels, stats);
        for device in &stats.devices {
            metrics.device(&labels, device);
        }
    }
    metrics.text()
}

fn domain(metrics: &mut Exposition, labels: &[(&str, &str)], info: &Info, stats: &Stats) {
    const PAGE: u64 = 4096;
    for (state, name) in STATES {
        let labels = [labels, &[("state", name)]].concat();
        let help = "1 for the state that the domain is in";
        let value = u64::from(stats.state == state);
        metrics.gauge("xenner_domain_state", help, &labels, value);
    }
    for (name, help, value) in [
        (
            "xenner_domain_memory_bytes",
            "Memory the domain has",
            stats.memory_pages.saturating_mul(PAGE),
        ),
        (
            "xenner_domain_max_memory_bytes",
            "The most memory the domain may have",
            stats.max_pages.saturating_mul(PAGE),
        ),
        (
            "xenner_domain_start_time_seconds",
            "When the domain was last started, since 1970",
            info.started,
        ),
    ] {
        metrics.gauge(name, help, labels, value);
    }
    let restarts = info.restarts.into();
    let help = "How often the domain was restarted";
    metrics.counter("xenner_domain_restarts", help, labels, restarts);
}

fn vcpus(metrics: &mut Exposition, labels: &[(&str, &str)], stats: &Stats) {
    for (number, vcpu) in stats.vcpus.iter().enumerate() {
        let number = number.to_string();
        let labels = [labels, &[("vcpu", number.as_str())]].concat();
        let help = "Whether the guest brought the vCPU up";
        metrics.gauge("xenner_vcpu_online", help, &labels, vcpu.online.into());
        let help = "Time the vCPU spent running";
        metrics.counter("xenner_vcpu_cpu_ns", help, &labels, vcpu.cpu_time_ns);
        let help = "Exits from guest mode to the host's process";
        metrics.counter("xenner_vcpu_exits", help, &labels, vcpu.exits);
    }
}

fn counters(metrics: &mut Exposition, labels: &[(&str, &str)], stats: &Stats) {
    for (name, value) in &stats.counters {
        if let Some(hypercall) = name.strip_prefix("hypercall.") {
            let labels = [labels, &[("hypercall", hypercall)]].concat();
            let help = "Hypercalls of all vCPUs";
            metrics.counter("xenner_hypercalls", help, &labels, *value);
            continue;
        }
        match name.as_str() {
            ENTERED => metrics.gauge(
                "xenner_domain_entered_monotonic_ns",
                "When the guest's first instruction ran, by CLOCK_MONOTONIC",
                labels,
                *value,
            ),
            ENTERED_CPU => metrics.gauge(
                "xenner_domain_start_cpu_ns",
                "Processor time the domain's process had used by then",
                labels,
                *value,
            ),
            other => {
                let help = format!("The counter {other}");
                metrics.counter(&format!("xenner_{other}"), &help, labels, *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pv_stats::prometheus::strict::parse;
    use pv_stats::{DeviceStats, QueueStats};

    use super::*;
    use crate::machine::VcpuStats;

    fn info(name: &str) -> Info {
        serde_json::from_value(serde_json::json!({
            "name": name, "uuid": uuid::Uuid::new_v4(), "pid": 1, "state": "blocked",
            "memory_mib": 64, "maxmem_mib": 64, "vcpus": 1, "cpu_time_ns": 0,
            "started": 1_700_000_000, "uptime": 5, "restarts": 2, "kernel": "", "console": "",
        }))
        .unwrap()
    }

    fn stats() -> Stats {
        let mut queue = QueueStats::default();
        queue.counters.insert("read_bytes".into(), 4096);
        Stats {
            state: RunState::Blocked,
            memory_pages: 16384,
            max_pages: 16384,
            vcpus: vec![
                VcpuStats {
                    online: true,
                    cpu_time_ns: 1_500_000_000,
                    exits: 7,
                };
                2
            ],
            counters: [
                ("hypercall.mmu_update".to_owned(), 5),
                ("hypercall.sched_op".to_owned(), 6),
                ("console.out_bytes".to_owned(), 42),
                (ENTERED.to_owned(), 2_500_000_000),
                (ENTERED_CPU.to_owned(), 1_000),
            ]
            .into(),
            devices: vec![DeviceStats {
                kind: "vbd".into(),
                devid: 51712,
                name: "xvda".into(),
                state: "connected".into(),
                queues: vec![queue],
            }],
        }
    }

    #[test]
    fn domains_as_metrics() {
        let (web, db, stats) = (info("web"), info("d\"b"), stats());
        let text = text([(&web, &stats), (&db, &stats)]);
        let read = parse(&text).unwrap();
        let value = |name: &str, labels: &[(&str, &str)]| {
            let labels = [&[("domain", "d\"b")], labels].concat();
            read.value(name, &labels)
        };
        assert_eq!(value("xenner_domain_state", &[("state", "blocked")]), 1.0);
        assert_eq!(value("xenner_domain_state", &[("state", "running")]), 0.0);
        assert_eq!(value("xenner_domain_memory_bytes", &[]), 67_108_864.0);
        assert_eq!(value("xenner_domain_start_time_seconds", &[]), 1.7e9);
        assert_eq!(value("xenner_domain_restarts_total", &[]), 2.0);
        assert_eq!(value("xenner_domain_entered_monotonic_seconds", &[]), 2.5);
        assert_eq!(value("xenner_domain_start_cpu_seconds", &[]), 1e-6);
        assert_eq!(
            value("xenner_vcpu_cpu_seconds_total", &[("vcpu", "1")]),
            1.5
        );
        assert_eq!(value("xenner_vcpu_exits_total", &[("vcpu", "0")]), 7.0);
        assert_eq!(value("xenner_vcpu_online", &[("vcpu", "0")]), 1.0);
        let call = [("hypercall", "sched_op")];
        assert_eq!(value("xenner_hypercalls_total", &call), 6.0);
        assert_eq!(value("xenner_console_out_bytes_total", &[]), 42.0);
        let disk = [("device", "xvda"), ("kind", "vbd"), ("queue", "0")];
        assert_eq!(value("xen_device_read_bytes_total", &disk), 4096.0);
    }
}
