//! From a request's segments to the guest's memory.

use pv_backend::Host;
use pv_ring::{Access, SharedPage};
use xen_sys::io::blkif::{BlkifRequest, BlkifRequestSegment};
use zerocopy::IntoBytes;

use super::super::buffers::Buffers;
use super::super::request::{Head, Kind, Refusal, Segments, check_segments};
use super::{BlockQueue, Mapped, PageOf};
use crate::wire::SEGMENTS_PER_INDIRECT_PAGE;

impl<H: Host> BlockQueue<H> {
    /// Checks and maps what a request reads or writes: first byte and bytes on the disk, and the
    /// memory.
    pub(super) fn map(
        &mut self,
        request: &BlkifRequest,
        head: &Head,
    ) -> Result<Mapped<PageOf<H>>, Refusal> {
        let medium = self.geometry.medium.ok_or(Refusal::Refused)?;
        let count = self.geometry.check_count(head)?;
        if count == 0 {
            // An empty barrier's sector means nothing; Linux leaves -1 there.
            return Ok(((0, 0), Buffers::default()));
        }
        let mut segments = std::mem::take(&mut self.segments);
        let result = self
            .copy_segments(request, head, count, &mut segments)
            .and_then(|()| check_segments(&medium, head.sector, &segments))
            .and_then(|range| Ok((range, self.map_segments(head.kind, &segments)?)));
        self.segments = segments;
        result
    }

    /// The segments leave the guest's memory here, once: what the guest does to them later matters
    /// to nobody.
    fn copy_segments(
        &mut self,
        request: &BlkifRequest,
        head: &Head,
        count: usize,
        to: &mut Vec<BlkifRequestSegment>,
    ) -> Result<(), Refusal> {
        to.clear();
        let Segments::Indirect(_, grefs) = &head.segments else {
            to.extend_from_slice(&request.seg[..count]);
            return Ok(());
        };
        to.resize(count, BlkifRequestSegment::default());
        for (gref, to) in grefs.iter().zip(to.chunks_mut(SEGMENTS_PER_INDIRECT_PAGE)) {
            let page = self.grants.get(*gref, Access::Read, &self.counters);
            let page = page.map_err(|_| Refusal::Grant)?;
            page.page().read(0, to.as_mut_bytes());
        }
        Ok(())
    }

    fn map_segments(
        &mut self,
        kind: Kind,
        segments: &[BlkifRequestSegment],
    ) -> Result<Buffers<PageOf<H>>, Refusal> {
        // The memory of a read is written to.
        let access = match kind {
            Kind::Read => Access::ReadWrite,
            _ => Access::Read,
        };
        let mut buffers = self.pool.pop().unwrap_or_default();
        let mut refused = false;
        let mut at = segments.iter();
        let grefs = segments.iter().map(|segment| segment.gref);
        self.grants.get_many(grefs, access, &self.counters, |page| {
            match (page, at.next()) {
                (Ok(page), Some(segment)) => {
                    let first = usize::from(segment.first_sect) * 512;
                    let end = (usize::from(segment.last_sect) + 1) * 512;
                    buffers.push(page, first..end);
                }
                _ => refused = true,
            }
        });
        if refused {
            self.recycle(buffers);
            return Err(Refusal::Grant);
        }
        Ok(buffers)
    }
}
