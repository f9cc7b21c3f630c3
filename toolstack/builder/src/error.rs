//! What can go wrong while a domain is built, and how a program should exit then.

use std::path::PathBuf;

use crate::memory::MemoryError;

/// Why a build was refused, coarse enough for an exit status.
///
/// The set and the meaning of the variants are stable; the texts of [`BuildError`] are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is neither an ELF image nor a bzImage, compressed or not.
    NotAKernel,
    /// A kernel, but not one that a 64-bit PV domain can start.
    NotPv,
    /// The image contradicts itself: truncated, corrupt or hostile.
    BadImage,
    /// The guest's memory, or a fixed-size field, is too small for what was asked.
    TooBig,
    /// The kernel needs something that this hypervisor does not offer.
    Unsupported,
    /// Guest memory could not be reached: the fault is in the host, not in the image.
    Memory,
}

/// Everything that reading a kernel image or building a domain can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The first bytes match no known image format.
    #[error(
        "Not a kernel image: the file starts with {start}, which is no ELF header, no bzImage \
         and no known compression. Give the path of a vmlinuz or vmlinux file."
    )]
    UnknownFormat {
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// A bzImage of a boot protocol older than the payload fields.
    #[error(
        "The bzImage has boot protocol {}.{:02}, and only 2.08 or newer tells where its ELF \
         payload lies. Use a kernel of 2.6.26 or newer, or its uncompressed vmlinux.",
        version >> 8, version & 0xff
    )]
    OldBootProtocol {
        /// `version` of the boot protocol header.
        version: u16,
    },
    /// A structure does not lie within the bytes it must lie in.
    #[error(
        "{what} at offset {offset:#x}, {size:#x} bytes long, reaches beyond the image ({len:#x} bytes): {hint}"
    )]
    OutOfBounds {
        /// The structure.
        what: &'static str,
        /// Where it should begin, in bytes from the start of the image.
        offset: u64,
        /// Its size in bytes.
        size: u64,
        /// How many bytes there are.
        len: u64,
        /// What the reader may conclude.
        hint: &'static str,
    },
    /// The payload's compression is known but cannot be undone here.
    #[error(
        "The kernel payload is compressed with {codec}, which is not supported: use the uncompressed vmlinux, or a kernel built with gzip, xz, zstd, lz4, lzma or bzip2."
    )]
    UnsupportedCodec {
        /// Name of the compression.
        codec: &'static str,
    },
    /// The decompressor refused its input.
    #[error(
        "The {codec} payload at offset {offset:#x} of the kernel image is corrupt (after {produced} decompressed bytes)"
    )]
    Decompress {
        /// Name of the compression.
        codec: &'static str,
        /// Offset of the payload in the image.
        offset: u64,
        /// How far decompression came, in bytes.
        produced: u64,
        /// The decompressor's own words.
        source: std::io::Error,
    },
    /// The payload would decompress to more than the limit.
    #[error(
        "The {codec} payload at offset {offset:#x} of the kernel image decompresses to more than {limit} bytes: this is no sane kernel"
    )]
    PayloadTooBig {
        /// Name of the compression.
        codec: &'static str,
        /// Offset of the payload in the image.
        offset: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A decompressed payload that is no ELF image.
    #[error(
        "The {codec} payload of the kernel image decompresses to something that is not ELF (it starts with {start})"
    )]
    PayloadNotElf {
        /// Name of the compression.
        codec: &'static str,
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// An ELF image of another machine or class.
    #[error("The kernel is ELF for {found}; a PV domain needs a 64-bit x86 (EM_X86_64) kernel")]
    WrongMachine {
        /// Class and machine in words.
        found: String,
    },
    /// A 32-bit kernel: PV, but not ours.
    #[error(
        "This is a 32-bit kernel, and only 64-bit PV guests are supported. Use the x86-64 build of the same kernel."
    )]
    Kernel32,
    /// An ELF structure is inconsistent.
    #[error("The ELF image is corrupt: {what}")]
    BadElf {
        /// What is wrong, with its place.
        what: String,
    },
    /// No note in any place: not PV.
    #[error(
        "The kernel has no Xen ELF notes, so it is no PV kernel. For Linux this means it was built without \
         CONFIG_XEN_PV; use a distribution kernel, or for an HVM kernel set type=\"hvm\"."
    )]
    NoXenNotes,
    /// Xen notes without a PV entry: PVH only.
    #[error(
        "The kernel has Xen ELF notes but no PV entry point (XEN_ELFNOTE_ENTRY), so it starts as PVH only. \
         Set type=\"pvh\", or use a kernel built with CONFIG_XEN_PV."
    )]
    PvhOnly,
    /// A kernel that cannot start as PVH.
    #[error(
        "The kernel has no PVH entry point (XEN_ELFNOTE_PHYS32_ENTRY). \
         Set type=\"pv\", or use a kernel built with CONFIG_PVH."
    )]
    PvOnly,
    /// A note whose value cannot be meant.
    #[error("The kernel's note {note} is wrong: {what}")]
    BadNote {
        /// Header spelling of the note.
        note: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The kernel requires a feature that the hypervisor lacks.
    #[error("The kernel requires the Xen feature{} {}, which PV domains do not have here", if names.contains(',') { "s" } else { "" }, names)]
    MissingFeature {
        /// Names from `features.h` without the `XENFEAT_` prefix.
        names: String,
    },
    /// Memory of the domain is smaller than its boot layout.
    #[error(
        "{what} does not fit: {needed_mib} MiB are needed to boot, and the domain has {available_mib} MiB. Raise memory to {needed_mib} or more."
    )]
    DoesNotFit {
        /// What was being placed.
        what: &'static str,
        /// Memory the domain needs, MiB, rounded up.
        needed_mib: u64,
        /// Memory the domain has, MiB.
        available_mib: u64,
    },
    /// The command line exceeds `MAX_GUEST_CMDLINE`.
    #[error("The kernel command line has {len} bytes; a PV guest takes at most {max}. Shorten it by {}.", len - max)]
    CommandLineTooLong {
        /// Its length in bytes.
        len: usize,
        /// The greatest length possible.
        max: usize,
    },
    /// The command line holds a NUL byte, which would end it early.
    #[error("The kernel command line holds a NUL byte at position {at}")]
    CommandLineNul {
        /// Position of the byte.
        at: usize,
    },
    /// What was named as the firmware of HVM domains cannot be it.
    #[error(
        "This is no firmware that Xen can start: {what}. Name an hvmloader, or leave the firmware out."
    )]
    NotFirmware {
        /// What is wrong with it.
        what: String,
    },
    /// The image could not be read from a file.
    #[error("Cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A part of the kernel could not be read from the cache.
    #[error("Cannot read the decompressed kernel")]
    Segment {
        /// The system's answer.
        source: std::io::Error,
    },
    /// Guest memory refused an access.
    #[error("Cannot write {what} to guest memory")]
    Memory {
        /// What was being written.
        what: &'static str,
        /// The memory's answer.
        source: MemoryError,
    },
}

impl BuildError {
    /// The class of this error, for an exit status.
    pub fn kind(&self) -> ErrorKind {
        use BuildError::*;
        match self {
            UnknownFormat { .. } | NotFirmware { .. } | Read { .. } | Segment { .. } => {
                ErrorKind::NotAKernel
            }
            OldBootProtocol { .. } | UnsupportedCodec { .. } | MissingFeature { .. } => {
                ErrorKind::Unsupported
            }
            OutOfBounds { .. }
            | Decompress { .. }
            | PayloadTooBig { .. }
            | PayloadNotElf { .. }
            | BadElf { .. }
            | BadNote { .. } => ErrorKind::BadImage,
            WrongMachine { .. } | Kernel32 | NoXenNotes | PvhOnly | PvOnly => ErrorKind::NotPv,
            DoesNotFit { .. } | CommandLineTooLong { .. } | CommandLineNul { .. } => {
                ErrorKind::TooBig
            }
            Memory { .. } => ErrorKind::Memory,
        }
    }
}

/// The first bytes of something unexpected, for an error text.
pub(crate) fn first_bytes(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing (it is empty)".into();
    }
    let hex: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    hex.join(" ")
}
