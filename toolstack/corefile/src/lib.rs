//! Core files in Xen's dump-core format: an ELF file of sections without program headers, as
//! `xl dump-core` writes it and the crash utility reads it. The format is described in
//! `docs/misc/dump-core-format.txt` of Xen; the note numbers are those of `public/elfnote.h`.

use std::io::{self, Seek, SeekFrom, Write};

/// A page, and the unit of every frame number here.
pub const PAGE_SIZE: usize = 4096;
/// `sizeof(vcpu_guest_context_t)` on x86-64, `public/arch-x86/xen.h`.
pub const VCPU_CONTEXT_SIZE: usize = 5168;

const XEN_ELFNOTE_DUMPCORE_NONE: u32 = 0x200_0000;
const XEN_ELFNOTE_DUMPCORE_HEADER: u32 = 0x200_0001;
const XEN_ELFNOTE_DUMPCORE_XEN_VERSION: u32 = 0x200_0002;
const XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION: u32 = 0x200_0003;
const XC_CORE_MAGIC: u64 = 0xf00f_ebed;
const FORMAT_VERSION: u64 = 1;

/// Of a program header; there are none.
const PHDR_SIZE: u16 = 56;
const EHDR_SIZE: u64 = 64;
const SHDR_SIZE: u64 = 64;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;

/// A page of the domain: its pseudo-physical and its machine frame number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The guest's number for it.
    pub pfn: u64,
    /// The number its page tables use.
    pub gmfn: u64,
}

/// What the hypervisor says about itself: the results of `XENVER_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XenVersion {
    /// Upper half of `XENVER_version`.
    pub major: u16,
    /// Lower half of `XENVER_version`.
    pub minor: u16,
    /// `XENVER_extraversion`.
    pub extra: String,
    /// `XENVER_compile_info`: compiler, by, domain, date.
    pub compile_info: [String; 4],
    /// `XENVER_capabilities`.
    pub capabilities: String,
    /// `XENVER_changeset`.
    pub changeset: String,
    /// `XENVER_platform_parameters`: where the hypervisor's address range begins.
    pub virt_start: u64,
}

/// A paused or ended domain whose state can be read.
pub trait DumpSource {
    /// What the guest sees as the hypervisor's version.
    fn xen_version(&self) -> XenVersion;

    /// The vCPUs, a `vcpu_guest_context` each.
    fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>>;

    /// The shared info page.
    fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>>;

    /// Whether guest frames are the guest's own numbers, as of HVM and PVH domains: the file then has
    /// a list of these instead of pairs.
    fn is_translated(&self) -> bool {
        false
    }

    /// Every page of the domain that exists.
    fn frames(&self) -> Vec<Frame>;

    /// Copies one of [`DumpSource::frames`] out.
    fn read_page(&self, frame: Frame, page: &mut [u8; PAGE_SIZE]) -> io::Result<()>;
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    /// Pages in the file.
    pub pages: u64,
    /// How many of them are all zero and left as holes.
    pub holes: u64,
}

/// Writes the core file of `source`. Pages of zeroes become holes where `out` is a file.
pub fn write<W: Write + Seek>(source: &dyn DumpSource, out: &mut W) -> io::Result<Written> {
    let contexts = source.vcpu_contexts()?;
    let shared_info = source.shared_info()?;
    let frames = source.frames();

    let mut layout = Layout::new();
    let note = notes(
        &source.xen_version(),
        contexts.len() as u64,
        frames.len() as u64,
    );
    layout.add(".note.Xen", SHT_NOTE, note.len() as u64, 0, 4);
    let prstatus = (contexts.len() * VCPU_CONTEXT_SIZE) as u64;
    layout.add(
        ".xen_prstatus",
        SHT_PROGBITS,
        prstatus,
        VCPU_CONTEXT_SIZE as u64,
        8,
    );
    layout.add(
        ".xen_shared_info",
        SHT_PROGBITS,
        PAGE_SIZE as u64,
        PAGE_SIZE as u64,
        8,
    );
    let (name, entry) = match source.is_translated() {
        true => (".xen_pfn", 8),
        false => (".xen_p2m", 16),
    };
    layout.add(name, SHT_PROGBITS, frames.len() as u64 * entry, entry, 8);
    let pages = (frames.len() * PAGE_SIZE) as u64;
    layout.add(
        ".xen_pages",
        SHT_PROGBITS,
        pages,
        PAGE_SIZE as u64,
        PAGE_SIZE as u64,
    );
    let offsets = layout.write_headers(out)?;

    let [note_at, prstatus_at, shared_info_at, p2m_at, pages_at] = offsets;
    out.seek(SeekFrom::Start(note_at))?;
    out.write_all(&note)?;
    out.seek(SeekFrom::Start(prstatus_at))?;
    for context in &contexts {
        out.write_all(&context[..])?;
    }
    out.seek(SeekFrom::Start(shared_info_at))?;
    out.write_all(&shared_info[..])?;
    write_frames(&frames, source.is_translated(), out, p2m_at)?;
    let holes = write_pages(source, &frames, out, pages_at)?;
    out.flush()?;
    Ok(Written {
        pages: frames.len() as u64,
        holes,
    })
}

fn write_frames<W: Write + Seek>(
    frames: &[Frame],
    translated: bool,
    out: &mut W,
    at: u64,
) -> io::Result<()> {
    out.seek(SeekFrom::Start(at))?;
    for some in frames.chunks(4096) {
        let mut bytes = Vec::with_capacity(some.len() * 16);
        for frame in some {
            bytes.extend(frame.pfn.to_le_bytes());
            if !translated {
                bytes.extend(frame.gmfn.to_le_bytes());
            }
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes the pages from offset `at` on and returns how many were left as holes. The last page is
/// written whatever it holds, which gives the file its full length.
fn write_pages<W: Write + Seek>(
    source: &dyn DumpSource,
    frames: &[Frame],
    out: &mut W,
    at: u64,
) -> io::Result<u64> {
    let mut page = Box::new([0; PAGE_SIZE]);
    let (mut holes, mut position) = (0, None);
    for (index, &frame) in frames.iter().enumerate() {
        source.read_page(frame, &mut page)?;
        if index + 1 < frames.len() && page.iter().all(|&byte| byte == 0) {
            holes += 1;
            continue;
        }
        let offset = at + (index * PAGE_SIZE) as u64;
        if position != Some(offset) {
            out.seek(SeekFrom::Start(offset))?;
        }
        out.write_all(&page[..])?;
        position = Some(offset + PAGE_SIZE as u64);
    }
    Ok(holes)
}

/// The contents of `.note.Xen`.
fn notes(version: &XenVersion, vcpus: u64, pages: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    note(&mut bytes, XEN_ELFNOTE_DUMPCORE_NONE, &[]);

    let header = [XC_CORE_MAGIC, vcpus, pages, PAGE_SIZE as u64];
    note(
        &mut bytes,
        XEN_ELFNOTE_DUMPCORE_HEADER,
        &header.map(u64::to_le_bytes).concat(),
    );

    let mut desc = Vec::new();
    desc.extend(u64::from(version.major).to_le_bytes());
    desc.extend(u64::from(version.minor).to_le_bytes());
    string(&mut desc, &version.extra, 16);
    for (text, size) in version.compile_info.iter().zip([64, 16, 32, 32]) {
        string(&mut desc, text, size);
    }
    string(&mut desc, &version.capabilities, 1024);
    string(&mut desc, &version.changeset, 64);
    desc.extend(version.virt_start.to_le_bytes());
    desc.extend((PAGE_SIZE as u64).to_le_bytes());
    note(&mut bytes, XEN_ELFNOTE_DUMPCORE_XEN_VERSION, &desc);

    note(
        &mut bytes,
        XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION,
        &FORMAT_VERSION.to_le_bytes(),
    );
    bytes
}

/// Appends one note. Readers expect the name to be "Xen" and the descriptor right behind it, so
/// every descriptor here is a multiple of four bytes long.
fn note(bytes: &mut Vec<u8>, kind: u32, desc: &[u8]) {
    debug_assert!(desc.len().is_multiple_of(4));
    bytes.extend(4u32.to_le_bytes());
    bytes.extend((desc.len() as u32).to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(b"Xen\0");
    bytes.extend(desc);
}

/// Appends `text` as a terminated string in a field of `size` bytes.
fn string(bytes: &mut Vec<u8>, text: &str, size: usize) {
    let kept = &text.as_bytes()[..text.len().min(size - 1)];
    bytes.extend(kept);
    bytes.resize(bytes.len() + size - kept.len(), 0);
}

struct Section {
    name_at: u32,
    kind: u32,
    size: u64,
    entry_size: u64,
    align: u64,
}

/// The sections in the order they were added, and the string table of their names.
struct Layout {
    sections: Vec<Section>,
    names: Vec<u8>,
}

impl Layout {
    fn new() -> Layout {
        let mut layout = Layout {
            sections: Vec::new(),
            names: vec![0],
        };
        layout.add(".shstrtab", SHT_STRTAB, 0, 0, 1);
        layout
    }

    fn add(&mut self, name: &str, kind: u32, size: u64, entry_size: u64, align: u64) {
        let name_at = self.names.len() as u32;
        self.names.extend(name.as_bytes());
        self.names.push(0);
        self.sections.push(Section {
            name_at,
            kind,
            size,
            entry_size,
            align,
        });
    }

    /// Writes the ELF header, the section headers and the string table, and returns where the
    /// contents of the other sections belong.
    fn write_headers<W: Write + Seek, const N: usize>(
        mut self,
        out: &mut W,
    ) -> io::Result<[u64; N]> {
        self.sections[0].size = self.names.len() as u64;
        let count = self.sections.len() as u64 + 1;
        let mut at = EHDR_SIZE + SHDR_SIZE * count;
        let mut headers = vec![0; SHDR_SIZE as usize];
        let mut offsets = Vec::new();
        for section in &self.sections {
            at = at.next_multiple_of(section.align);
            offsets.push(at);
            section_header(&mut headers, section, at);
            at += section.size;
        }
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&elf_header(count as u16))?;
        out.write_all(&headers)?;
        out.seek(SeekFrom::Start(offsets[0]))?;
        out.write_all(&self.names)?;
        let offsets = offsets.get(1..).and_then(|rest| rest.try_into().ok());
        offsets.ok_or_else(|| io::Error::other("The core file's sections were miscounted"))
    }
}

fn elf_header(sections: u16) -> Vec<u8> {
    // 64 bits, little endian, version 1, System V; libxenguest puts the version there once more.
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 1];
    bytes.resize(16, 0);
    bytes.extend(ET_CORE.to_le_bytes());
    bytes.extend(EM_X86_64.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(EHDR_SIZE.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    for half in [
        EHDR_SIZE as u16,
        PHDR_SIZE,
        0,
        SHDR_SIZE as u16,
        sections,
        1,
    ] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

fn section_header(bytes: &mut Vec<u8>, section: &Section, offset: u64) {
    bytes.extend(section.name_at.to_le_bytes());
    bytes.extend(section.kind.to_le_bytes());
    for word in [
        0,
        0,
        offset,
        section.size,
        0,
        section.align,
        section.entry_size,
    ] {
        bytes.extend(word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        pages: Vec<u8>,
    }

    impl DumpSource for Fake {
        fn xen_version(&self) -> XenVersion {
            XenVersion {
                major: 4,
                minor: 17,
                extra: ".x".repeat(20),
                capabilities: "xen-3.0-x86_64".into(),
                virt_start: 0xffff_8000_0000_0000,
                ..XenVersion::default()
            }
        }

        fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>> {
            Ok(vec![
                Box::new([1; VCPU_CONTEXT_SIZE]),
                Box::new([2; VCPU_CONTEXT_SIZE]),
            ])
        }

        fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>> {
            Ok(Box::new([3; PAGE_SIZE]))
        }

        fn frames(&self) -> Vec<Frame> {
            (0..self.pages.len() as u64)
                .map(|pfn| Frame {
                    pfn,
                    gmfn: pfn + 0x100,
                })
                .collect()
        }

        fn read_page(&self, frame: Frame, page: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
            assert_eq!(frame.gmfn, frame.pfn + 0x100);
            page.fill(self.pages[frame.pfn as usize]);
            Ok(())
        }
    }

    fn section<'a>(elf: &goblin::elf::Elf<'_>, file: &'a [u8], name: &str) -> &'a [u8] {
        let header = elf
            .section_headers
            .iter()
            .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))
            .unwrap_or_else(|| panic!("no section {name}"));
        assert!(
            header.sh_offset.is_multiple_of(header.sh_addralign),
            "{name} is misaligned"
        );
        &file[header.sh_offset as usize..][..header.sh_size as usize]
    }

    #[test]
    fn a_reader_finds_everything() {
        let source = Fake {
            pages: vec![7, 0, 9, 0],
        };
        let mut out = io::Cursor::new(Vec::new());
        let written = write(&source, &mut out).unwrap();
        assert_eq!(written, Written { pages: 4, holes: 1 });

        let file = out.into_inner();
        let elf = goblin::elf::Elf::parse(&file).unwrap();
        assert_eq!(elf.header.e_type, ET_CORE);
        assert_eq!(elf.header.e_machine, EM_X86_64);
        assert!(elf.program_headers.is_empty());
        let prstatus = section(&elf, &file, ".xen_prstatus");
        assert_eq!(prstatus.len(), 2 * VCPU_CONTEXT_SIZE);
        assert_eq!((prstatus[0], prstatus[VCPU_CONTEXT_SIZE]), (1, 2));
        assert_eq!(section(&elf, &file, ".xen_shared_info"), [3; PAGE_SIZE]);
        let p2m: Vec<u64> = section(&elf, &file, ".xen_p2m")
            .chunks(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(p2m, [0, 0x100, 1, 0x101, 2, 0x102, 3, 0x103]);
        let pages = section(&elf, &file, ".xen_pages");
        for (page, value) in pages.chunks(PAGE_SIZE).zip([7, 0, 9, 0]) {
            assert_eq!(page, [value; PAGE_SIZE]);
        }
        assert_eq!(pages.len(), 4 * PAGE_SIZE);
    }

    #[test]
    fn notes_have_the_documented_sizes() {
        let source = Fake { pages: vec![1] };
        let mut out = io::Cursor::new(Vec::new());
        write(&source, &mut out).unwrap();
        let file = out.into_inner();
        let elf = goblin::elf::Elf::parse(&file).unwrap();
        let notes: Vec<_> = elf
            .iter_note_sections(&file, Some(".note.Xen"))
            .unwrap()
            .map(|note| note.unwrap())
            .map(|note| (note.name, note.n_type, note.desc))
            .collect();
        let sizes: Vec<_> = notes
            .iter()
            .map(|(name, kind, desc)| (*name, *kind, desc.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("Xen", 0x200_0000, 0),
                ("Xen", 0x200_0001, 32),
                ("Xen", 0x200_0002, 1280),
                ("Xen", 0x200_0003, 8)
            ]
        );
        assert_eq!(notes[1].2[..8], 0xf00f_ebed_u64.to_le_bytes());
        let extra = &notes[2].2[16..32];
        assert_eq!(
            extra, b".x.x.x.x.x.x.x.\0",
            "a long string is cut and terminated"
        );
    }

    #[test]
    fn zero_pages_take_no_room_on_disk() {
        use std::os::unix::fs::MetadataExt;
        let mut file = tempfile::tempfile().unwrap();
        write(
            &Fake {
                pages: vec![0; 2048],
            },
            &mut file,
        )
        .unwrap();
        let metadata = file.metadata().unwrap();
        assert!(metadata.len() > 2048 * PAGE_SIZE as u64);
        assert!(
            metadata.blocks() * 512 < 1 << 20,
            "{} blocks",
            metadata.blocks()
        );
    }

    #[test]
    fn a_failing_source_is_reported() {
        struct Broken;
        impl DumpSource for Broken {
            fn xen_version(&self) -> XenVersion {
                XenVersion::default()
            }
            fn vcpu_contexts(&self) -> io::Result<Vec<Box<[u8; VCPU_CONTEXT_SIZE]>>> {
                Ok(Vec::new())
            }
            fn shared_info(&self) -> io::Result<Box<[u8; PAGE_SIZE]>> {
                Ok(Box::new([0; PAGE_SIZE]))
            }
            fn frames(&self) -> Vec<Frame> {
                vec![Frame { pfn: 0, gmfn: 0 }]
            }
            fn read_page(&self, _: Frame, _: &mut [u8; PAGE_SIZE]) -> io::Result<()> {
                Err(io::Error::other("gone"))
            }
        }
        let mut out = io::Cursor::new(Vec::new());
        assert_eq!(write(&Broken, &mut out).unwrap_err().to_string(), "gone");
    }
}
