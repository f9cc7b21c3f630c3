//! Memory sizes in the clock's memory, where systems before the memory map look
//! (Ralf Brown's Interrupt List, `CMOS.LST`).

use crate::layout::{FOUR_GIB, LEGACY_END};
use crate::machine::Machine;
use crate::ram::Ram;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

/// Writes the sizes, each cut off at what its bytes can hold.
pub fn write_memory_sizes(machine: &mut impl Machine, ram: &Ram) {
    let clip = |value: u64, most: u64| value.min(most);
    let base = 640;
    let extended = clip((ram.low_end - LEGACY_END) >> 10, 0xffff);
    let above_16m = clip(ram.low_end.saturating_sub(16 << 20) >> 16, 0xffff);
    let above_4g = clip((ram.high_end - FOUR_GIB) >> 16, 0xff_ffff);
    for (first, value, bytes) in [
        (0x15, base, 2),
        (0x17, extended, 2),
        (0x30, extended, 2),
        (0x34, above_16m, 2),
        (0x5b, above_4g, 3),
    ] {
        for (index, byte) in (first..).zip(value.to_le_bytes()).take(bytes) {
            machine.out8(INDEX, index);
            machine.out8(DATA, byte);
        }
    }
}
