//! New places for data.

use std::io;
use std::sync::atomic::Ordering;

use pv_ring::IoVec;

use super::check::references;
use super::header::OFFSET;
use super::refcounts::Allocation;
use super::state::State;
use super::{COPIED, Cluster, Qcow2, ZERO};
use crate::engine::Files;
use crate::file::{Pieces, within};
use crate::image::{Image, Place, Run};

/// A file grows by at least so much.
const GROWTH: u64 = 1 << 20;

impl Qcow2 {
    /// A request begins to use what it looks up.
    pub(crate) fn enter(&self) -> usize {
        self.state().epochs.enter()
    }

    /// It does no more.
    pub(crate) fn leave(&self, epoch: usize) {
        self.state().epochs.leave(epoch);
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        match self.failed.load(Ordering::Relaxed) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    /// Where a range is to be written to, if all of it is this image's own and known.
    pub(crate) fn in_place(&self, at: u64, len: u64, runs: &mut Vec<Run>) -> bool {
        runs.clear();
        if self.alive().is_err() {
            return false;
        }
        let mut state = self.state();
        let mut done = 0;
        while done < len {
            let Some((offset, n)) = self.own_run(&mut state, at + done, len - done) else {
                return false;
            };
            let file = self.file;
            let place = Place::File { file, offset };
            runs.push(Run { place, len: n });
            done += n;
        }
        true
    }

    /// Where in the file bytes from `at` on are that only this image's current state refers to.
    fn own_run(&self, state: &mut State, at: u64, len: u64) -> Option<(u64, u64)> {
        let size = self.header.cluster_size();
        let inside = at & (size - 1);
        let first = self.own_cluster(state, at)?;
        let mut run = (size - inside).min(len);
        while run < len && self.own_cluster(state, at + run) == Some(first + inside + run) {
            run += size.min(len - run);
        }
        Some((first + inside, run))
    }

    fn own_cluster(&self, state: &mut State, at: u64) -> Option<u64> {
        let index = self.l2_index(at);
        let entry = state.table(self.l1_index(at))?.entries[index];
        match self.decode(entry) {
            Cluster::At(host) if state.refcounts.get(host >> self.header.cluster_bits) == 1 => {
                Some(host)
            }
            _ => None,
        }
    }

    /// Writes lent memory to wherever it has to go.
    ///
    /// # Safety
    /// The pieces are lent to this call.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write(&self, image: &Image, at: u64, iov: &[IoVec]) -> io::Result<()> {
        let len: u64 = iov.iter().map(|piece| piece.len() as u64).sum();
        let changing = Self::only(&self.changing);
        let mut done = 0;
        while done < len {
            self.alive()?;
            self.own_table(&image.files, self.l1_index(at + done))?;
            // SAFETY: lent to this call.
            done += unsafe { self.write_some(image, at + done, len - done, iov, done)? };
        }
        drop(changing);
        self.relieve(&image.files)
    }

    /// Writes tables before there are too many that wait for it.
    fn relieve(&self, files: &Files) -> io::Result<()> {
        let full = self.state().is_full();
        if full { self.flush(files) } else { Ok(()) }
    }

    /// Writes as much as goes to one place; the table is there. `skip` bytes of the pieces are
    /// done.
    ///
    /// # Safety
    /// The pieces are lent to this call.
    #[allow(unsafe_code)]
    unsafe fn write_some(
        &self,
        image: &Image,
        at: u64,
        left: u64,
        iov: &[IoVec],
        skip: u64,
    ) -> io::Result<u64> {
        let file = &image.files[self.file];
        let bits = self.header.cluster_bits;
        let inside = at & (self.header.cluster_size() - 1);
        let own = self.own_run(&mut self.state(), at, left);
        if let Some((offset, len)) = own {
            let mut pieces = Pieces::new(offset, within(iov, skip, len));
            // SAFETY: lent to this call.
            unsafe { file.transfer(true, &mut pieces)? };
            return Ok(len);
        }
        let new = self.allocate(&image.files, at, left)?;
        let len = left.min((new.count << bits) - inside);
        // SAFETY: lent to this call.
        let written = unsafe { self.fill(image, at, len, new, within(iov, skip, len)) };
        if let Err(error) = written {
            // Nothing refers to them, in memory or in the file, and the host may need the room.
            let _ = file.discard(new.first << bits, new.count << bits, false);
            let mut state = self.state();
            (new.first..new.first + new.count).for_each(|cluster| {
                state.refcounts.release(cluster);
            });
            return Err(error);
        }
        self.map(at, new);
        Ok(len)
    }

    /// Takes clusters for as many as need new ones from `at` on, and makes the file as long.
    fn allocate(&self, files: &Files, at: u64, left: u64) -> io::Result<Allocation> {
        let size = self.header.cluster_size();
        let inside = at & (size - 1);
        let mut state = self.state();
        let in_table = self.header.l2_entries() - self.l2_index(at) as u64;
        let wanted = (inside + left).div_ceil(size).min(in_table);
        let needs =
            |state: &mut State, i: &u64| self.own_cluster(state, at - inside + i * size).is_none();
        let count = (0..wanted).take_while(|i| needs(&mut state, i)).count() as u64;
        let new = state.refcounts.allocate(count)?;
        let end = (new.first + new.count) * size;
        if end <= state.file_size {
            return Ok(new);
        }
        let longer = end.next_multiple_of(GROWTH.max(size));
        drop(state);
        let grown = files[self.file].set_size(longer);
        let mut state = self.state();
        match grown {
            Ok(()) => state.file_size = longer,
            Err(error) => {
                (new.first..new.first + new.count).for_each(|cluster| {
                    state.refcounts.release(cluster);
                });
                return Err(error);
            }
        }
        Ok(new)
    }

    /// Writes new clusters: the data, and around it what the disk has there now.
    ///
    /// # Safety
    /// The pieces are lent to this call.
    #[allow(unsafe_code)]
    unsafe fn fill(
        &self,
        image: &Image,
        at: u64,
        len: u64,
        new: Allocation,
        data: impl Iterator<Item = IoVec>,
    ) -> io::Result<()> {
        let size = self.header.cluster_size();
        let (inside, end) = (at & (size - 1), at + len);
        let rest = end.next_multiple_of(size) - end;
        let before = image.background(0, at - inside, inside)?;
        let after = image.background(0, end, rest)?;
        let start = new.first << self.header.cluster_bits;
        let mut pieces = match (new.virgin, &before, &after) {
            (true, None, None) => Pieces::new(start + inside, data),
            _ => {
                let mut before = before.unwrap_or_else(|| vec![0; inside as usize]);
                let mut after = after.unwrap_or_else(|| vec![0; rest as usize]);
                let (head, tail) = (IoVec::of_bytes(&mut before), IoVec::of_bytes(&mut after));
                let mut pieces = Pieces::new(start, [head].into_iter().chain(data).chain([tail]));
                // SAFETY: lent, or borrowed for the call.
                return unsafe { image.files[self.file].transfer(true, &mut pieces) };
            }
        };
        // SAFETY: lent to this call.
        unsafe { image.files[self.file].transfer(true, &mut pieces) }
    }

    /// The disk's clusters from `at` on are these now.
    fn map(&self, at: u64, new: Allocation) {
        let mut state = self.state();
        let first = self.l2_index(at);
        let Some(table) = state.table(self.l1_index(at)) else {
            return;
        };
        table.dirty = true;
        let mut old = Vec::new();
        for i in 0..new.count {
            let entry = (new.first + i) << self.header.cluster_bits | COPIED;
            old.push(std::mem::replace(
                &mut table.entries[first + i as usize],
                entry,
            ));
        }
        old.into_iter()
            .for_each(|entry| self.unlink(&mut state, entry));
    }

    /// Nothing in memory refers to what the entry does any more.
    fn unlink(&self, state: &mut State, entry: u64) {
        if let Some((offset, len)) = references(&self.header, entry) {
            let bits = self.header.cluster_bits;
            state
                .freed
                .extend(offset >> bits..=(offset + len - 1) >> bits);
        }
    }

    /// Makes the L2 table there, in memory and not shared with a snapshot. It stays in memory
    /// until another is asked for.
    fn own_table(&self, files: &Files, l1: usize) -> io::Result<()> {
        self.state().pinned = Some(l1);
        loop {
            let mut state = self.state();
            let entry = *state.l1.get(l1).ok_or(io::ErrorKind::InvalidInput)?;
            let bits = self.header.cluster_bits;
            let offset = entry & OFFSET;
            if offset == 0 {
                let cluster = state.refcounts.allocate_run(1)?;
                let entries = vec![0; self.header.l2_entries() as usize];
                state.insert_fresh(l1, cluster << bits, entries);
                return Ok(());
            }
            let shared = state.refcounts.get(offset >> bits) > 1;
            match state
                .table(l1)
                .map(|table| shared.then(|| table.entries.clone()))
            {
                Some(None) => return Ok(()),
                Some(Some(entries)) => {
                    let cluster = state.refcounts.allocate_run(1)?;
                    state.freed.push(offset >> bits);
                    state.insert_fresh(l1, cluster << bits, entries);
                    return Ok(());
                }
                None => {
                    drop(state);
                    self.load(files, l1)?;
                }
            }
        }
    }

    /// Forgets the content of the whole clusters within a range.
    pub(crate) fn discard(&self, image: &Image, at: u64, len: u64) -> io::Result<()> {
        let size = self.header.cluster_size();
        let end = match at + len {
            end if end >= self.size() => end.next_multiple_of(size),
            end => end / size * size,
        };
        let mut at = at.next_multiple_of(size);
        while at < end {
            self.alive()?;
            let changing = Self::only(&self.changing);
            let l1 = self.l1_index(at);
            let in_table = self.header.l2_entries() - self.l2_index(at) as u64;
            let clusters = ((end - at) / size).min(in_table);
            if self
                .state()
                .l1
                .get(l1)
                .is_some_and(|entry| entry & OFFSET != 0)
            {
                self.own_table(&image.files, l1)?;
                self.forget(at, clusters);
            }
            at += clusters * size;
            drop(changing);
            self.relieve(&image.files)?;
        }
        Ok(())
    }

    fn forget(&self, at: u64, clusters: u64) {
        let mut state = self.state();
        let first = self.l2_index(at);
        let Some(table) = state.table(self.l1_index(at)) else {
            return;
        };
        let mut old = Vec::new();
        for entry in &mut table.entries[first..first + clusters as usize] {
            let nothing = match (self.backed, self.header.version) {
                (false, _) => 0,
                (true, 3..) => ZERO,
                // What lies below would appear.
                (true, _) => continue,
            };
            if *entry != 0 && *entry != ZERO {
                old.push(std::mem::replace(entry, nothing));
                table.dirty = true;
            }
        }
        old.into_iter()
            .for_each(|entry| self.unlink(&mut state, entry));
    }

    /// Makes the disk larger.
    pub(crate) fn grow(&self, files: &Files, size: u64) -> io::Result<()> {
        let changing = Self::only(&self.changing);
        let cluster = self.header.cluster_size();
        let needed = size.div_ceil(cluster * self.header.l2_entries()) as usize;
        if needed > 4 << 20 {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let mut state = self.state();
        if needed > state.l1.len() {
            let first = state
                .refcounts
                .allocate_run((needed as u64 * 8).div_ceil(cluster))?;
            let bits = self.header.cluster_bits;
            let (old, bytes) = (state.l1_offset, state.l1.len() as u64 * 8);
            if bytes > 0 {
                state.freed.extend(old >> bits..=(old + bytes - 1) >> bits);
            }
            state.l1.resize(needed, 0);
            state.l1_offset = first << bits;
            state.l1_moved = true;
        }
        state.new_size = Some(size);
        drop(state);
        self.flush(files)?;
        self.size.store(size, Ordering::Release);
        drop(changing);
        Ok(())
    }
}
