//! The PCI interrupt routing table (Microsoft "PCI IRQ Routing Table
//! Specification" 1.0): which link each slot's pins are wired to.

use crate::bytes::checksum;
use crate::pci::chipset::link_of;

/// Slots of bus 0 that have pins: device 0 is the host bridge.
const SLOTS: usize = 31;
const HEADER: usize = 32;

/// Bytes of the table.
pub const SIZE: usize = HEADER + 16 * SLOTS;

/// Interrupts a link may be routed to: 5, 10 and 11.
const POSSIBLE: u16 = 1 << 5 | 1 << 10 | 1 << 11;

/// The table. The router is the PIIX3, device 1; its links are registers 60h to
/// 63h.
pub fn build() -> [u8; SIZE] {
    let mut table = [0; SIZE];
    table[..4].copy_from_slice(b"$PIR");
    table[4..6].copy_from_slice(&[0, 1]); // version 1.0
    table[6..8].copy_from_slice(&(SIZE as u16).to_le_bytes());
    table[9] = 1 << 3; // the router's device and function
    table[12..16].copy_from_slice(&0x7000_8086u32.to_le_bytes());
    for (device, slot) in (1u8..).zip(table[HEADER..].chunks_exact_mut(16)) {
        slot[1] = device << 3;
        for (pin, wire) in (1..).zip(slot[2..14].chunks_exact_mut(3)) {
            wire[0] = 0x60 + link_of(device, pin) as u8;
            wire[1..].copy_from_slice(&POSSIBLE.to_le_bytes());
        }
    }
    table[31] = checksum(&table);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_take_turns() {
        let table = build();
        assert_eq!(checksum(&table), 0);
        let slot = |device: usize| &table[HEADER + 16 * (device - 1)..][..16];
        let links = |device: usize| [2, 5, 8, 11].map(|at| slot(device)[at]);
        assert_eq!(links(1), [0x61, 0x62, 0x63, 0x60]);
        assert_eq!(links(4), [0x60, 0x61, 0x62, 0x63]);
        assert_eq!(slot(31)[1], 31 << 3);
        assert_eq!(slot(31)[3..5], [0x20, 0x0c]);
    }
}
