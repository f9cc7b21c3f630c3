//! Where devices' memory begins and ends.
//!
//! Below 4 GiB it ends at [`RESERVED`] and begins at 3.75 GiB, or lower when
//! the toolstack says so. When that is too little, it may grow downwards in
//! steps if there is no RAM, or the RAM may be moved; failing that, 64-bit
//! registers go above all RAM, the largest first.

use core::ops::Range;

use crate::layout::{FOUR_GIB, PCI_LOWEST, PCI_START, RESERVED};

/// I/O ports that PCI devices get; fixed ones lie below and, of the power
/// management function, within: 0xaf00 and up.
pub const PORTS: Range<u64> = 0xc000..0x1_0000;

/// What decides where the window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where RAM below 4 GiB ends.
    pub low_end: u64,
    /// Where RAM above 4 GiB ends.
    pub high_end: u64,
    /// Whether RAM may be moved from below to above 4 GiB:
    /// `hvmloader/allow-memory-relocate`.
    pub may_move: bool,
    /// Bytes below 4 GiB that are not for RAM: `platform/mmio_hole_size`.
    pub hole: Option<u64>,
}

/// Where devices' memory goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// First address below 4 GiB.
    pub start: u64,
    /// First address above 4 GiB, behind all RAM.
    pub high_start: u64,
    /// 64-bit registers of this size and more go above 4 GiB; `u64::MAX` when
    /// none need to.
    pub high_from: u64,
    /// Bytes of RAM that lie where the devices' memory will be.
    pub moved: u64,
}

impl Plan {
    fn first_start(&self) -> u64 {
        let asked = self.hole.and_then(|hole| FOUR_GIB.checked_sub(hole));
        let asked = asked.map(|start| start.next_multiple_of(1 << 20));
        asked
            .filter(|start| (PCI_LOWEST..=PCI_START).contains(start))
            .unwrap_or(PCI_START)
    }

    /// The window for registers of these sizes; the flag tells 64-bit ones.
    pub fn window(&self, registers: impl Iterator<Item = (u64, bool)> + Clone) -> Window {
        let total = sum(registers.clone().map(|(size, _)| size));
        let mut start = self.first_start();
        // 3.75 GiB, 3.5 GiB, 3 GiB, 2 GiB: a power of two left each time.
        while total > RESERVED.0 - start && start > PCI_LOWEST {
            let next = (FOUR_GIB - (FOUR_GIB - start).next_power_of_two() * 2).max(PCI_LOWEST);
            if next < self.low_end && !self.may_move {
                break;
            }
            start = next;
        }
        let moved = match self.may_move {
            true => self.low_end.saturating_sub(start),
            false => 0,
        };
        // RAM that stays is never a device's.
        let start = start.max(self.low_end - moved);
        Window {
            start,
            // Registers are aligned to their size later.
            high_start: (self.high_end + moved).next_multiple_of(1 << 30),
            high_from: high_from(registers, RESERVED.0 - start),
            moved,
        }
    }
}

/// The smallest size from which on 64-bit registers must go above 4 GiB, so
/// that the rest fits `room`.
fn high_from(registers: impl Iterator<Item = (u64, bool)> + Clone, room: u64) -> u64 {
    let below = |limit: u64| {
        let stay = registers
            .clone()
            .filter(|(size, wide)| !wide || *size < limit);
        sum(stay.map(|(size, _)| size))
    };
    if below(u64::MAX) <= room {
        return u64::MAX;
    }
    let mut limit = 1 << 45;
    while limit > 1 && below(limit) > room {
        limit >>= 1;
    }
    limit
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Hands out a range from its start, each piece aligned to its size.
#[derive(Clone, Debug)]
pub struct Cursor {
    free: Range<u64>,
}

impl Cursor {
    /// All of a range.
    pub fn new(free: Range<u64>) -> Self {
        Self { free }
    }

    /// The next `size` bytes, a power of two.
    pub fn take(&mut self, size: u64) -> Option<u64> {
        let base = self.free.start.checked_next_multiple_of(size)?;
        let end = base.checked_add(size).filter(|end| *end <= self.free.end)?;
        self.free.start = end;
        Some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(low_end: u64, may_move: bool) -> Plan {
        Plan {
            low_end,
            high_end: FOUR_GIB,
            may_move,
            hole: None,
        }
    }

    #[test]
    fn few_devices_leave_the_window_as_it_is() {
        let window = plan(0xf000_0000, true).window([(16 * MIB, false)].into_iter());
        assert_eq!((window.start, window.moved), (PCI_START, 0));
        assert_eq!(window.high_from, u64::MAX);
        assert_eq!(window.high_start, FOUR_GIB);
    }

    #[test]
    fn the_window_grows_in_powers_of_two_over_free_space() {
        let need = |size| plan(0x4000_0000, false).window([(size, false)].into_iter());
        assert_eq!(need(256 * MIB).start, 0xe000_0000);
        assert_eq!(need(512 * MIB).start, 0xc000_0000);
        assert_eq!(need(1024 * MIB).start, 0x8000_0000);
        assert_eq!(need(4096 * MIB).start, 0x8000_0000);
    }

    #[test]
    fn ram_moves_out_of_the_way() {
        let window = plan(0xf000_0000, true).window([(256 * MIB, false)].into_iter());
        assert_eq!((window.start, window.moved), (0xe000_0000, 256 * MIB));
        assert_eq!(window.high_start, FOUR_GIB + 1024 * MIB);
    }

    #[test]
    fn where_ram_must_stay_wide_registers_go_up() {
        let registers = [(256 * MIB, true), (16 * MIB, true), (16 * MIB, false)];
        let window = plan(0xf000_0000, false).window(registers.into_iter());
        assert_eq!((window.start, window.moved), (0xf000_0000, 0));
        assert!(window.high_from <= 256 * MIB && window.high_from > 16 * MIB);
    }

    #[test]
    fn the_toolstack_may_make_the_hole_larger() {
        let ask = |hole| Plan {
            hole: Some(hole),
            ..plan(0x4000_0000, false)
        };
        let start = |hole| ask(hole).window([].into_iter()).start;
        assert_eq!(start(0x6000_0000), 0xa000_0000);
        for nonsense in [0, 1, 0x1000_0000 - 1, 0x9000_0000, u64::MAX] {
            assert_eq!(start(nonsense), PCI_START, "{nonsense:#x}");
        }
    }

    #[test]
    fn pieces_are_aligned_and_end_with_the_range() {
        let mut cursor = Cursor::new(0x1000..0x4000);
        assert_eq!(cursor.take(0x100), Some(0x1000));
        assert_eq!(cursor.take(0x2000), Some(0x2000));
        assert_eq!(cursor.take(1), None);
        assert_eq!(cursor.take(1 << 63), None);
    }
}
