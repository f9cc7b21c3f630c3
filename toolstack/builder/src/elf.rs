//! Reading an ELF kernel image that nobody vouches for.
//!
//! goblin decodes the records; where each of them points is checked here.

use std::fs::File;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EM_386, EM_X86_64, ET_DYN, ET_EXEC, Header, header32, header64};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE};
use goblin::elf::section_header::{SHT_NOTE, SHT_STRTAB, SHT_SYMTAB};
use goblin::elf::{ProgramHeader, SectionHeader};

use crate::error::BuildError;

pub(crate) const CTX: Ctx = Ctx {
    container: Container::Big,
    le: Endian::Little,
};
const CLASS: usize = 4;
const CLASS32: u8 = 1;
const CLASS64: u8 = 2;
const DATA: usize = 5;
const DATA_LSB: u8 = 1;

/// More than any kernel has; a bound on work, not on taste.
const MAX_HEADERS: u16 = 512;

/// An ELF image whose headers have been read.
///
/// The image is the caller's; nothing is copied.
#[derive(Debug)]
pub struct ElfImage<'a> {
    bytes: &'a [u8],
    file: Option<ImageFile<'a>>,
    entry: u64,
    segments: Vec<ProgramHeader>,
    sections: Vec<SectionHeader>,
    section_names: Option<usize>,
}

/// A file that has the bytes of an image, too, from `start` on.
#[derive(Debug, Clone, Copy)]
pub struct ImageFile<'a> {
    /// The file, which does not change.
    pub file: &'a File,
    /// Where in it the image begins.
    pub start: u64,
}

/// A loadable part of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSegment<'a> {
    /// `p_paddr` as it stands in the image.
    pub paddr: u64,
    /// `p_memsz`: bytes in memory, at least the length of `data`.
    pub memsz: u64,
    /// `p_offset`: where in the image `data` is.
    pub offset: u64,
    /// The bytes from the file; what follows up to `memsz` is zero.
    pub data: &'a [u8],
}

impl<'a> ElfImage<'a> {
    /// Reads the headers of a 64-bit x86 image.
    ///
    /// # Errors
    /// [`BuildError::Kernel32`], [`BuildError::WrongMachine`], [`BuildError::OutOfBounds`],
    /// [`BuildError::BadElf`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BuildError> {
        check_class(bytes)?;
        let header: Header = header64::Header::parse(bytes)
            .map_err(|source| bad(format!("its header cannot be read ({source})")))?
            .into();
        if !matches!(header.e_type, ET_EXEC | ET_DYN) {
            return Err(bad(format!(
                "e_type is {}, not an executable",
                header.e_type
            )));
        }
        let segments = segments(bytes, &header)?;
        let sections = sections(bytes, &header);
        Ok(Self {
            bytes,
            file: None,
            entry: header.e_entry,
            segments,
            section_names: Some(usize::from(header.e_shstrndx)).filter(|i| *i < sections.len()),
            sections,
        })
    }

    /// The same image with the file it is in: its segments are read from there.
    pub fn in_file(self, file: Option<ImageFile<'a>>) -> Self {
        Self { file, ..self }
    }

    /// The file it is in, if that is known.
    pub(crate) fn file(&self) -> Option<ImageFile<'a>> {
        self.file
    }

    /// `e_entry`, the entry point without any Xen note.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The PT_LOAD segments that occupy memory, in the order of the image.
    ///
    /// # Errors
    /// Per segment [`BuildError::OutOfBounds`] or [`BuildError::BadElf`].
    pub fn load_segments(&self) -> impl Iterator<Item = Result<LoadSegment<'a>, BuildError>> {
        let loads = self
            .segments
            .iter()
            .filter(|p| p.p_type == PT_LOAD && p.p_memsz > 0);
        loads.map(|p| {
            let data = self.range("A PT_LOAD segment", p.p_offset, p.p_filesz)?;
            if p.p_filesz > p.p_memsz {
                return Err(bad(format!(
                    "the PT_LOAD segment at paddr {:#x} has more bytes in the file ({:#x}) than in memory ({:#x})",
                    p.p_paddr, p.p_filesz, p.p_memsz
                )));
            }
            if p.p_paddr.checked_add(p.p_memsz).is_none() {
                return Err(bad(format!("the PT_LOAD segment at paddr {:#x} wraps", p.p_paddr)));
            }
            Ok(LoadSegment { paddr: p.p_paddr, memsz: p.p_memsz, offset: p.p_offset, data })
        })
    }

    /// The contents of the PT_NOTE segments or, without any, of the SHT_NOTE sections.
    ///
    /// # Errors
    /// [`BuildError::OutOfBounds`].
    pub fn note_areas(&self) -> Result<Vec<&'a [u8]>, BuildError> {
        let in_segments = self.segments.iter().filter(|p| p.p_type == PT_NOTE);
        let areas: Vec<_> = in_segments
            .map(|p| self.range("A PT_NOTE segment", p.p_offset, p.p_filesz))
            .collect::<Result<_, _>>()?;
        if !areas.is_empty() {
            return Ok(areas);
        }
        let in_sections = self.sections.iter().filter(|s| s.sh_type == SHT_NOTE);
        in_sections
            .map(|s| self.range("A note section", s.sh_offset, s.sh_size))
            .collect()
    }

    /// The contents of the section of that name.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let names = self.sections.get(self.section_names?)?;
        let names = self.range("", names.sh_offset, names.sh_size).ok()?;
        let section = self
            .sections
            .iter()
            .find(|s| c_str(names, s.sh_name) == name.as_bytes())?;
        self.range("", section.sh_offset, section.sh_size).ok()
    }

    /// Contents of `.symtab` and of the string table that belongs to it.
    pub(crate) fn symbol_tables(&self) -> Option<(&'a [u8], &'a [u8])> {
        let symtab = self.sections.iter().find(|s| s.sh_type == SHT_SYMTAB)?;
        let strtab = self.sections.get(symtab.sh_link as usize)?;
        if strtab.sh_type != SHT_STRTAB {
            return None;
        }
        let contents = |s: &SectionHeader| self.range("", s.sh_offset, s.sh_size).ok();
        Some((contents(symtab)?, contents(strtab)?))
    }

    fn range(&self, what: &'static str, offset: u64, size: u64) -> Result<&'a [u8], BuildError> {
        slice(self.bytes, what, offset, size)
    }
}

/// The NUL-terminated string at `at`; empty if it lies outside.
pub(crate) fn c_str(table: &[u8], at: impl TryInto<usize>) -> &[u8] {
    let rest = at
        .try_into()
        .ok()
        .and_then(|at| table.get(at..))
        .unwrap_or_default();
    rest.split(|b| *b == 0).next().unwrap_or_default()
}

fn slice<'a>(
    bytes: &'a [u8],
    what: &'static str,
    offset: u64,
    size: u64,
) -> Result<&'a [u8], BuildError> {
    let end = offset
        .checked_add(size)
        .and_then(|e| usize::try_from(e).ok());
    let start = usize::try_from(offset).ok();
    let found = start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end));
    found.ok_or(BuildError::OutOfBounds {
        what,
        offset,
        size,
        len: bytes.len() as u64,
        hint: "the ELF image is truncated or corrupt",
    })
}

fn check_class(bytes: &[u8]) -> Result<(), BuildError> {
    let machine_at = header32::SIZEOF_IDENT + 2;
    let head = slice(bytes, "The ELF header", 0, machine_at as u64 + 2)?;
    let machine = head.last_chunk::<2>().map_or(0, |b| u16::from_le_bytes(*b));
    match (head.get(CLASS), head.get(DATA), machine) {
        (Some(&CLASS64), Some(&DATA_LSB), EM_X86_64) => Ok(()),
        (Some(&CLASS32), Some(&DATA_LSB), EM_386) => Err(BuildError::Kernel32),
        (class, data, machine) => {
            let class = match class {
                Some(&CLASS32) => "32-bit",
                Some(&CLASS64) => "64-bit",
                _ => "unknown class",
            };
            let order = if data == Some(&DATA_LSB) {
                "little"
            } else {
                "big"
            };
            let found = format!("machine {machine:#x}, {class}, {order} endian");
            Err(BuildError::WrongMachine { found })
        }
    }
}

fn segments(bytes: &[u8], header: &Header) -> Result<Vec<ProgramHeader>, BuildError> {
    let count = header.e_phnum;
    if count == 0 || count > MAX_HEADERS {
        return Err(bad(format!("it has {count} program headers")));
    }
    let size = ProgramHeader::size(CTX) as u64;
    if u64::from(header.e_phentsize) != size {
        return Err(bad(format!(
            "e_phentsize is {}, not {size}",
            header.e_phentsize
        )));
    }
    let table = slice(
        bytes,
        "The program header table",
        header.e_phoff,
        size * u64::from(count),
    )?;
    ProgramHeader::parse(table, 0, usize::from(count), CTX)
        .map_err(|source| bad(format!("its program headers cannot be read ({source})")))
}

/// The section headers; none if they make no sense, for a kernel starts without them.
fn sections(bytes: &[u8], header: &Header) -> Vec<SectionHeader> {
    let size = SectionHeader::size(CTX) as u64;
    let count = u64::from(header.e_shnum);
    if count == 0 || header.e_shoff == 0 || u64::from(header.e_shentsize) != size {
        return Vec::new();
    }
    let table = slice(bytes, "", header.e_shoff, size * count);
    let parse = |table| SectionHeader::parse_from(table, 0, count as usize, CTX).ok();
    table.ok().and_then(parse).unwrap_or_default()
}

fn bad(what: String) -> BuildError {
    BuildError::BadElf { what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xen_sys::addr::Mfn;

    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{ElfMaker, FakeMemory};
    use crate::{KernelImage, PvKernel, PvSpec, SymbolTable};

    /// An image with something of everything that is read.
    fn image() -> Vec<u8> {
        ElfMaker::new()
            .load(0x10_0000, 0x5000, b"the text")
            .load(0x11_0000, 0x1_0123, b"the data")
            .number(1, 0xffff_ffff_8010_0010)
            .number(3, 0xffff_ffff_8000_0000)
            .text(10, "!writable_page_tables|dom0")
            .number(15, 0x80_0000_0000)
            .number(16, 1)
            .legacy("VIRT_BASE=0,VIRT_ENTRY=0x100000")
            .symbols(&[("start", 0x1000), ("end", 0x2000)])
            .build()
    }

    /// All that is ever done with the bytes of a kernel.
    fn everything(file: &[u8]) -> Result<(), BuildError> {
        let image = KernelImage::parse(file, None)?;
        let elf = ElfImage::parse(image.elf())?;
        let symbols = SymbolTable::read(&elf);
        symbols.lookup(xen_sys::addr::Vaddr(0x1800));
        elf.section("__xen_guest");
        let kernel = PvKernel::new(&elf)?;
        kernel.build(&mut FakeMemory::new(8), &PvSpec::new(Mfn(0)))?;
        Ok(())
    }

    #[test]
    fn the_image_of_these_tests_is_good() {
        everything(&image()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn damaged_images_never_panic(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut file = image();
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            let _ = everything(&file);
        }

        #[test]
        fn extreme_words_never_panic(
            at in 0usize..130,
            word in prop::sample::select(vec![
                0u64, 1, 0xfff, 0x1000, 1 << 31, 1 << 32, 1 << 46, 1 << 47, (1 << 52) - 1, 1 << 63,
                u64::MAX - 0xfff, u64::MAX,
            ])
        ) {
            let mut file = image();
            if let Some(place) = file.get_mut(at * 8..at * 8 + 8) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            let _ = everything(&file);
        }

        #[test]
        fn truncated_images_are_errors_of_the_image(keep in any::<prop::sample::Index>()) {
            let file = image();
            // What is needed ends with the notes; sections may be missing.
            let needed = file.windows(4).rposition(|w| w == b"Xen\0").unwrap();
            let kind = everything(&file[..keep.index(needed)]).unwrap_err().kind();
            prop_assert!(matches!(kind, ErrorKind::BadImage | ErrorKind::NotAKernel));
        }
    }

    #[test]
    fn other_machines_are_named() {
        let patched = |at: usize, byte: u8| {
            let mut file = image();
            file[at] = byte;
            let error = everything(&file).unwrap_err();
            (error.kind(), error.to_string())
        };
        let mut i386 = image();
        (i386[4], i386[18]) = (1, 3);
        assert!(matches!(everything(&i386), Err(BuildError::Kernel32)));
        let (kind, text) = patched(18, 0xb7);
        assert_eq!(kind, ErrorKind::NotPv);
        assert!(
            text.contains("machine 0xb7, 64-bit, little endian"),
            "{text}"
        );
        assert!(patched(5, 2).1.contains("big endian"));
        assert!(patched(16, 1).1.contains("e_type is 1"));
        assert!(patched(56, 0).1.contains("0 program headers"));
    }

    #[test]
    fn a_segment_beyond_the_file_is_located() {
        let mut file = image();
        // p_filesz of the first segment
        file[64 + 32 + 2] = 1;
        let text = everything(&file).unwrap_err().to_string();
        assert!(
            text.starts_with("A PT_LOAD segment at offset 0xe8, 0x10008 bytes long"),
            "{text}"
        );
    }
}
