//! The BIOS: which one, where it goes, and the structure that tells it about the
//! tables (SeaBIOS: `src/fw/xen.c`; OVMF: `OvmfPkg/XenPlatformPei/Xen.h`).

use core::ops::Range;

use xen_sys::addr::Paddr;
use xen_sys::memory::E820Entry;
use zerocopy::IntoBytes;

use crate::bytes::checksum;
use crate::layout::{BIOS_INFO, FOUR_GIB, LEGACY_END};
use crate::loader::Error;
use crate::machine::Machine;

/// Entries of the memory map the BIOS is given at most.
pub const MAX_E820: usize = 128;
/// Tables the BIOS is given at most.
pub const MAX_TABLES: usize = 8;

/// Where in the page of [`BIOS_INFO`] the two lists are.
const TABLES: u64 = BIOS_INFO.0 + 0x40;
const E820: u64 = BIOS_INFO.0 + 0x100;
const _: () = assert!(0x40 + 4 * MAX_TABLES <= 0x100);
const _: () = assert!(0x100 + size_of::<E820Entry>() * MAX_E820 <= 0x1000);

/// A BIOS this firmware can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bios {
    /// A PC BIOS.
    SeaBios,
    /// A UEFI.
    Ovmf,
}

impl Bios {
    /// By the name in `hvmloader/bios`.
    ///
    /// # Errors
    /// [`Error::Bios`] for any other.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        match name {
            "seabios" => Ok(Self::SeaBios),
            "ovmf" => Ok(Self::Ovmf),
            _ => Err(Error::Bios("hvmloader/bios names none that can be started")),
        }
    }

    /// Whether it wants the tables of a PC before ACPI: MP and PIR.
    pub fn wants_legacy_tables(self) -> bool {
        self == Self::SeaBios
    }

    /// Where it looks for the ACPI root pointer, if it takes no address: OVMF
    /// searches from here on (`OvmfPkg/XenAcpiPlatformDxe`).
    pub fn root_pointer(self) -> Option<Paddr> {
        match self {
            Self::SeaBios => None,
            Self::Ovmf => Some(Paddr(0xe_a020)),
        }
    }

    /// The same for the SMBIOS entry point (`OvmfPkg/SmbiosPlatformDxe`).
    pub fn smbios_entry(self) -> Option<Paddr> {
        match self {
            Self::SeaBios => None,
            Self::Ovmf => Some(Paddr(0xe_b000)),
        }
    }

    /// Where a BIOS of this size goes.
    ///
    /// # Errors
    /// [`Error::Bios`] when it is too small or too large to be one.
    pub fn place(self, size: u64) -> Result<Range<u64>, Error> {
        let (end, largest) = match self {
            // It ends at 1 MiB and may begin where the video BIOS does.
            Self::SeaBios => (LEGACY_END, 256 << 10),
            // It ends at 4 GiB, where a processor's first instruction is.
            Self::Ovmf => (FOUR_GIB, 16 << 20),
        };
        match size {
            ..0x1_0000 => Err(Error::Bios("the file is smaller than 64 KiB")),
            size if size > largest => Err(Error::Bios("the file is too large")),
            size if !size.is_multiple_of(4096) => {
                Err(Error::Bios("the file is not a whole number of pages"))
            }
            size => Ok(end - size..end),
        }
    }

    /// The structure at [`BIOS_INFO`].
    fn info(self, tables: usize, entries: usize) -> ([u8; 48], usize) {
        let mut info = [0; 48];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            info[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        let (tables, entries) = (tables as u32, entries as u32);
        match self {
            Self::SeaBios => {
                put(b"XenHVMSeaBIOS\0");
                put(&[0, 0]); // length and checksum: below
                put(&(TABLES as u32).to_le_bytes());
                put(&tables.to_le_bytes());
                put(&(E820 as u32).to_le_bytes());
                put(&entries.to_le_bytes());
            }
            Self::Ovmf => {
                put(b"XenHVMOVMF\0\0\0\0");
                put(&[0, 0]);
                put(&TABLES.to_le_bytes());
                put(&tables.to_le_bytes());
                put(&E820.to_le_bytes());
                put(&entries.to_le_bytes());
            }
        }
        info[14] = at as u8;
        info[15] = checksum(&info[..at]);
        (info, at)
    }

    /// Writes what the BIOS looks for, into the page of [`BIOS_INFO`].
    pub fn tell(self, machine: &mut impl Machine, tables: &[Paddr], map: &[E820Entry]) {
        let tables = &tables[..tables.len().min(MAX_TABLES)];
        let map = &map[..map.len().min(MAX_E820)];
        let (info, len) = self.info(tables.len(), map.len());
        machine.write(BIOS_INFO, &info[..len]);
        // SeaBIOS reads 32-bit addresses, OVMF (`XenPlatformPei`) as well: all
        // tables lie below 4 GiB.
        for (number, table) in (0..).zip(tables) {
            machine.write(Paddr(TABLES + 4 * number), &(table.0 as u32).to_le_bytes());
        }
        machine.write(Paddr(E820), map.as_bytes());
    }
}
