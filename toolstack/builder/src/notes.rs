//! What a kernel says about itself to Xen: the `XEN_ELFNOTE_*` notes and their ancestor, the
//! `__xen_guest` string.
//!
//! Facts: `xen/include/public/elfnote.h` and `features.h`.

use xen_sys::addr::Vaddr;
use xen_sys::elfnote::*;

use crate::elf::{ElfImage, c_str};
use crate::error::BuildError;

/// The notes of a kernel, decoded.
///
/// Virtual addresses are the kernel's own. `None` means that the note is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XenNotes {
    /// Whether all this comes from a legacy `__xen_guest` string.
    pub legacy: bool,
    /// `XEN_ELFNOTE_ENTRY`: the PV entry point.
    pub entry: Option<Vaddr>,
    /// `XEN_ELFNOTE_HYPERCALL_PAGE`, which the hypervisor fills.
    pub hypercall_page: Option<Vaddr>,
    /// The same from a legacy string: a page number relative to `virt_base`.
    pub hypercall_page_pfn: Option<u64>,
    /// `XEN_ELFNOTE_VIRT_BASE`: where page 0 is mapped.
    pub virt_base: Option<Vaddr>,
    /// `XEN_ELFNOTE_PADDR_OFFSET`: subtract it from `p_paddr` for the pseudo-physical address.
    pub paddr_offset: Option<u64>,
    /// `XEN_ELFNOTE_XEN_VERSION`, "xen-3.0".
    pub xen_version: Option<String>,
    /// `XEN_ELFNOTE_GUEST_OS`, "linux".
    pub guest_os: Option<String>,
    /// `XEN_ELFNOTE_GUEST_VERSION`, "2.6".
    pub guest_version: Option<String>,
    /// `XEN_ELFNOTE_LOADER`, "generic".
    pub loader: Option<String>,
    /// `XEN_ELFNOTE_PAE_MODE`: of no consequence to a 64-bit kernel.
    pub pae_mode: Option<String>,
    /// `XEN_ELFNOTE_FEATURES` and `XEN_ELFNOTE_SUPPORTED_FEATURES` together.
    pub features: Features,
    /// `XEN_ELFNOTE_BSD_SYMTAB`: the kernel would like its symbol table loaded behind itself.
    pub bsd_symtab: bool,
    /// `XEN_ELFNOTE_HV_START_LOW`: the lowest address the hypervisor's hole may begin at.
    pub hv_start_low: Option<Vaddr>,
    /// `XEN_ELFNOTE_L1_MFN_VALID`: mask and value pairs that mark non-present entries with a frame.
    pub l1_mfn_valid: Vec<(u64, u64)>,
    /// `XEN_ELFNOTE_SUSPEND_CANCEL`: a failed suspend may be taken back.
    pub suspend_cancel: bool,
    /// `XEN_ELFNOTE_INIT_P2M`: where the phys-to-machine list is to be mapped.
    pub init_p2m: Option<Vaddr>,
    /// `XEN_ELFNOTE_MOD_START_PFN`: an initrd outside of the initial mapping is understood.
    pub mod_start_pfn: bool,
    /// `XEN_ELFNOTE_PHYS32_ENTRY`: the PVH entry point, a physical address.
    pub phys32_entry: Option<u64>,
}

/// Bit sets over the `XENFEAT_*` numbers of sub-map 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// What the kernel can do with. Includes what it requires.
    pub supported: u32,
    /// What the kernel cannot do without.
    pub required: u32,
}

/// Names of the features as notes spell them, at the index of their bit.
const FEATURE_NAMES: [&str; 18] = [
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "hvm_callback_vector",
    "hvm_safe_pvclock",
    "hvm_pirqs",
    "dom0",
    "grant_map_identity",
    "memory_op_vnode_supported",
    "ARM_SMCCC_supported",
    "linux_rsdp_unrestricted",
    "not_direct_mapped",
    "direct_mapped",
];

impl Features {
    /// The names of the features in `bits`, separated by commas.
    pub fn names(bits: u32) -> String {
        let set = (0..32u32).filter(|bit| bits & (1 << bit) != 0);
        let name = |bit: u32| match FEATURE_NAMES.get(bit as usize) {
            Some(name) => (*name).to_owned(),
            None => format!("number {bit}"),
        };
        set.map(name).collect::<Vec<_>>().join(", ")
    }

    /// Adds the features of a string note: names separated by `|`, `!` before a required one.
    ///
    /// An unknown name is passed over, unless it is required.
    fn add_text(&mut self, text: &str) -> Result<(), BuildError> {
        for word in text.split('|').map(str::trim).filter(|w| !w.is_empty()) {
            let (name, required) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (word, false),
            };
            let bit = FEATURE_NAMES.iter().position(|n| *n == name);
            match bit {
                Some(bit) => {
                    self.supported |= 1 << bit;
                    self.required |= u32::from(required) << bit;
                }
                None if required => {
                    return Err(BuildError::MissingFeature { names: name.into() });
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl XenNotes {
    /// Reads the notes of `elf`, from wherever it keeps them.
    ///
    /// # Errors
    /// [`BuildError::NoXenNotes`], [`BuildError::BadNote`], [`BuildError::MissingFeature`] for an
    /// unknown required feature, and what [`ElfImage::note_areas`] says.
    pub fn read(elf: &ElfImage<'_>) -> Result<Self, BuildError> {
        let mut notes = Self::default();
        let mut found = false;
        for area in elf.note_areas()? {
            for note in (NoteIter { rest: area }) {
                if note.name == b"Xen\0" || note.name == b"Xen" {
                    found = true;
                    notes.add(note.kind, note.desc)?;
                }
            }
        }
        if found {
            return Ok(notes);
        }
        let text = elf.section("__xen_guest").ok_or(BuildError::NoXenNotes)?;
        Self::read_legacy(text)
    }

    fn add(&mut self, kind: u32, desc: &[u8]) -> Result<(), BuildError> {
        let number = |note| number(note, desc);
        let text = || text(desc);
        match kind {
            XEN_ELFNOTE_ENTRY => self.entry = Some(Vaddr(number("ENTRY")?)),
            XEN_ELFNOTE_HYPERCALL_PAGE => {
                self.hypercall_page = Some(Vaddr(number("HYPERCALL_PAGE")?));
            }
            XEN_ELFNOTE_VIRT_BASE => self.virt_base = Some(Vaddr(number("VIRT_BASE")?)),
            XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = Some(number("PADDR_OFFSET")?),
            XEN_ELFNOTE_XEN_VERSION => self.xen_version = Some(text()),
            XEN_ELFNOTE_GUEST_OS => self.guest_os = Some(text()),
            XEN_ELFNOTE_GUEST_VERSION => self.guest_version = Some(text()),
            XEN_ELFNOTE_LOADER => self.loader = Some(text()),
            XEN_ELFNOTE_PAE_MODE => self.pae_mode = Some(text()),
            XEN_ELFNOTE_FEATURES => self.features.add_text(&text())?,
            XEN_ELFNOTE_BSD_SYMTAB => self.bsd_symtab = text() == "yes",
            XEN_ELFNOTE_HV_START_LOW => self.hv_start_low = Some(Vaddr(number("HV_START_LOW")?)),
            XEN_ELFNOTE_L1_MFN_VALID => self.l1_mfn_valid.extend(mask_value_pairs(desc)),
            XEN_ELFNOTE_SUSPEND_CANCEL => self.suspend_cancel = number("SUSPEND_CANCEL")? != 0,
            XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(Vaddr(number("INIT_P2M")?)),
            XEN_ELFNOTE_MOD_START_PFN => self.mod_start_pfn = number("MOD_START_PFN")? != 0,
            XEN_ELFNOTE_SUPPORTED_FEATURES => {
                self.features.supported |= number("SUPPORTED_FEATURES")? as u32;
            }
            XEN_ELFNOTE_PHYS32_ENTRY => self.phys32_entry = Some(number("PHYS32_ENTRY")?),
            _ => {}
        }
        Ok(())
    }

    /// The `NAME=VALUE,NAME=VALUE` string of kernels before the notes.
    fn read_legacy(section: &[u8]) -> Result<Self, BuildError> {
        let section = text(section);
        let mut notes = Self {
            legacy: true,
            ..Self::default()
        };
        for item in section.split(',') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            match name.trim() {
                "VIRT_ENTRY" => notes.entry = Some(Vaddr(legacy_number("VIRT_ENTRY", value)?)),
                "VIRT_BASE" => notes.virt_base = Some(Vaddr(legacy_number("VIRT_BASE", value)?)),
                "ELF_PADDR_OFFSET" => {
                    notes.paddr_offset = Some(legacy_number("ELF_PADDR_OFFSET", value)?);
                }
                "HYPERCALL_PAGE" => {
                    notes.hypercall_page_pfn = Some(legacy_number("HYPERCALL_PAGE", value)?);
                }
                "XEN_VER" => notes.xen_version = Some(value.into()),
                "GUEST_OS" => notes.guest_os = Some(value.into()),
                "GUEST_VER" => notes.guest_version = Some(value.into()),
                "LOADER" => notes.loader = Some(value.into()),
                "PAE" => notes.pae_mode = Some(value.into()),
                "FEATURES" => notes.features.add_text(value)?,
                "BSD_SYMTAB" => notes.bsd_symtab = true,
                _ => {}
            }
        }
        // The legacy default of ELF_PADDR_OFFSET is VIRT_BASE.
        notes.paddr_offset = notes.paddr_offset.or(notes.virt_base.map(|base| base.0));
        Ok(notes)
    }
}

struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    desc: &'a [u8],
}

/// Notes one after another, each padded to four bytes; ends at the first that does not fit.
///
/// goblin's iterator pads as `p_align` says, which linkers are known to set to 8 for areas whose
/// notes are padded to 4; Xen notes are always the latter.
struct NoteIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NoteIter<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let mut take = |len: usize| {
            let (taken, rest) = self.rest.split_at_checked(len)?;
            self.rest = rest;
            Some(taken)
        };
        let mut word = || take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b));
        let (name_len, desc_len, kind) = (word()? as usize, word()? as usize, word()?);
        let name = take(name_len)?;
        take(name_len.next_multiple_of(4) - name_len)?;
        let desc = take(desc_len)?;
        let padding = desc_len.next_multiple_of(4) - desc_len;
        self.rest = self.rest.get(padding..).unwrap_or_default();
        Some(Note { name, kind, desc })
    }
}

/// "Numeric types are either 4 or 8 bytes depending on the content of the desc field."
fn number(note: &'static str, desc: &[u8]) -> Result<u64, BuildError> {
    if let Ok(bytes) = desc.try_into() {
        return Ok(u64::from_le_bytes(bytes));
    }
    if let Ok(bytes) = desc.try_into() {
        return Ok(u64::from(u32::from_le_bytes(bytes)));
    }
    let what = format!("a number has 4 or 8 bytes, this one has {}", desc.len());
    Err(BuildError::BadNote { note, what })
}

fn legacy_number(note: &'static str, value: &str) -> Result<u64, BuildError> {
    let value = value.trim();
    let parsed = match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| BuildError::BadNote {
        note,
        what: format!("{value:?} is not a number"),
    })
}

fn text(desc: &[u8]) -> String {
    String::from_utf8_lossy(c_str(desc, 0usize)).into_owned()
}

fn mask_value_pairs(desc: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
    desc.chunks_exact(16)
        .filter_map(move |pair| Some((word(pair)?, word(pair.get(8..)?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ElfMaker;

    fn read(elf: &ElfMaker) -> Result<XenNotes, BuildError> {
        XenNotes::read(&ElfImage::parse(&elf.build())?)
    }

    #[test]
    fn notes_of_linux() {
        let notes = read(
            &ElfMaker::linux()
                .text(9, "yes")
                .text(11, "yes")
                .note(14, &[1, 0, 0, 0]),
        );
        let notes = notes.unwrap();
        assert_eq!(notes.virt_base, Some(Vaddr(0xffff_ffff_8000_0000)));
        assert_eq!(notes.init_p2m, Some(Vaddr(0x80_0000_0000)));
        assert!(notes.mod_start_pfn && notes.suspend_cancel && notes.bsd_symtab && !notes.legacy);
        assert_eq!(
            notes.features,
            Features {
                supported: 0b1_0001,
                required: 1
            }
        );
        assert_eq!(notes.guest_os.as_deref(), Some("linux"));
        assert_eq!(notes.pae_mode.as_deref(), Some("yes"));
    }

    #[test]
    fn both_feature_notes_count() {
        let notes = read(&ElfMaker::linux().note(17, &0x8800u32.to_le_bytes())).unwrap();
        assert_eq!(
            notes.features,
            Features {
                supported: 0x8811,
                required: 1
            }
        );
        assert_eq!(Features::names(0x8800), "dom0, linux_rsdp_unrestricted");
        assert_eq!(Features::names(1 << 31), "number 31");
    }

    #[test]
    fn unknown_features_matter_only_if_required() {
        let notes = read(&ElfMaker::linux().text(10, "new_thing|!dom0")).unwrap();
        assert_eq!(notes.features.required, 1 | 1 << 11);
        let error = read(&ElfMaker::linux().text(10, "!new_thing")).unwrap_err();
        assert!(error.to_string().contains("feature new_thing,"), "{error}");
    }

    #[test]
    fn pairs_of_l1_mfn_valid() {
        let mut desc = Vec::new();
        for word in [1u64, 1, 0x201, 0x200, 7] {
            desc.extend_from_slice(&word.to_le_bytes());
        }
        let notes = read(&ElfMaker::linux().note(13, &desc)).unwrap();
        assert_eq!(notes.l1_mfn_valid, [(1, 1), (0x201, 0x200)]);
    }

    #[test]
    fn the_legacy_string_of_old_kernels() {
        let text = "GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
                    VIRT_ENTRY=0xffffffff80200000,HYPERCALL_PAGE=0x201,FEATURES=writable_page_tables,\
                    PAE=yes,LOADER=generic,BSD_SYMTAB";
        let elf = ElfMaker::new().load(0x20_0000, 0x1000, b"x").legacy(text);
        let notes = read(&elf).unwrap();
        assert!(notes.legacy && notes.bsd_symtab);
        assert_eq!(notes.entry, Some(Vaddr(0xffff_ffff_8020_0000)));
        assert_eq!(notes.hypercall_page_pfn, Some(0x201));
        assert_eq!(notes.paddr_offset, Some(0xffff_ffff_8000_0000));
        let error = read(&ElfMaker::new().load(0, 1, b"x").legacy("VIRT_BASE=zero")).unwrap_err();
        assert!(
            error.to_string().contains("\"zero\" is not a number"),
            "{error}"
        );
    }

    #[test]
    fn a_note_that_is_cut_off_ends_the_list() {
        let mut area = Vec::new();
        for word in [4u32, 8, 1] {
            area.extend_from_slice(&word.to_le_bytes());
        }
        area.extend_from_slice(b"Xen\0\x01\x02");
        assert_eq!(NoteIter { rest: &area }.count(), 0);
        area.extend_from_slice(&[0; 6]);
        assert_eq!(NoteIter { rest: &area }.count(), 1);
        let huge = [0xff; 24];
        assert_eq!(NoteIter { rest: &huge }.count(), 0);
    }
}
