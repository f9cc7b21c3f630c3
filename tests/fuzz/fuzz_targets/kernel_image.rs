//! Kernel images, from the file to a domain built in memory.
//!
//! The first bytes choose the size of the domain and of its initrd, the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};
use xt_builder::memory::check_range;
use xt_builder::{
    BuildError, ElfImage, GuestMemory, KernelImage, MemoryError, PvImage, PvKernel, PvSpec,
    SymbolTable,
};

const FIRST_MFN: u64 = 0x10_0000;

/// Guest memory that only keeps count: it is checked for bounds, not for contents.
struct CountedMemory {
    nr_pages: u64,
    written: u64,
}

impl GuestMemory for CountedMemory {
    fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        if pfn.0 < self.nr_pages {
            Mfn(FIRST_MFN + pfn.0)
        } else {
            Mfn(u64::MAX)
        }
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        check_range(self.nr_pages, pfn, offset, bytes.len())?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        check_range(self.nr_pages, pfn, offset, bytes.len())?;
        bytes.fill(0);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let [pages_low, pages_high, initrd_pages, file @ ..] = data else {
        return;
    };
    let nr_pages = u64::from(u16::from_le_bytes([*pages_low, *pages_high]));
    let initrd = vec![0; usize::from(*initrd_pages) * PAGE_SIZE];
    if let Err(error) = build(file, nr_pages, &initrd) {
        assert!(!error.to_string().is_empty());
        assert!(
            !matches!(error, BuildError::Memory { .. }),
            "written before it was known to fit"
        );
    }
});

fn build(file: &[u8], nr_pages: u64, initrd: &[u8]) -> Result<(), BuildError> {
    let image = KernelImage::parse(file, None)?;
    let elf = ElfImage::parse(image.elf())?;
    let symbols = SymbolTable::read(&elf);
    symbols.lookup(xen_sys::addr::Vaddr(elf.entry()));
    let kernel = PvKernel::new(&elf)?;
    let mut memory = CountedMemory {
        nr_pages,
        written: 0,
    };
    let spec = PvSpec {
        cmd_line: b"console=hvc0",
        initrd: Some(initrd).filter(|initrd| !initrd.is_empty()),
        ..PvSpec::new(Mfn(FIRST_MFN - 1))
    };
    let image = kernel.build(&mut memory, &spec)?;
    check(&image, nr_pages);
    assert!(!image.describe().to_string().is_empty());
    Ok(())
}

/// All that was laid out is in the domain, and nothing lies on anything else.
fn check(image: &PvImage, nr_pages: u64) {
    let mut regions: Vec<_> = image
        .layout
        .regions()
        .filter(|(name, _)| *name != "mapping")
        .collect();
    regions.sort_by_key(|(_, region)| region.pfn.0);
    let mut end = 0;
    for (name, region) in regions {
        assert!(region.pfn.0 >= end, "{name} overlaps: {:?}", image.layout);
        end = region.end().0;
    }
    assert!(end <= nr_pages);
    for mfn in [
        image.cr3,
        image.start_info_mfn,
        image.xenstore_mfn,
        image.console_mfn,
    ] {
        assert!((FIRST_MFN..FIRST_MFN + nr_pages).contains(&mfn.0));
    }
}
