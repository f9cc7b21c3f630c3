//! Decides which page of a PV domain holds what at its start.
//!
//! The order is that of `xen.h`, "Start-of-day memory layout". Two notes take an element out of
//! it: with `MOD_START_PFN` the initrd, with `INIT_P2M` the phys-to-machine list and the tables
//! that map it. Those lie behind the initial mapping, in that order, as libxenguest puts them.

use std::fmt;
use std::ops::Range;

use xen_sys::addr::{Pfn, Vaddr};
use xen_sys::arch_x86::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};

use super::page_tables::{LevelTables, tables_needed};
use crate::error::BuildError;

const PAGE: u64 = crate::memory::PAGE as u64;
const MIB: u64 = 1 << 20;

/// "The contiguous region ends on an aligned 4MB boundary."
const END_ALIGN: u64 = 4 * MIB;
/// "There is guaranteed to be at least 512kB padding after the final bootstrap element."
const END_PADDING: u64 = 512 << 10;

/// No domain has more memory than an x86-64 machine can address.
pub(super) const MAX_BYTES: u64 = 1 << 52;

/// Xen's own part of the address space, PML4 slots 256 to 271.
const HOLE: Range<u64> = HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END;

/// What determines a layout.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub nr_pages: u64,
    pub virt_base: Vaddr,
    /// Pseudo-physical extent, bytes.
    pub kernel: Range<u64>,
    /// Length, bytes.
    pub initrd: Option<u64>,
    pub initrd_unmapped: bool,
    pub init_p2m: Option<Vaddr>,
}

/// A run of pages with one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First page.
    pub pfn: Pfn,
    /// Number of pages.
    pub pages: u64,
    /// Where the initial page tables map it, if they do.
    pub mapped_at: Option<Vaddr>,
}

impl Region {
    /// Where a region of the initial mapping is mapped.
    pub(super) fn vaddr(&self) -> Vaddr {
        self.mapped_at.unwrap_or(Vaddr(0))
    }

    /// First page behind the region.
    pub fn end(&self) -> Pfn {
        Pfn(self.pfn.0 + self.pages)
    }

    pub(super) fn contains(&self, pfn: Pfn) -> bool {
        (self.pfn.0..self.end().0).contains(&pfn.0)
    }
}

/// What lies where at the start of a PV domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Pages of the domain.
    pub nr_pages: u64,
    /// The kernel's segments from first to last.
    pub kernel: Region,
    /// The initrd; `mapped_at` is `None` when it is handed over by page number.
    pub initrd: Option<Region>,
    /// The phys-to-machine list without its tables.
    pub p2m: Region,
    /// The tables that map the list alone, when it lies outside of the initial mapping.
    pub p2m_tables: Region,
    /// The start info page.
    pub start_info: Region,
    /// The xenstore ring page.
    pub xenstore: Region,
    /// The console ring page.
    pub console: Region,
    /// The page tables of the initial mapping, top level first, higher levels before lower ones.
    pub page_tables: Region,
    /// The boot stack.
    pub boot_stack: Region,
    /// The initial mapping: page 0 at VIRT_BASE, up to the padded end.
    pub mapping: Region,
}

impl Layout {
    /// Lays out a domain.
    pub(super) fn new(sizes: &Sizes) -> Result<Self, BuildError> {
        let layout = Self::place(sizes)?;
        if layout.end() <= sizes.nr_pages {
            return Ok(layout);
        }
        let without_initrd = Self::place(&Sizes {
            initrd: None,
            ..sizes.clone()
        })?;
        let what = match sizes.initrd {
            Some(_) if without_initrd.end() <= sizes.nr_pages => "The initrd",
            _ => "The kernel",
        };
        Err(BuildError::DoesNotFit {
            what,
            needed_mib: needed_mib(sizes, layout.end())?,
            available_mib: sizes.nr_pages * PAGE / MIB,
        })
    }

    /// Where the boot region and what lies behind it end, pages.
    fn end(&self) -> u64 {
        self.regions()
            .map(|(_, region)| region.end().0)
            .max()
            .unwrap_or(0)
    }

    fn place(sizes: &Sizes) -> Result<Self, BuildError> {
        // A list above the kernel or not at a page is put into the initial mapping, as Xen does.
        let usable = |at: &Vaddr| at.0 < sizes.virt_base.0 && at.page_offset() == 0;
        let init_p2m = sizes.init_p2m.filter(usable);
        // A domain of no pages is refused for being too small: its list has a last byte all the same.
        let p2m_pages = (sizes.nr_pages * 8).div_ceil(PAGE).max(1);

        let mut next = Cursor {
            virt_base: sizes.virt_base,
            pfn: sizes.kernel.start / PAGE,
        };
        let kernel = next.mapped(sizes.kernel.end.div_ceil(PAGE) - next.pfn);
        let initrd_pages = sizes.initrd.map(|len| len.div_ceil(PAGE));
        let mapped_initrd = initrd_pages.filter(|_| !sizes.initrd_unmapped);
        let mapped_initrd = mapped_initrd.map(|pages| next.mapped(pages));
        let mapped_p2m = init_p2m.is_none().then(|| next.mapped(p2m_pages));
        let start_info = next.mapped(1);
        let xenstore = next.mapped(1);
        let console = next.mapped(1);
        let (tables, mapped_pages) = boot_tables(sizes.virt_base, next.pfn)?;
        let page_tables = next.mapped(tables);
        let boot_stack = next.mapped(1);
        let mapping = Region {
            pfn: Pfn(0),
            pages: mapped_pages,
            mapped_at: Some(sizes.virt_base),
        };

        next.pfn = mapped_pages;
        let unmapped_initrd = initrd_pages.filter(|_| sizes.initrd_unmapped);
        let unmapped_initrd = unmapped_initrd.map(|pages| next.unmapped(pages));
        let p2m = match mapped_p2m {
            Some(region) => region,
            None => Region {
                mapped_at: init_p2m,
                ..next.unmapped(p2m_pages)
            },
        };
        let tables = if mapped_p2m.is_some() {
            0
        } else {
            p2m_table_count(&mapping, &p2m)?
        };
        let p2m_tables = next.unmapped(tables);
        Ok(Self {
            nr_pages: sizes.nr_pages,
            kernel,
            initrd: mapped_initrd.or(unmapped_initrd),
            p2m,
            p2m_tables,
            start_info,
            xenstore,
            console,
            page_tables,
            boot_stack,
            mapping,
        })
    }

    /// Whether the phys-to-machine list lies outside of the initial mapping, as INIT_P2M asks.
    pub fn p2m_is_outside(&self) -> bool {
        !self.mapping.contains(self.p2m.pfn)
    }

    /// All regions with their names, as libxenguest calls them.
    pub fn regions(&self) -> impl Iterator<Item = (&'static str, &Region)> {
        let initrd = self.initrd.iter().map(|region| ("ramdisk", region));
        let rest = [
            ("phys2mach", &self.p2m),
            ("p2m tables", &self.p2m_tables),
            ("start info", &self.start_info),
            ("xenstore", &self.xenstore),
            ("console", &self.console),
            ("page tables", &self.page_tables),
            ("boot stack", &self.boot_stack),
            ("mapping", &self.mapping),
        ];
        std::iter::once(("kernel", &self.kernel))
            .chain(initrd)
            .chain(rest)
            .filter(|(_, region)| region.pages > 0)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, region) in self.regions() {
            write!(f, "{name:<12} ")?;
            match region.mapped_at {
                Some(at) => {
                    let end = at.0.wrapping_add(region.pages * PAGE);
                    write!(f, "{:#018x} -> {end:#018x}", at.0)?;
                }
                None => write!(f, "{:<40}", "not mapped")?,
            }
            writeln!(f, "  (pfn {:#x} + {:#x} pages)", region.pfn.0, region.pages)?;
        }
        Ok(())
    }
}

/// Hands out pages one behind the other.
struct Cursor {
    virt_base: Vaddr,
    pfn: u64,
}

impl Cursor {
    fn unmapped(&mut self, pages: u64) -> Region {
        let region = Region {
            pfn: Pfn(self.pfn),
            pages,
            mapped_at: None,
        };
        self.pfn += pages;
        region
    }

    fn mapped(&mut self, pages: u64) -> Region {
        let at = self.virt_base.0.wrapping_add(self.pfn.wrapping_mul(PAGE));
        Region {
            mapped_at: Some(Vaddr(at)),
            ..self.unmapped(pages)
        }
    }
}

/// How many tables map the boot region, and how many pages that has, when `used` pages precede
/// the tables.
///
/// The tables and the stack behind them are part of what they map, so the number is iterated; it
/// only grows, and one more table maps far more than one page.
fn boot_tables(virt_base: Vaddr, used: u64) -> Result<(u64, u64), BuildError> {
    let too_high = || BuildError::BadNote {
        note: "VIRT_BASE",
        what: format!(
            "{:#x} leaves no room for the boot data of this domain",
            virt_base.0
        ),
    };
    let mut tables = 0;
    loop {
        let bytes = (used + tables + 1) * PAGE + END_PADDING;
        // The last byte instead of the end, which may be 2^64.
        let last = virt_base.0.checked_add(bytes - 1).ok_or_else(too_high)? | (END_ALIGN - 1);
        let last = Vaddr(last);
        let canonical = virt_base.is_canonical() && last.is_canonical();
        if !canonical || virt_base.0 < HOLE.end && last.0 >= HOLE.start {
            return Err(too_high());
        }
        let needed = count(tables_needed(virt_base..=last));
        if needed <= tables {
            return Ok((tables, (last.0 - virt_base.0) / PAGE + 1));
        }
        tables = needed;
    }
}

/// How many tables the list needs beyond those that the initial mapping has already.
fn p2m_table_count(mapping: &Region, p2m: &Region) -> Result<u64, BuildError> {
    let (at, boot) = (p2m.vaddr(), mapping.vaddr());
    let last = at.0.checked_add(p2m.pages * PAGE - 1).map(Vaddr);
    let usable = |last: &Vaddr| {
        let canonical = at.is_canonical() && last.is_canonical();
        canonical && last.0 < boot.0 && !(at.0 < HOLE.end && last.0 >= HOLE.start)
    };
    let last = last.filter(usable).ok_or_else(|| BuildError::BadNote {
        note: "INIT_P2M",
        what: format!("no list of {} pages can be mapped at {at}", p2m.pages),
    })?;
    // The list lies below the mapping, so it can only share the tables of the mapping's start.
    let shared = tables_needed(boot..=boot);
    let shared = tables_needed(at..=last)
        .zip(shared)
        .filter(|(list, boot)| list.indices.contains(boot.indices.start()))
        .count() as u64;
    Ok(count(tables_needed(at..=last)) - shared)
}

fn count(levels: impl Iterator<Item = LevelTables>) -> u64 {
    levels
        .map(|level| level.indices.end() - level.indices.start() + 1)
        .sum()
}

/// The hole cannot begin higher than it does, so a kernel that needs that cannot run.
pub(super) fn check_hole(hv_start_low: Option<Vaddr>) -> Result<(), BuildError> {
    match hv_start_low {
        Some(low) if low.0 > HOLE.start => Err(BuildError::BadNote {
            note: "HV_START_LOW",
            what: format!(
                "{:#x} is above the start of Xen's area, {:#x}",
                low.0, HOLE.start
            ),
        }),
        _ => Ok(()),
    }
}

/// The least memory with which everything fits, given that `end` pages do not suffice.
///
/// More memory makes the phys-to-machine list longer, so this is iterated too.
fn needed_mib(sizes: &Sizes, mut end: u64) -> Result<u64, BuildError> {
    loop {
        let mib = (end * PAGE).div_ceil(MIB);
        let nr_pages = mib * MIB / PAGE;
        end = Layout::place(&Sizes {
            nr_pages,
            ..sizes.clone()
        })?
        .end();
        if end <= nr_pages {
            return Ok(mib);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `xl -vvv create` of Xen 4.17 says about 128 MiB: (pfn, pages) of each region.
    struct Answer {
        kernel: (u64, u64),
        initrd: Option<(u64, u64)>,
        /// With its tables.
        p2m: (u64, u64),
        start_info: u64,
        page_tables: (u64, u64),
        boot_stack: u64,
        end: u64,
    }

    fn linux(kernel: Range<u64>, initrd: Option<u64>) -> Sizes {
        Sizes {
            nr_pages: 0x8000,
            virt_base: Vaddr(0xffff_ffff_8000_0000),
            kernel,
            initrd,
            initrd_unmapped: true,
            init_p2m: Some(Vaddr(0x80_0000_0000)),
        }
    }

    fn grub(initrd: Option<u64>) -> Sizes {
        Sizes {
            virt_base: Vaddr(0),
            initrd_unmapped: false,
            init_p2m: None,
            ..linux(0..0x61_3dc8, initrd)
        }
    }

    #[test]
    fn libxenguest_places_everything_there_too() {
        let initrd = Some(5_000_001);
        let linux_6_1 = Answer {
            kernel: (0x1000, 0x3a00),
            initrd: Some((0x4c00, 0x4c5)),
            p2m: (0x50c5, 0x43),
            start_info: 0x4a00,
            page_tables: (0x4a03, 0x29),
            boot_stack: 0x4a2c,
            end: 0x4c00,
        };
        let linux_6_12 = Answer {
            kernel: (0x1000, 0x3200),
            initrd: None,
            p2m: (0x4400, 0x43),
            start_info: 0x4200,
            page_tables: (0x4203, 0x25),
            boot_stack: 0x4228,
            end: 0x4400,
        };
        let grub_alone = Answer {
            kernel: (0, 0x614),
            initrd: None,
            p2m: (0x614, 0x40),
            start_info: 0x654,
            page_tables: (0x657, 0x7),
            boot_stack: 0x65e,
            end: 0x800,
        };
        let grub_with = Answer {
            kernel: (0, 0x614),
            initrd: Some((0x614, 0x4c5)),
            p2m: (0xad9, 0x40),
            start_info: 0xb19,
            page_tables: (0xb1c, 0x9),
            boot_stack: 0xb25,
            end: 0xc00,
        };
        let cases = [
            (linux(0x100_0000..0x4a0_0000, initrd), linux_6_1),
            (linux(0x100_0000..0x420_0000, None), linux_6_12),
            (grub(None), grub_alone),
            (grub(initrd), grub_with),
        ];
        for (sizes, answer) in cases {
            let layout = Layout::new(&sizes).unwrap();
            let place = |region: &Region| (region.pfn.0, region.pages);
            assert_eq!(place(&layout.kernel), answer.kernel, "\n{layout}");
            assert_eq!(
                layout.initrd.as_ref().map(place),
                answer.initrd,
                "\n{layout}"
            );
            let p2m = (layout.p2m.pfn.0, layout.p2m.pages + layout.p2m_tables.pages);
            assert_eq!(p2m, answer.p2m, "\n{layout}");
            assert_eq!(
                place(&layout.start_info),
                (answer.start_info, 1),
                "\n{layout}"
            );
            assert_eq!(
                place(&layout.xenstore),
                (answer.start_info + 1, 1),
                "\n{layout}"
            );
            assert_eq!(
                place(&layout.console),
                (answer.start_info + 2, 1),
                "\n{layout}"
            );
            assert_eq!(place(&layout.page_tables), answer.page_tables, "\n{layout}");
            assert_eq!(
                place(&layout.boot_stack),
                (answer.boot_stack, 1),
                "\n{layout}"
            );
            assert_eq!(layout.mapping.pages, answer.end, "\n{layout}");
        }
    }

    #[test]
    fn the_padding_gives_another_4_mib_where_half_a_mib_is_not_left() {
        // Boot data end at or just behind 3.5 MiB: one page decides.
        let end = |kernel_pages: u64| {
            let layout = Layout::new(&Sizes {
                kernel: 0..kernel_pages * PAGE,
                init_p2m: None,
                ..grub(None)
            });
            let layout = layout.unwrap();
            (layout.boot_stack.end().0, layout.mapping.pages)
        };
        let other = end(1).0 - 1;
        let fits = 0x380 - other;
        assert_eq!(end(fits), (0x380, 0x400));
        let (stack, pages) = end(fits + 1);
        assert!(stack > 0x380 && pages == 0x800);
    }
}
