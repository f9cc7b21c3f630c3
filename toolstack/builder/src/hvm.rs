//! Builds an HVM domain: the firmware `hvmloader`, and what it finds at its entry.
//!
//! As libxenguest does it, the image goes to its physical addresses, and behind it, each at a page, come
//! the BIOS and the tables to add as modules, and the start info with their list. The entry is in 32-bit
//! flat protected mode without paging, EBX holding the address of the [`HvmStartInfo`], as for PVH
//! (`xen/include/public/arch-x86/hvm/start_info.h`). What is not in there is in `hvm_info_table`
//! (`hvm/hvm_info_table.h`), at a fixed address below 640 KiB.

use xen_sys::addr::Pfn;
use xen_sys::hvm::{HvmMemmapTableEntry, HvmModlistEntry, HvmStartInfo, XEN_HVM_START_MAGIC_VALUE};
use zerocopy::IntoBytes;

use crate::error::BuildError;
use crate::memory::{GuestMemory, PAGE};
use crate::pvh::PvhImage;

/// `HVM_MAX_VCPUS`.
pub const MAX_VCPUS: u32 = 128;
/// `HVM_INFO_PADDR`.
const INFO_PADDR: u64 = 0x9_f800;
/// Bytes of `struct hvm_info_table`.
const INFO_SIZE: usize = 48;
/// Where the firmware may lie: no RAM is between 640 KiB and 1 MiB.
const LOWEST: u64 = 1 << 20;
/// More than any hvmloader has.
const MOST_SEGMENTS: usize = 16;
/// The command line by which the firmware knows the BIOS.
const BIOS_NAME: &[u8] = b"firmware\0";

/// What is to be built.
#[derive(Debug, Clone, Copy, Default)]
pub struct HvmSpec<'a> {
    /// SeaBIOS or OVMF.
    pub bios: &'a [u8],
    /// ACPI tables to add.
    pub acpi: Option<&'a [u8]>,
    /// SMBIOS structures to add.
    pub smbios: Option<&'a [u8]>,
    /// The memory map.
    pub memmap: &'a [HvmMemmapTableEntry],
    /// Virtual CPUs.
    pub max_vcpus: u32,
    /// Those of them that are there at the start.
    pub vcpus: u32,
    /// Whether there are APICs.
    pub apic: bool,
    /// Where RAM below 4 GiB ends.
    pub low_end: Pfn,
    /// Where RAM above 4 GiB ends; 0 if there is none.
    pub high_end: Pfn,
    /// First page of those that are the toolstack's.
    pub reserved: Pfn,
}

/// An address and a length in bytes.
pub type Place = (u64, u64);

/// A built domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HvmImage {
    /// What its first vCPU starts with.
    pub start: PvhImage,
    /// Where the ACPI tables are.
    pub acpi: Option<Place>,
    /// Where the SMBIOS structures are.
    pub smbios: Option<Place>,
}

/// A segment of the firmware.
#[derive(Debug)]
struct Segment<'a> {
    paddr: u64,
    memsz: u64,
    data: &'a [u8],
}

/// An image that has been checked to be one that Xen can start as firmware: 32-bit ELF.
#[derive(Debug)]
pub struct HvmLoader<'a> {
    segments: Vec<Segment<'a>>,
    entry: u32,
    end: u64,
}

fn refused(what: impl Into<String>) -> BuildError {
    BuildError::NotFirmware { what: what.into() }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*field))
}

impl<'a> HvmLoader<'a> {
    /// Checks an image.
    ///
    /// # Errors
    /// [`BuildError::NotFirmware`].
    pub fn new(file: &'a [u8]) -> Result<Self, BuildError> {
        const I386: u16 = 3;
        if !file.starts_with(b"\x7fELF\x01\x01\x01") || half(file, 18) != Some(I386) {
            return Err(refused("it is no 32-bit ELF file for x86"));
        }
        let cut = || refused("it is cut off");
        let entry = word(file, 24).ok_or_else(cut)?;
        let table = word(file, 28).ok_or_else(cut)? as usize;
        let (size, count) = (half(file, 42), half(file, 44));
        let (size, count) = (size.ok_or_else(cut)?, count.ok_or_else(cut)?);
        let (size, count) = (usize::from(size), usize::from(count));
        if size < 32 || count > MOST_SEGMENTS {
            return Err(refused("its program headers make no sense"));
        }
        let headers = file
            .get(table..)
            .and_then(|rest| rest.get(..size * count))
            .ok_or_else(cut)?;
        let mut segments = Vec::new();
        for header in headers.chunks_exact(size) {
            segments.extend(Segment::read(file, header)?);
        }
        let end = segments.iter().map(|s| s.paddr + s.memsz).max();
        let holds = |segment: &Segment<'_>| {
            (segment.paddr..segment.paddr + segment.memsz).contains(&entry.into())
        };
        match end {
            Some(end) if segments.iter().any(holds) => Ok(Self {
                segments,
                entry,
                end,
            }),
            _ => Err(refused("its entry is outside of it")),
        }
    }

    fn start_info(&self, spec: &HvmSpec<'_>) -> (u64, [Option<Place>; 3]) {
        let mut next = self.end.next_multiple_of(PAGE as u64);
        let mut place = |bytes: &[u8]| {
            let at = (next, bytes.len() as u64);
            next = (next + at.1).next_multiple_of(PAGE as u64);
            at
        };
        let bios = place(spec.bios);
        let acpi = spec.acpi.map(&mut place);
        let smbios = spec.smbios.map(&mut place);
        (next, [Some(bios), acpi, smbios])
    }

    /// Builds the domain into `memory`, whose pages are those from 0 on.
    ///
    /// # Errors
    /// Kinds `TooBig` and `Memory`.
    pub fn build<M: GuestMemory + ?Sized>(
        &self,
        memory: &mut M,
        spec: &HvmSpec<'_>,
    ) -> Result<HvmImage, BuildError> {
        let (info, [bios, acpi, smbios]) = self.start_info(spec);
        let head = start_info(spec, info, bios.unwrap_or_default());
        let end = Pfn((info + head.len() as u64).div_ceil(PAGE as u64));
        if end.0 > memory.nr_pages() {
            let mib = |pages: u64| (pages * PAGE as u64) >> 20;
            return Err(BuildError::DoesNotFit {
                what: "The firmware",
                needed_mib: mib(end.0) + 1,
                available_mib: mib(memory.nr_pages()),
            });
        }
        let mut write = |what, at: u64, bytes: &[u8]| {
            memory
                .write(Pfn(at / PAGE as u64), at % PAGE as u64, bytes)
                .map_err(|source| BuildError::Memory { what, source })
        };
        for segment in &self.segments {
            let mut bytes = segment.data.to_vec();
            bytes.resize(segment.memsz as usize, 0);
            write("the firmware", segment.paddr, &bytes)?;
        }
        let modules = [
            ("the BIOS", bios, Some(spec.bios)),
            ("the ACPI tables", acpi, spec.acpi),
            ("the SMBIOS structures", smbios, spec.smbios),
        ];
        for (what, place, bytes) in modules {
            if let (Some((at, _)), Some(bytes)) = (place, bytes) {
                write(what, at, bytes)?;
            }
        }
        write("the start info", info, &head)?;
        write("the info table", INFO_PADDR, &info_table(spec))?;
        Ok(HvmImage {
            start: PvhImage {
                entry: self.entry,
                start_info: info as u32,
                end,
            },
            acpi,
            smbios,
        })
    }
}

impl<'a> Segment<'a> {
    /// `None` for what is not loaded.
    fn read(file: &'a [u8], header: &[u8]) -> Result<Option<Self>, BuildError> {
        const PT_LOAD: u32 = 1;
        /// Beyond what any firmware needs, and far from what wraps.
        const HIGHEST: u64 = 64 << 20;
        let field = |at| word(header, at).unwrap_or(0);
        let (filesz, memsz) = (field(16), field(20));
        if field(0) != PT_LOAD || memsz == 0 {
            return Ok(None);
        }
        let (offset, paddr, memsz) = (field(4) as usize, u64::from(field(12)), u64::from(memsz));
        let data = file
            .get(offset..)
            .and_then(|rest| rest.get(..filesz as usize))
            .filter(|data| data.len() as u64 <= memsz)
            .ok_or_else(|| refused("it is cut off"))?;
        if paddr < LOWEST || paddr + memsz > HIGHEST {
            return Err(refused(format!(
                "it would lie at {paddr:#x}, outside of 1 MiB to 64 MiB"
            )));
        }
        Ok(Some(Self { paddr, memsz, data }))
    }
}

/// The start info, the list of one module, the module's name and the memory map.
fn start_info(spec: &HvmSpec<'_>, info: u64, bios: Place) -> Vec<u8> {
    let list = info + size_of::<HvmStartInfo>() as u64;
    let name = list + size_of::<HvmModlistEntry>() as u64;
    let memmap = (name + BIOS_NAME.len() as u64).next_multiple_of(8);
    let head = HvmStartInfo {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        flags: 0,
        nr_modules: 1,
        modlist_paddr: list,
        cmdline_paddr: 0,
        rsdp_paddr: 0,
        memmap_paddr: memmap,
        memmap_entries: spec.memmap.len() as u32,
        reserved: 0,
    };
    let module = HvmModlistEntry {
        paddr: bios.0,
        size: bios.1,
        cmdline_paddr: name,
        reserved: 0,
    };
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend_from_slice(module.as_bytes());
    bytes.extend_from_slice(BIOS_NAME);
    bytes.resize((memmap - info) as usize, 0);
    bytes.extend_from_slice(spec.memmap.as_bytes());
    bytes
}

/// `struct hvm_info_table`; all of its bytes sum to 0.
fn info_table(spec: &HvmSpec<'_>) -> [u8; INFO_SIZE] {
    let mut table = [0; INFO_SIZE];
    let mut put = |at: usize, bytes: &[u8]| table[at..at + bytes.len()].copy_from_slice(bytes);
    let frame = |pfn: Pfn| (pfn.0 as u32).to_le_bytes();
    put(0, b"HVM INFO");
    put(8, &(INFO_SIZE as u32).to_le_bytes());
    put(13, &[spec.apic.into()]);
    put(16, &spec.max_vcpus.to_le_bytes());
    put(20, &frame(spec.low_end));
    put(24, &frame(spec.reserved));
    put(28, &frame(spec.high_end));
    let online = u128::MAX.checked_shr(MAX_VCPUS.saturating_sub(spec.vcpus));
    put(32, &online.unwrap_or(0).to_le_bytes());
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[12] = sum.wrapping_neg();
    table
}

#[cfg(test)]
#[path = "hvm_test.rs"]
mod tests;
