//! Builds domains into fake memory and looks at them with the guest's eyes.

use xen_sys::xen::{MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, StartInfo};
use zerocopy::FromBytes;

use super::layout::Region;
use super::*;
use crate::error::ErrorKind;
use crate::testing::{ElfMaker, FakeMemory, addresses, walk};

const SHARED_INFO: Mfn = Mfn(0xabcde);

fn spec() -> PvSpec<'static> {
    PvSpec {
        cmd_line: b"console=hvc0",
        initrd: Some(b"an initrd"),
        store_evtchn: EvtchnPort(1),
        console_evtchn: EvtchnPort(2),
        ..PvSpec::new(SHARED_INFO)
    }
}

fn build(
    elf: &ElfMaker,
    mib: usize,
    spec: &PvSpec<'_>,
) -> Result<(FakeMemory, PvImage), BuildError> {
    let elf = elf.build();
    let elf = ElfImage::parse(&elf)?;
    let mut memory = FakeMemory::new(mib);
    let image = PvKernel::new(&elf)?.build(&mut memory, spec)?;
    Ok((memory, image))
}

fn start_info(memory: &FakeMemory, image: &PvImage) -> StartInfo {
    let mut bytes = [0; size_of::<StartInfo>()];
    memory.read(image.start_info_pfn, 0, &mut bytes).unwrap();
    StartInfo::read_from_bytes(&bytes).unwrap()
}

/// Proves that the guest sees exactly its layout: each region at its address, page tables
/// read-only, and nothing else.
fn check_mapping(memory: &FakeMemory, image: &PvImage) {
    let mut seen = walk(memory, image.cr3);
    let layout = &image.layout;
    for (name, region) in layout.regions().filter(|(name, _)| *name != "mapping") {
        let Some(at) = region.mapped_at else { continue };
        for (address, pfn) in addresses(at, region.pages).zip(region.pfn.0..) {
            let writable = name != "page tables";
            assert_eq!(
                seen.get(&address),
                Some(&(Pfn(pfn), writable)),
                "{name} at {address:#x}"
            );
        }
    }
    for (address, pfn) in addresses(layout.mapping.vaddr(), layout.mapping.pages).zip(0..) {
        assert_eq!(
            seen.remove(&address).map(|(pfn, _)| pfn),
            Some(Pfn(pfn)),
            "{address:#x}"
        );
    }
    if layout.p2m_is_outside() {
        addresses(layout.p2m.vaddr(), layout.p2m.pages).for_each(|at| {
            let _ = seen.remove(&at);
        });
    }
    assert!(seen.is_empty(), "mapped beyond the layout: {seen:x?}");
}

fn check_p2m(memory: &FakeMemory, image: &PvImage) {
    for pfn in 0..memory.nr_pages() {
        let listed = memory.u64_at(image.layout.p2m.pfn, pfn * 8);
        assert_eq!(Mfn(listed), memory.mfn(Pfn(pfn)), "entry of pfn {pfn:#x}");
    }
}

/// xen.h, "Start-of-day memory layout", points 2, 4 and 7.
fn check_padding(layout: &Layout) {
    let end = layout.mapping.vaddr().0 + layout.mapping.pages * 4096;
    assert_eq!(end % (4 << 20), 0);
    assert!((layout.mapping.pages - layout.boot_stack.end().0) * 4096 >= 512 << 10);
    let boot: Vec<&Region> = [
        Some(&layout.kernel),
        layout.initrd.as_ref().filter(|r| r.mapped_at.is_some()),
        Some(&layout.p2m).filter(|_| !layout.p2m_is_outside()),
        Some(&layout.start_info),
        Some(&layout.xenstore),
        Some(&layout.console),
        Some(&layout.page_tables),
        Some(&layout.boot_stack),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(
        boot.is_sorted_by(|a, b| a.end() == b.pfn),
        "gaps in {layout}"
    );
}

#[test]
fn linux_finds_what_its_notes_ask_for() {
    let (memory, image) = build(&ElfMaker::linux(), 64, &spec()).unwrap();
    let layout = &image.layout;
    check_mapping(&memory, &image);
    check_p2m(&memory, &image);
    check_padding(layout);
    assert_eq!(image.entry, Vaddr(0xffff_ffff_8100_0010));
    assert_eq!(image.start_info, layout.start_info.vaddr());
    assert_eq!(image.stack.0, layout.boot_stack.vaddr().0 + 4096);
    assert_eq!(layout.p2m.mapped_at, Some(Vaddr(0x80_0000_0000)));
    assert!(
        layout.p2m.pfn.0 >= layout.mapping.pages,
        "Linux takes these for the last mapped"
    );

    let info = start_info(&memory, &image);
    assert!(info.magic.starts_with(b"xen-3.0-x86_64\0"));
    assert_eq!(info.nr_pages, 64 << 8);
    assert_eq!(info.shared_info, SHARED_INFO.addr());
    assert_eq!(
        (info.store_mfn, info.store_evtchn),
        (image.xenstore_mfn, EvtchnPort(1))
    );
    assert_eq!(
        (info.console_mfn, info.console_evtchn),
        (image.console_mfn, EvtchnPort(2))
    );
    assert_eq!(info.pt_base, layout.page_tables.vaddr());
    assert_eq!(info.nr_pt_frames, layout.page_tables.pages);
    assert_eq!(info.mfn_list, Vaddr(0x80_0000_0000));
    assert_eq!(info.first_p2m_pfn, layout.p2m.pfn.0);
    assert_eq!(info.nr_p2m_frames, layout.p2m.pages + 3);
    assert_eq!(info.flags, SIF_MOD_START_PFN | SIF_VIRT_P2M_4TOOLS);
    assert_eq!(info.mod_len, 9);
    assert!(info.cmd_line.starts_with(b"console=hvc0\0"));

    let mut text = [0; 9];
    memory.read(Pfn(info.mod_start), 0, &mut text).unwrap();
    assert_eq!(&text, b"an initrd");
    memory.read(Pfn(0x1100), 0, &mut text).unwrap();
    assert_eq!(&text, b"the data\0");
}

#[test]
fn without_the_notes_all_lies_in_the_mapping() {
    let elf = ElfMaker::linux().without(15).without(16);
    let (memory, image) = build(&elf, 64, &spec()).unwrap();
    check_mapping(&memory, &image);
    check_p2m(&memory, &image);
    check_padding(&image.layout);
    let info = start_info(&memory, &image);
    assert_eq!(info.flags, SIF_VIRT_P2M_4TOOLS);
    assert_eq!(info.mod_start, image.layout.initrd.unwrap().vaddr().0);
    assert_eq!(info.mfn_list, image.layout.p2m.vaddr());
    assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (0, 0));
}

#[test]
fn a_kernel_at_address_zero_is_laid_out_there() {
    let elf = ElfMaker::new()
        .load(0, 0x41_e1f0, b"grub")
        .number(3, 0)
        .number(1, 0);
    let (memory, image) = build(&elf, 32, &spec()).unwrap();
    check_mapping(&memory, &image);
    check_padding(&image.layout);
    assert_eq!(image.layout.kernel.mapped_at, Some(Vaddr(0)));
}

#[test]
fn a_list_that_shares_tables_with_the_kernel_is_mapped_too() {
    // Both below one level-2 table, then below one level-1 table.
    for (base, list) in [(0x4000_0000, 0x3fe0_0000), (0x4010_0000, 0x4000_0000)] {
        let elf = ElfMaker::new()
            .load(0x1000, 0x1000, b"kernel")
            .number(1, base + 0x1000)
            .number(3, base)
            .number(15, list);
        let (memory, image) = build(&elf, 16, &spec()).unwrap();
        check_mapping(&memory, &image);
        check_p2m(&memory, &image);
        assert_eq!(image.layout.p2m.mapped_at, Some(Vaddr(list)));
    }
}

#[test]
fn the_hypercall_page_is_reported_by_frame() {
    let elf = ElfMaker::linux().number(2, 0xffff_ffff_8100_1000);
    let (memory, image) = build(&elf, 64, &spec()).unwrap();
    assert_eq!(image.hypercall_page_pfn, Some(Pfn(0x1001)));
    assert_eq!(image.hypercall_page, Some(memory.mfn(Pfn(0x1001))));
}

#[test]
fn paddr_offset_moves_the_kernel() {
    let elf = ElfMaker::new()
        .load(0xc000_2000, 0x1000, b"kernel")
        .number(4, 0xc000_0000)
        .number(3, 0xc000_0000)
        .number(1, 0xc000_2000);
    let (memory, image) = build(&elf, 16, &spec()).unwrap();
    let mut text = [0; 6];
    memory.read(Pfn(2), 0, &mut text).unwrap();
    assert_eq!(&text, b"kernel");
    assert_eq!(image.layout.kernel.pfn, Pfn(2));
    check_mapping(&memory, &image);
}

fn refused(elf: &ElfMaker, mib: usize, spec: &PvSpec<'_>) -> (ErrorKind, String) {
    let error = build(elf, mib, spec).map(drop).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn memory_that_is_too_small_is_named_with_what_would_do() {
    let initrd = vec![7; 40 << 20];
    let spec = PvSpec {
        initrd: Some(&initrd),
        ..spec()
    };
    let (kind, text) = refused(&ElfMaker::linux(), 48, &spec);
    assert_eq!(kind, ErrorKind::TooBig);
    assert_eq!(
        text,
        "The initrd does not fit: 61 MiB are needed to boot, and the domain has 48 MiB. \
         Raise memory to 61 or more."
    );
    assert!(build(&ElfMaker::linux(), 61, &spec).is_ok());
    assert!(build(&ElfMaker::linux(), 60, &spec).is_err());
    let (_, text) = refused(&ElfMaker::linux(), 16, &spec);
    assert!(text.starts_with("The kernel does not fit"), "{text}");
}

#[test]
fn command_lines_are_checked() {
    let long = [b'x'; MAX_GUEST_CMDLINE];
    let spec = |cmd_line| PvSpec {
        cmd_line,
        ..PvSpec::new(SHARED_INFO)
    };
    let (kind, text) = refused(&ElfMaker::linux(), 64, &spec(&long));
    assert_eq!(kind, ErrorKind::TooBig);
    assert!(
        text.contains("1024") && text.ends_with("Shorten it by 1."),
        "{text}"
    );
    assert!(build(&ElfMaker::linux(), 64, &spec(&long[1..])).is_ok());
    let (_, text) = refused(&ElfMaker::linux(), 64, &spec(b"a\0b"));
    assert!(text.contains("position 1"), "{text}");
}

#[test]
fn kernels_that_cannot_start_as_pv_are_told_apart() {
    let load = |elf: ElfMaker| elf.load(0x1000, 0x1000, b"x");
    let cases = [
        (load(ElfMaker::new()), ErrorKind::NotPv, "CONFIG_XEN_PV"),
        (
            load(ElfMaker::new()).number(18, 0x1000),
            ErrorKind::NotPv,
            "type=\"pvh\"",
        ),
        (
            ElfMaker::linux().text(10, "!supervisor_mode_kernel"),
            ErrorKind::Unsupported,
            "supervisor_mode_kernel",
        ),
        (
            ElfMaker::linux().text(10, "!time_travel"),
            ErrorKind::Unsupported,
            "time_travel",
        ),
        (
            ElfMaker::linux().text(5, "xen-2.0"),
            ErrorKind::BadImage,
            "XEN_VERSION",
        ),
        (
            ElfMaker::linux().number(1, 0x1000),
            ErrorKind::BadImage,
            "ENTRY",
        ),
        (
            ElfMaker::linux().number(2, 0xffff_ffff_8100_1001),
            ErrorKind::BadImage,
            "HYPERCALL_PAGE",
        ),
        (
            ElfMaker::linux().note(3, b"abc"),
            ErrorKind::BadImage,
            "VIRT_BASE",
        ),
        (
            ElfMaker::linux().number(3, 0xffff_ffff_ff00_0000),
            ErrorKind::BadImage,
            "VIRT_BASE",
        ),
        (
            ElfMaker::linux().number(12, 0xffff_8000_0000_1000),
            ErrorKind::BadImage,
            "HV_START_LOW",
        ),
        (
            ElfMaker::linux().number(15, 0xffff_8000_0000_0000),
            ErrorKind::BadImage,
            "INIT_P2M",
        ),
        (
            ElfMaker::linux().number(15, 0x7fff_ffff_f000),
            ErrorKind::BadImage,
            "INIT_P2M",
        ),
        (
            ElfMaker::linux().number(4, 0x200_0000),
            ErrorKind::BadImage,
            "PADDR_OFFSET",
        ),
        (
            ElfMaker::linux().load(u64::MAX - 9, 5, b"x"),
            ErrorKind::BadImage,
            "beyond all memory",
        ),
        (
            ElfMaker::linux().load(u64::MAX - 9, 50, b"x"),
            ErrorKind::BadImage,
            "wraps",
        ),
        (
            ElfMaker::linux().load(0, 1, b"xx"),
            ErrorKind::BadImage,
            "more bytes in the file",
        ),
    ];
    for (elf, kind, text) in cases {
        let (found, message) = refused(&elf, 64, &spec());
        assert!(
            found == kind && message.contains(text),
            "{found:?} {message}, not {text}"
        );
    }
}

#[test]
fn a_kernel_larger_than_any_memory_is_refused_at_once() {
    let elf = ElfMaker::linux().load(0, 1 << 51, b"");
    let (kind, text) = refused(&elf, 64, &spec());
    assert_eq!(kind, ErrorKind::BadImage, "{text}");
    let elf = ElfMaker::new().load(0, 1 << 46, b"").number(1, 0);
    let (kind, text) = refused(&elf, 64, &spec());
    assert_eq!(kind, ErrorKind::TooBig, "{text}");
}

#[test]
fn the_description_names_every_region() {
    let (_, image) = build(&ElfMaker::linux(), 64, &spec()).unwrap();
    let text = image.describe().to_string();
    for name in [
        "kernel",
        "ramdisk",
        "phys2mach",
        "start info",
        "page tables",
        "boot stack",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
}

/// Memory that only counts what is written.
struct Sink {
    nr_pages: u64,
    written: u64,
}

impl GuestMemory for Sink {
    fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        Mfn(pfn.0 + 0x1_0000_0000)
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), crate::MemoryError> {
        crate::memory::check_range(self.nr_pages, pfn, offset, bytes.len())?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, _: Pfn, _: u64, _: &mut [u8]) -> Result<(), crate::MemoryError> {
        Ok(())
    }
}

#[test]
fn a_domain_of_64_gib_has_a_list_of_128_mib() {
    let elf = ElfMaker::linux().build();
    let kernel = PvKernel::new(&ElfImage::parse(&elf).unwrap()).unwrap();
    let mut memory = Sink {
        nr_pages: 64 << 18,
        written: 0,
    };
    let image = kernel.build(&mut memory, &spec()).unwrap();
    let layout = &image.layout;
    assert_eq!(layout.p2m.pages, (128 << 20) / 4096);
    // One level 3, one level 2, and a level 1 for every 2 MiB of the list.
    assert_eq!(layout.p2m_tables.pages, 1 + 1 + 64);
    assert!(memory.written > 128 << 20 && memory.written < 130 << 20);
}

#[test]
fn a_list_of_several_gib_needs_more_upper_tables() {
    let elf = ElfMaker::linux().build();
    let kernel = PvKernel::new(&ElfImage::parse(&elf).unwrap()).unwrap();
    let layout = kernel.layout(1 << 30, None).unwrap();
    assert_eq!(layout.p2m.pages, 1 << 21);
    assert_eq!(layout.p2m_tables.pages, 1 + 8 + 4096);
}

#[test]
fn a_domain_of_no_pages_is_too_small() {
    for elf in [
        ElfMaker::linux(),
        ElfMaker::linux().without(xen_sys::elfnote::XEN_ELFNOTE_INIT_P2M),
    ] {
        let elf = elf.build();
        let kernel = PvKernel::new(&ElfImage::parse(&elf).unwrap()).unwrap();
        let error = kernel.layout(0, None).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::TooBig, "{error}");
    }
}
