//! Memory, firmware, parameters and first vCPU of an HVM domain, as libxenguest makes them.

use std::io;
use std::path::{Path, PathBuf};

use pv_ring::SharedPage;
use xen_sys::DomId;
use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};
use xen_sys::domctl::*;
use xen_sys::hvm::*;
use xen_sys::memory::XENMEMF_populate_on_demand;
use xen_sys::sysctl::{XEN_SYSCTL_PHYSCAP_hap, XenSysctlPhysinfo};
use xt_builder::hvm::Place;
use xt_builder::memory::check_range;
use xt_builder::{GuestMemory, HvmLoader, MemoryError};
use xt_config::{DomainSpec, HvmSpec};
use xt_host::{HostError, Result};
use xt_host_xen::Control;
use xt_host_xen::control::Release;

use super::plan::{FOUR_GIB, VGA_WINDOW, yes};
use super::{Hvm, Plan};
use crate::build::{Ports, Rings, claimed, say};
use crate::{failed, memory, pvh};

/// More than any firmware has.
const MAX_FIRMWARE: u64 = 16 << 20;

/// Pages for further device models, in front of those that PVH domains have, too.
const IOREQ_SERVERS: std::ops::Range<u64> = 0xf_eff0..0xf_eff8;

/// The files that are put into the domain's memory.
pub(crate) struct Firmware {
    loader: Vec<u8>,
    loader_path: PathBuf,
    bios: Vec<u8>,
    acpi: Option<Vec<u8>>,
    smbios: Option<Vec<u8>>,
}

/// Where tables to add have been put.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tables {
    pub acpi: Option<Place>,
    pub smbios: Option<Place>,
}

fn unreadable(key: &'static str, path: &Path, error: &io::Error) -> HostError {
    HostError::Key {
        key,
        message: format!("cannot read {path:?}: {error}"),
        help: None,
    }
}

impl Firmware {
    /// Reads them.
    pub(crate) fn read(hvm: &HvmSpec, plan: &Plan) -> Result<Self> {
        let read =
            |key, path: &Path| memory_file(path).map_err(|error| unreadable(key, path, &error));
        let own = Path::new("(this program's own firmware)");
        let loader = match &plan.loader {
            Some(path) => read("firmware_override", path)?,
            None => hvmloader_image::IMAGE.to_vec(),
        };
        let loader_path = plan.loader.as_deref().unwrap_or(own).to_owned();
        HvmLoader::new(&loader).map_err(|error| HostError::Key {
            key: "firmware_override",
            message: say(&loader_path, &error),
            help: None,
        })?;
        let bios = read("bios", &plan.bios_path)?;
        let multiple = bios.len() % (64 << 10) == 0;
        if bios.is_empty() || (plan.bios == "seabios" && !multiple) {
            return Err(HostError::Key {
                key: "bios",
                message: format!("{:?} is no BIOS: its size is none", plan.bios_path),
                help: Some("A BIOS is a multiple of 64 KiB.".into()),
            });
        }
        let optional = |key, path: &Option<String>| {
            let path = path.as_deref().map(Path::new);
            path.map(|path| read(key, path)).transpose()
        };
        Ok(Self {
            loader,
            loader_path,
            bios,
            acpi: optional("acpi_firmware", &hvm.info.acpi_firmware)?,
            smbios: optional("smbios_firmware", &hvm.info.smbios_firmware)?,
        })
    }
}

fn memory_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FIRMWARE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FIRMWARE {
        true => Err(io::Error::other("it is larger than 16 MiB")),
        false => Ok(bytes),
    }
}

/// `XEN_DOMCTL_CDF_*` and `XEN_X86_EMU_*` of a new domain.
pub(crate) fn flags(
    hvm: Option<&HvmSpec>,
    host: &XenSysctlPhysinfo,
    release: Release,
) -> Result<(u32, u32)> {
    let unset = HvmSpec::default();
    let hvm = hvm.unwrap_or(&unset);
    let mut flags = XEN_DOMCTL_CDF_hvm;
    let can_hap = host.capabilities & XEN_SYSCTL_PHYSCAP_hap != 0;
    if yes(hvm.hap, can_hap) {
        flags |= XEN_DOMCTL_CDF_hap;
    }
    if !yes(hvm.oos, true) {
        flags |= XEN_DOMCTL_CDF_oos_off;
    }
    if yes(hvm.nested_hvm, false) {
        flags |= XEN_DOMCTL_CDF_nested_virt;
    }
    if hvm.hap.0 == Some(true) && !can_hap {
        return Err(HostError::Key {
            key: "hap",
            message: "this machine has no hardware-assisted paging".into(),
            help: Some("Remove the line.".into()),
        });
    }
    // What there is in the first release known here, the PCI of PVH hosts left out; later ones leave
    // out the second way of interrupts, too, unless it is asked for.
    let mut emulated = ALL_EMULATED;
    if release.minor >= 19 && !yes(hvm.info.pirq, false) {
        emulated &= !XEN_X86_EMU_USE_PIRQ;
    }
    Ok((flags, emulated))
}

const ALL_EMULATED: u32 = XEN_X86_EMU_LAPIC
    | XEN_X86_EMU_HPET
    | XEN_X86_EMU_PM
    | XEN_X86_EMU_RTC
    | XEN_X86_EMU_IOAPIC
    | XEN_X86_EMU_PIC
    | XEN_X86_EMU_VGA
    | XEN_X86_EMU_IOMMU
    | XEN_X86_EMU_PIT
    | XEN_X86_EMU_USE_PIRQ;

/// Builds the domain; see [`build`](crate::build::build).
pub(crate) fn build(
    control: &Control,
    domid: DomId,
    spec: &DomainSpec,
    Hvm { spec: hvm, plan }: Hvm<'_>,
    firmware: &Firmware,
    ports: Ports,
) -> Result<(Rings, Tables)> {
    let refused = |error| HostError::Config(say(&firmware.loader_path, &error));
    let loader = HvmLoader::new(&firmware.loader).map_err(refused)?;
    set_platform(control, domid, hvm, plan).map_err(failed("Cannot set the domain's platform"))?;
    take_memory(control, domid, plan)?;
    let memmap = memory_map(plan);
    let image = xt_builder::HvmSpec {
        bios: &firmware.bios,
        acpi: firmware.acpi.as_deref(),
        smbios: firmware.smbios.as_deref(),
        memmap: &memmap,
        max_vcpus: spec.max_vcpus,
        vcpus: spec.vcpus,
        apic: yes(hvm.apic, true),
        low_end: Pfn(plan.low_end),
        high_end: Pfn(plan.high_end),
        reserved: Pfn(IOREQ_SERVERS.start),
    };
    let mut low = LowMemory {
        control,
        domid,
        pages: plan.low_end,
    };
    let built = loader.build(&mut low, &image).map_err(refused)?;
    pvh::set_memory_map(control, domid, &memmap)?;
    special_pages(control, domid, ports).map_err(failed("Cannot make the domain's own pages"))?;
    pvh::set_first_vcpu(control, domid, &built.start, false)?;
    let rings = Rings {
        store: pvh::SPECIAL_XENSTORE,
        console: pvh::SPECIAL_CONSOLE,
    };
    let tables = Tables {
        acpi: built.acpi,
        smbios: built.smbios,
    };
    Ok((rings, tables))
}

/// What the hypervisor emulates itself.
fn set_platform(control: &Control, domid: DomId, hvm: &HvmSpec, plan: &Plan) -> io::Result<()> {
    let info = &hvm.info;
    let params = [
        (HVM_PARAM_TIMER_MODE, plan.timer_mode),
        (HVM_PARAM_HPET_ENABLED, yes(info.hpet, true).into()),
        (HVM_PARAM_VPT_ALIGN, yes(info.vpt_align, true).into()),
        (HVM_PARAM_VIRIDIAN, plan.viridian),
        (HVM_PARAM_MCA_CAP, info.mca_caps),
    ];
    for (index, value) in params {
        // Zero is what the last two are without: older hypervisors do not take it.
        if value != 0 || !matches!(index, HVM_PARAM_VIRIDIAN | HVM_PARAM_MCA_CAP) {
            control.set_hvm_param(domid, index, value)?;
        }
    }
    control.set_paging_pool(domid, plan.paging_pool)?;
    match plan.clock {
        0 => Ok(()),
        seconds => control.set_time_offset(domid, seconds),
    }
}

/// RAM: all the domain may ever have, on demand where it begins with less.
fn take_memory(control: &Control, domid: DomId, plan: &Plan) -> Result<()> {
    let window = VGA_WINDOW.end - VGA_WINDOW.start;
    let populate = |flags| {
        for range in plan.ranges() {
            let mut frames: Vec<u64> = range.collect();
            memory::populate(control, domid, &mut frames, flags)?;
        }
        Ok(())
    };
    if plan.target_pages >= plan.pages {
        return claimed(control, domid, plan.pages - window, || populate(0));
    }
    populate(XENMEMF_populate_on_demand).map_err(failed("Cannot give the domain memory"))?;
    pvh::set_pod_target(control, domid, plan.target_pages - window)
}

/// What the domain finds at `XENMEM_memory_map`: libxl tells of RAM from 1 MiB on.
fn memory_map(plan: &Plan) -> Vec<HvmMemmapTableEntry> {
    let entry = |range: std::ops::Range<u64>| HvmMemmapTableEntry {
        addr: range.start * PAGE_SIZE as u64,
        size: (range.end - range.start) * PAGE_SIZE as u64,
        kind: XEN_HVM_MEMMAP_TYPE_RAM,
        reserved: 0,
    };
    let mut map = vec![entry(0x100..plan.low_end)];
    if plan.high_end != 0 {
        map.push(entry(FOUR_GIB..plan.high_end));
    }
    map
}

fn special_pages(control: &Control, domid: DomId, ports: Ports) -> io::Result<()> {
    pvh::special_pages(control, domid, ports)?;
    let mut frames: Vec<u64> = IOREQ_SERVERS.collect();
    pvh::take(control, domid, &mut frames)?;
    let there = control.map_foreign(domid, &frames)?;
    there.write(0, &vec![0; there.len()]);
    let params = [
        (HVM_PARAM_BUFIOREQ_PFN, pvh::SPECIAL_BUFIOREQ),
        (HVM_PARAM_IOREQ_PFN, pvh::SPECIAL_IOREQ),
        (HVM_PARAM_IOREQ_SERVER_PFN, IOREQ_SERVERS.start),
        (
            HVM_PARAM_NR_IOREQ_SERVER_PAGES,
            IOREQ_SERVERS.end - IOREQ_SERVERS.start,
        ),
    ];
    for (index, value) in params {
        control.set_hvm_param(domid, index, value)?;
    }
    Ok(())
}

/// A domain's memory below 4 GiB, mapped only where something is written: the window of the old graphics
/// card has no pages.
struct LowMemory<'a> {
    control: &'a Control,
    domid: DomId,
    pages: u64,
}

impl LowMemory<'_> {
    /// The pages of an access, mapped, and where in them it begins.
    fn map(
        &self,
        pfn: Pfn,
        offset: u64,
        len: usize,
    ) -> std::result::Result<(xt_host_xen::ForeignPages, usize), MemoryError> {
        let start = check_range(self.pages, pfn, offset, len)?;
        let size = PAGE_SIZE as u64;
        let end = (start + len as u64).div_ceil(size);
        let frames: Vec<u64> = (start / size..end).collect();
        let there = self.control.map_foreign(self.domid, &frames);
        let there = there.map_err(|source| MemoryError::Host { pfn, source })?;
        Ok((there, (start % size) as usize))
    }
}

impl GuestMemory for LowMemory<'_> {
    fn nr_pages(&self) -> u64 {
        self.pages
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        Mfn(pfn.0)
    }

    fn write(
        &mut self,
        pfn: Pfn,
        offset: u64,
        bytes: &[u8],
    ) -> std::result::Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (there, at) = self.map(pfn, offset, bytes.len())?;
        there.write(at, bytes);
        Ok(())
    }

    fn read(
        &self,
        pfn: Pfn,
        offset: u64,
        bytes: &mut [u8],
    ) -> std::result::Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (there, at) = self.map(pfn, offset, bytes.len())?;
        there.read(at, bytes);
        Ok(())
    }
}
