//! Memory types: the range registers that every processor must have alike
//! (Intel SDM volume 3, "Memory Type Range Registers").

use core::ops::Range;

use crate::layout::RESERVED;
use crate::machine::Machine;

const MTRRCAP: u32 = 0xfe;
const PHYSBASE0: u32 = 0x200;
const FIX64K_00000: u32 = 0x250;
const FIX16K_80000: u32 = 0x258;
const FIX16K_A0000: u32 = 0x259;
const FIX4K_C0000: u32 = 0x268;
const DEF_TYPE: u32 = 0x2ff;

const UNCACHEABLE: u64 = 0;
const WRITE_BACK: u64 = 6;
/// Eight ranges of one fixed register, all write-back.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
const VALID: u64 = 1 << 11;
const FIXED_ENABLE: u64 = 1 << 10;
const ENABLE: u64 = 1 << 11;

/// Variable ranges a processor has at least.
const RANGES: usize = 8;

/// What the registers are to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtrrs {
    variable: [Option<(u64, u64)>; RANGES],
    used: usize,
}

impl Mtrrs {
    /// All memory write-back but for the devices: video memory, `low` up to
    /// where tables and Xen's own pages are, which are memory, and `high`, which
    /// may be empty. `width` is the number of physical address bits.
    pub fn new(low: u64, high: Range<u64>, width: u8) -> Self {
        let mut it = Self::default();
        it.uncacheable(low..RESERVED.0, width);
        it.uncacheable(high, width);
        it
    }

    /// Covers a range by aligned powers of two, which is all a register can
    /// hold. What no register is left for stays write-back: slow for a device
    /// under emulation, no more.
    fn uncacheable(&mut self, range: Range<u64>, width: u8) {
        let limit = (1u64 << width.clamp(32, 52)) - 1;
        let mut at = range.start;
        while at < range.end && self.used < RANGES {
            let left = range.end - at;
            let size = (1 << left.ilog2()).min(1 << at.trailing_zeros().min(51));
            let mask = limit & !(size - 1);
            self.variable[self.used] = Some((at | UNCACHEABLE, mask | VALID));
            self.used += 1;
            at += size;
        }
    }

    /// Loads this processor's registers.
    pub fn load(&self, machine: &mut impl Machine) {
        let count = (machine.rdmsr(MTRRCAP) & 0xff).min(RANGES as u64);
        machine.wrmsr(DEF_TYPE, 0);
        for (register, range) in (0..count as u32).zip(self.variable) {
            let (base, mask) = range.unwrap_or((0, 0));
            machine.wrmsr(PHYSBASE0 + 2 * register, base);
            machine.wrmsr(PHYSBASE0 + 2 * register + 1, mask);
        }
        machine.wrmsr(FIX64K_00000, ALL_WRITE_BACK);
        machine.wrmsr(FIX16K_80000, ALL_WRITE_BACK);
        machine.wrmsr(FIX16K_A0000, UNCACHEABLE);
        for register in 0..8 {
            machine.wrmsr(FIX4K_C0000 + register, ALL_WRITE_BACK);
        }
        machine.wrmsr(DEF_TYPE, ENABLE | FIXED_ENABLE | WRITE_BACK);
    }
}

/// The processor's physical address bits (CPUID leaf 8000_0008h).
pub fn physical_bits(machine: &mut impl Machine) -> u8 {
    match machine.cpuid(0x8000_0000, 0)[0] {
        0x8000_0008.. => machine.cpuid(0x8000_0008, 0)[0] as u8,
        _ => 36,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(mtrrs: &Mtrrs) -> [(u64, u64); 3] {
        [0, 1, 2].map(|n| mtrrs.variable[n].unwrap_or((0, 0)))
    }

    #[test]
    fn devices_are_covered_by_powers_of_two() {
        let bits = (1 << 40) - 1;
        let mtrrs = Mtrrs::new(0xf000_0000, 0..0, 40);
        // 192 MiB: 128, then 64.
        let masks = [bits & !0x7ff_ffff | VALID, bits & !0x3ff_ffff | VALID];
        assert_eq!(
            ranges(&mtrrs),
            [(0xf000_0000, masks[0]), (0xf800_0000, masks[1]), (0, 0)]
        );
        let mtrrs = Mtrrs::new(0xe000_0000, 0..0, 40);
        let first = bits & !0xfff_ffff | VALID;
        assert_eq!(
            ranges(&mtrrs),
            [
                (0xe000_0000, first),
                (0xf000_0000, masks[0]),
                (0xf800_0000, masks[1])
            ]
        );
    }

    #[test]
    fn as_many_as_there_are_registers() {
        let mtrrs = Mtrrs::new(0xf000_1000, 1 << 36 | 1 << 12..1 << 40, 46);
        assert_eq!(mtrrs.used, RANGES);
    }
}
