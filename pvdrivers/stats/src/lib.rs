//! Counters of split drivers: what a back end did, per device and queue.
//!
//! A queue's thread writes its own [`Counter`]s and [`Histogram`]s without locks; anybody reads them
//! as a [`DeviceStats`], whose names are the same on Xen and on KVM and in every output: tables,
//! JSON and the Prometheus text. What they mean is in [`names`].
//!
//! For those who show them: [`DeviceStats::total`] adds up queues, [`QueueStats::since`] tells what
//! happened between two looks, [`text`] has numbers for people and [`prometheus`] for machines.
#![forbid(unsafe_code)]

mod counter;
mod histogram;
pub mod names;
pub mod prometheus;
pub mod text;
mod totals;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use counter::{Counter, Gauge};
pub use histogram::{Histogram, HistogramSnapshot};
pub use totals::{gone_by, per_second};

/// Something that can tell its counters at any time, from any thread, without waiting.
pub trait Source: Send + Sync {
    /// The counters now.
    fn stats(&self) -> DeviceStats;
}

/// The counters of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// The kind of device as xenstore has it: `vbd` or `vif`.
    pub kind: String,
    /// Its number there.
    pub devid: u32,
    /// What the device is, for people: `xvda`, `eth0`.
    pub name: String,
    /// Its xenbus state, in a word, such as `connected`.
    pub state: String,
    /// One entry a queue of the connection that is, or was last; none before the first.
    pub queues: Vec<QueueStats>,
}

/// The counters of a queue, by name, such as `read_requests`. Units are part of the name
/// (`read_bytes`, `read_latency_ns`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStats {
    /// What only grows.
    pub counters: BTreeMap<String, u64>,
    /// What goes up and down.
    pub gauges: BTreeMap<String, u64>,
    /// Distributions.
    pub histograms: BTreeMap<String, HistogramSnapshot>,
}
