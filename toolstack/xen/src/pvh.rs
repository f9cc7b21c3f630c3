//! Building a PVH domain: memory with a hole below 4 GiB, special pages, ACPI tables, and the first
//! vCPU in 32-bit protected mode.

use std::path::Path;

use pv_ring::SharedPage;
use xen_sys::DomId;
use xen_sys::addr::PAGE_SIZE;
use xen_sys::hvm::{
    HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_IDENT_PT,
    HVM_PARAM_MONITOR_RING_PFN, HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_SHARING_RING_PFN,
    HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN, HVM_PARAM_TIMER_MODE, HvmMemmapTableEntry,
    XEN_HVM_MEMMAP_TYPE_ACPI, XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED,
};
use xen_sys::memory::E820Entry;
use xt_builder::{BuildError, PvhImage, PvhKernel, PvhSpec};
use xt_config::DomainSpec;
use xt_host::{HostError, Result};
use xt_host_xen::Control;

use crate::build::{Files, PAGES_OF_MIB, Ports, Rings, claimed, say};
use crate::memory::DomainMemory;
use crate::{acpi, failed};

/// Where low memory ends at the latest, in pages: the place of devices, as HVM domains have it.
const HOLE_START: u64 = 0xf_0000;
const HOLE_END: u64 = 0x10_0000;

/// Pages that the toolstack shares with the domain's surroundings, in page numbers.
const SPECIAL: std::ops::Range<u64> = 0xf_eff8..0xf_f000;
const SPECIAL_PAGING: u64 = SPECIAL.start;
const SPECIAL_ACCESS: u64 = SPECIAL.start + 1;
const SPECIAL_SHARING: u64 = SPECIAL.start + 2;
pub(crate) const SPECIAL_BUFIOREQ: u64 = SPECIAL.start + 3;
pub(crate) const SPECIAL_XENSTORE: u64 = SPECIAL.start + 4;
pub(crate) const SPECIAL_IOREQ: u64 = SPECIAL.start + 5;
const SPECIAL_IDENT_PT: u64 = SPECIAL.start + 6;
pub(crate) const SPECIAL_CONSOLE: u64 = SPECIAL.start + 7;

/// Entries of a page directory of 4 MiB pages: present, writable, user, accessed, dirty, large.
const IDENTITY: u32 = 0xe7;

/// Memory for Xen's page tables of the domain, bytes, as libxl reckons: 1 MiB a vCPU, and 8 KiB for
/// each MiB.
pub(crate) fn paging_pool(spec: &DomainSpec) -> u64 {
    let kib = 4 * (256 * u64::from(spec.max_vcpus) + 2 * spec.max_memory_mib);
    kib.div_ceil(1024) << 20
}

/// The ranges of memory, in pages: below the hole, and above.
fn ranges(pages: u64) -> Vec<std::ops::Range<u64>> {
    let low = pages.min(HOLE_START);
    let high = (pages > low).then(|| HOLE_END..HOLE_END + pages - low);
    std::iter::once(0..low).chain(high).collect()
}

/// The memory map: of what the domain may have at most.
fn memory_map(ranges: &[std::ops::Range<u64>]) -> Vec<HvmMemmapTableEntry> {
    let entry = |range: &std::ops::Range<u64>, kind| HvmMemmapTableEntry {
        addr: range.start * PAGE_SIZE as u64,
        size: (range.end - range.start) * PAGE_SIZE as u64,
        kind,
        reserved: 0,
    };
    let tables = acpi::BASE / PAGE_SIZE as u64;
    let mut map: Vec<_> = ranges
        .iter()
        .map(|range| entry(range, XEN_HVM_MEMMAP_TYPE_RAM))
        .collect();
    map.insert(
        1,
        entry(&(tables..tables + acpi::PAGES), XEN_HVM_MEMMAP_TYPE_ACPI),
    );
    map.insert(2, entry(&SPECIAL, XEN_HVM_MEMMAP_TYPE_RESERVED));
    map
}

/// Builds the domain; see [`build`](crate::build::build).
pub(crate) fn build(
    control: &Control,
    domid: DomId,
    spec: &DomainSpec,
    files: &Files,
    ports: Ports,
) -> Result<Rings> {
    let path = spec.kernel.as_deref().unwrap_or(Path::new(""));
    let refused = |error: BuildError| HostError::Config(say(path, &error));
    let elf = files.elf().map_err(refused)?;
    let kernel = PvhKernel::new(&elf).map_err(refused)?;
    control
        .set_paging_pool(domid, paging_pool(spec))
        .map_err(failed("Cannot give the domain memory for page tables"))?;

    let ranges = ranges(spec.max_memory_mib * PAGES_OF_MIB);
    let map = memory_map(&ranges);
    set_memory_map(control, domid, &map)?;

    let pvh = PvhSpec {
        cmd_line: spec.cmdline.as_deref().unwrap_or_default().as_bytes(),
        initrd: files.initrd.as_deref(),
        rsdp: acpi::RSDP,
        memmap: &map,
        features: u32::MAX,
    };
    let mut memory = take_memory(control, domid, spec, &ranges)?;
    memory
        .clear_to(kernel.end(&pvh))
        .map_err(failed("Cannot reach the domain's memory"))?;
    let built = kernel.build(&mut memory, &pvh).map_err(refused)?;
    drop(memory);

    put_tables(control, domid, spec).map_err(failed("Cannot give the domain its ACPI tables"))?;
    control
        .set_hvm_param(domid, HVM_PARAM_TIMER_MODE, 1)
        .and_then(|()| special_pages(control, domid, ports))
        .map_err(failed("Cannot make the domain's own pages"))?;
    set_first_vcpu(control, domid, &built, true)?;
    Ok(Rings {
        store: SPECIAL_XENSTORE,
        console: SPECIAL_CONSOLE,
    })
}

/// What the domain finds at `XENMEM_memory_map`: the same as in its start info.
pub(crate) fn set_memory_map(
    control: &Control,
    domid: DomId,
    map: &[HvmMemmapTableEntry],
) -> Result<()> {
    let e820: Vec<E820Entry> = map
        .iter()
        .map(|entry| E820Entry {
            addr: entry.addr,
            size: entry.size,
            kind: entry.kind,
        })
        .collect();
    control
        .set_memory_map(domid, &e820)
        .map_err(failed("Cannot set the domain's memory map"))
}

/// The first vCPU's state; see [`first_vcpu`].
pub(crate) fn set_first_vcpu(
    control: &Control,
    domid: DomId,
    start: &PvhImage,
    cached: bool,
) -> Result<()> {
    let records = control
        .hvm_context(domid)
        .map_err(failed("Cannot read the domain's initial state"))?;
    let records = first_vcpu(&records, start, cached)
        .ok_or_else(|| HostError::because("Xen's record of a new domain's state makes no sense"))?;
    control
        .set_hvm_context(domid, &records)
        .map_err(failed("Xen refuses the domain's initial state"))
}

/// How much of its memory, all of it on demand, the domain begins with.
pub(crate) fn set_pod_target(control: &Control, domid: DomId, pages: u64) -> Result<()> {
    control
        .set_pod_target(domid, pages)
        .map(drop)
        .map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ENOMEM) => {
                HostError::Resources(format!("There are no {} MiB free.", pages / PAGES_OF_MIB))
            }
            _ => failed("Cannot give the domain memory")(error),
        })
}

/// All memory the domain may ever have is in its map; with less to begin with, it is populated on
/// demand, until the balloon driver has given the rest up.
fn take_memory<'a>(
    control: &'a Control,
    domid: DomId,
    spec: &DomainSpec,
    ranges: &[std::ops::Range<u64>],
) -> Result<DomainMemory<'a>> {
    let pages = spec.memory_mib * PAGES_OF_MIB;
    if spec.memory_mib == spec.max_memory_mib {
        return claimed(control, domid, pages, || {
            DomainMemory::of_pvh(control, domid, ranges, false)
        });
    }
    let memory = DomainMemory::of_pvh(control, domid, ranges, true)
        .map_err(failed("Cannot give the domain memory"))?;
    set_pod_target(control, domid, pages)?;
    Ok(memory)
}

fn put_tables(control: &Control, domid: DomId, spec: &DomainSpec) -> std::io::Result<()> {
    let first = acpi::BASE / PAGE_SIZE as u64;
    let mut frames: Vec<u64> = (first..first + acpi::PAGES).collect();
    take(control, domid, &mut frames)?;
    let there = control.map_foreign(domid, &frames)?;
    there.write(0, &vec![0; there.len()]);
    for (at, bytes) in acpi::tables(spec.max_vcpus, spec.vcpus) {
        there.write(at as usize, &bytes);
    }
    Ok(())
}

/// Pages outside of the domain's memory proper: its limit has slack for them.
pub(crate) fn take(control: &Control, domid: DomId, frames: &mut [u64]) -> std::io::Result<()> {
    match control.populate(domid, frames, 0, 0)? {
        done if done == frames.len() => Ok(()),
        _ => Err(std::io::ErrorKind::OutOfMemory.into()),
    }
}

/// The pages that PVH and HVM domains share with their surroundings, and the parameters that name them.
pub(crate) fn special_pages(control: &Control, domid: DomId, ports: Ports) -> std::io::Result<()> {
    let mut frames: Vec<u64> = SPECIAL.collect();
    take(control, domid, &mut frames)?;
    let there = control.map_foreign(domid, &frames)?;
    there.write(0, &vec![0; there.len()]);
    // Intel processors without unrestricted guests run real mode on it.
    let table = (SPECIAL_IDENT_PT - SPECIAL.start) as usize * PAGE_SIZE;
    for entry in 0..1024 {
        there.store_u32(table + entry * 4, (entry as u32) << 22 | IDENTITY);
    }
    let params = [
        (HVM_PARAM_STORE_PFN, SPECIAL_XENSTORE),
        (HVM_PARAM_STORE_EVTCHN, ports.store.0.into()),
        (HVM_PARAM_CONSOLE_PFN, SPECIAL_CONSOLE),
        (HVM_PARAM_CONSOLE_EVTCHN, ports.console.0.into()),
        (HVM_PARAM_PAGING_RING_PFN, SPECIAL_PAGING),
        (HVM_PARAM_MONITOR_RING_PFN, SPECIAL_ACCESS),
        (HVM_PARAM_SHARING_RING_PFN, SPECIAL_SHARING),
        (HVM_PARAM_IDENT_PT, SPECIAL_IDENT_PT * PAGE_SIZE as u64),
    ];
    for (index, value) in params {
        control.set_hvm_param(domid, index, value)?;
    }
    Ok(())
}

/// Types of records (`arch-x86/hvm/save.h`).
const RECORD_END: u16 = 0;
const RECORD_HEADER: u16 = 1;
const RECORD_CPU: u16 = 2;
const RECORD_MTRR: u16 = 14;

/// `struct hvm_hw_cpu`: its size, and offsets of what is set.
mod hw_cpu {
    pub const SIZE: usize = 1032;
    pub const RBX: usize = 520;
    pub const RIP: usize = 640;
    pub const RFLAGS: usize = 648;
    pub const CR0: usize = 656;
    pub const DR6: usize = 720;
    pub const DR7: usize = 728;
    pub const CS_LIMIT: usize = 768;
    pub const DS_LIMIT: usize = 772;
    pub const ES_LIMIT: usize = 776;
    pub const SS_LIMIT: usize = 788;
    pub const TR_LIMIT: usize = 792;
    pub const CS_ARBYTES: usize = 888;
    pub const DS_ARBYTES: usize = 892;
    pub const ES_ARBYTES: usize = 896;
    pub const SS_ARBYTES: usize = 908;
    pub const TR_ARBYTES: usize = 912;
}

/// `struct hvm_hw_mtrr`: its size, and where the default type is.
const MTRR_SIZE: usize = 240;
const MTRR_DEF_TYPE: usize = 232;
/// Enabled, write-back.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

/// The records that start the first vCPU: the header as Xen has it, the registers that `pvh.pandoc`
/// promises, and, where no firmware will see to it, memory that is `cached`.
pub(crate) fn first_vcpu(records: &[u8], image: &PvhImage, cached: bool) -> Option<Vec<u8>> {
    let header = find(records, RECORD_HEADER)?;
    let mtrr = find(records, RECORD_MTRR).filter(|mtrr| mtrr.len() == MTRR_SIZE)?;
    let mut new = Vec::new();
    push(&mut new, RECORD_HEADER, header);
    push(&mut new, RECORD_CPU, &registers(image));
    if cached {
        let mut mtrr = mtrr.to_vec();
        mtrr[MTRR_DEF_TYPE..].copy_from_slice(&MTRR_WRITE_BACK.to_le_bytes());
        push(&mut new, RECORD_MTRR, &mtrr);
    }
    push(&mut new, RECORD_END, &[]);
    Some(new)
}

fn registers(image: &PvhImage) -> [u8; hw_cpu::SIZE] {
    use hw_cpu::*;
    const FLAT: u32 = u32::MAX;
    const CODE: u32 = 0xc9b;
    const DATA: u32 = 0xc93;
    let mut cpu = [0; SIZE];
    let words = [
        (RBX, u64::from(image.start_info)),
        (RIP, u64::from(image.entry)),
        // What is always 1 in these.
        (RFLAGS, 2),
        (DR6, 0xffff_0ff0),
        (DR7, 0x400),
        // Protected mode, and the extension type bit.
        (CR0, 0x11),
    ];
    for (at, value) in words {
        cpu[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let halves = [
        (CS_LIMIT, FLAT),
        (DS_LIMIT, FLAT),
        (ES_LIMIT, FLAT),
        (SS_LIMIT, FLAT),
        (TR_LIMIT, 0x67),
        (CS_ARBYTES, CODE),
        (DS_ARBYTES, DATA),
        (ES_ARBYTES, DATA),
        (SS_ARBYTES, DATA),
        (TR_ARBYTES, 0x8b),
    ];
    for (at, value) in halves {
        cpu[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    cpu
}

/// The first record of a type: 2 bytes of type, 2 of instance, 4 of length precede it.
fn find(records: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = records;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (body, next) = tail.split_at_checked(len)?;
        if kind == wanted {
            return Some(body);
        }
        rest = next;
    }
    None
}

fn push(records: &mut Vec<u8>, kind: u16, body: &[u8]) {
    records.extend_from_slice(&kind.to_le_bytes());
    records.extend_from_slice(&[0; 2]);
    records.extend_from_slice(&(body.len() as u32).to_le_bytes());
    records.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use xen_sys::addr::Pfn;

    use super::*;

    #[test]
    fn memory_leaves_the_hole_free() {
        assert_eq!((ranges(0x8000).len(), ranges(0x8000)[0].end), (1, 0x8000));
        assert_eq!(ranges(0x10_0000), [0..0xf_0000, 0x10_0000..0x11_0000]);
        let map = memory_map(&ranges(0x10_0000));
        assert!(map.is_sorted_by_key(|entry| entry.addr));
        let ends = map
            .windows(2)
            .all(|two| two[0].addr + two[0].size <= two[1].addr);
        assert!(ends, "{map:x?}");
        assert_eq!(map[2].addr, 0xfeff_8000);
    }

    #[test]
    fn records_are_found_and_made() {
        let mut records = Vec::new();
        push(&mut records, RECORD_HEADER, &[1; 24]);
        push(&mut records, 7, &[2; 3]);
        push(&mut records, RECORD_MTRR, &[0; MTRR_SIZE]);
        let image = PvhImage {
            entry: 0x100_0850,
            start_info: 0x3e0_0000,
            end: Pfn(0),
        };
        let new = first_vcpu(&records, &image, true).unwrap();
        assert_eq!(find(&new, RECORD_HEADER), Some(&[1; 24][..]));
        let cpu = find(&new, RECORD_CPU).unwrap();
        assert_eq!(cpu[640..644], 0x100_0850u32.to_le_bytes());
        assert_eq!(cpu[520..524], 0x3e0_0000u32.to_le_bytes());
        let mtrr = find(&new, RECORD_MTRR).unwrap();
        assert_eq!(mtrr[232..234], [6, 8]);
        assert!(new.ends_with(&[0; 8]));
        assert!(
            first_vcpu(&records[..40], &image, true).is_none(),
            "cut off"
        );
        let uncached = first_vcpu(&records, &image, false).unwrap();
        assert!(find(&uncached, RECORD_MTRR).is_none());
    }
}
