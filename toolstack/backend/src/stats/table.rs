//! Counters for people to read.

use pv_stats::QueueStats;
use pv_stats::text::{bytes, time};

use super::DeviceReport;

/// Disks, then cards, in columns.
pub fn table(devices: &[DeviceReport]) -> String {
    let of_kind = |kind| {
        devices
            .iter()
            .filter(move |device| device.stats.kind == kind)
    };
    let disks: Vec<_> = of_kind("vbd").map(disk).collect();
    let cards: Vec<_> = of_kind("vif").map(card).collect();
    let mut text = String::new();
    if !disks.is_empty() {
        let head = "DOM|DISK|BACK END|STATE|READS|READ|WRITES|WRITTEN|FLUSHES|ERRORS|READ p50|p99|WRITE p50|p99";
        text += &columns(head, &disks);
    }
    if !cards.is_empty() {
        let head = "DOM|CARD|BACK END|STATE|RX PACKETS|RX|TX PACKETS|TX|ERRORS|DROPS";
        text += &columns(head, &cards);
    }
    if text.is_empty() {
        text = "No back end serves any device.\n".into();
    }
    text
}

fn head(device: &DeviceReport) -> Vec<String> {
    let stats = &device.stats;
    vec![
        device.domid.to_string(),
        stats.label(),
        device.backend.clone(),
        stats.state.clone(),
    ]
}

fn disk(device: &DeviceReport) -> Vec<String> {
    let total = device.stats.total();
    let errors = [
        "read_errors",
        "write_errors",
        "flush_errors",
        "discard_errors",
    ];
    let mut row = head(device);
    row.extend([
        total.counter("read_requests").to_string(),
        bytes(total.counter("read_bytes")),
        total.counter("write_requests").to_string(),
        bytes(total.counter("write_bytes")),
        total.counter("flush_requests").to_string(),
        total.counters(&errors).to_string(),
        latency(&total, "read_latency_ns", 0.5),
        latency(&total, "read_latency_ns", 0.99),
        latency(&total, "write_latency_ns", 0.5),
        latency(&total, "write_latency_ns", 0.99),
    ]);
    row
}

fn card(device: &DeviceReport) -> Vec<String> {
    let total = device.stats.total();
    let mut row = head(device);
    row.extend([
        total.counter("rx_packets").to_string(),
        bytes(total.counter("rx_bytes")),
        total.counter("tx_packets").to_string(),
        bytes(total.counter("tx_bytes")),
        total.counters(&["rx_errors", "tx_errors"]).to_string(),
        total.counters(&["rx_drops", "tx_drops"]).to_string(),
    ]);
    row
}

/// A quantile of a distribution, for people.
fn latency(total: &QueueStats, name: &str, share: f64) -> String {
    let histogram = total.histograms.get(name);
    let quantile = histogram.and_then(|histogram| histogram.quantile(share));
    quantile.map_or_else(|| "-".into(), time)
}

/// Lines with the columns below each other; `head` is separated by `|`.
fn columns(head: &str, rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.split('|').map(str::to_owned).collect();
    let mut lines = vec![&head];
    lines.extend(rows);
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(at, (cell, width))| {
                // Words to the left, numbers to the right.
                if (1..4).contains(&at) {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use pv_stats::{DeviceStats, Histogram};

    use super::*;

    #[test]
    fn a_table_has_a_line_a_device() {
        let latency = Histogram::default();
        latency.record(100_000);
        let mut queue = QueueStats::default();
        queue.counters.insert("read_requests".into(), 7);
        queue.counters.insert("read_bytes".into(), 7 << 20);
        queue
            .histograms
            .insert("read_latency_ns".into(), latency.snapshot());
        let device = |kind: &str, backend: &str, queue| DeviceReport {
            domid: 3,
            backend: backend.into(),
            error: None,
            stats: DeviceStats {
                kind: kind.into(),
                devid: 51712,
                name: "xvda".into(),
                state: "connected".into(),
                queues: vec![queue],
            },
        };
        let text = table(&[
            device("vbd", "xt-backend", queue),
            device("vif", "kernel", QueueStats::default()),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for word in ["xvda", "xt-backend", "7.0 MiB", "us"] {
            assert!(lines[1].contains(word), "{text}");
        }
        assert!(lines[3].contains("kernel"), "{text}");
        assert!(table(&[]).contains("No back end"));
    }
}
