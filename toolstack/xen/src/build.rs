//! From a domain that has nothing to one that could run: vCPUs, memory, kernel, registers, the frames of
//! console and xenstore.

use std::path::Path;

use pv_ring::SharedPage;
use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};
use xen_sys::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS, VGCF_in_kernel, VGCF_online, VcpuGuestContext,
    xen_pfn_to_cr3,
};
use xen_sys::grant_table::GTF_permit_access;
use xen_sys::xen::VcpuInfo;
use xen_sys::{DomId, EvtchnPort};
use xt_builder::{
    BuildError, ElfImage, KernelImage, PayloadCache, PvImage, PvKernel, PvSpec, image,
};
use xt_config::{DomainSpec, DomainType};
use xt_host::{HostError, Result};
use xt_host_xen::Control;
use zerocopy::{FromZeros, IntoBytes};

use crate::hvm::build::{Firmware, Tables};
use crate::hvm::{self, Hvm};
use crate::memory::DomainMemory;
use crate::{cpu, failed, pvh};

/// Pages of a MiB.
pub(crate) const PAGES_OF_MIB: u64 = 256;

/// What a domain may have beyond its memory, KiB, as libxl allows (`LIBXL_MAXMEM_CONSTANT`).
pub(crate) const SLACK_KIB: u64 = 1024;

/// Entries of the grant table that the toolstack fills (`grant_table.h`, `GNTTAB_RESERVED_*`).
const GRANT_CONSOLE: usize = 0;
const GRANT_XENSTORE: usize = 1;

/// Interrupts enabled.
const RFLAGS_IF: u64 = 1 << 9;

/// Event channels that a domain has from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// To xenstore.
    pub store: EvtchnPort,
    /// To the console.
    pub console: EvtchnPort,
}

/// Frames that others must know: machine frames of PV domains, guest frames of PVH.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rings {
    /// The xenstore ring.
    pub store: u64,
    /// The console ring.
    pub console: u64,
}

/// The kernel and the initrd as they lie on the disk.
pub(crate) struct Files {
    kernel: Option<KernelImage<'static>>,
    pub initrd: Option<Vec<u8>>,
    /// Of an HVM domain, instead of the others; the device model reads those.
    firmware: Option<Firmware>,
}

impl Files {
    /// Reads them. `cache` is a directory for unpacked kernels.
    pub(crate) fn read(
        spec: &DomainSpec,
        hvm: Option<Hvm<'_>>,
        cache: Option<&Path>,
    ) -> Result<Self> {
        if let Some(Hvm { spec, plan }) = hvm {
            return Ok(Self {
                kernel: None,
                initrd: None,
                firmware: Some(Firmware::read(spec, plan)?),
            });
        }
        let path = spec.kernel.as_deref();
        let path = path.ok_or_else(|| HostError::Config("No kernel is given.".into()))?;
        let refused = |path| move |error| HostError::Config(say(path, &error));
        let read = |path| image::read_file(path).map_err(refused(path));
        let cache = cache.map(PayloadCache::new);
        let kernel = image::open_file(path)
            .and_then(|file| KernelImage::open(file, path, cache.as_ref()))
            .map_err(refused(path))?;
        Ok(Self {
            kernel: Some(kernel),
            initrd: spec.ramdisk.as_deref().map(read).transpose()?,
            firmware: None,
        })
    }

    /// The kernel's ELF image.
    pub(crate) fn elf(&self) -> std::result::Result<ElfImage<'_>, BuildError> {
        match &self.kernel {
            Some(kernel) => kernel.parse_elf(),
            None => ElfImage::parse(&[]),
        }
    }
}

/// An error of the builder with the file it is about, and all its causes.
pub(crate) fn say(path: &Path, error: &BuildError) -> String {
    let mut text = format!("Cannot boot {path:?}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{}: {inner}", text.trim_end_matches('.'));
        cause = inner.source();
    }
    text
}

/// Builds the domain. It is paused then, and nobody has been told of it.
pub(crate) fn build(
    control: &Control,
    domid: DomId,
    spec: &DomainSpec,
    hvm: Option<Hvm<'_>>,
    files: &Files,
) -> Result<(Ports, Rings, Tables)> {
    control
        .make_vcpus(domid, spec.max_vcpus)
        .map_err(failed("Cannot make the domain's virtual CPUs"))?;
    control
        .set_max_memory(domid, spec.memory_mib * 1024 + SLACK_KIB)
        .map_err(failed("Cannot limit the domain's memory"))?;
    let port = || {
        control
            .alloc_unbound(domid, DomId(0))
            .map_err(failed("Cannot make an event channel"))
    };
    let ports = Ports {
        store: port()?,
        console: port()?,
    };
    cpu::set_policy(control, domid, spec)?;
    let mut tables = Tables::default();
    let rings = match (hvm, &files.firmware) {
        (Some(hvm), Some(firmware)) => {
            let rings;
            (rings, tables) = hvm::build::build(control, domid, spec, hvm, firmware, ports)?;
            rings
        }
        _ if spec.domain_type == DomainType::Pvh => pvh::build(control, domid, spec, files, ports)?,
        _ => build_pv(control, domid, spec, files, ports)?,
    };
    seed_grants(control, domid, rings)?;
    Ok((ports, rings, tables))
}

fn build_pv(
    control: &Control,
    domid: DomId,
    spec: &DomainSpec,
    files: &Files,
    ports: Ports,
) -> Result<Rings> {
    let path = spec.kernel.as_deref().unwrap_or(Path::new(""));
    let refused = |error: BuildError| HostError::Config(say(path, &error));
    let elf = files.elf().map_err(refused)?;
    let kernel = PvKernel::new(&elf).map_err(refused)?;

    let nr_pages = spec.memory_mib * PAGES_OF_MIB;
    let initrd = files.initrd.as_deref();
    let layout = kernel.layout(nr_pages, initrd.map(|bytes| bytes.len() as u64));
    let layout = layout.map_err(refused)?;
    let end = layout.regions().map(|(_, region)| region.end()).max();

    let mut memory = claimed(control, domid, nr_pages, || {
        DomainMemory::of_pv(control, domid, nr_pages)
    })?;
    memory
        .clear_to(end.unwrap_or(Pfn(0)))
        .map_err(failed("Cannot reach the domain's memory"))?;

    let shared_info = control
        .shared_info_frame(domid)
        .map_err(failed("Cannot find the domain's shared info page"))?;
    let mut pv = PvSpec::new(shared_info);
    pv.cmd_line = spec.cmdline.as_deref().unwrap_or_default().as_bytes();
    pv.initrd = initrd;
    pv.store_evtchn = ports.store;
    pv.console_evtchn = ports.console;
    let built = kernel.build(&mut memory, &pv).map_err(refused)?;
    // No mapping may be left: Xen pins no page table that another domain can write to.
    drop(memory);

    start_pv(control, domid, spec.max_vcpus, &built)
        .map_err(failed("Xen refuses the domain's initial state"))?;
    Ok(Rings {
        store: built.xenstore_mfn.0,
        console: built.console_mfn.0,
    })
}

/// Has memory claimed while it is taken, so that the domain gets all or nothing.
pub(crate) fn claimed<T>(
    control: &Control,
    domid: DomId,
    pages: u64,
    take: impl FnOnce() -> std::io::Result<T>,
) -> Result<T> {
    let short = || {
        let free = control.physinfo().map_or(0, |info| info.free_pages);
        HostError::Resources(format!(
            "There is not enough memory: {} MiB are wanted, {} MiB are free. \
             Make dom0 smaller with: xt mem-set 0 MIB",
            pages / PAGES_OF_MIB,
            free / PAGES_OF_MIB
        ))
    };
    let is_short = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::OutOfMemory)
            || error.raw_os_error() == Some(nix::libc::ENOMEM)
    };
    control
        .claim(domid, pages)
        .map_err(|error| match is_short(&error) {
            true => short(),
            false => failed("Cannot claim memory")(error),
        })?;
    let taken = take().map_err(|error| match is_short(&error) {
        true => short(),
        false => failed("Cannot give the domain memory")(error),
    })?;
    control
        .claim(domid, 0)
        .map_err(failed("Cannot give the rest of a claim back"))?;
    Ok(taken)
}

/// Page tables, shared info, hypercall page and registers of a PV domain.
fn start_pv(control: &Control, domid: DomId, vcpus: u32, image: &PvImage) -> std::io::Result<()> {
    control.pin_top_level(domid, image.cr3)?;
    let shared = control.map_foreign(domid, &[image.shared_info.0])?;
    shared.write(0, &[0; PAGE_SIZE]);
    let masked = core::mem::offset_of!(VcpuInfo, evtchn_upcall_mask);
    for vcpu in 0..(vcpus as usize).min(xen_sys::arch_x86::XEN_LEGACY_MAX_VCPUS) {
        shared.write(vcpu * size_of::<VcpuInfo>() + masked, &[1]);
    }
    drop(shared);
    if let Some(page) = image.hypercall_page {
        control.fill_hypercall_page(domid, page.0)?;
    }
    control.set_vcpu_context(domid, 0, &first_vcpu(image))
}

/// The registers that the first vCPU starts with.
fn first_vcpu(image: &PvImage) -> VcpuGuestContext {
    let mut context = VcpuGuestContext::new_zeroed();
    context.flags = VGCF_in_kernel | VGCF_online;
    let regs = &mut context.user_regs;
    regs.rip = image.entry.0;
    regs.rsp = image.stack.0;
    regs.rsi = image.start_info.0;
    regs.rflags = RFLAGS_IF;
    regs.cs = FLAT_KERNEL_CS;
    regs.ss = FLAT_KERNEL_SS;
    regs.ds = FLAT_KERNEL_DS;
    regs.es = FLAT_KERNEL_DS;
    regs.fs = FLAT_KERNEL_DS;
    regs.gs = FLAT_KERNEL_DS;
    context.kernel_ss = FLAT_KERNEL_SS.into();
    context.kernel_sp = image.stack.0;
    let Mfn(table) = image.cr3;
    context.ctrlreg[3] = xen_pfn_to_cr3(table);
    context
}

/// Grants dom0 the pages of console and xenstore, so that their daemons need no other right.
fn seed_grants(control: &Control, domid: DomId, rings: Rings) -> Result<()> {
    let table = control
        .map_grant_table(domid, 1)
        .map_err(failed("Cannot reach the domain's grant table"))?;
    for (entry, frame) in [
        (GRANT_CONSOLE, rings.console),
        (GRANT_XENSTORE, rings.store),
    ] {
        // Version 1 of grant tables has 32 bits for a frame; one beyond is mapped by number.
        let Ok(frame) = u32::try_from(frame) else {
            continue;
        };
        let mut bytes = [0u8; 8];
        bytes[..2].copy_from_slice(GTF_permit_access.as_bytes());
        bytes[4..].copy_from_slice(frame.as_bytes());
        table.write(entry * bytes.len(), &bytes);
    }
    Ok(())
}
