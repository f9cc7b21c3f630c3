//! The domain's memory: what is RAM, what the firmware reserves for tables, and
//! the map that says so.

use xen_sys::addr::{Gfn, PAGE_SIZE, Paddr};
use xen_sys::errno::Errno;
use xen_sys::memory::{E820_NVS, E820_RAM, E820_RESERVED, E820Entry};

use crate::bios::MAX_E820;
use crate::info::HvmInfo;
use crate::layout::{FOUR_GIB, LEGACY_END, RESERVED, VIDEO};
use crate::loader::Error;
use crate::machine::Machine;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where RAM ends, and how much of the reserved area is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ram {
    /// Where RAM below 4 GiB ends.
    pub low_end: u64,
    /// Where RAM above 4 GiB ends; 4 GiB if there is none.
    pub high_end: u64,
    /// The next free byte of the reserved area.
    next: u64,
    /// Up to where it has memory behind it.
    populated: u64,
    /// Where it ends.
    end: u64,
}

impl Ram {
    /// As the toolstack made it.
    pub fn new(info: &HvmInfo) -> Self {
        Self {
            low_end: info.low_end,
            high_end: info.high_end,
            next: RESERVED.0,
            populated: RESERVED.0,
            end: info.reserved,
        }
    }

    /// Moves the last `len` bytes of RAM below 4 GiB above it, so that devices
    /// can have their place.
    ///
    /// # Errors
    /// [`Error::Xen`] when Xen moves no memory.
    pub fn make_room(&mut self, machine: &mut impl Machine, len: u64) -> Result<(), Error> {
        let target = self.low_end - len.min(self.low_end);
        while self.low_end > target {
            let from = Gfn((self.low_end - PAGE) / PAGE);
            machine
                .move_frame(from, Gfn(self.high_end / PAGE))
                .map_err(|error| Error::Xen("move memory", error))?;
            self.low_end -= PAGE;
            self.high_end += PAGE;
        }
        Ok(())
    }

    /// Takes memory in the reserved area, aligned to `align`, a power of two.
    ///
    /// # Errors
    /// [`Error::NoRoom`] at its end; [`Error::Xen`] when the domain has no memory
    /// left for it.
    pub fn reserve(
        &mut self,
        machine: &mut impl Machine,
        len: usize,
        align: u64,
    ) -> Result<Paddr, Error> {
        let start = self.next.next_multiple_of(align);
        let end = start + len as u64;
        if end > self.end {
            return Err(Error::NoRoom);
        }
        while self.populated < end {
            self.populate(machine, Gfn(self.populated / PAGE))?;
            self.populated += PAGE;
        }
        self.next = end;
        Ok(Paddr(start))
    }

    /// Takes whole pages at the end of the reserved area.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_last(&mut self, machine: &mut impl Machine, len: usize) -> Result<Paddr, Error> {
        let pages = (len as u64).div_ceil(PAGE);
        let start = self.end - pages * PAGE;
        if start < self.populated {
            return Err(Error::NoRoom);
        }
        for page in 0..pages {
            self.populate(machine, Gfn(start / PAGE + page))?;
        }
        self.end = start;
        Ok(Paddr(start))
    }

    /// Where the tables end: from [`RESERVED`] to here they are.
    pub fn tables_end(&self) -> u64 {
        self.populated
    }

    /// Puts memory behind a frame: new memory, or when the domain may have no
    /// more, the last frame of RAM.
    ///
    /// # Errors
    /// [`Error::Xen`].
    pub fn populate(&mut self, machine: &mut impl Machine, frame: Gfn) -> Result<(), Error> {
        let Err(error) = machine.populate(frame) else {
            return Ok(());
        };
        if error != Errno::ENOMEM {
            return Err(Error::Xen("populate a frame", error));
        }
        let from = self.low_end - PAGE;
        machine
            .move_frame(Gfn(from / PAGE), frame)
            .map_err(|error| Error::Xen("move a frame", error))?;
        self.low_end = from;
        Ok(())
    }
}

/// A memory map in the making.
#[derive(Debug)]
pub struct Map {
    entries: [E820Entry; MAX_E820],
    len: usize,
}

const NOTHING: E820Entry = E820Entry {
    addr: 0,
    size: 0,
    kind: 0,
};

impl Map {
    /// The map for the guest: `toolstack`'s, with what the firmware knows.
    ///
    /// Below 1 MiB it is a PC's. RAM is where `ram` has it, less what the
    /// toolstack has reserved in it; whatever else the toolstack names stays.
    pub fn new(ram: &Ram, toolstack: &[E820Entry]) -> Self {
        let mut map = Self {
            entries: [NOTHING; MAX_E820],
            len: 0,
        };
        map.add(0, VIDEO, E820_RAM);
        map.add(0xc_0000, LEGACY_END, E820_RESERVED);
        map.add_ram(LEGACY_END, ram.low_end, toolstack);
        // The tables live on after the system's sleep.
        map.add(RESERVED.0, ram.tables_end(), E820_NVS);
        map.add(ram.tables_end(), FOUR_GIB, E820_RESERVED);
        map.add_ram(FOUR_GIB, ram.high_end, toolstack);
        for entry in toolstack {
            let (start, end) = range(entry);
            if entry.kind != E820_RAM && start >= LEGACY_END && !map.covers(start, end) {
                map.add(start, end, entry.kind);
            }
        }
        map.entries[..map.len].sort_unstable_by_key(|entry| entry.addr);
        map
    }

    /// The entries, in the order of their addresses.
    pub fn entries(&self) -> &[E820Entry] {
        &self.entries[..self.len]
    }

    /// RAM from `start` to `end`, but for what the toolstack has reserved there.
    fn add_ram(&mut self, start: u64, end: u64, toolstack: &[E820Entry]) {
        let mut at = start;
        while at < end {
            let hole = toolstack
                .iter()
                .filter(|entry| entry.kind != E820_RAM)
                .map(range)
                .filter(|(from, to)| from < to && *to > at && *from < end)
                .min();
            let (from, to) = hole.unwrap_or((end, end));
            self.add(at, from, E820_RAM);
            at = to.max(at);
        }
    }

    fn covers(&self, start: u64, end: u64) -> bool {
        let entries = self.entries().iter().map(range);
        entries
            .into_iter()
            .any(|(from, to)| from < end && start < to)
    }

    fn add(&mut self, start: u64, end: u64, kind: u32) {
        if start < end
            && let Some(free) = self.entries.get_mut(self.len)
        {
            *free = E820Entry {
                addr: start,
                size: end - start,
                kind,
            };
            self.len += 1;
        }
    }
}

fn range(entry: &E820Entry) -> (u64, u64) {
    let start = entry.addr;
    (start, start.saturating_add(entry.size))
}
