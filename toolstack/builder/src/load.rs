//! Putting a kernel's segments into memory.

use std::os::unix::fs::FileExt;

use crate::elf::{ImageFile, LoadSegment};
use crate::error::BuildError;
use crate::memory::{GuestMemory, PAGE};
use xen_sys::addr::Pfn;

/// Bytes read from a file at once: they stay in the processor's cache.
const PIECE: usize = 256 << 10;

/// Writes a segment to byte `at` of memory, but for its zeros, which are there already.
///
/// Linux has its `.bss` and `.brk` in the file, a quarter of all; not to touch those pages saves their
/// page faults, which cost more than the copy.
///
/// # Errors
/// Memory's, or the file's.
pub(crate) fn segment<M: GuestMemory + ?Sized>(
    memory: &mut M,
    at: u64,
    segment: &LoadSegment<'_>,
    file: Option<ImageFile<'_>>,
) -> Result<(), BuildError> {
    let mut buffer = match file {
        Some(_) => vec![0; PIECE.min(segment.data.len())],
        None => Vec::new(),
    };
    for (index, data) in segment.data.chunks(PIECE).enumerate() {
        let done = (index * PIECE) as u64;
        let bytes = match (file, buffer.get_mut(..data.len())) {
            (Some(ImageFile { file, start }), Some(buffer)) => {
                file.read_exact_at(buffer, start + segment.offset + done)
                    .map_err(|source| BuildError::Segment { source })?;
                buffer
            }
            _ => data,
        };
        write(memory, at + done, bytes)?;
    }
    Ok(())
}

/// Writes the runs of pages that are not all zeros.
fn write<M: GuestMemory + ?Sized>(memory: &mut M, at: u64, data: &[u8]) -> Result<(), BuildError> {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let mut pages = rest.chunks(PAGE);
        let used = pages.position(|page| page == ZEROS.get(..page.len()).unwrap_or_default());
        let used = used.map_or(rest.len(), |pages| pages * PAGE);
        let filled = rest.get(..used).unwrap_or_default();
        memory
            .write(Pfn(0), at + done as u64, filled)
            .map_err(|source| BuildError::Memory {
                what: "the kernel",
                source,
            })?;
        done += used + PAGE;
    }
    Ok(())
}
