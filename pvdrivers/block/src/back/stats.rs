//! The counters of a device. Their names are an interface: tables, JSON and metrics have them.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use pv_stats::{Counter, DeviceStats, Gauge, Histogram, QueueStats, Source};

/// Makes a structure and the function that reads all of it: no field can be forgotten.
macro_rules! counters {
    (
        $(#[$doc:meta])* $name:ident;
        counters { $($(#[$counter_doc:meta])* $counter:ident,)* }
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)* }
        histograms { $($(#[$histogram_doc:meta])* $histogram:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$counter_doc])* pub $counter: Counter,)*
            $($(#[$gauge_doc])* pub $gauge: Gauge,)*
            $($(#[$histogram_doc])* pub $histogram: Histogram,)*
        }

        impl $name {
            /// All of them, by name.
            pub fn snapshot(&self) -> QueueStats {
                let name = |name: &str| name.to_owned();
                QueueStats {
                    counters: [$((name(stringify!($counter)), self.$counter.get()),)*].into(),
                    gauges: [$((name(stringify!($gauge)), self.$gauge.get()),)*].into(),
                    histograms: [$((name(stringify!($histogram)), self.$histogram.snapshot()),)*]
                        .into(),
                }
            }
        }
    };
}

counters! {
    /// The counters of a queue.
    QueueCounters;
    counters {
        /// Reads answered with success.
        read_requests,
        /// Bytes read.
        read_bytes,
        /// Reads answered with an error, for whatever reason.
        read_errors,
        /// Writes answered with success.
        write_requests,
        /// Bytes written, by barriers too.
        write_bytes,
        /// Writes answered with an error.
        write_errors,
        /// Flushes answered with success.
        flush_requests,
        /// Flushes answered with an error.
        flush_errors,
        /// Barriers answered with success.
        barrier_requests,
        /// Barriers answered with an error.
        barrier_errors,
        /// Discards answered with success.
        discard_requests,
        /// Bytes discarded.
        discard_bytes,
        /// Discards answered with an error.
        discard_errors,
        /// Requests answered with "operation not supported".
        unsupported_requests,
        /// Errors because the request makes no sense: segments, range, alignment.
        invalid_requests,
        /// Errors because the disk cannot be written, or there is none.
        refused_requests,
        /// Errors because a grant could not be mapped.
        grant_errors,
        /// Errors of the medium.
        medium_errors,
        /// Requests whose segments came in other pages; among those above.
        indirect_requests,
        /// Requests that went to the medium together with the one before.
        merged_requests,
        /// How often all slots of the ring were taken.
        ring_full,
        /// Notifications to the front end.
        notifications_sent,
        /// Notifications from the front end; several that came together count once.
        notifications_received,
        /// How often the queue's thread has slept.
        wakeups,
        /// Segments whose page was still mapped.
        persistent_grant_hits,
        /// Segments whose page had to be mapped, of a front end with persistent grants.
        persistent_grant_misses,
    }
    gauges {
        /// Requests not answered yet.
        in_flight,
        /// Pages kept mapped.
        persistent_grants,
    }
    histograms {
        /// From a read's taking to its answer.
        read_latency_ns,
        /// From a write's taking to its answer.
        write_latency_ns,
        /// From a flush's or barrier's taking to its answer.
        flush_latency_ns,
        /// From a discard's taking to its answer.
        discard_latency_ns,
    }
}

/// The counters of a device.
#[derive(Debug)]
pub(crate) struct VbdStats {
    devid: u32,
    name: Mutex<String>,
    state: AtomicU8,
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    /// All there ever were: what a front end's predecessor did still counts.
    all: Vec<Arc<QueueCounters>>,
    /// How many of them the front end uses now.
    used: usize,
}

/// What the device is doing.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Initialising,
    Waiting,
    Connected,
    Closed,
}

impl VbdStats {
    pub(crate) fn new(devid: u32) -> Self {
        Self {
            devid,
            name: Mutex::default(),
            state: AtomicU8::new(State::Initialising as u8),
            queues: Mutex::default(),
        }
    }

    pub(crate) fn set_name(&self, name: String) {
        *self.name.lock().expect("no panic inside") = name;
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The counters of the first `count` queues, which are in use from now on.
    pub(crate) fn queues(&self, count: usize) -> Vec<Arc<QueueCounters>> {
        let mut queues = self.queues.lock().expect("no panic inside");
        while queues.all.len() < count {
            queues.all.push(Arc::default());
        }
        queues.used = count;
        queues.all[..count].to_vec()
    }
}

impl Source for VbdStats {
    fn stats(&self) -> DeviceStats {
        const STATES: [&str; 4] = ["initialising", "waiting", "connected", "closed"];
        let queues = self.queues.lock().expect("no panic inside");
        DeviceStats {
            kind: "vbd".to_owned(),
            devid: self.devid,
            name: self.name.lock().expect("no panic inside").clone(),
            state: STATES[usize::from(self.state.load(Ordering::Relaxed))].to_owned(),
            queues: queues.all[..queues.used]
                .iter()
                .map(|queue| queue.snapshot())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pv_stats::names::{Sort, describe};

    use super::*;

    #[test]
    fn every_number_is_described() {
        let queue = QueueCounters::default().snapshot();
        let is = |name: &str, sort| assert_eq!(describe("vbd", name).map(|d| d.sort), Some(sort));
        queue
            .counters
            .keys()
            .for_each(|name| is(name, Sort::Counter));
        queue.gauges.keys().for_each(|name| is(name, Sort::Gauge));
        queue
            .histograms
            .keys()
            .for_each(|name| is(name, Sort::Histogram));
        let all = queue.counters.len() + queue.gauges.len() + queue.histograms.len();
        assert_eq!(all, pv_stats::names::VBD.len());
    }
}
