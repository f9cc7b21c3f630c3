//! Builds a PVH domain: what a kernel with the note `PHYS32_ENTRY` finds at its entry.
//!
//! Described in `xen/include/public/arch-x86/hvm/start_info.h` and Xen's `docs/misc/pvh.pandoc`: 32-bit
//! flat protected mode without paging, EBX holding the address of a [`HvmStartInfo`]. Segments go to
//! their physical addresses; behind them come, each at a page, the start info with what it points to,
//! and the initrd.

use xen_sys::addr::{Paddr, Pfn};
use xen_sys::hvm::{HvmMemmapTableEntry, HvmModlistEntry, HvmStartInfo, XEN_HVM_START_MAGIC_VALUE};
use zerocopy::IntoBytes;

use crate::elf::{ElfImage, ImageFile, LoadSegment};
use crate::error::BuildError;
use crate::load;
use crate::memory::{GuestMemory, PAGE};
use crate::notes::{Features, XenNotes};

/// Version of the start info with a memory map.
const VERSION: u32 = 1;

/// What the user wants built, and what the hypervisor has prepared.
#[derive(Debug, Clone, Copy, Default)]
pub struct PvhSpec<'a> {
    /// Kernel command line, without a NUL.
    pub cmd_line: &'a [u8],
    /// Initial RAM disk, passed to the kernel as it is.
    pub initrd: Option<&'a [u8]>,
    /// Where the ACPI root pointer is; 0: none.
    pub rsdp: u64,
    /// The memory map.
    pub memmap: &'a [HvmMemmapTableEntry],
    /// `XENFEAT_*` bits that the kernel may require.
    pub features: u32,
}

/// A kernel that has been checked to be one that a PVH domain can start.
#[derive(Debug)]
pub struct PvhKernel<'a> {
    segments: Vec<LoadSegment<'a>>,
    file: Option<ImageFile<'a>>,
    notes: XenNotes,
    entry: u32,
    end: u64,
}

/// A built domain: what its first vCPU must start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PvhImage {
    /// First instruction.
    pub entry: u32,
    /// `ebx` at the entry: the start info.
    pub start_info: u32,
    /// First page behind all that was put into memory.
    pub end: Pfn,
}

impl<'a> PvhKernel<'a> {
    /// Checks that `elf` is a PVH kernel that makes sense.
    ///
    /// # Errors
    /// Kinds `NotPv`, `BadImage` and `Unsupported`.
    pub fn new(elf: &ElfImage<'a>) -> Result<Self, BuildError> {
        let notes = XenNotes::read(elf)?;
        let entry = notes.phys32_entry.ok_or(BuildError::PvOnly)?;
        let segments = elf.load_segments().collect::<Result<Vec<_>, _>>()?;
        let mut end = 0;
        let mut has_entry = false;
        for segment in &segments {
            let last = segment.paddr.checked_add(segment.memsz);
            let last = last
                .filter(|last| *last <= u64::from(u32::MAX))
                .ok_or_else(|| {
                    let at = segment.paddr;
                    let what = format!("the PT_LOAD segment at paddr {at:#x} is beyond 4 GiB");
                    BuildError::BadElf { what }
                })?;
            has_entry |= (segment.paddr..last).contains(&entry);
            end = end.max(last);
        }
        let note = "PHYS32_ENTRY";
        let outside = || {
            let what = format!("{entry:#x} is outside of the kernel");
            BuildError::BadNote { note, what }
        };
        let entry = u32::try_from(entry).ok().filter(|_| has_entry);
        Ok(Self {
            segments,
            file: elf.file(),
            entry: entry.ok_or_else(outside)?,
            end,
            notes,
        })
    }

    /// The kernel's notes.
    pub fn notes(&self) -> &XenNotes {
        &self.notes
    }

    /// First page behind all that [`build`](Self::build) would put into memory.
    pub fn end(&self, spec: &PvhSpec<'_>) -> Pfn {
        let initrd = spec.initrd.map_or(0, |initrd| pages(initrd.len()));
        Pfn(self.start_info_pfn() + pages(info_len(spec)) + initrd)
    }

    fn start_info_pfn(&self) -> u64 {
        self.end.div_ceil(PAGE as u64)
    }

    /// Builds the domain into `memory`, whose pages are those from 0 on.
    ///
    /// # Errors
    /// Kinds `TooBig`, `Unsupported` and `Memory`.
    pub fn build<M: GuestMemory + ?Sized>(
        &self,
        memory: &mut M,
        spec: &PvhSpec<'_>,
    ) -> Result<PvhImage, BuildError> {
        let missing = self.notes.features.required & !spec.features;
        if missing != 0 {
            let names = Features::names(missing);
            return Err(BuildError::MissingFeature { names });
        }
        if let Some(at) = spec.cmd_line.iter().position(|byte| *byte == 0) {
            return Err(BuildError::CommandLineNul { at });
        }
        let end = self.end(spec);
        if end.0 > memory.nr_pages() {
            let what = match spec.initrd {
                Some(_) if self.start_info_pfn() < memory.nr_pages() => "The initrd",
                _ => "The kernel",
            };
            let mib = |pages: u64| (pages * PAGE as u64) >> 20;
            return Err(BuildError::DoesNotFit {
                what,
                needed_mib: mib(end.0) + 1,
                available_mib: mib(memory.nr_pages()),
            });
        }
        for segment in &self.segments {
            load::segment(memory, segment.paddr, segment, self.file)?;
        }
        let mut write = |what, pfn, offset, bytes: &[u8]| {
            memory
                .write(Pfn(pfn), offset, bytes)
                .map_err(|source| BuildError::Memory { what, source })
        };
        let info = self.start_info_pfn();
        let initrd = info + pages(info_len(spec));
        write("the start info", info, 0, &start_info(spec, info, initrd))?;
        if let Some(bytes) = spec.initrd {
            write("the initrd", initrd, 0, bytes)?;
        }
        Ok(PvhImage {
            entry: self.entry,
            start_info: (info * PAGE as u64) as u32,
            end,
        })
    }
}

fn pages(len: usize) -> u64 {
    len.div_ceil(PAGE) as u64
}

/// The start info, the list of one module, the memory map and the command line, one behind the other.
fn info_len(spec: &PvhSpec<'_>) -> usize {
    size_of::<HvmStartInfo>()
        + size_of::<HvmModlistEntry>()
        + size_of_val(spec.memmap)
        + spec.cmd_line.len()
        + 1
}

fn start_info(spec: &PvhSpec<'_>, info: u64, initrd: u64) -> Vec<u8> {
    let base = info * PAGE as u64;
    let modules = base + size_of::<HvmStartInfo>() as u64;
    let memmap = modules + size_of::<HvmModlistEntry>() as u64;
    let cmd_line = memmap + size_of_val(spec.memmap) as u64;
    let head = HvmStartInfo {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        flags: 0,
        nr_modules: spec.initrd.is_some().into(),
        modlist_paddr: if spec.initrd.is_some() { modules } else { 0 },
        cmdline_paddr: cmd_line,
        rsdp_paddr: spec.rsdp,
        memmap_paddr: memmap,
        memmap_entries: spec.memmap.len() as u32,
        reserved: 0,
    };
    let module = HvmModlistEntry {
        paddr: Paddr(initrd * PAGE as u64).0,
        size: spec.initrd.map_or(0, |initrd| initrd.len() as u64),
        ..Default::default()
    };
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend_from_slice(module.as_bytes());
    bytes.extend_from_slice(spec.memmap.as_bytes());
    bytes.extend_from_slice(spec.cmd_line);
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;
    use crate::memory::OwnMemory;
    use crate::testing::ElfMaker;

    /// A kernel of a page at 1 MiB with its entry 16 bytes in.
    fn kernel() -> Vec<u8> {
        let entry = 0x10_0010u32.to_le_bytes();
        ElfMaker::new()
            .load(0x10_0000, 0x1800, b"code")
            .note(18, &entry)
            .build()
    }

    #[test]
    fn what_a_kernel_finds() {
        let file = kernel();
        let kernel = PvhKernel::new(&ElfImage::parse(&file).unwrap()).unwrap();
        let memmap = [HvmMemmapTableEntry {
            addr: 0,
            size: 2 << 20,
            kind: 1,
            reserved: 0,
        }];
        let spec = PvhSpec {
            cmd_line: b"quiet",
            initrd: Some(&[7; 5000]),
            rsdp: 0xfc00_8000,
            memmap: &memmap,
            features: 0,
        };
        let mut memory = OwnMemory::new(0x200);
        let image = kernel.build(&mut memory, &spec).unwrap();
        assert_eq!((image.entry, image.start_info), (0x10_0010, 0x10_2000));
        assert_eq!(image.end, Pfn(0x105));
        let at = |at: u64| &memory.bytes()[at as usize..];
        let (info, _) = HvmStartInfo::read_from_prefix(at(0x10_2000)).unwrap();
        assert_eq!((info.magic, info.version), (0x336e_c578, 1));
        assert_eq!(info.rsdp_paddr, 0xfc00_8000);
        assert!(at(info.cmdline_paddr).starts_with(b"quiet\0"));
        let (module, _) = HvmModlistEntry::read_from_prefix(at(info.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), (0x10_3000, 5000));
        assert!(at(module.paddr).starts_with(&[7; 5000]));
        let (map, _) = HvmMemmapTableEntry::read_from_prefix(at(info.memmap_paddr)).unwrap();
        assert_eq!((info.memmap_entries, map), (1, memmap[0]));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let file = kernel();
        let kernel = PvhKernel::new(&ElfImage::parse(&file).unwrap()).unwrap();
        let spec = PvhSpec {
            initrd: Some(&[0; 1 << 20]),
            ..Default::default()
        };
        let error = kernel.build(&mut OwnMemory::new(0x104), &spec).unwrap_err();
        assert!(error.to_string().starts_with("The initrd"), "{error}");
        let error = kernel.build(&mut OwnMemory::new(1), &spec).unwrap_err();
        assert!(error.to_string().starts_with("The kernel"), "{error}");
    }

    #[test]
    fn pv_kernels_and_strange_entries_are_refused() {
        let pv = ElfMaker::linux().build();
        assert!(matches!(
            PvhKernel::new(&ElfImage::parse(&pv).unwrap()),
            Err(BuildError::PvOnly)
        ));
        let outside = ElfMaker::new()
            .load(0x10_0000, 0x1000, b"x")
            .note(18, &0x20_0000u32.to_le_bytes())
            .build();
        let error = PvhKernel::new(&ElfImage::parse(&outside).unwrap()).unwrap_err();
        assert!(error.to_string().contains("0x200000 is outside"), "{error}");
    }
}
