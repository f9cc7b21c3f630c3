//! What is known of an image, ahead of what is in its file.

use std::collections::{BTreeSet, HashMap};

use super::header::{Header, OFFSET};
use super::refcounts::Refcounts;
use crate::image::bytes::be64s;

/// Bytes of L2 tables that are kept at least, as far as there are as many.
const CACHE: u64 = 32 << 20;

/// What is known of an image, ahead of what is in its file.
#[derive(Debug)]
pub(super) struct State {
    pub l1: Vec<u64>,
    /// Entries that differ from the file's.
    pub l1_dirty: BTreeSet<usize>,
    /// Where the L1 table is, and whether the header knows.
    pub l1_offset: u64,
    pub l1_moved: bool,
    /// Bytes of the disk as the header has it, and as it shall have it.
    pub size: u64,
    pub new_size: Option<u64>,
    /// Bytes of the file.
    pub file_size: u64,
    /// Clusters that nothing in memory refers to any more, while the file still does.
    pub freed: Vec<u64>,
    /// A table that stays.
    pub pinned: Option<usize>,
    tables: HashMap<usize, Table>,
    most_tables: usize,
    clock: u64,
    /// Of an image that is written to.
    pub refcounts: Refcounts,
    pub epochs: Epochs,
}

/// An L2 table.
#[derive(Debug)]
pub(super) struct Table {
    /// Where it is.
    pub offset: u64,
    pub entries: Vec<u64>,
    pub dirty: bool,
    /// Nothing in the file refers to it yet.
    pub fresh: bool,
    /// It is on its way into the file.
    pub writing: bool,
    used: u64,
}

impl Table {
    pub(super) fn loaded(offset: u64, bytes: &[u8]) -> Self {
        Self {
            offset,
            entries: be64s(bytes),
            dirty: false,
            fresh: false,
            writing: false,
            used: 0,
        }
    }
}

impl State {
    pub(super) fn new(header: &Header, l1: Vec<u64>) -> Self {
        Self {
            l1,
            l1_dirty: BTreeSet::new(),
            l1_offset: header.l1_offset,
            l1_moved: false,
            size: header.size,
            new_size: None,
            file_size: header.clusters() * header.cluster_size(),
            freed: Vec::new(),
            pinned: None,
            tables: HashMap::new(),
            most_tables: (CACHE / header.cluster_size()).max(16) as usize,
            clock: 0,
            refcounts: Refcounts::default(),
            epochs: Epochs::default(),
        }
    }

    /// Whether nothing has to be read to know the clusters of an L1 entry.
    pub(super) fn has(&self, l1: usize) -> bool {
        self.l1.get(l1).is_none_or(|entry| entry & OFFSET == 0) || self.tables.contains_key(&l1)
    }

    /// The table of an L1 entry, if there is one.
    pub(super) fn table(&mut self, l1: usize) -> Option<&mut Table> {
        self.clock += 1;
        let table = self.tables.get_mut(&l1)?;
        table.used = self.clock;
        Some(table)
    }

    /// Adds a table; an old one that is as in the file makes room.
    pub(super) fn insert(&mut self, l1: usize, mut table: Table) {
        self.clock += 1;
        table.used = self.clock;
        if self.tables.len() >= self.most_tables {
            let keep = |l1: &usize, table: &Table| {
                table.dirty || table.writing || table.fresh || self.pinned == Some(*l1)
            };
            let clean = self.tables.iter().filter(|(l1, table)| !keep(l1, table));
            if let Some(oldest) = clean.min_by_key(|(_, table)| table.used).map(|(l1, _)| *l1) {
                self.tables.remove(&oldest);
            }
        }
        self.tables.insert(l1, table);
    }

    /// A new table for an L1 entry, at a host offset.
    pub(super) fn insert_fresh(&mut self, l1: usize, offset: u64, entries: Vec<u64>) {
        self.l1[l1] = offset | super::COPIED;
        self.l1_dirty.insert(l1);
        let table = Table {
            offset,
            entries,
            dirty: true,
            fresh: true,
            writing: false,
            used: 0,
        };
        self.insert(l1, table);
    }

    pub(super) fn dirty_tables(&mut self) -> impl Iterator<Item = (usize, &mut Table)> {
        let tables = self.tables.iter_mut().filter(|(_, table)| table.dirty);
        tables.map(|(l1, table)| (*l1, table))
    }

    /// Whether the file has everything and nothing waits to be freed.
    pub(super) fn is_settled(&self) -> bool {
        self.freed.is_empty() && self.refcounts.dirty.is_empty() && self.epochs.is_empty()
    }

    /// Whether so much waits to be written that somebody should.
    pub(super) fn is_full(&mut self) -> bool {
        self.tables.len() >= self.most_tables && self.dirty_tables().count() > self.most_tables / 2
    }
}

/// Which requests may still use clusters that nothing refers to any more.
///
/// Requests enter the current epoch. A new one begins when there is something to be freed; that is
/// free when the last request of the old one has left.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    current: usize,
    inside: [usize; 2],
    /// References that are gone from the file; waits for the old epoch to end.
    resting: Vec<u64>,
    /// References that are gone from the file since.
    next: Vec<u64>,
}

impl Epochs {
    pub(super) fn enter(&mut self) -> usize {
        self.inside[self.current] += 1;
        self.current
    }

    pub(super) fn leave(&mut self, epoch: usize) {
        self.inside[epoch] -= 1;
    }

    fn is_empty(&self) -> bool {
        self.resting.is_empty() && self.next.is_empty()
    }

    /// Takes clusters to which nothing durable refers any more.
    pub(super) fn retire(&mut self, clusters: impl IntoIterator<Item = u64>) {
        self.next.extend(clusters);
    }

    /// The clusters that nobody uses any more.
    pub(super) fn collect(&mut self) -> Vec<u64> {
        if self.resting.is_empty() && !self.next.is_empty() && self.inside[1 - self.current] == 0 {
            self.resting = std::mem::take(&mut self.next);
            self.current = 1 - self.current;
        }
        match self.inside[1 - self.current] {
            0 => std::mem::take(&mut self.resting),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_waits_for_those_who_may_use_it() {
        let mut epochs = Epochs::default();
        let early = epochs.enter();
        epochs.retire([7]);
        assert_eq!(epochs.collect(), []);
        let late = epochs.enter();
        epochs.retire([8]);
        assert_eq!(epochs.collect(), []);
        epochs.leave(early);
        assert_eq!(epochs.collect(), [7]);
        assert_eq!(epochs.collect(), []);
        epochs.leave(late);
        assert_eq!(epochs.collect(), [8]);
    }
}
