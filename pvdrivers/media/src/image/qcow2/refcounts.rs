//! Refcounts of an image that is written to, all of them in memory.

use std::collections::BTreeSet;
use std::io;

use super::header::Header;
use crate::image::bytes::{be, to_be64s};

/// Most clusters of an image that is written to: their refcounts take 512 MiB.
pub(super) const MAX_CLUSTERS: u64 = 1 << 28;

/// How often each cluster of the file is referred to.
#[derive(Debug, Default)]
pub(super) struct Refcounts {
    counts: Vec<u16>,
    cluster_bits: u32,
    order: u32,
    per_block: u64,
    /// Where the blocks are; zero for none.
    pub blocks: Vec<u64>,
    /// Blocks whose content differs from the file's.
    pub dirty: BTreeSet<usize>,
    /// Blocks that the table in the file does not know of.
    pub unlinked: BTreeSet<usize>,
    /// Where the table is.
    pub table: u64,
    table_clusters: u64,
    /// The header does not know where it is.
    pub table_moved: bool,
    /// No cluster before it is free.
    first_free: u64,
    /// From here on nothing was ever written to the file: it is zero.
    virgin: u64,
}

/// New clusters, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    pub first: u64,
    pub count: u64,
    /// They are zero.
    pub virgin: bool,
}

impl Refcounts {
    pub(super) fn new(header: &Header, counts: Vec<u16>, blocks: Vec<u64>) -> Self {
        Self {
            counts,
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            per_block: header.refcounts_per_block(),
            blocks,
            dirty: BTreeSet::new(),
            unlinked: BTreeSet::new(),
            table: header.refcount_table,
            table_clusters: header.refcount_clusters,
            table_moved: false,
            first_free: 0,
            virgin: header.clusters(),
        }
    }

    pub(super) fn get(&self, cluster: u64) -> u16 {
        self.counts.get(cluster as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, cluster: u64, count: u16) {
        let index = cluster as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = count;
        self.dirty.insert((cluster / self.per_block) as usize);
        if count == 0 {
            self.first_free = self.first_free.min(cluster);
        }
    }

    /// The count must be written even though nothing changed it here.
    pub(super) fn correct(&mut self, cluster: u64) {
        self.dirty.insert((cluster / self.per_block) as usize);
    }

    /// Takes up to `most` clusters, at least one.
    pub(super) fn allocate(&mut self, most: u64) -> io::Result<Allocation> {
        let mut first = self.first_free;
        while self.get(first) != 0 {
            first += 1;
        }
        self.first_free = first;
        let virgin = first >= self.virgin;
        let fits = |c: u64| self.get(c) == 0 && (c >= self.virgin) == virgin;
        let count = (0..most.max(1)).take_while(|i| fits(first + i)).count() as u64;
        self.take(first, count, virgin)
    }

    /// Takes exactly `count` adjacent clusters.
    pub(super) fn allocate_run(&mut self, count: u64) -> io::Result<u64> {
        let mut first = self.first_free;
        while let Some(used) = (0..count).rev().find(|i| self.get(first + i) != 0) {
            first += used + 1;
        }
        Ok(self.take(first, count, false)?.first)
    }

    fn take(&mut self, first: u64, count: u64, virgin: bool) -> io::Result<Allocation> {
        if first + count > MAX_CLUSTERS {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        (first..first + count).for_each(|cluster| self.set(cluster, 1));
        self.virgin = self.virgin.max(first + count);
        Ok(Allocation {
            first,
            count,
            virgin,
        })
    }

    /// One reference less; whether it was the last.
    pub(super) fn release(&mut self, cluster: u64) -> bool {
        let count = self.get(cluster).saturating_sub(1);
        self.set(cluster, count);
        count == 0
    }

    /// Finds a place for blocks and a table that hold all that is dirty. Returns clusters that
    /// nothing will refer to afterwards.
    pub(super) fn make_room(&mut self) -> io::Result<Vec<u64>> {
        let mut freed = Vec::new();
        loop {
            let placed = |block: &usize| self.blocks.get(*block).is_some_and(|offset| *offset != 0);
            let cluster_size = 1u64 << self.cluster_bits;
            let Some(&missing) = self.dirty.iter().find(|block| !placed(block)) else {
                if self.table_moved || !self.depends_on_new() {
                    return Ok(freed);
                }
                freed.extend(self.move_table(self.table_clusters)?);
                continue;
            };
            let capacity = self.table_clusters * cluster_size / 8;
            if missing as u64 >= capacity {
                let entries = (missing as u64 + 1) * 3 / 2;
                freed.extend(self.move_table((entries * 8).div_ceil(cluster_size))?);
                continue;
            }
            let cluster = self.allocate_run(1)?;
            if self.blocks.len() <= missing {
                self.blocks.resize(missing + 1, 0);
            }
            self.blocks[missing] = cluster << self.cluster_bits;
            self.unlinked.insert(missing);
        }
    }

    /// Whether a new block is counted in another new one. A power cut between linking the two
    /// would leave it in use and not counted, so all have to be linked at once, by a new table.
    fn depends_on_new(&self) -> bool {
        self.unlinked.iter().any(|block| {
            let cluster = self.blocks[*block] >> self.cluster_bits;
            let counted_in = (cluster / self.per_block) as usize;
            counted_in != *block && self.unlinked.contains(&counted_in)
        })
    }

    /// Finds a new place for the table; returns the old one's clusters.
    fn move_table(&mut self, clusters: u64) -> io::Result<std::ops::Range<u64>> {
        let first = self.allocate_run(clusters)?;
        let old = self.table >> self.cluster_bits;
        let old = old..old + self.table_clusters;
        (self.table, self.table_clusters) = (first << self.cluster_bits, clusters);
        self.table_moved = true;
        Ok(old)
    }

    /// The content of a block.
    pub(super) fn block(&self, block: usize) -> Vec<u8> {
        let first = block as u64 * self.per_block;
        let counts = (0..self.per_block).map(|i| self.get(first + i));
        encode(counts, self.order, 1 << self.cluster_bits)
    }

    /// The content of the whole table.
    pub(super) fn table_bytes(&self) -> Vec<u8> {
        let mut bytes = to_be64s(&self.blocks);
        bytes.resize((self.table_clusters << self.cluster_bits) as usize, 0);
        bytes
    }

    /// What the header says of the table.
    pub(super) fn header_field(&self) -> [u8; 12] {
        let mut field = [0; 12];
        field[..8].copy_from_slice(&self.table.to_be_bytes());
        field[8..].copy_from_slice(&(self.table_clusters as u32).to_be_bytes());
        field
    }
}

fn encode(counts: impl Iterator<Item = u16>, order: u32, size: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; size];
    for (i, count) in counts.enumerate() {
        match order {
            0..3 => {
                let per_byte = 8 >> order;
                bytes[i / per_byte] |= (count as u8) << (i % per_byte * (1 << order));
            }
            _ => {
                let width = 1 << (order - 3);
                let wide = u64::from(count).to_be_bytes();
                bytes[i * width..][..width].copy_from_slice(&wide[8 - width..]);
            }
        }
    }
    bytes
}

/// The counts of a block; `None` for one beyond 65535.
pub(super) fn decode(bytes: &[u8], order: u32) -> Vec<Option<u16>> {
    match order {
        0..3 => {
            let per_byte = 8 >> order;
            let mask = (1u16 << (1 << order)) - 1;
            let of = |byte: u8, i: usize| u16::from(byte) >> (i * (1 << order)) & mask;
            let all = bytes
                .iter()
                .flat_map(|byte| (0..per_byte).map(move |i| of(*byte, i)));
            all.map(Some).collect()
        }
        _ => {
            let width = 1 << (order - 3);
            let all = (0..bytes.len() / width).map(|i| be(bytes, i * width, width));
            all.map(|count| u16::try_from(count).ok()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_every_width() {
        for order in 0..=6 {
            let most = if order > 3 {
                65535
            } else {
                (1u32 << (1 << order)) - 1
            } as u16;
            let n = (512 * 8) >> order;
            let counts: Vec<u16> = (0..n).map(|i| (i as u16).wrapping_mul(31) & most).collect();
            let bytes = encode(counts.iter().copied(), order, 512);
            let back: Vec<_> = decode(&bytes, order).into_iter().flatten().collect();
            assert_eq!(back, counts, "order {order}");
        }
        assert_eq!(decode(&[0, 1, 0, 0], 5), [None]);
        // The lowest bits come first.
        assert_eq!(
            decode(&[0b10_01_00_11], 1),
            [Some(3), Some(0), Some(1), Some(2)]
        );
    }
}
