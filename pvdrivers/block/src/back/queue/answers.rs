//! Answering requests, and counting what became of them.

use std::time::Instant;

use pv_backend::Host;
use pv_ring::EventChannel;
use xen_sys::io::blkif::{BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, BlkifResponse};

use super::super::request::{Head, Kind, Refusal};
use super::{BlockQueue, Part, QueueError};

impl<H: Host> BlockQueue<H> {
    /// Answers the parts of a request to the medium.
    pub(super) fn finish(&mut self, tag: u32, ok: bool, now: Instant) {
        let slot = &mut self.slots[tag as usize];
        let (kind, started) = (slot.kind, slot.started);
        let mut parts = std::mem::take(&mut slot.parts);
        self.free.push(tag);
        if !ok && parts.len() > 1 {
            // One bad sector is not to fail its neighbours.
            for part in &parts {
                self.accept(&part.again, started, false);
            }
        } else {
            let latency = now.saturating_duration_since(started).as_nanos() as u64;
            for part in &parts {
                self.answer_done(kind, part, ok, latency);
            }
        }
        parts.clear();
        // The room for the parts is used again, unless a retry has taken the slot.
        let slot = &mut self.slots[tag as usize];
        if slot.parts.is_empty() {
            slot.parts = parts;
        }
    }

    fn answer_done(&mut self, kind: Kind, part: &Part, ok: bool, latency: u64) {
        let counters = &self.counters;
        let histogram = match kind {
            Kind::Read => &counters.read_latency_ns,
            Kind::Discard => &counters.discard_latency_ns,
            Kind::Flush | Kind::Barrier => &counters.flush_latency_ns,
            Kind::Write | Kind::Unknown => &counters.write_latency_ns,
        };
        histogram.record(latency);
        if ok {
            let (requests, bytes) = match kind {
                Kind::Read => (&counters.read_requests, &counters.read_bytes),
                Kind::Discard => (&counters.discard_requests, &counters.discard_bytes),
                Kind::Flush => (&counters.flush_requests, &counters.write_bytes),
                Kind::Barrier => (&counters.barrier_requests, &counters.write_bytes),
                Kind::Write | Kind::Unknown => (&counters.write_requests, &counters.write_bytes),
            };
            requests.add(1);
            bytes.add(part.bytes);
        } else {
            self.count_error(kind);
            self.counters.medium_errors.add(1);
        }
        let status = if ok { BLKIF_RSP_OKAY } else { BLKIF_RSP_ERROR };
        self.answer(part.id, part.operation, status);
    }

    fn count_error(&self, kind: Kind) {
        let counters = &self.counters;
        match kind {
            Kind::Read => counters.read_errors.add(1),
            Kind::Write => counters.write_errors.add(1),
            Kind::Flush => counters.flush_errors.add(1),
            Kind::Barrier => counters.barrier_errors.add(1),
            Kind::Discard => counters.discard_errors.add(1),
            Kind::Unknown => {}
        }
    }

    pub(super) fn refuse(&mut self, head: &Head, refusal: Refusal) {
        let counters = &self.counters;
        let counter = match refusal {
            Refusal::Unsupported => &counters.unsupported_requests,
            Refusal::Invalid => &counters.invalid_requests,
            Refusal::Refused => &counters.refused_requests,
            Refusal::Grant => &counters.grant_errors,
        };
        counter.add(1);
        self.count_error(head.kind);
        let status = match refusal {
            Refusal::Unsupported => BLKIF_RSP_EOPNOTSUPP,
            _ => BLKIF_RSP_ERROR,
        };
        self.answer(head.id, head.operation, status);
    }

    fn answer(&mut self, id: u64, operation: u8, status: i16) {
        let response = BlkifResponse {
            id,
            operation,
            status,
            ..Default::default()
        };
        // The ring counts privately what it gave out: there is room for each answer.
        let pushed = self.ring.push(&response);
        debug_assert!(pushed.is_ok(), "a request is answered once");
        self.unpublished = true;
    }

    pub(super) fn publish(&mut self) -> Result<(), QueueError> {
        if std::mem::take(&mut self.unpublished) && self.ring.publish() {
            self.counters.notifications_sent.add(1);
            self.channel.notify().map_err(QueueError::Channel)?;
        }
        Ok(())
    }
}
