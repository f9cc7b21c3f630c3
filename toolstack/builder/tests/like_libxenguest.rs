//! Lets `xl` build domains on real Xen, and compares where it puts things with where we do.
//!
//! `layout::tests` holds what Xen 4.17 answered once; this asks again, and asks the hypervisor for
//! the registers too.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{RigSpec, RigX};
use xt_builder::memory::check_range;
use xt_builder::pv::layout::Region;
use xt_builder::{ElfImage, GuestMemory, KernelImage, MemoryError, PvImage, PvKernel, PvSpec};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MEMORY_MIB: usize = 128;
const LIMIT: Duration = Duration::from_secs(240);

#[test]
#[ignore = "boots Xen under emulation, which takes minutes"]
fn domains_are_laid_out_as_libxenguest_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let initrd = vec![0x5a; 5_000_001];
    let initrd_path = dir.path().join("initrd");
    std::fs::write(&initrd_path, &initrd)?;

    let cache = Cache::open()?;
    // GRUB has neither INIT_P2M nor MOD_START_PFN and lies at address 0.
    let grub = cache
        .package("grub-xen-host")?
        .path("usr/lib/grub-xen/grub-x86_64-xen.bin");
    let kernels: [(&str, PathBuf); 2] = [
        ("/linux", cache.kernel(Kernel::CLOUD)?.image),
        ("/grub", grub),
    ];
    let mut spec = RigSpec::default().file(&initrd_path, "/initrd");
    for (there, here) in &kernels {
        spec = spec.file(here, there);
    }
    let mut rig = RigX::boot(&spec)?;
    for (there, here) in &kernels {
        for initrd in [Some(&initrd[..]), None] {
            compare(&mut rig, there, here, initrd).map_err(|e| format!("{there}: {e}"))?;
        }
    }
    Ok(())
}

fn compare(rig: &mut RigX, there: &str, here: &Path, initrd: Option<&[u8]>) -> Result<()> {
    let ramdisk = if initrd.is_some() {
        "ramdisk=\"/initrd\"\n"
    } else {
        ""
    };
    let config = format!("name=\"g\"\nkernel=\"{there}\"\n{ramdisk}memory={MEMORY_MIB}\n");
    rig.shell.write("g.cfg", config.as_bytes(), 0o644)?;
    let script = "xl -vvv create -e -p /share/g.cfg >/run/log 2>&1 </dev/null; s=$?\n\
                  cat /run/log; [ $s = 0 ] || exit $s\n\
                  xenctx $(xl domid g) && xl destroy g";
    let said = rig.run(script, LIMIT)?;
    if said.status != 0 {
        return Err(format!("xl failed: {}", said.text).into());
    }

    let file = std::fs::read(here)?;
    let kernel = KernelImage::parse(&file, None)?;
    let spec = PvSpec {
        initrd,
        ..PvSpec::new(Mfn(0))
    };
    let mut memory = Memory(vec![0; MEMORY_MIB << 20]);
    let image = PvKernel::new(&ElfImage::parse(kernel.elf())?)?.build(&mut memory, &spec)?;
    compare_layout(&said.text, &image)?;
    for (register, ours) in [
        ("rip", image.entry),
        ("rsp", image.stack),
        ("rsi", image.start_info),
    ] {
        let theirs = format!("{register}: {:016x}", ours.0);
        if !said.text.contains(&theirs) {
            return Err(format!("Xen does not say {theirs:?} but:\n{}", said.text).into());
        }
    }
    Ok(())
}

/// Compares with the lines of the domain builder, of which there are two forms:
///
/// ```text
/// xc_dom_alloc_segment:   kernel       : 0xf..81000000 -> 0xf..83e00000  (pfn 0x1000 + 0x2e00 pages)
/// xc_dom_alloc_page   :   start info   : 0xf..83e00000 (pfn 0x3e00)
/// ```
fn compare_layout(said: &str, image: &PvImage) -> Result<()> {
    let mut seen = 0;
    for line in said
        .lines()
        .filter_map(|line| line.split_once("xc_dom_alloc_"))
    {
        let Some((name, place)) = line.1.split_once(':').and_then(|(_, l)| l.split_once(':'))
        else {
            continue;
        };
        let name = if name.trim() == "module0" {
            "ramdisk"
        } else {
            name.trim()
        };
        let ours = image.layout.regions().find(|(other, _)| *other == name);
        let Some((_, &Region { pfn, mut pages, .. })) = ours else {
            return Err(format!("there is no {name} in\n{}", image.describe()).into());
        };
        if name == "phys2mach" {
            pages += image.layout.p2m_tables.pages;
        }
        let forms = [
            format!("(pfn {:#x} + {pages:#x} pages)", pfn.0),
            format!("(pfn {:#x})", pfn.0),
        ];
        let same = place.ends_with(&forms[0]) || (pages == 1 && place.ends_with(&forms[1]));
        if !same {
            return Err(format!("Xen has {name} at {place}, not at\n{}", image.describe()).into());
        }
        seen += 1;
    }
    let ours = image
        .layout
        .regions()
        .filter(|(name, _)| !matches!(*name, "p2m tables" | "mapping"));
    match ours.count() {
        count if count == seen => Ok(()),
        count => Err(format!("Xen names {seen} regions, we have {count}:\n{said}").into()),
    }
}

struct Memory(Vec<u8>);

impl GuestMemory for Memory {
    fn nr_pages(&self) -> u64 {
        (self.0.len() / PAGE_SIZE) as u64
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
        let at = check_range(self.nr_pages(), pfn, offset, bytes.len())? as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(
        &self,
        pfn: Pfn,
        offset: u64,
        bytes: &mut [u8],
    ) -> std::result::Result<(), MemoryError> {
        let at = check_range(self.nr_pages(), pfn, offset, bytes.len())? as usize;
        bytes.copy_from_slice(&self.0[at..at + bytes.len()]);
        Ok(())
    }
}
