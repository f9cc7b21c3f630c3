//! What every counter means, for the help lines of metrics and for `docs/statistics.md`.
//!
//! The tests of the back ends look that each of their counters is here.

/// A kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A number that a device's queue tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: &'static str,
    /// What kind of number it is.
    pub sort: Sort,
    /// What it means. The unit is in the name, or it is a number of things.
    pub meaning: &'static str,
}

/// What `name` means for devices of `kind` (`vbd` or `vif`); `None` if that is not known here.
pub fn describe(kind: &str, name: &str) -> Option<&'static Name> {
    let names = match kind {
        "vbd" => VBD,
        "vif" => VIF,
        _ => return None,
    };
    names.iter().find(|known| known.name == name)
}

const fn counter(name: &'static str, meaning: &'static str) -> Name {
    Name {
        name,
        sort: Sort::Counter,
        meaning,
    }
}

const fn gauge(name: &'static str, meaning: &'static str) -> Name {
    Name {
        name,
        sort: Sort::Gauge,
        meaning,
    }
}

const fn histogram(name: &'static str, meaning: &'static str) -> Name {
    Name {
        name,
        sort: Sort::Histogram,
        meaning,
    }
}

/// The numbers of a disk's queue.
pub const VBD: &[Name] = &[
    counter("read_requests", "Reads answered with success"),
    counter("read_bytes", "Bytes read"),
    counter("read_errors", "Reads answered with an error"),
    counter("write_requests", "Writes answered with success"),
    counter("write_bytes", "Bytes written, by barriers too"),
    counter("write_errors", "Writes answered with an error"),
    counter("flush_requests", "Flushes answered with success"),
    counter("flush_errors", "Flushes answered with an error"),
    counter("barrier_requests", "Barriers answered with success"),
    counter("barrier_errors", "Barriers answered with an error"),
    counter("discard_requests", "Discards answered with success"),
    counter("discard_bytes", "Bytes discarded"),
    counter("discard_errors", "Discards answered with an error"),
    counter(
        "unsupported_requests",
        "Requests answered with \"operation not supported\"",
    ),
    counter(
        "invalid_requests",
        "Errors because of the request: its segments, range or alignment",
    ),
    counter(
        "refused_requests",
        "Errors because the disk is read-only, or empty",
    ),
    counter("grant_errors", "Errors because a grant could not be mapped"),
    counter("medium_errors", "Errors of the medium"),
    counter(
        "indirect_requests",
        "Requests with indirect segments, among those above",
    ),
    counter(
        "merged_requests",
        "Requests that went to the medium together with the one before",
    ),
    counter("ring_full", "Times all slots of the ring were in use"),
    counter("notifications_sent", "Notifications to the front end"),
    counter(
        "notifications_received",
        "Notifications from the front end, those that came together once",
    ),
    counter("wakeups", "Times the queue's thread woke up"),
    counter(
        "persistent_grant_hits",
        "Segments whose page was still mapped",
    ),
    counter(
        "persistent_grant_misses",
        "Segments whose page had to be mapped, with persistent grants",
    ),
    gauge("in_flight", "Requests not answered yet"),
    gauge("persistent_grants", "Pages kept mapped"),
    histogram("read_latency_ns", "Time from taking a read to answering it"),
    histogram(
        "write_latency_ns",
        "Time from taking a write to answering it",
    ),
    histogram(
        "flush_latency_ns",
        "Time from taking a flush or barrier to answering it",
    ),
    histogram(
        "discard_latency_ns",
        "Time from taking a discard to answering it",
    ),
];

/// The numbers of a network card's queue. Directions are the guest's.
pub const VIF: &[Name] = &[
    counter("tx_packets", "Packets the guest sent"),
    counter("tx_bytes", "Their bytes, with Ethernet headers"),
    counter("tx_gso_packets", "Large segments among them"),
    counter(
        "tx_csum_blank",
        "Packets the guest left the checksum out of",
    ),
    counter(
        "tx_csum_finished",
        "Checksums computed because the link takes no blank ones",
    ),
    counter(
        "tx_gso_csum_fixup",
        "Large segments with a checksum, which was made blank",
    ),
    counter(
        "tx_errors",
        "Packets of the guest refused: the sum of tx_errors_*",
    ),
    counter(
        "tx_errors_size",
        "Refused: shorter than an Ethernet header, or a slot larger than the packet",
    ),
    counter(
        "tx_errors_slots",
        "Refused: more slots than a packet may have",
    ),
    counter("tx_errors_grant", "Refused: a grant that cannot be mapped"),
    counter(
        "tx_errors_csum",
        "Refused: a blank checksum that cannot be found in the packet",
    ),
    counter(
        "tx_errors_gso",
        "Refused: a large segment with wrong headers, or that the link does not take",
    ),
    counter(
        "tx_drops",
        "Packets of the guest lost: the sum of tx_drops_*",
    ),
    counter("tx_drops_link", "Lost by the link"),
    counter("tx_drops_link_down", "Not sent: the cable is pulled"),
    counter(
        "tx_drops_filtered",
        "Not sent: the source address is not the guest's",
    ),
    counter(
        "tx_rate_limited",
        "Times the rate limit made the guest wait",
    ),
    counter(
        "tx_link_busy",
        "Times the link had no room, which made the guest wait",
    ),
    counter(
        "tx_ring_full",
        "Times all slots of the transmit ring were in use",
    ),
    counter(
        "tx_multicast_requests",
        "Multicast addresses asked for or given up",
    ),
    counter("rx_packets", "Packets the guest received"),
    counter("rx_bytes", "Their bytes, with Ethernet headers"),
    counter("rx_gso_packets", "Large segments among them"),
    counter("rx_csum_blank", "Packets given without a checksum"),
    counter(
        "rx_csum_finished",
        "Checksums computed because the guest does not take them blank",
    ),
    counter(
        "rx_copied_bytes",
        "Bytes copied once more: too few buffers were posted when they came, or they were no large segment after all",
    ),
    counter("rx_errors", "Failures in receiving: the sum of rx_errors_*"),
    counter(
        "rx_errors_grant",
        "Buffers refused: a grant that cannot be mapped for writing",
    ),
    counter("rx_errors_link", "Failures of the link"),
    counter(
        "rx_drops",
        "Packets for the guest lost: the sum of rx_drops_*",
    ),
    counter(
        "rx_drops_no_buffers",
        "Lost: the guest posted no buffers for too long",
    ),
    counter(
        "rx_drops_size",
        "Lost: longer than the guest takes, or shorter than an Ethernet header",
    ),
    counter(
        "rx_drops_gso",
        "Lost: a large segment, or one of a kind, that the guest does not take",
    ),
    counter(
        "rx_drops_multicast",
        "Not given: a multicast frame the guest did not ask for",
    ),
    counter(
        "rx_drops_filtered",
        "Not given: a frame for another address",
    ),
    counter("rx_drops_link_down", "Not given: the cable is pulled"),
    counter(
        "rx_stalls",
        "Times the guest posted no buffers for so long that frames were given up",
    ),
    counter("notifications_sent", "Notifications to the front end"),
    counter(
        "notifications_received",
        "Notifications from the front end, those that came together once",
    ),
    counter("wakeups", "Times the queue's thread woke up"),
    counter(
        "requests",
        "Transmit requests taken, slots of extra information among them",
    ),
    counter("responses", "Responses of both rings"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once_and_in_one_sense() {
        for names in [VBD, VIF] {
            for (at, name) in names.iter().enumerate() {
                assert!(names[at + 1..].iter().all(|other| other.name != name.name));
            }
        }
        for vbd in VBD {
            // A metric has one help line, whatever device it is of.
            let vif = describe("vif", vbd.name);
            assert!(vif.is_none_or(|vif| vif == vbd), "{vbd:?}");
        }
        assert_eq!(describe("vbd", "in_flight").unwrap().sort, Sort::Gauge);
        assert_eq!(describe("vfb", "in_flight"), None);
    }

    /// What people read of the names is what programs are told.
    #[test]
    fn the_documentation_has_every_name() {
        let text = include_str!("../../../docs/statistics.md");
        for name in VBD.iter().chain(VIF) {
            let row = format!("| `{}` | {} |", name.name, name.meaning);
            assert!(text.contains(&row), "docs/statistics.md lacks: {row}");
        }
    }
}
