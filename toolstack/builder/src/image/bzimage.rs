//! The Linux/x86 boot protocol header, as far as it tells where the ELF payload lies.
//!
//! Facts: the kernel's `Documentation/arch/x86/boot.rst`.

use crate::error::BuildError;

const BOOT_FLAG: (usize, u16) = (0x1fe, 0xaa55);
const HEADER_MAGIC: (usize, &[u8; 4]) = (0x202, b"HdrS");
const SETUP_SECTS: usize = 0x1f1;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: u64 = 512;

/// Protocol 2.08 brought `payload_offset` and `payload_length`.
const PAYLOAD_PROTOCOL: u16 = 0x208;

/// The payload of a bzImage.
pub(super) struct Payload<'a> {
    pub payload: &'a [u8],
    /// Of the payload in the file, bytes.
    pub offset: u64,
    /// What the last four bytes of the payload say its decompressed size is; a mere hint.
    pub size_hint: u64,
    pub protocol: u16,
    pub version: Option<String>,
}

/// What the header says of the payload, unchecked.
pub(super) struct Header {
    /// Of the payload in the file, bytes.
    pub offset: u64,
    /// Of the payload, bytes.
    pub length: u64,
    pub protocol: u16,
    pub version: Option<String>,
}

/// The header of a bzImage, or `None` when `file` is the start of something else.
pub(super) fn header(file: &[u8]) -> Result<Option<Header>, BuildError> {
    let is_bzimage = u16_at(file, BOOT_FLAG.0) == Some(BOOT_FLAG.1)
        && file.get(HEADER_MAGIC.0..HEADER_MAGIC.0 + 4) == Some(HEADER_MAGIC.1);
    if !is_bzimage {
        return Ok(None);
    }
    let protocol = u16_at(file, VERSION).unwrap_or(0);
    if protocol < PAYLOAD_PROTOCOL {
        return Err(BuildError::OldBootProtocol { version: protocol });
    }
    let truncated = || out_of_bounds("The bzImage header", 0, PAYLOAD_LENGTH as u64 + 4, file);
    // A zero means four, for bootloaders of the last century.
    let setup_sects = match file.get(SETUP_SECTS) {
        Some(0) => 4,
        Some(n) => u64::from(*n),
        None => return Err(truncated()),
    };
    let offset = u32_at(file, PAYLOAD_OFFSET).ok_or_else(truncated)?;
    let length = u32_at(file, PAYLOAD_LENGTH).ok_or_else(truncated)?;
    let offset = (setup_sects + 1) * SECTOR + u64::from(offset);
    Ok(Some(Header {
        offset,
        length: u64::from(length),
        protocol,
        version: version_text(file),
    }))
}

/// The payload of a bzImage, or `None` when `file` is something else.
pub(super) fn find_payload(file: &[u8]) -> Result<Option<Payload<'_>>, BuildError> {
    let Some(header) = header(file)? else {
        return Ok(None);
    };
    let (offset, length) = (header.offset, header.length);
    let payload = file
        .get(offset as usize..(offset + length) as usize)
        .ok_or_else(|| out_of_bounds("The bzImage payload", offset, length, file))?;
    let size_hint = payload
        .last_chunk::<4>()
        .map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    Ok(Some(Payload {
        payload,
        offset,
        size_hint,
        protocol: header.protocol,
        version: header.version,
    }))
}

fn out_of_bounds(what: &'static str, offset: u64, size: u64, file: &[u8]) -> BuildError {
    let len = file.len() as u64;
    BuildError::OutOfBounds {
        what,
        offset,
        size,
        len,
        hint: "the file is truncated",
    }
}

/// The first word of the NUL-terminated version text of the setup code.
fn version_text(file: &[u8]) -> Option<String> {
    let at = usize::from(u16_at(file, KERNEL_VERSION)?);
    if at == 0 {
        return None;
    }
    let text = file.get(at + 0x200..)?;
    let text: String = text
        .iter()
        .take(64)
        .take_while(|b| b.is_ascii_graphic())
        .map(|b| char::from(*b))
        .collect();
    (!text.is_empty()).then_some(text)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
