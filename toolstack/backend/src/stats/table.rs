//! Counters for people to read.

use pv_stats::{HistogramSnapshot, QueueStats};

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
    let name = match stats.name.as_str() {
        "" => stats.devid.to_string(),
        name => name.to_owned(),
    };
    vec![
        device.domid.to_string(),
        name,
        device.backend.clone(),
        stats.state.clone(),
    ]
}

fn disk(device: &DeviceReport) -> Vec<String> {
    let queues = &device.stats.queues;
    let errors = [
        "read_errors",
        "write_errors",
        "flush_errors",
        "discard_errors",
    ];
    let read = latency(queues, "read_latency_ns");
    let write = latency(queues, "write_latency_ns");
    let mut row = head(device);
    row.extend([
        sum(queues, "read_requests").to_string(),
        bytes(sum(queues, "read_bytes")),
        sum(queues, "write_requests").to_string(),
        bytes(sum(queues, "write_bytes")),
        sum(queues, "flush_requests").to_string(),
        errors
            .map(|name| sum(queues, name))
            .iter()
            .sum::<u64>()
            .to_string(),
        time(read.quantile(0.5)),
        time(read.quantile(0.99)),
        time(write.quantile(0.5)),
        time(write.quantile(0.99)),
    ]);
    row
}

fn card(device: &DeviceReport) -> Vec<String> {
    let queues = &device.stats.queues;
    let both = |rx, tx| (sum(queues, rx) + sum(queues, tx)).to_string();
    let mut row = head(device);
    row.extend([
        sum(queues, "rx_packets").to_string(),
        bytes(sum(queues, "rx_bytes")),
        sum(queues, "tx_packets").to_string(),
        bytes(sum(queues, "tx_bytes")),
        both("rx_errors", "tx_errors"),
        both("rx_drops", "tx_drops"),
    ]);
    row
}

fn sum(queues: &[QueueStats], name: &str) -> u64 {
    let values = queues.iter().filter_map(|queue| queue.counters.get(name));
    values.sum()
}

fn latency(queues: &[QueueStats], name: &str) -> HistogramSnapshot {
    let mut all = HistogramSnapshot::default();
    for histogram in queues.iter().filter_map(|queue| queue.histograms.get(name)) {
        all.merge(histogram);
    }
    all
}

/// Three digits and a unit.
fn bytes(count: u64) -> String {
    scaled(
        count as f64,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB"],
    )
}

fn time(ns: Option<u64>) -> String {
    ns.map_or_else(
        || "-".into(),
        |ns| scaled(ns as f64, 1000.0, &["ns", "us", "ms", "s"]),
    )
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
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
