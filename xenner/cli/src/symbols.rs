//! Names for addresses of a guest kernel, from its ELF symbol table or its `System.map`.

use std::io;
use std::path::Path;

/// The largest file symbols are read from.
const MAX_FILE: u64 = 1 << 30;

/// The symbols of one kernel, sorted by address.
#[derive(Debug, Default)]
pub struct Symbols {
    entries: Vec<(u64, String)>,
}

/// A file that gives no symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file can't be read.
    #[error(
        "Cannot read the symbols {path:?}: {source}; name a System.map or an unstripped vmlinux"
    )]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file has no symbols.
    #[error("{0:?} holds no symbols; name a System.map or an unstripped vmlinux")]
    Empty(std::path::PathBuf),
}

impl Symbols {
    /// Reads an ELF file or a `System.map`.
    pub fn load(path: &Path) -> Result<Symbols, SymbolsError> {
        let bytes = crate::image::read(path, MAX_FILE).map_err(|source| SymbolsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let symbols = match bytes.starts_with(b"\x7fELF") {
            true => Symbols::of_kernel(&bytes),
            false => Symbols::from_map(&String::from_utf8_lossy(&bytes)),
        };
        match symbols.entries.is_empty() {
            true => Err(SymbolsError::Empty(path.to_owned())),
            false => Ok(symbols),
        }
    }

    /// The functions of an ELF symbol table; none if the file is damaged or stripped.
    pub fn from_elf(bytes: &[u8]) -> Symbols {
        let Ok(elf) = goblin::elf::Elf::parse(bytes) else {
            return Symbols::default();
        };
        let entries = elf
            .syms
            .iter()
            .filter(|symbol| symbol.is_function() && symbol.st_value != 0)
            .filter_map(|symbol| {
                Some((
                    symbol.st_value,
                    elf.strtab.get_at(symbol.st_name)?.to_owned(),
                ))
            })
            .collect();
        Symbols::sorted(entries)
    }

    /// What an uncompressed kernel knows of its own functions: its ELF symbol table, or the table
    /// Linux carries in its image.
    pub fn of_kernel(elf: &[u8]) -> Symbols {
        let symbols = Symbols::from_elf(elf);
        match symbols.entries.is_empty() {
            true => Symbols::sorted(crate::kallsyms::functions(elf)),
            false => symbols,
        }
    }

    /// The text symbols of a `System.map`: address, letter, name.
    pub fn from_map(text: &str) -> Symbols {
        let entry = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let text_symbol = matches!(words.next()?, "t" | "T" | "w" | "W");
            Some((address, words.next()?.to_owned())).filter(|_| text_symbol)
        };
        Symbols::sorted(text.lines().filter_map(entry).collect())
    }

    fn sorted(mut entries: Vec<(u64, String)>) -> Symbols {
        entries.sort();
        entries.dedup_by_key(|(address, _)| *address);
        Symbols { entries }
    }

    /// `function+0xoffset` for an address in or shortly behind a known function.
    pub fn name_of(&self, address: u64) -> Option<String> {
        const FARTHEST: u64 = 1 << 20;
        let after = self.entries.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.entries.get(after.checked_sub(1)?)?;
        let offset = address - start;
        (offset < FARTHEST).then(|| format!("{name}+{offset:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_map() {
        let map = "ffffffff81000000 T _text\nffffffff81000010 t helper\nbad line\n\
                   ffffffff82000000 D data\n0000000000000000 A zero\n";
        let symbols = Symbols::from_map(map);
        assert_eq!(symbols.name_of(0xffff_ffff_8100_000f).unwrap(), "_text+0xf");
        assert_eq!(
            symbols.name_of(0xffff_ffff_8100_0010).unwrap(),
            "helper+0x0"
        );
        assert_eq!(symbols.name_of(0xffff_ffff_80ff_ffff), None);
        assert_eq!(
            symbols.name_of(0xffff_ffff_8300_0000),
            None,
            "too far behind"
        );
        assert_eq!(symbols.name_of(u64::MAX), None);
    }

    #[test]
    fn elf_of_this_test() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let symbols = Symbols::from_elf(&bytes);
        let (address, name) = &symbols.entries[symbols.entries.len() / 2];
        assert_eq!(symbols.name_of(*address), Some(format!("{name}+0x0")));
    }

    #[test]
    fn damaged_files_give_no_symbols() {
        for bytes in [&b"\x7fELF"[..], b"\x7fELF\x02\x01\x01", b""] {
            assert!(Symbols::from_elf(bytes).entries.is_empty());
        }
    }
}
