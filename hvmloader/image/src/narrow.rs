//! A 64-bit ELF program as a 32-bit one (System V gABI, chapter 4 and 5).
//!
//! libxenguest's loader of HVM firmware takes 32-bit files only ("ELF image is
//! not 32bit"), and a linker writes the class of its input. What is loaded, and
//! where, stays the same; symbols and sections are left out.

const EHDR: usize = 52;
const PHDR: usize = 32;
const PT_LOAD: u64 = 1;

/// Converts a file.
///
/// # Errors
/// What is wrong with it, for people.
pub fn narrow(file: &[u8]) -> Result<Vec<u8>, String> {
    if !file.starts_with(b"\x7fELF\x02\x01\x01") {
        return Err("it is no 64-bit little-endian ELF file".into());
    }
    let field = |at: usize, len: usize| -> Result<u64, String> {
        let bytes = at.checked_add(len).and_then(|end| file.get(at..end));
        let bytes = bytes.ok_or_else(|| format!("it ends before {len} bytes at {at:#x}"))?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let table = field(0x20, 8)? as usize;
    let (size, count) = (field(0x36, 2)? as usize, field(0x38, 2)? as usize);
    let mut segments = Vec::new();
    for number in 0..count {
        let at = table.saturating_add(number * size);
        if field(at, 4)? == PT_LOAD {
            let mut fields = [0; 6];
            for (value, offset) in fields.iter_mut().zip([0x08, 0x10, 0x18, 0x20, 0x28, 0x30]) {
                *value = field(at.saturating_add(offset), 8)?;
            }
            segments.push((fields, field(at.saturating_add(4), 4)?));
        }
    }
    let entry = field(0x18, 8)?;

    let mut out = Vec::new();
    out.extend_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut out, 2)?; // an executable
    half(&mut out, 3)?; // for the 80386
    word(&mut out, 1)?;
    word(&mut out, entry)?;
    word(&mut out, EHDR as u64)?;
    word(&mut out, 0)?; // no sections
    word(&mut out, 0)?;
    half(&mut out, EHDR as u64)?;
    half(&mut out, PHDR as u64)?;
    half(&mut out, segments.len() as u64)?;
    for _ in 0..3 {
        half(&mut out, 0)?;
    }
    let mut offset = (EHDR + PHDR * segments.len()) as u64;
    for ([_, vaddr, paddr, filesz, memsz, _], flags) in &segments {
        for value in [PT_LOAD, offset, *vaddr, *paddr, *filesz, *memsz, *flags, 4] {
            word(&mut out, value)?;
        }
        offset += filesz;
    }
    for ([offset, _, _, filesz, ..], _) in &segments {
        let start = *offset as usize;
        let content = start
            .checked_add(*filesz as usize)
            .and_then(|end| file.get(start..end));
        out.extend_from_slice(content.ok_or("a segment ends behind the file")?);
    }
    Ok(out)
}

fn half(out: &mut Vec<u8>, value: u64) -> Result<(), String> {
    let value = u16::try_from(value).map_err(|_| format!("{value:#x} needs more than 16 bits"))?;
    out.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

fn word(out: &mut Vec<u8>, value: u64) -> Result<(), String> {
    let value = u32::try_from(value).map_err(|_| format!("{value:#x} needs more than 32 bits"))?;
    out.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(narrow(b"").is_err());
        assert!(narrow(b"\x7fELF\x01\x01\x01").is_err());
        let mut cut = b"\x7fELF\x02\x01\x01".to_vec();
        cut.resize(0x40, 0xff);
        assert!(narrow(&cut).is_err());
    }

    #[test]
    fn segments_keep_their_place() {
        let mut file = vec![0; 0x78];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[0x18..0x1b].copy_from_slice(&[0, 0, 0x10]);
        file[0x20] = 0x40;
        file[0x36] = 56;
        file[0x38] = 1;
        file[0x40..0x48].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        for (at, value) in [
            (0x48, 0x78u64),
            (0x50, 0x10_0000),
            (0x58, 0x10_0000),
            (0x60, 3),
            (0x68, 9),
        ] {
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        file.extend_from_slice(b"abc");
        let out = narrow(&file).unwrap();
        assert_eq!(&out[24..28], &0x10_0000u32.to_le_bytes());
        assert_eq!(&out[EHDR + 4..EHDR + 8], &84u32.to_le_bytes());
        assert_eq!(&out[EHDR + 20..EHDR + 28], &[9, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(&out[84..], b"abc");
    }
}
