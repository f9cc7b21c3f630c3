//! Writing the state to the file. The order is told in [`super`].

use std::io;
use std::sync::atomic::Ordering;

use super::Qcow2;
use super::header::Header;
use super::state::State;
use crate::engine::Files;
use crate::file::MediaFile;
use crate::image::bytes::to_be64s;

/// Bytes for an offset of the file.
type Put = (u64, Vec<u8>);

/// What a flush writes.
#[derive(Debug, Default)]
struct Batch {
    /// Refcount blocks, tables that nothing refers to yet.
    first: Vec<Put>,
    /// What refers to new refcount blocks.
    links: Vec<Put>,
    /// What refers to everything else.
    last: Vec<Put>,
    /// Clusters to which nothing refers afterwards.
    freed: Vec<u64>,
    blocks: Vec<usize>,
    linked: Vec<usize>,
    table_moved: bool,
    /// L2 tables, and whether nothing refers to them yet.
    tables: Vec<(usize, bool)>,
    l1: Vec<usize>,
    l1_moved: bool,
    new_size: Option<u64>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.links.is_empty() && self.last.is_empty()
    }

    /// Takes what is to be written out of the state.
    fn take(state: &mut State, header: &Header) -> io::Result<Self> {
        let freed = state.refcounts.make_room()?;
        state.freed.extend(freed);
        let mut batch = Self {
            freed: std::mem::take(&mut state.freed),
            ..Self::default()
        };
        batch.take_refcounts(state);
        batch.take_tables(state);
        batch.take_l1(state, header);
        Ok(batch)
    }

    fn take_refcounts(&mut self, state: &mut State) {
        let refcounts = &mut state.refcounts;
        self.blocks = std::mem::take(&mut refcounts.dirty).into_iter().collect();
        self.linked = std::mem::take(&mut refcounts.unlinked)
            .into_iter()
            .collect();
        for block in &self.blocks {
            self.first
                .push((refcounts.blocks[*block], refcounts.block(*block)));
        }
        self.table_moved = std::mem::take(&mut refcounts.table_moved);
        if self.table_moved {
            self.first.push((refcounts.table, refcounts.table_bytes()));
            self.links.push((48, refcounts.header_field().to_vec()));
        } else {
            let entry = |block: &usize| {
                let at = refcounts.table + *block as u64 * 8;
                (at, refcounts.blocks[*block].to_be_bytes().to_vec())
            };
            self.links.extend(self.linked.iter().map(entry));
        }
    }

    fn take_tables(&mut self, state: &mut State) {
        for (l1, table) in state.dirty_tables() {
            let put = (table.offset, to_be64s(&table.entries));
            match table.fresh {
                true => self.first.push(put),
                false => self.last.push(put),
            }
            self.tables.push((l1, table.fresh));
            (table.dirty, table.writing) = (false, true);
        }
    }

    fn take_l1(&mut self, state: &mut State, header: &Header) {
        self.l1 = std::mem::take(&mut state.l1_dirty).into_iter().collect();
        self.l1_moved = std::mem::take(&mut state.l1_moved);
        self.new_size = state.new_size.take();
        if self.l1_moved {
            let mut bytes = to_be64s(&state.l1);
            bytes.resize(
                bytes.len().next_multiple_of(header.cluster_size() as usize),
                0,
            );
            self.first.push((state.l1_offset, bytes));
        } else {
            let entry = |l1: &usize| {
                (
                    state.l1_offset + *l1 as u64 * 8,
                    state.l1[*l1].to_be_bytes().to_vec(),
                )
            };
            self.last.extend(self.l1.iter().map(entry));
        }
        if self.l1_moved || self.new_size.is_some() {
            // Size, no encryption, entries and place of the L1 table: within one sector.
            let size = self.new_size.unwrap_or(state.size);
            let mut field = size.to_be_bytes().to_vec();
            field.extend([0; 4]);
            field.extend((state.l1.len() as u32).to_be_bytes());
            field.extend(state.l1_offset.to_be_bytes());
            self.last.push((24, field));
        }
    }

    /// Everything is in the file.
    fn written(self, state: &mut State) {
        for (l1, _) in &self.tables {
            if let Some(table) = state.table(*l1) {
                (table.fresh, table.writing) = (false, false);
            }
        }
        state.size = self.new_size.unwrap_or(state.size);
        state.epochs.retire(self.freed);
    }

    /// Nothing that is in use has been written.
    fn put_back(self, state: &mut State) {
        for (l1, _) in &self.tables {
            if let Some(table) = state.table(*l1) {
                (table.dirty, table.writing) = (true, false);
            }
        }
        state.freed.extend(self.freed);
        state.refcounts.dirty.extend(self.blocks);
        state.refcounts.unlinked.extend(self.linked);
        state.refcounts.table_moved |= self.table_moved;
        state.l1_dirty.extend(self.l1);
        state.l1_moved |= self.l1_moved;
        state.new_size = state.new_size.or(self.new_size);
    }
}

fn put(file: &MediaFile, puts: &[Put]) -> io::Result<()> {
    puts.iter()
        .try_for_each(|(at, bytes)| file.write_at(bytes, *at))
}

impl Qcow2 {
    /// Makes everything durable that was done before.
    pub(crate) fn flush(&self, files: &Files) -> io::Result<()> {
        self.flush_to(&files[self.file])
    }

    fn flush_to(&self, file: &MediaFile) -> io::Result<()> {
        let _one = Self::only(&self.flushing);
        self.alive()?;
        let batch = Batch::take(&mut self.state(), &self.header)?;
        if let Err(error) = put(file, &batch.first) {
            // The host has no room, for one. Nothing in use was touched but counts of clusters
            // that became more, so there can be another try.
            batch.put_back(&mut self.state());
            return Err(error);
        }
        let written = self.sync(file).and_then(|()| match batch.is_empty() {
            true => Ok(()),
            false => self.link(file, &batch),
        });
        if written.is_err() {
            self.failed.store(true, Ordering::Relaxed);
            tracing::error!(path = ?file.path(), "A flush failed: nothing more is written to the image");
            return written;
        }
        batch.written(&mut self.state());
        self.free(file);
        Ok(())
    }

    fn link(&self, file: &MediaFile, batch: &Batch) -> io::Result<()> {
        if !batch.links.is_empty() {
            put(file, &batch.links)?;
            self.sync(file)?;
        }
        if !batch.last.is_empty() {
            put(file, &batch.last)?;
            self.sync(file)?;
        }
        Ok(())
    }

    fn sync(&self, file: &MediaFile) -> io::Result<()> {
        file.sync()
    }

    /// Gives clusters back that nobody uses any more.
    fn free(&self, file: &MediaFile) {
        let bits = self.header.cluster_bits;
        let (mut last, shared): (Vec<u64>, Vec<u64>) = {
            let mut state = self.state();
            let clusters = state.epochs.collect();
            clusters
                .into_iter()
                .partition(|cluster| state.refcounts.get(*cluster) == 1)
        };
        // A hole must be there before somebody writes to the cluster again. One in the list twice
        // (compressed clusters share) is counted down twice.
        last.sort_unstable();
        for run in last.chunk_by(|a, b| a + 1 == *b) {
            let _ = file.discard(run[0] << bits, (run.len() as u64) << bits, false);
        }
        let mut state = self.state();
        for cluster in last.into_iter().chain(shared) {
            state.refcounts.release(cluster);
        }
    }

    /// Makes the header and the file ready for being written to.
    pub(super) fn prepare(&self, file: &MediaFile) -> io::Result<()> {
        let whole = self.header.clusters() << self.header.cluster_bits;
        if file.block().is_none() && whole != self.header.file_size {
            file.set_size(whole)?;
        }
        if self.header.autoclear != 0 {
            file.write_at(&[0; 8], 88)?;
        }
        if !self.header.dirty {
            return file.sync();
        }
        // Counted anew; the mark goes when the counts are there.
        self.flush_to(file)?;
        let mut features = [0; 8];
        file.read_at(&mut features, 72)?;
        features[7] &= !1;
        file.write_at(&features, 72)?;
        file.sync()
    }

    /// Writes what there is to write, for the last time.
    pub(crate) fn close(&self, files: &Files) -> io::Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        // One flush frees what the next one writes; more than a few there cannot be, as no request
        // is there any more.
        for _ in 0..8 {
            self.flush(files)?;
            if self.state().is_settled() {
                break;
            }
        }
        Ok(())
    }
}
