//! The counters of a network card. Directions are the guest's, as in `xentop`: `rx_*` is what it
//! receives, `tx_*` what it sends. An interface of the host that carries it counts the other way
//! round.

use std::sync::{Arc, Mutex};

use pv_stats::{Counter, DeviceStats, QueueStats, Source};

/// Declares the counters of a queue, once, with their names for the outside.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A queue's counters; its thread writes them.
        #[derive(Debug, Default)]
        pub struct QueueCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl QueueCounters {
            /// All of them by name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Packets the link has taken.
    tx_packets,
    /// Their bytes, with Ethernet headers.
    tx_bytes,
    /// Large segments among them.
    tx_gso_packets,
    /// Packets the guest left the checksum out of.
    tx_csum_blank,
    /// Checksums computed here because the link takes no blank ones.
    tx_csum_finished,
    /// Large segments with a checksum, which was made blank.
    tx_gso_csum_fixup,
    /// Refused: shorter than an Ethernet header, or a slot larger than the packet.
    tx_errors_size,
    /// Refused: more slots than a packet may have.
    tx_errors_slots,
    /// Refused: a grant that cannot be mapped.
    tx_errors_grant,
    /// Refused: a blank checksum that cannot be found in the packet.
    tx_errors_csum,
    /// Refused: a large segment whose headers do not fit it, or that the link does not take.
    tx_errors_gso,
    /// Lost by the link.
    tx_drops_link,
    /// Not sent: the cable is pulled.
    tx_drops_link_down,
    /// Not sent: the source address is not the guest's.
    tx_drops_filtered,
    /// Times the rate limit made the guest wait.
    tx_rate_limited,
    /// Times the link had no room, which made the guest wait.
    tx_link_busy,
    /// Times all slots of the transmit ring were found in use.
    tx_ring_full,
    /// Multicast addresses asked for or given up.
    tx_multicast_requests,
    /// Frames given to the guest.
    rx_packets,
    /// Their bytes, with Ethernet headers.
    rx_bytes,
    /// Large segments among them.
    rx_gso_packets,
    /// Frames given without a checksum.
    rx_csum_blank,
    /// Checksums computed here because the guest does not take them blank.
    rx_csum_finished,
    /// Bytes that were copied once more: the guest had posted too few buffers when they came, or a
    /// jumbo frame was not the large segment expected.
    rx_copied_bytes,
    /// Buffers refused: a grant that cannot be mapped for writing.
    rx_errors_grant,
    /// Failures of the link.
    rx_errors_link,
    /// Lost: the guest posted no buffers for too long.
    rx_drops_no_buffers,
    /// Lost: longer than the guest takes, or shorter than an Ethernet header.
    rx_drops_size,
    /// Lost: a large segment, or one of a kind, that the guest does not take.
    rx_drops_gso,
    /// Not given: a multicast frame the guest did not ask for.
    rx_drops_multicast,
    /// Not given: another guest's frame.
    rx_drops_filtered,
    /// Not given: the cable is pulled.
    rx_drops_link_down,
    /// Times the guest had posted no buffers for so long that frames were given up.
    rx_stalls,
    /// Notifications to the guest; compare `responses`.
    notifications_sent,
    /// Notifications from the guest, as far as they were seen apart.
    notifications_received,
    /// Times the queue's thread woke up.
    wakeups,
    /// Transmit requests taken, slots of extra information among them.
    requests,
    /// Responses of both rings.
    responses,
}

/// A card's counters.
#[derive(Debug)]
pub(super) struct VifStats {
    pub devid: u32,
    pub name: String,
    pub connection: Mutex<Connection>,
}

/// What changes with the handshake.
#[derive(Debug)]
pub(super) struct Connection {
    pub state: &'static str,
    /// Of this connection, or the last one.
    pub queues: Vec<Arc<QueueCounters>>,
}

impl VifStats {
    /// The card is connected, by these queues.
    pub fn connected(&self, queues: Vec<Arc<QueueCounters>>) {
        let state = "connected";
        *self.connection.lock().expect("no panic inside") = Connection { state, queues };
    }

    /// The card is in another state.
    pub fn set_state(&self, state: &'static str) {
        self.connection.lock().expect("no panic inside").state = state;
    }
}

impl Source for VifStats {
    fn stats(&self) -> DeviceStats {
        let connection = self.connection.lock().expect("no panic inside");
        DeviceStats {
            kind: "vif".into(),
            devid: self.devid,
            name: self.name.clone(),
            state: connection.state.into(),
            queues: connection.queues.iter().map(|q| q.stats()).collect(),
        }
    }
}

impl QueueCounters {
    /// All counters, and the four sums that `xentop` shows: `rx_errors`, `rx_drops`, `tx_errors`,
    /// `tx_drops`.
    fn stats(&self) -> QueueStats {
        let mut stats = QueueStats::default();
        for (name, value) in self.named() {
            stats.counters.insert(name.into(), value);
            for sum in ["rx_errors", "rx_drops", "tx_errors", "tx_drops"] {
                if name.starts_with(sum) {
                    *stats.counters.entry(sum.into()).or_default() += value;
                }
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use pv_stats::names::{VIF, describe};

    use super::*;

    #[test]
    fn every_number_is_described() {
        let queue = QueueCounters::default().stats();
        for name in queue.counters.keys() {
            assert!(describe("vif", name).is_some(), "{name}");
        }
        assert_eq!(queue.counters.len(), VIF.len());
    }
}
