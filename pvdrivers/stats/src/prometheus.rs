//! Metrics in the text format of Prometheus, version 0.0.4, which its server, node_exporter's
//! textfile collector and everything that came after them read.
//!
//! The format wants all samples of a metric in one block, behind one line of help and one of type;
//! so samples are gathered in an [`Exposition`] and written at its end. Names and labels may be
//! anything: what the format does not allow in a name becomes `_`, labels are escaped, and of two
//! samples with the same labels the last one stays.

#[cfg(any(test, feature = "strict"))]
pub mod strict;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;

use crate::names::describe;
use crate::{DeviceStats, HistogramSnapshot};

/// The media type of the text, for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every device's metrics begin with.
const DEVICE: &str = "xen_device";

/// The upper ends of a histogram's buckets: powers of two from a microsecond to 17 seconds, in
/// nanoseconds. [`crate::Histogram`]'s own buckets end there as well, so the counts are exact.
const LE: std::ops::RangeInclusive<u32> = 10..=34;

/// Labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Metrics and their samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    sort: &'static str,
    help: String,
    /// By their labels as they are written.
    samples: BTreeMap<String, Sample>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sample {
    Number(String),
    Histogram(HistogramSnapshot),
}

impl Exposition {
    /// A number that only grows. `_total` is added to the name, and a name that ends with `_ns`
    /// becomes one of `_seconds`.
    pub fn counter(&mut self, name: &str, help: &str, labels: Labels, value: u64) {
        let (name, value) = in_seconds(name, value);
        let name = format!("{name}_total");
        self.add("counter", &name, help, labels, Sample::Number(value));
    }

    /// A number that goes up and down. A name that ends with `_ns` becomes one of `_seconds`.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels, value: u64) {
        let (name, value) = in_seconds(name, value);
        self.add("gauge", &name, help, labels, Sample::Number(value));
    }

    /// A distribution of times in nanoseconds. A name that ends with `_ns` becomes one of `_seconds`.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels,
        histogram: &HistogramSnapshot,
    ) {
        let (name, _) = in_seconds(name, 0);
        let sample = Sample::Histogram(histogram.clone());
        self.add("histogram", &name, help, labels, sample);
    }

    /// All numbers of a device, queue by queue, as `xen_device_…` with the labels `kind`, `device`,
    /// `devid` and `queue` behind `labels`, which say whose it is.
    pub fn device(&mut self, labels: Labels, device: &DeviceStats) {
        let (name, devid) = (device.label(), device.devid.to_string());
        let mut own = labels.to_vec();
        own.extend([
            ("kind", device.kind.as_str()),
            ("device", name.as_str()),
            ("devid", devid.as_str()),
        ]);
        let connected = u64::from(device.state == "connected");
        let help = "Whether front end and back end are connected";
        self.gauge(&format!("{DEVICE}_connected"), help, &own, connected);
        for (queue, numbers) in device.queues.iter().enumerate() {
            let queue = queue.to_string();
            let labels = [&own[..], &[("queue", queue.as_str())]].concat();
            let named = |name: &str| {
                let known = describe(&device.kind, name);
                let help = known.map_or("Not described", |known| known.meaning);
                (format!("{DEVICE}_{name}"), help)
            };
            for (name, value) in &numbers.counters {
                let (name, help) = named(name);
                self.counter(&name, help, &labels, *value);
            }
            for (name, value) in &numbers.gauges {
                let (name, help) = named(name);
                self.gauge(&name, help, &labels, *value);
            }
            for (name, histogram) in &numbers.histograms {
                let (name, help) = named(name);
                self.histogram(&name, help, &labels, histogram);
            }
        }
    }

    fn add(&mut self, sort: &'static str, name: &str, help: &str, labels: Labels, sample: Sample) {
        let family = match self.families.entry(allowed(name)) {
            Entry::Vacant(place) => place.insert(Family {
                sort,
                help: help.to_owned(),
                samples: BTreeMap::new(),
            }),
            Entry::Occupied(family) => family.into_mut(),
        };
        // A metric is of one type; whoever came first has the name.
        if family.sort == sort {
            family.samples.insert(written(labels), sample);
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", family.sort);
            for (labels, sample) in &family.samples {
                match sample {
                    Sample::Number(value) => {
                        let _ = writeln!(text, "{name}{} {value}", braced(labels));
                    }
                    Sample::Histogram(histogram) => buckets(&mut text, name, labels, histogram),
                }
            }
        }
        text
    }
}

/// The lines of a distribution. Each bucket counts those below it as well.
fn buckets(text: &mut String, name: &str, labels: &str, histogram: &HistogramSnapshot) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut line = |le: &str, count: u64| {
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}");
    };
    for power in LE {
        let limit = (1u64 << power) - 1;
        let below = histogram.buckets.iter().filter(|(top, _)| *top <= limit);
        line(&seconds(limit), below.map(|(_, count)| count).sum());
    }
    line("+Inf", histogram.count());
    let labels = braced(labels);
    let (sum, count) = (seconds(histogram.sum), histogram.count());
    let _ = writeln!(
        text,
        "{name}_sum{labels} {sum}\n{name}_count{labels} {count}"
    );
}

fn braced(labels: &str) -> String {
    match labels {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    }
}

/// The name and the value in seconds, if the name says that it is in nanoseconds.
fn in_seconds(name: &str, value: u64) -> (String, String) {
    match name.strip_suffix("_ns") {
        Some(name) => (format!("{name}_seconds"), seconds(value)),
        None => (name.to_owned(), value.to_string()),
    }
}

/// Nanoseconds as seconds, without rounding.
fn seconds(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let text = format!("{}.{:09}", ns / SECOND, ns % SECOND);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The name with `_` for what no name may have.
fn allowed(name: &str) -> String {
    let mut allowed: String = name
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | ':' => c,
            _ => '_',
        })
        .collect();
    if allowed.is_empty() || allowed.starts_with(|c: char| c.is_ascii_digit()) {
        allowed.insert(0, '_');
    }
    allowed
}

fn written(labels: Labels) -> String {
    let labels = labels.iter().map(|(name, value)| {
        let mut escaped = String::with_capacity(value.len());
        for c in value.chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                '"' => escaped.push_str("\\\""),
                '\n' => escaped.push_str("\\n"),
                c => escaped.push(c),
            }
        }
        // A colon is for metrics' names only.
        format!("{}=\"{escaped}\"", allowed(name).replace(':', "_"))
    });
    labels.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
