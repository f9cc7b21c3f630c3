//! The lines below the table's head: domains, and what is shown of each.

use std::collections::BTreeSet;

use pv_stats::text::Quantiles;

use super::meter::{DeviceRow, Figures, Row, VcpuRow};
use super::table::{Table, bytes, count, percent, spark, time};
use crate::cli::TopArgs;
use crate::crash::printable;
use crate::machine::RunState;

/// What a line is about, for choosing it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A domain.
    Domain(String),
    /// A device of a domain: its kind and number.
    Device(String, String, u32),
}

/// What is shown of every domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// vCPUs.
    pub vcpus: bool,
    /// Disks.
    pub disks: bool,
    /// Network cards.
    pub networks: bool,
}

impl Shown {
    /// What the options ask for.
    pub fn of(arguments: &TopArgs) -> Shown {
        Shown {
            vcpus: arguments.vcpus,
            disks: arguments.disks,
            networks: arguments.networks,
        }
    }

    fn kind(self, kind: &str) -> bool {
        match kind {
            "vbd" => self.disks,
            "vif" => self.networks,
            _ => false,
        }
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about; `None` of those that can't be chosen.
    pub subject: Option<Subject>,
    /// Whether something is wrong.
    pub alarm: bool,
    /// The text.
    pub text: String,
}

impl Line {
    fn detail(text: String) -> Line {
        Line {
            subject: None,
            alarm: false,
            text,
        }
    }
}

/// All lines. `open` are domains and devices of which everything is shown.
pub fn lines(rows: &[Row], table: &Table, shown: Shown, open: &BTreeSet<Subject>) -> Vec<Line> {
    let mut lines = Vec::new();
    for row in rows {
        let subject = Subject::Domain(row.name.clone());
        let all = open.contains(&subject);
        lines.push(Line {
            subject: Some(subject),
            alarm: row.trouble.is_some() || row.state == Some(RunState::Crashed),
            text: table.line(row),
        });
        if let Some(trouble) = &row.trouble {
            lines.push(Line::detail(format!("  {}", printable(trouble))));
        }
        if all {
            let trend = spark(&row.trend, row.trend.len());
            lines.push(Line::detail(format!("  {:<27} {trend}", "cpu trend")));
        }
        if all || shown.vcpus {
            lines.extend(row.vcpus.iter().enumerate().map(vcpu));
        }
        for device in &row.devices {
            if all || shown.kind(&device.kind) {
                of_device(&mut lines, &row.name, device, open);
            }
        }
    }
    lines
}

fn vcpu((number, vcpu): (usize, &VcpuRow)) -> Line {
    let online = if vcpu.online { "online" } else { "offline" };
    let (cpu, exits) = (percent(vcpu.cpu_percent), count(vcpu.exits));
    Line::detail(format!(
        "  vcpu {number:<9} {online:<12} cpu {cpu}% exits {exits}/s"
    ))
}

fn of_device(lines: &mut Vec<Line>, domain: &str, device: &DeviceRow, open: &BTreeSet<Subject>) {
    let (kind, name) = (printable(&device.kind), printable(&device.name));
    let state = printable(&device.state);
    let figures = figures(&device.kind, &device.total);
    let subject = Subject::Device(domain.to_owned(), device.kind.clone(), device.devid);
    let all = open.contains(&subject);
    lines.push(Line {
        subject: Some(subject),
        alarm: false,
        text: format!("  {kind:<4} {name:<9} {state:<12} {figures}"),
    });
    if all {
        for (number, queue) in device.queues.iter().enumerate() {
            let figures = self::figures(&device.kind, queue);
            lines.push(Line::detail(format!("    queue {number:<19} {figures}")));
        }
    }
}

/// What a queue does, in a line.
fn figures(kind: &str, figures: &Figures) -> String {
    match kind {
        "vbd" => disk(figures),
        "vif" => card(figures),
        _ => String::new(),
    }
}

fn disk(figures: &Figures) -> String {
    let sum = |names: &[&str]| {
        let rates = names.iter().map(|name| figures.rate(name));
        rates.sum::<Option<f64>>()
    };
    let errors = [
        "read_errors",
        "write_errors",
        "flush_errors",
        "discard_errors",
        "barrier_errors",
    ];
    let direction = |verb: &str, name: &str| {
        let requests = count(figures.rate(&format!("{name}_requests")));
        let bytes = bytes(figures.rate(&format!("{name}_bytes")));
        let latency = figures.quantiles.get(&format!("{name}_latency_ns"));
        format!("{verb} {requests}/s {bytes}B/s {}", latencies(latency))
    };
    let flushes = count(sum(&["flush_requests", "barrier_requests"]));
    format!(
        "{} | {} | flush {flushes}/s | in flight {} | errors {}/s",
        direction("read", "read"),
        direction("write", "write"),
        figures.gauges.get("in_flight").copied().unwrap_or(0),
        count(sum(&errors)),
    )
}

/// p50, p99 and p99.9.
fn latencies(quantiles: Option<&Quantiles>) -> String {
    let [p50, p99, p999] = match quantiles {
        Some(Quantiles { p50, p99, p999 }) => [p50, p99, p999].map(|ns| time(Some(*ns))),
        None => [(); 3].map(|()| time(None)),
    };
    format!("{p50}/{p99}/{p999}")
}

fn card(figures: &Figures) -> String {
    let direction = |way: &str| {
        let rate = |what: &str| figures.rate(&format!("{way}_{what}"));
        format!(
            "{way} {}/s {}B/s gso {}/s drops {}/s errors {}/s",
            count(rate("packets")),
            bytes(rate("bytes")),
            count(rate("gso_packets")),
            count(rate("drops")),
            count(rate("errors")),
        )
    };
    format!("{} | {}", direction("rx"), direction("tx"))
}
