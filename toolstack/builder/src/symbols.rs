//! Names for a kernel's addresses, for backtraces.

use goblin::elf::sym::{STT_FUNC, STT_NOTYPE, STT_OBJECT, Sym, Symtab};
use xen_sys::addr::Vaddr;

use crate::elf::{CTX, ElfImage, c_str};

/// The symbols of an ELF image, ordered by address.
///
/// The `.symtab` of a distribution's bzImage is stripped, its `vmlinux` has one. Reading takes a
/// while and some megabytes: do it when somebody asks for a name.
#[derive(Debug, Clone, Default)]
pub struct SymbolTable {
    /// Address, and offset of the name in `names`; sorted.
    symbols: Vec<(u64, u32)>,
    names: Vec<u8>,
}

/// The symbol before an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name; a name that is not UTF-8 is shown up to there.
    pub name: &'a str,
    /// Bytes from the symbol to the address.
    pub offset: u64,
}

impl std::fmt::Display for Symbol<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

impl SymbolTable {
    /// The symbols of `elf`; an empty table when it is stripped.
    pub fn read(elf: &ElfImage<'_>) -> Self {
        let Some((symtab, names)) = elf.symbol_tables() else {
            return Self::default();
        };
        let count = symtab.len() / Sym::size(CTX.container);
        let Ok(symtab) = Symtab::parse(symtab, 0, count, CTX) else {
            return Self::default();
        };
        let named = |sym: &Sym| !matches!(c_str(names, sym.st_name), b"");
        let wanted = |sym: &Sym| matches!(sym.st_type(), STT_FUNC | STT_OBJECT | STT_NOTYPE);
        let defined = symtab
            .iter()
            .filter(|sym| sym.st_shndx != 0 && wanted(sym) && named(sym));
        let mut symbols: Vec<_> = defined
            .filter_map(|sym| Some((sym.st_value, u32::try_from(sym.st_name).ok()?)))
            .collect();
        symbols.sort_unstable();
        Self {
            symbols,
            names: names.to_vec(),
        }
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether the image was stripped.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The last symbol at or before `at`.
    pub fn lookup(&self, at: Vaddr) -> Option<Symbol<'_>> {
        let after = self
            .symbols
            .partition_point(|(address, _)| *address <= at.0);
        let (address, name) = self.symbols.get(after.checked_sub(1)?)?;
        let name = c_str(&self.names, *name);
        let name = match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(error) => std::str::from_utf8(name.get(..error.valid_up_to())?).ok()?,
        };
        Some(Symbol {
            name,
            offset: at.0 - address,
        })
    }

    /// The address of the symbol of that name.
    pub fn address(&self, name: &str) -> Option<Vaddr> {
        let named = |(_, at): &&(u64, u32)| c_str(&self.names, *at) == name.as_bytes();
        self.symbols
            .iter()
            .find(named)
            .map(|(address, _)| Vaddr(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ElfMaker;

    fn table(symbols: &[(&str, u64)]) -> SymbolTable {
        let elf = ElfMaker::linux().symbols(symbols).build();
        SymbolTable::read(&ElfImage::parse(&elf).unwrap())
    }

    #[test]
    fn addresses_get_the_name_before_them() {
        let table = table(&[
            ("start", 0x1000),
            ("early", 0x900),
            ("", 0x1008),
            ("end", 0x1010),
        ]);
        assert_eq!(table.len(), 3);
        assert_eq!(table.lookup(Vaddr(0x8ff)), None);
        assert_eq!(
            table.lookup(Vaddr(0x900)),
            Some(Symbol {
                name: "early",
                offset: 0
            })
        );
        assert_eq!(
            table.lookup(Vaddr(0x100f)).unwrap().to_string(),
            "start+0xf"
        );
        assert_eq!(table.address("end"), Some(Vaddr(0x1010)));
        assert_eq!(table.address("nowhere"), None);
    }

    #[test]
    fn a_stripped_image_has_none() {
        let elf = ElfMaker::linux().build();
        assert!(SymbolTable::read(&ElfImage::parse(&elf).unwrap()).is_empty());
    }
}
