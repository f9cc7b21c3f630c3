//! What the toolstack tells: `hvm_start_info` with its modules, and the older
//! `hvm_info_table`.

use core::ops::Range;

use xen_sys::addr::Paddr;
use xen_sys::hvm::{HvmModlistEntry, HvmStartInfo, XEN_HVM_START_MAGIC_VALUE};
use zerocopy::FromBytes;

use crate::layout::{self, FOUR_GIB};
use crate::loader::Error;
use crate::machine::Machine;

/// `HVM_MAX_VCPUS` (`hvm/hvm_info_table.h`).
pub const MAX_VCPUS: u32 = 128;

/// `struct hvm_info_table`, the parts that matter, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HvmInfo {
    /// Whether there are APICs to describe.
    pub apic: bool,
    /// Virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// Which are online now.
    pub online: u128,
    /// Where RAM below 4 GiB ends.
    pub low_end: u64,
    /// Where RAM above 4 GiB ends; 4 GiB if there is none.
    pub high_end: u64,
    /// What lies from here to 4 GiB is Xen's.
    pub reserved: u64,
}

/// Bytes of `struct hvm_info_table`.
const SIZE: usize = 48;

impl HvmInfo {
    /// Reads the table from where the toolstack puts it.
    ///
    /// # Errors
    /// [`Error::HvmInfo`] with what is wrong with it.
    pub fn read(machine: &mut impl Machine) -> Result<Self, Error> {
        let mut bytes = [0; SIZE];
        machine.read(layout::HVM_INFO, &mut bytes);
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8; SIZE]) -> Result<Self, Error> {
        let word = |at: usize| -> u32 {
            let field = bytes.get(at..).and_then(|b| b.first_chunk());
            field.map_or(0, |field| u32::from_le_bytes(*field))
        };
        let address = |at| u64::from(word(at)) << 12;
        if !bytes.starts_with(b"HVM INFO") {
            return Err(Error::HvmInfo("its signature"));
        }
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if word(8) as usize != SIZE || sum != 0 {
            return Err(Error::HvmInfo("its length or checksum"));
        }
        let vcpus = word(16);
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(Error::HvmInfo("its number of vCPUs"));
        }
        let mut online = [0; 16];
        online.copy_from_slice(&bytes[32..]);
        // Xen's own pages are the last below the flash, at 0xfeff...
        let reserved = Some(address(24)).filter(|at| (layout::RESERVED.0..FOUR_GIB).contains(at));
        let info = Self {
            apic: bytes[13] != 0,
            vcpus,
            online: u128::from_le_bytes(online),
            low_end: address(20),
            high_end: address(28).max(FOUR_GIB),
            reserved: reserved.unwrap_or(0xfec0_0000),
        };
        if !(2 * layout::LEGACY_END..=layout::RESERVED.0).contains(&info.low_end) {
            return Err(Error::HvmInfo("where memory ends"));
        }
        Ok(info)
    }
}

/// A file the toolstack has put into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where.
    pub range: Range<u64>,
}

/// Finds the module whose command line is `name`: `firmware` is the BIOS.
///
/// # Errors
/// [`Error::StartInfo`] when the structure or the module cannot be.
pub fn module(
    machine: &mut impl Machine,
    start_info: Paddr,
    name: &str,
) -> Result<Option<Module>, Error> {
    let mut bytes = [0; size_of::<HvmStartInfo>()];
    below_4g(start_info.0, bytes.len() as u64)?;
    machine.read(start_info, &mut bytes);
    let info = HvmStartInfo::read_from_bytes(&bytes).map_err(|_| Error::StartInfo("its size"))?;
    if info.magic != XEN_HVM_START_MAGIC_VALUE {
        return Err(Error::StartInfo("its magic number"));
    }
    for number in 0..u64::from(info.nr_modules.min(32)) {
        let mut bytes = [0; size_of::<HvmModlistEntry>()];
        let at = info.modlist_paddr.wrapping_add(number * bytes.len() as u64);
        below_4g(at, bytes.len() as u64)?;
        machine.read(Paddr(at), &mut bytes);
        let Ok(entry) = HvmModlistEntry::read_from_bytes(&bytes) else {
            continue;
        };
        if entry.cmdline_paddr == 0 || !is_text(machine, entry.cmdline_paddr, name)? {
            continue;
        }
        below_4g(entry.paddr, entry.size)?;
        return Ok(Some(Module {
            range: entry.paddr..entry.paddr + entry.size,
        }));
    }
    Ok(None)
}

fn below_4g(at: u64, len: u64) -> Result<(), Error> {
    let end = at.checked_add(len);
    match end {
        Some(end) if at != 0 && end <= FOUR_GIB => Ok(()),
        _ => Err(Error::StartInfo("an address in it")),
    }
}

fn is_text(machine: &mut impl Machine, at: u64, text: &str) -> Result<bool, Error> {
    for (offset, wanted) in text.bytes().chain([0]).enumerate() {
        let mut byte = [0];
        let at = at.wrapping_add(offset as u64);
        below_4g(at, 1)?;
        machine.read(Paddr(at), &mut byte);
        if byte != [wanted] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::checksum;

    fn table(vcpus: u32, low: u32, high: u32) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(b"HVM INFO");
        for (at, word) in [(8, 48), (16, vcpus), (20, low), (24, 0xfeff8), (28, high)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[13] = 1;
        bytes[32] = 0b101;
        bytes[12] = checksum(&bytes);
        bytes
    }

    #[test]
    fn the_toolstacks_table_is_read() {
        let info = HvmInfo::parse(&table(4, 0xf0000, 0x140000)).unwrap();
        assert_eq!((info.vcpus, info.online, info.apic), (4, 0b101, true));
        assert_eq!((info.low_end, info.high_end), (0xf000_0000, 0x1_4000_0000));
        assert_eq!(info.reserved, 0xfeff_8000);
        let without = HvmInfo::parse(&table(1, 0x10000, 0)).unwrap();
        assert_eq!(without.high_end, FOUR_GIB);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            table(0, 0x10000, 0),
            table(129, 0x10000, 0),
            table(1, 0, 0),
            table(1, 0xfd000, 0),
        ] {
            assert!(HvmInfo::parse(&wrong).is_err());
        }
        for at in [0, 12, 40] {
            let mut wrong = table(1, 0x10000, 0);
            wrong[at] ^= 1;
            assert!(HvmInfo::parse(&wrong).is_err(), "byte {at}");
        }
    }
}
