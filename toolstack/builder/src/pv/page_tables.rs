//! The initial page tables of a PV domain: four levels, 4 KiB pages only.
//!
//! Direct paging: entries hold machine frames. A 64-bit PV kernel runs in ring 3, so every entry
//! has `_PAGE_USER`; the accessed bit is set so that the CPU need not. The page tables themselves
//! are mapped read-only, which Xen insists on; everything else can be written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use xen_sys::addr::{Mfn, PAGE_SHIFT, Pfn, Vaddr};

use super::layout::{Layout, Region};

/// `_PAGE_PRESENT`.
pub const PAGE_PRESENT: u64 = 1 << 0;
/// `_PAGE_RW`.
pub const PAGE_RW: u64 = 1 << 1;
/// `_PAGE_USER`.
pub const PAGE_USER: u64 = 1 << 2;
/// `_PAGE_ACCESSED`.
pub const PAGE_ACCESSED: u64 = 1 << 5;

const ENTRIES: usize = 512;
const LEVEL_BITS: u32 = 9;
const ADDRESS_BITS: u32 = 48;
const TOP_LEVEL: u32 = 4;

/// One table: its level (4 is the top) and which table of its level, counted from address 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    level: u32,
    index: u64,
}

/// The tables of one level that map a range of addresses.
pub(super) struct LevelTables {
    level: u32,
    /// Which of the level's tables, counted from address 0.
    pub indices: RangeInclusive<u64>,
}

/// The tables that map a range of canonical addresses, top level first.
pub(super) fn tables_needed(range: RangeInclusive<Vaddr>) -> impl Iterator<Item = LevelTables> {
    let (first, last) = (low_bits(range.start().0), low_bits(range.end().0));
    (1..=TOP_LEVEL).rev().map(move |level| {
        let shift = PAGE_SHIFT + LEVEL_BITS * level;
        LevelTables {
            level,
            indices: first >> shift..=last >> shift,
        }
    })
}

/// Without the sign extension, so that indices count up from 0.
fn low_bits(address: u64) -> u64 {
    address & ((1 << ADDRESS_BITS) - 1)
}

/// The tables of a layout, each in its page.
pub(super) struct PageTables<'a> {
    layout: &'a Layout,
    tables: BTreeMap<Table, Pfn>,
}

impl<'a> PageTables<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let mut tables: BTreeMap<_, _> = needed(&layout.mapping)
            .zip(pages(&layout.page_tables))
            .collect();
        if layout.p2m_is_outside() {
            let missing = needed(&layout.p2m).filter(|table| !tables.contains_key(table));
            let missing: Vec<_> = missing.zip(pages(&layout.p2m_tables)).collect();
            tables.extend(missing);
        }
        Self { layout, tables }
    }

    /// The tables with the pages they lie in.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, Pfn)> {
        self.tables.iter().map(|(table, pfn)| (*table, *pfn))
    }

    /// The entries of a table.
    pub(super) fn entries(&self, table: Table, mfn: impl Fn(Pfn) -> Mfn) -> [u64; ENTRIES] {
        let mut entries = [0; ENTRIES];
        for (slot, entry) in (table.index * ENTRIES as u64..).zip(&mut entries) {
            let target = match table.level {
                1 => self.page_at(slot),
                level => self
                    .tables
                    .get(&Table {
                        level: level - 1,
                        index: slot,
                    })
                    .copied(),
            };
            let Some(target) = target else { continue };
            let read_only = table.level == 1 && self.is_page_table(target);
            let access = if read_only { 0 } else { PAGE_RW };
            *entry = mfn(target).addr().0 | PAGE_PRESENT | access | PAGE_USER | PAGE_ACCESSED;
        }
        entries
    }

    /// The page that is mapped at virtual page number `vpn`, counted without sign extension.
    fn page_at(&self, vpn: u64) -> Option<Pfn> {
        let mapped_by = |region: &Region| {
            let first = low_bits(region.mapped_at?.0) >> PAGE_SHIFT;
            let offset = vpn
                .checked_sub(first)
                .filter(|offset| *offset < region.pages)?;
            Some(Pfn(region.pfn.0 + offset))
        };
        mapped_by(&self.layout.mapping).or_else(|| mapped_by(&self.layout.p2m))
    }

    fn is_page_table(&self, pfn: Pfn) -> bool {
        self.layout.page_tables.contains(pfn) || self.layout.p2m_tables.contains(pfn)
    }
}

fn needed(region: &Region) -> impl Iterator<Item = Table> {
    let first = region.vaddr();
    let last = Vaddr(first.0 + ((region.pages << PAGE_SHIFT) - 1));
    tables_needed(first..=last)
        .flat_map(|LevelTables { level, indices }| indices.map(move |index| Table { level, index }))
}

fn pages(region: &Region) -> impl Iterator<Item = Pfn> {
    (region.pfn.0..region.end().0).map(Pfn)
}
