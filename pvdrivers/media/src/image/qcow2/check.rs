//! Counts what refers to each cluster of an image that is to be written to, before anything is.
//!
//! An image in which two things own the same cluster, or where a cluster in use counts as free, is
//! refused: writing to the one would destroy the other. What is counted as used but is not was
//! leaked by a crash and becomes free, if everything in the image is understood.

use super::COMPRESSED;
use std::collections::HashSet;

use super::header::{Fault, Header, OFFSET};
use super::refcounts::{MAX_CLUSTERS, Refcounts, decode};
use crate::MediumError;
use crate::file::MediaFile;
use crate::image::bytes::{be, be64s};

/// What a cluster is used for; bits.
const META: u8 = 1;
const L2: u8 = 2;
const DATA: u8 = 4;

struct Census<'a> {
    file: &'a MediaFile,
    header: &'a Header,
    uses: Vec<u16>,
    kinds: Vec<u8>,
}

/// The refcounts, after they were found to be right.
pub(super) fn refcounts(
    file: &MediaFile,
    header: &Header,
    l1: &[u64],
) -> Result<Refcounts, MediumError> {
    let clusters = header.clusters();
    if clusters > MAX_CLUSTERS {
        let why = format!(
            "its file has {clusters} clusters; {MAX_CLUSTERS} are the most that can be written to"
        );
        return Err(Fault::Needs(why).of(file.path()));
    }
    let mut census = Census {
        file,
        header,
        uses: vec![0; clusters as usize],
        kinds: vec![0; clusters as usize],
    };
    census.count(0, header.cluster_size(), META)?;
    census.l1(header.l1_offset, l1)?;
    census.snapshots()?;
    let table_bytes = header.refcount_clusters * header.cluster_size();
    census.count(header.refcount_table, table_bytes, META)?;
    let entries = (table_bytes / 8) as usize;
    let mut blocks = header.read_table(file, header.refcount_table, entries)?;
    while blocks.last() == Some(&0) {
        blocks.pop();
    }
    let stored = census.stored(&blocks)?;
    census.compare(stored, blocks)
}

impl Census<'_> {
    fn damaged(&self, why: String) -> MediumError {
        Fault::Damaged(why).of(self.file.path())
    }

    /// One more use of the clusters that a range touches.
    fn count(&mut self, offset: u64, len: u64, kind: u8) -> Result<(), MediumError> {
        let end = offset.saturating_add(len.max(1));
        let first = offset >> self.header.cluster_bits;
        let last = (end - 1) >> self.header.cluster_bits;
        if last >= self.uses.len() as u64 {
            return Err(self.damaged(format!("something at {offset} is not within the file")));
        }
        for cluster in first..=last {
            let i = cluster as usize;
            self.uses[i] = self.uses[i].saturating_add(1);
            self.kinds[i] |= kind;
            let shared = self.kinds[i] == META && self.uses[i] > 1;
            if shared || !self.kinds[i].is_power_of_two() {
                let at = cluster << self.header.cluster_bits;
                return Err(self.damaged(format!("the cluster at {at} is used for two things")));
            }
        }
        Ok(())
    }

    /// An L1 table and everything below it.
    fn l1(&mut self, offset: u64, l1: &[u64]) -> Result<(), MediumError> {
        if !l1.is_empty() {
            self.count(offset, l1.len() as u64 * 8, META)?;
        }
        let mut bytes = vec![0; self.header.cluster_size() as usize];
        let mut seen = HashSet::new();
        for entry in l1
            .iter()
            .map(|entry| entry & OFFSET)
            .filter(|offset| *offset != 0)
        {
            if !seen.insert(entry) {
                return Err(self.damaged(format!("two L1 entries refer to the table at {entry}")));
            }
            self.count(entry, bytes.len() as u64, L2)?;
            let read = self.file.read_at(&mut bytes, entry);
            read.map_err(MediumError::file("read a table of", self.file.path()))?;
            for entry in be64s(&bytes) {
                self.cluster(entry)?;
            }
        }
        Ok(())
    }

    fn cluster(&mut self, entry: u64) -> Result<(), MediumError> {
        if let Some((offset, len)) = references(self.header, entry) {
            let compressed = entry & COMPRESSED != 0;
            if !compressed && !self.header.holds(offset) {
                return Err(self.damaged(format!(
                    "an L2 entry refers to {offset}, which is no cluster of the file"
                )));
            }
            self.count(offset, len, DATA)?;
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<(), MediumError> {
        let mut at = self.header.snapshots_offset;
        let begin = at;
        for _ in 0..self.header.snapshots {
            let mut fixed = [0; 40];
            let read = self.file.read_at(&mut fixed, at);
            read.map_err(MediumError::file("read the snapshots of", self.file.path()))?;
            let (l1, entries) = (be(&fixed, 0, 8), be(&fixed, 8, 4));
            let texts = be(&fixed, 12, 2) + be(&fixed, 14, 2) + be(&fixed, 36, 4);
            let end = entries
                .checked_mul(8)
                .and_then(|bytes| l1.checked_add(bytes));
            if !self.header.holds(l1)
                || end.is_none_or(|end| end > self.header.file_size)
                || entries > 4 << 20
            {
                return Err(
                    self.damaged("the L1 table of a snapshot is not within the file".into())
                );
            }
            let table = self.header.read_table(self.file, l1, entries as usize)?;
            self.l1(l1, &table)?;
            at = (at + 40 + texts).next_multiple_of(8);
        }
        if at > begin {
            self.count(begin, at - begin, META)?;
        }
        Ok(())
    }

    /// The counts in the file.
    fn stored(&mut self, blocks: &[u64]) -> Result<Vec<u16>, MediumError> {
        let mut stored = vec![0; self.uses.len()];
        let mut bytes = vec![0; self.header.cluster_size() as usize];
        let per_block = self.header.refcounts_per_block() as usize;
        for (i, offset) in blocks
            .iter()
            .enumerate()
            .filter(|(_, offset)| **offset != 0)
        {
            self.count(*offset, bytes.len() as u64, META)?;
            let read = self.file.read_at(&mut bytes, *offset);
            read.map_err(MediumError::file("read refcounts of", self.file.path()))?;
            for (j, count) in decode(&bytes, self.header.refcount_order)
                .into_iter()
                .enumerate()
            {
                let Some(to) = stored.get_mut(i * per_block + j) else {
                    break;
                };
                let Some(count) = count else {
                    return Err(self.damaged("a cluster has more than 65535 references".into()));
                };
                *to = count;
            }
        }
        Ok(stored)
    }

    fn compare(self, mut stored: Vec<u16>, blocks: Vec<u64>) -> Result<Refcounts, MediumError> {
        let pairs = || self.uses.iter().zip(&stored).enumerate();
        let wrong = pairs().find(|(_, (uses, count))| uses > count);
        if let (Some((cluster, (uses, count))), false) = (wrong, self.header.dirty) {
            return Err(self.damaged(format!(
                "cluster {cluster} has {uses} references, but {count} were counted"
            )));
        }
        let mut corrected = Vec::new();
        if self.header.dirty || !self.header.opaque {
            corrected = pairs()
                .filter(|(_, (uses, count))| uses != count)
                .map(|(i, _)| i as u64)
                .collect();
            stored = self.uses;
        }
        let mut refcounts = Refcounts::new(self.header, stored, blocks);
        corrected
            .into_iter()
            .for_each(|cluster| refcounts.correct(cluster));
        Ok(refcounts)
    }
}

/// The bytes of the file that an L2 entry refers to.
pub(super) fn references(header: &Header, entry: u64) -> Option<(u64, u64)> {
    if entry & COMPRESSED != 0 {
        return Some(super::packed_range(header, entry));
    }
    let offset = entry & OFFSET;
    (offset != 0).then_some((offset, header.cluster_size()))
}
