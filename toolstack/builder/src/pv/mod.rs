//! Builds a 64-bit PV domain: from an empty guest memory to the moment before its first instruction.
//!
//! What the guest finds at its entry is described in `xen/include/public/xen.h`, "Start-of-day
//! memory layout", and in the notes of `elfnote.h`. [`layout`] decides what lies where, knowing
//! only sizes; [`page_tables`] maps it; `start_info` tells the guest; and [`PvKernel::build`]
//! is the one place that writes guest memory. Nothing in here knows which hypervisor it builds for.

pub mod layout;
pub mod page_tables;
mod start_info;

use std::fmt;

use xen_sys::addr::{EvtchnPort, Mfn, Pfn, Vaddr};
use xen_sys::features::*;
use xen_sys::xen::SIF_VIRT_P2M_4TOOLS;
use zerocopy::IntoBytes;

use crate::elf::{ElfImage, ImageFile, LoadSegment};
use crate::error::BuildError;
use crate::load;
use crate::memory::{GuestMemory, PAGE};
use crate::notes::{Features, XenNotes};
use layout::{Layout, Sizes};
use page_tables::PageTables;

/// Features of `features.h` that a kernel may require of a PV domain.
///
/// Linux requires `writable_page_tables`, which PV domains on Xen have in effect but not in
/// `XENVER_get_features`: writes to page tables trap and are carried out by the hypervisor.
pub const PV_FEATURES: u32 = 1 << XENFEAT_writable_page_tables
    | 1 << XENFEAT_pae_pgdir_above_4gb
    | 1 << XENFEAT_mmu_pt_update_preserve_ad
    | 1 << XENFEAT_highmem_assist
    | 1 << XENFEAT_gnttab_map_avail_bits;

/// What the user wants built, and what the hypervisor has prepared.
#[derive(Debug, Clone)]
pub struct PvSpec<'a> {
    /// Kernel command line, without a NUL.
    pub cmd_line: &'a [u8],
    /// Initial RAM disk, passed to the kernel as it is.
    pub initrd: Option<&'a [u8]>,
    /// Frame of the shared info page; not a page of the domain's memory on Xen.
    pub shared_info: Mfn,
    /// Event channel of the xenstore page.
    pub store_evtchn: EvtchnPort,
    /// Event channel of the console page.
    pub console_evtchn: EvtchnPort,
    /// `SIF_*` flags for the start info; the builder adds `SIF_MOD_START_PFN` by itself.
    pub flags: u32,
    /// `XENFEAT_*` bits that the kernel may require; see [`PV_FEATURES`].
    pub features: u32,
}

impl PvSpec<'_> {
    /// No command line, no initrd, no event channels, the features of every PV domain.
    pub fn new(shared_info: Mfn) -> Self {
        Self {
            cmd_line: b"",
            initrd: None,
            shared_info,
            store_evtchn: EvtchnPort(0),
            console_evtchn: EvtchnPort(0),
            flags: SIF_VIRT_P2M_4TOOLS,
            features: PV_FEATURES,
        }
    }
}

/// A kernel that has been checked to be one that a 64-bit PV domain can start.
#[derive(Debug)]
pub struct PvKernel<'a> {
    segments: Vec<LoadSegment<'a>>,
    file: Option<ImageFile<'a>>,
    notes: XenNotes,
    entry: Vaddr,
    virt_base: Vaddr,
    paddr_offset: u64,
    /// Pseudo-physical extent of the segments, bytes.
    extent: std::ops::Range<u64>,
    hypercall_page: Option<Vaddr>,
}

/// A built domain: what its first vCPU must start with, and what its back ends must know.
#[derive(Debug, Clone)]
pub struct PvImage {
    /// First instruction.
    pub entry: Vaddr,
    /// `rsp` at the entry: the end of the boot stack.
    pub stack: Vaddr,
    /// `rsi` at the entry: the start info page.
    pub start_info: Vaddr,
    /// `cr3` at the entry: the top-level page table.
    pub cr3: Mfn,
    /// Page of the start info, which a save must find again.
    pub start_info_pfn: Pfn,
    /// Frame of the start info.
    pub start_info_mfn: Mfn,
    /// Page of the xenstore ring.
    pub xenstore_pfn: Pfn,
    /// Frame of the xenstore ring.
    pub xenstore_mfn: Mfn,
    /// Page of the console ring.
    pub console_pfn: Pfn,
    /// Frame of the console ring.
    pub console_mfn: Mfn,
    /// Frame that the hypervisor must fill with the hypercall page, if the kernel has one.
    pub hypercall_page: Option<Mfn>,
    /// Page of the same.
    pub hypercall_page_pfn: Option<Pfn>,
    /// Frame of the shared info page, as it was given.
    pub shared_info: Mfn,
    /// Address of page 0 in the initial mapping.
    pub virt_base: Vaddr,
    /// All that lies in the initial memory.
    pub layout: Layout,
    /// What the kernel's notes say.
    pub notes: XenNotes,
}

impl<'a> PvKernel<'a> {
    /// Checks that `elf` is a PV kernel that makes sense.
    ///
    /// # Errors
    /// Kinds `NotPv`, `BadImage` and `Unsupported`.
    pub fn new(elf: &ElfImage<'a>) -> Result<Self, BuildError> {
        let notes = XenNotes::read(elf)?;
        if notes.entry.is_none() && notes.phys32_entry.is_some() {
            return Err(BuildError::PvhOnly);
        }
        check_versions(&notes)?;
        let virt_base = notes.virt_base.unwrap_or(Vaddr(0));
        let paddr_offset = notes.paddr_offset.unwrap_or(0);
        let segments = elf.load_segments().collect::<Result<Vec<_>, _>>()?;
        let extent = extent(&segments, paddr_offset)?;
        let entry = notes.entry.unwrap_or(Vaddr(elf.entry()));
        let from_pfn = |pfn: u64| Vaddr(virt_base.0.wrapping_add(pfn.wrapping_mul(PAGE as u64)));
        let hypercall_page = notes
            .hypercall_page
            .or(notes.hypercall_page_pfn.map(from_pfn));
        let kernel = Self {
            segments,
            file: elf.file(),
            entry,
            virt_base,
            paddr_offset,
            extent,
            hypercall_page,
            notes,
        };
        kernel.check_addresses()?;
        Ok(kernel)
    }

    /// The kernel's notes.
    pub fn notes(&self) -> &XenNotes {
        &self.notes
    }

    /// Where everything would lie in a domain of `nr_pages` pages.
    ///
    /// # Errors
    /// [`BuildError::DoesNotFit`], [`BuildError::BadNote`].
    pub fn layout(&self, nr_pages: u64, initrd_len: Option<u64>) -> Result<Layout, BuildError> {
        Layout::new(&self.sizes(nr_pages, initrd_len))
    }

    /// Builds the domain into `memory`.
    ///
    /// Nothing is written before all of it is known to fit. On an error of guest memory itself the
    /// memory is left half written.
    ///
    /// # Errors
    /// Kinds `TooBig`, `Unsupported` and `Memory`.
    pub fn build<M: GuestMemory + ?Sized>(
        &self,
        memory: &mut M,
        spec: &PvSpec<'_>,
    ) -> Result<PvImage, BuildError> {
        let missing = self.notes.features.required & !spec.features;
        if missing != 0 {
            return Err(BuildError::MissingFeature {
                names: Features::names(missing),
            });
        }
        let layout = self.layout(memory.nr_pages(), spec.initrd.map(|i| i.len() as u64))?;
        let image = self.image(memory, spec, &layout);
        let start_info = start_info::start_info(memory.nr_pages(), spec, &image)?;

        let mut writer = Writer { memory };
        let memory = &mut *writer.memory;
        for segment in &self.segments {
            load::segment(
                memory,
                segment.paddr - self.paddr_offset,
                segment,
                self.file,
            )?;
        }
        if let Some((initrd, region)) = spec.initrd.zip(layout.initrd) {
            writer.write("the initrd", region.pfn, 0, initrd)?;
        }
        writer.p2m(layout.p2m.pfn)?;
        let tables = PageTables::new(&layout);
        for (table, pfn) in tables.iter() {
            let entries = tables.entries(table, |pfn| writer.memory.mfn(pfn));
            writer.write("the page tables", pfn, 0, entries.as_bytes())?;
        }
        writer.write(
            "the start info",
            layout.start_info.pfn,
            0,
            start_info.as_bytes(),
        )?;
        Ok(image)
    }

    fn sizes(&self, nr_pages: u64, initrd_len: Option<u64>) -> Sizes {
        Sizes {
            nr_pages,
            virt_base: self.virt_base,
            kernel: self.extent.clone(),
            initrd: initrd_len,
            initrd_unmapped: self.notes.mod_start_pfn,
            init_p2m: self.notes.init_p2m,
        }
    }

    fn image<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        spec: &PvSpec<'_>,
        layout: &Layout,
    ) -> PvImage {
        let hypercall_page_pfn = self
            .hypercall_page
            .map(|at| Pfn((at.0 - self.virt_base.0) / PAGE as u64));
        PvImage {
            entry: self.entry,
            stack: Vaddr(layout.boot_stack.vaddr().0 + PAGE as u64),
            start_info: layout.start_info.vaddr(),
            cr3: memory.mfn(layout.page_tables.pfn),
            start_info_pfn: layout.start_info.pfn,
            start_info_mfn: memory.mfn(layout.start_info.pfn),
            xenstore_pfn: layout.xenstore.pfn,
            xenstore_mfn: memory.mfn(layout.xenstore.pfn),
            console_pfn: layout.console.pfn,
            console_mfn: memory.mfn(layout.console.pfn),
            hypercall_page: hypercall_page_pfn.map(|pfn| memory.mfn(pfn)),
            hypercall_page_pfn,
            shared_info: spec.shared_info,
            virt_base: self.virt_base,
            layout: layout.clone(),
            notes: self.notes.clone(),
        }
    }

    /// The entry and the hypercall page must lie in the kernel, and the kernel in the address space.
    fn check_addresses(&self) -> Result<(), BuildError> {
        let base = self.virt_base;
        page_aligned("VIRT_BASE", base)?;
        let at = |paddr| base.0.checked_add(paddr);
        let Some((start, end)) = at(self.extent.start).zip(at(self.extent.end)) else {
            return Err(bad_note(
                "VIRT_BASE",
                format!("the kernel does not fit above {base}"),
            ));
        };
        let inside = |note, at: Vaddr| match (start..end).contains(&at.0) {
            true => Ok(()),
            false => {
                let what = format!("{at} is outside of the kernel ({start:#x} to {end:#x})");
                Err(bad_note(note, what))
            }
        };
        inside("ENTRY", self.entry)?;
        if let Some(at) = self.hypercall_page {
            inside("HYPERCALL_PAGE", at)?;
            page_aligned("HYPERCALL_PAGE", at)?;
        }
        layout::check_hole(self.notes.hv_start_low)
    }
}

impl PvImage {
    /// The layout as a table for people.
    pub fn describe(&self) -> impl fmt::Display + '_ {
        Describe(self)
    }
}

struct Describe<'a>(&'a PvImage);

impl fmt::Display for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.0;
        write!(f, "{}", image.layout)?;
        writeln!(
            f,
            "entry {:#x}  rsi {:#x}  rsp {:#x}",
            image.entry.0, image.start_info.0, image.stack.0
        )?;
        write!(
            f,
            "mfns: cr3 {:#x}  start info {:#x}  xenstore {:#x}  console {:#x}  shared info {:#x}",
            image.cr3.0,
            image.start_info_mfn.0,
            image.xenstore_mfn.0,
            image.console_mfn.0,
            image.shared_info.0
        )?;
        match image.hypercall_page {
            Some(mfn) => writeln!(f, "  hypercall page {:#x}", mfn.0)?,
            None => writeln!(f, "  no hypercall page")?,
        }
        if image.notes.bsd_symtab {
            writeln!(
                f,
                "BSD_SYMTAB ignored: no symbol table is loaded behind the kernel"
            )?;
        }
        Ok(())
    }
}

/// libelf refuses images for other major versions and loaders; so do we.
fn check_versions(notes: &XenNotes) -> Result<(), BuildError> {
    let check = |note, value: &Option<String>, want: &str| match value {
        Some(have) if have != want => Err(bad_note(
            note,
            format!("{have:?}, and only {want:?} is known"),
        )),
        _ => Ok(()),
    };
    check("XEN_VERSION", &notes.xen_version, "xen-3.0")?;
    check("LOADER", &notes.loader, "generic")
}

fn page_aligned(note: &'static str, at: Vaddr) -> Result<(), BuildError> {
    match at.page_offset() {
        0 => Ok(()),
        _ => Err(bad_note(note, format!("{at} is not the start of a page"))),
    }
}

fn bad_note(note: &'static str, what: String) -> BuildError {
    BuildError::BadNote { note, what }
}

/// The pseudo-physical bytes from the first to the last of the segments.
fn extent(
    segments: &[LoadSegment<'_>],
    paddr_offset: u64,
) -> Result<std::ops::Range<u64>, BuildError> {
    let mut extent: Option<std::ops::Range<u64>> = None;
    for segment in segments {
        let start = segment
            .paddr
            .checked_sub(paddr_offset)
            .ok_or_else(|| BuildError::BadElf {
                what: format!(
                    "a PT_LOAD segment lies at paddr {:#x}, below PADDR_OFFSET {paddr_offset:#x}",
                    segment.paddr
                ),
            })?;
        let end = start
            .checked_add(segment.memsz)
            .filter(|end| *end <= layout::MAX_BYTES);
        let end = end.ok_or_else(|| BuildError::BadElf {
            what: format!(
                "the PT_LOAD segment at paddr {:#x} is beyond all memory",
                segment.paddr
            ),
        })?;
        extent = Some(match extent {
            Some(e) => e.start.min(start)..e.end.max(end),
            None => start..end,
        });
    }
    extent.ok_or_else(|| BuildError::BadElf {
        what: "it has nothing to load".into(),
    })
}

struct Writer<'a, M: ?Sized> {
    memory: &'a mut M,
}

impl<M: GuestMemory + ?Sized> Writer<'_, M> {
    fn write(
        &mut self,
        what: &'static str,
        pfn: Pfn,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), BuildError> {
        self.memory
            .write(pfn, offset, bytes)
            .map_err(|source| BuildError::Memory { what, source })
    }

    /// Writes the phys-to-machine list in pieces that stay in the cache.
    fn p2m(&mut self, list: Pfn) -> Result<(), BuildError> {
        const PIECE: u64 = 8192;
        let mut piece = [0u64; PIECE as usize];
        let nr_pages = self.memory.nr_pages();
        for first in (0..nr_pages).step_by(PIECE as usize) {
            let count = PIECE.min(nr_pages - first) as usize;
            let piece = piece.get_mut(..count).unwrap_or_default();
            self.memory.mfn_list(Pfn(first), piece);
            self.write(
                "the phys-to-machine list",
                list,
                first * 8,
                piece.as_bytes(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
