//! Tables of the toolstack's own (`hvm/hvm_xs_strings.h`): SMBIOS structures, each
//! behind its length in 32 bits, and ACPI tables, one behind the other. They lie
//! in the domain's memory and may be anything.

use core::ops::Range;

use xen_sys::addr::Paddr;

use crate::layout::FOUR_GIB;
use crate::machine::{Machine, Store, number};

/// Bytes of an ACPI table's header.
const ACPI_HEADER: u64 = 36;
/// Larger ones are not taken.
const ACPI_LARGEST: u64 = 1 << 20;

/// Where the toolstack's tables are; both may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    smbios: Range<u64>,
    acpi: Range<u64>,
}

impl Passed {
    /// From `hvmloader/smbios/` and `hvmloader/acpi/`.
    pub fn read<S: Store>(store: &mut S) -> Self {
        let mut range = |address, length| -> Range<u64> {
            let start = number(store, address).unwrap_or(0);
            let length = number(store, length).unwrap_or(0);
            match start.checked_add(length) {
                Some(end) if start != 0 && end <= FOUR_GIB => start..end,
                _ => 0..0,
            }
        };
        Self {
            smbios: range("hvmloader/smbios/address", "hvmloader/smbios/length"),
            acpi: range("hvmloader/acpi/address", "hvmloader/acpi/length"),
        }
    }

    /// The next SMBIOS structure whose type is in `kinds`, searched from the
    /// offset `from`: how many bytes of `buffer` it fills, and where to go on.
    /// The search ends at a structure that cannot be one.
    pub fn smbios<M: Machine>(
        &self,
        machine: &mut M,
        kinds: Range<u16>,
        from: u64,
        buffer: &mut [u8],
    ) -> Option<(usize, u64)> {
        let mut at = self.smbios.start + from;
        loop {
            let mut length = [0; 4];
            let start = at + 4;
            if start > self.smbios.end {
                return None;
            }
            machine.read(Paddr(at), &mut length);
            let length = u64::from(u32::from_le_bytes(length));
            let end = start
                .checked_add(length)
                .filter(|end| *end <= self.smbios.end)?;
            at = end;
            let Some(bytes) = buffer.get_mut(..length as usize) else {
                continue;
            };
            machine.read(Paddr(start), bytes);
            // A header, the area it announces, two zeros behind the strings.
            let sound = bytes.len() >= 6
                && bytes.ends_with(&[0, 0])
                && (4..=bytes.len() - 2).contains(&usize::from(bytes[1]));
            if !sound {
                return None;
            }
            if kinds.contains(&u16::from(bytes[0])) {
                return Some((bytes.len(), at - self.smbios.start));
            }
        }
    }

    /// The next ACPI table from the offset `from`: where it is, and where to go
    /// on.
    pub fn acpi<M: Machine>(&self, machine: &mut M, from: u64) -> Option<(Range<u64>, u64)> {
        let start = self.acpi.start.checked_add(from)?;
        if start + ACPI_HEADER > self.acpi.end {
            return None;
        }
        let mut length = [0; 4];
        machine.read(Paddr(start + 4), &mut length);
        let length = u64::from(u32::from_le_bytes(length));
        if !(ACPI_HEADER..=ACPI_LARGEST).contains(&length) || start + length > self.acpi.end {
            return None;
        }
        Some((start..start + length, from + length))
    }
}
