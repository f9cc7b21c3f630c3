//! The symbol table that Linux kernels carry for themselves.
//!
//! Distributions strip their kernels, but `CONFIG_KALLSYMS` keeps a compressed table in the image:
//! names as strings of tokens, a table of 256 tokens, and addresses relative to a base. Nothing
//! points to it, so it is found by its shape. The layout is that of `scripts/kallsyms.c` of Linux
//! 4.20 and newer, in both orders it had: the addresses before the names, and, since 6.4, behind
//! the tokens. Every read is checked; an image that lies gives wrong names or none.

/// The tokens of the digits, which stand for themselves and side by side.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
/// Symbols per marker.
const PER_MARKER: usize = 256;
/// The most symbols a kernel has.
const MOST: usize = 4 << 20;
/// The lowest address of a kernel's text.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// The functions in the table within `image`, an uncompressed kernel: addresses and names.
pub fn functions(image: &[u8]) -> Vec<(u64, String)> {
    let mut from = 0;
    while let Some(found) = find(image, DIGITS, from) {
        if let Some(functions) = Tokens::around(image, found).and_then(|tokens| tokens.functions())
        {
            return functions;
        }
        from = found + 1;
    }
    Vec::new()
}

fn find(image: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = image.get(from..)?;
    rest.windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

fn word(image: &[u8], at: usize) -> Option<u32> {
    let bytes = image.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn long(image: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(word(image, at)?) | u64::from(word(image, at.checked_add(4)?)?) << 32)
}

/// The token table, `kallsyms_token_table`, and where it lies.
struct Tokens<'a> {
    image: &'a [u8],
    start: usize,
    /// Just behind `kallsyms_token_index`.
    end: usize,
    tokens: Vec<&'a [u8]>,
}

impl<'a> Tokens<'a> {
    /// The table whose token "0" lies at `digits`, proven by the index that follows it.
    fn around(image: &'a [u8], digits: usize) -> Option<Tokens<'a>> {
        let mut start = digits;
        for _ in 0..b'0' {
            // Back over a terminator, then to the terminator before.
            let before = image.get(..start.checked_sub(1)?)?;
            start = before.iter().rposition(|&byte| byte == 0)? + 1;
        }
        let mut tokens = Vec::with_capacity(256);
        let mut at = start;
        let mut index = Vec::with_capacity(512);
        for _ in 0..256 {
            index.extend(u16::try_from(at - start).ok()?.to_le_bytes());
            let rest = image.get(at..)?;
            let length = rest.iter().take(1024).position(|&byte| byte == 0)?;
            tokens.push(rest.get(..length)?);
            at += length + 1;
        }
        let index_at = at.next_multiple_of(8);
        let end = index_at + index.len();
        let proven = image.get(index_at..end)? == index;
        proven.then_some(Tokens {
            image,
            start,
            end,
            tokens,
        })
    }

    /// The markers before the table: where in the names every 256th symbol begins. Since 6.2 (and
    /// in some older stable kernels) `kallsyms_seqs_of_names`, 3 bytes a symbol, lies between.
    fn markers(&self) -> Option<(usize, Vec<u32>)> {
        const SEQUENCE: usize = 3 * PER_MARKER;
        let last = self.start.checked_sub(4)? & !3;
        for at in (0..=last).rev().step_by(4).take(3 * MOST / 4) {
            let gap = self.start - at - 4;
            let Some((start, markers)) = self.markers_ending(at) else {
                continue;
            };
            let between = (markers.len() * SEQUENCE).abs_diff(gap) <= SEQUENCE + 8;
            if gap <= 8 || between {
                return Some((start, markers));
            }
        }
        None
    }

    /// The ascending numbers from 0 on whose last is at `at`.
    fn markers_ending(&self, mut at: usize) -> Option<(usize, Vec<u32>)> {
        let mut markers = Vec::new();
        let mut last = u32::MAX;
        loop {
            let marker = word(self.image, at)?;
            if marker >= last || markers.len() > MOST / PER_MARKER {
                return None;
            }
            markers.push(marker);
            if marker == 0 {
                markers.reverse();
                // A lone 0 is padding.
                return (markers.len() > 1).then_some((at, markers));
            }
            (last, at) = (marker, at.checked_sub(4)?);
        }
    }

    /// Where the names begin, and how many there are: `kallsyms_num_syms` lies just before them.
    fn names(&self) -> Option<(usize, usize)> {
        const WINDOW: usize = PER_MARKER * 512;
        let (markers_at, markers) = self.markers()?;
        let last = *markers.last()? as usize;
        let latest = markers_at.checked_sub(last)? & !7;
        let earliest = latest.saturating_sub(WINDOW).max(8);
        (earliest..=latest).rev().step_by(8).find_map(|names| {
            let count = word(self.image, names.checked_sub(8)?)? as usize;
            let fits = count.div_ceil(PER_MARKER) == markers.len();
            let second = markers.get(1).map(|&marker| names + marker as usize);
            let proven = fits && count > 0 && {
                let end = self.skip(names, count.min(PER_MARKER));
                second.map_or(end.is_some(), |second| end == Some(second))
            };
            proven.then_some((names, count))
        })
    }

    fn skip(&self, mut at: usize, count: usize) -> Option<usize> {
        for _ in 0..count {
            at = self.name(at)?.1;
        }
        Some(at)
    }

    /// The tokens of the name at `at`, and where the next begins.
    fn name(&self, at: usize) -> Option<(&'a [u8], usize)> {
        let first = usize::from(*self.image.get(at)?);
        let (length, start) = match first & 0x80 {
            0 => (first, at + 1),
            _ => (
                first & 0x7f | usize::from(*self.image.get(at + 1)?) << 7,
                at + 2,
            ),
        };
        let end = start + length;
        Some((self.image.get(start..end)?, end)).filter(|_| length > 0)
    }

    fn functions(&self) -> Option<Vec<(u64, String)>> {
        let (names, count) = self.names()?;
        let addresses = self.addresses(names, count)?;
        let mut functions = Vec::new();
        let mut at = names;
        for address in addresses {
            let (tokens, next) = self.name(at)?;
            at = next;
            let name: Vec<u8> = tokens
                .iter()
                .flat_map(|&token| self.tokens[usize::from(token)])
                .copied()
                .collect();
            // The first letter is the kind, as nm prints it.
            if let Some((b't' | b'T' | b'w' | b'W', name)) = name.split_first()
                && address >= KERNEL
            {
                functions.push((address, String::from_utf8_lossy(name).into_owned()));
            }
        }
        Some(functions)
    }

    /// The addresses in the order of the names.
    fn addresses(&self, names: usize, count: usize) -> Option<Vec<u64>> {
        let size = (count * 4).next_multiple_of(8);
        let behind = self.end.next_multiple_of(8);
        let before = names.checked_sub(16)?;
        let (offsets, base) = [
            (behind, behind + size),
            (before.saturating_sub(size), before),
        ]
        .into_iter()
        .find(|&(_, base)| long(self.image, base).is_some_and(|base| base >= KERNEL))?;
        let base = long(self.image, base)?;
        let offsets: Vec<i32> = (0..count)
            .map(|number| Some(word(self.image, offsets + number * 4)? as i32))
            .collect::<Option<_>>()?;
        // With absolute addresses for per-CPU symbols, the others are negative.
        let signed = offsets.iter().any(|&offset| offset < 0);
        let address = |offset: i32| match (signed, offset < 0) {
            (true, true) => base.wrapping_add((-1 - i64::from(offset)) as u64),
            (true, false) => offset as u64,
            (false, _) => base.wrapping_add(u64::from(offset as u32)),
        };
        Some(offsets.into_iter().map(address).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_8100_0000;

    /// An image with a table of 300 functions `f0`, `f1`…, 16 bytes apart, preceded by rubbish.
    fn image(late_addresses: bool, signed: bool, sequences: bool) -> Vec<u8> {
        let symbols: Vec<String> = (0..300).map(|number| format!("Tf{number}")).collect();
        let offsets: Vec<u8> = (0..300)
            .flat_map(|number: i32| {
                if signed {
                    -1 - number * 16
                } else {
                    number * 16
                }
                .to_le_bytes()
            })
            .collect();
        let mut image = b"rubbish \x000\x001\x002\x00 more".to_vec();
        let align = |image: &mut Vec<u8>| image.resize(image.len().next_multiple_of(8), 0);
        align(&mut image);
        let addresses = |image: &mut Vec<u8>| {
            image.extend(&offsets);
            align(image);
            image.extend(BASE.to_le_bytes());
        };
        if !late_addresses {
            addresses(&mut image);
        }
        image.extend(300u64.to_le_bytes());
        let names = image.len();
        let mut markers = Vec::new();
        for (number, name) in symbols.iter().enumerate() {
            if number % 256 == 0 {
                markers.extend(((image.len() - names) as u32).to_le_bytes());
            }
            image.push(name.len() as u8);
            image.extend(name.as_bytes());
        }
        align(&mut image);
        image.extend(markers);
        align(&mut image);
        if sequences {
            image.extend([7; 900]);
            align(&mut image);
        }
        let (start, mut index) = (image.len(), Vec::new());
        for token in 0..=255u8 {
            index.extend(((image.len() - start) as u16).to_le_bytes());
            let own = if token.is_ascii_alphanumeric() {
                token
            } else {
                b'_'
            };
            image.extend([own, 0]);
        }
        align(&mut image);
        image.extend(index);
        if late_addresses {
            addresses(&mut image);
        }
        image
    }

    #[test]
    fn every_layout_is_read() {
        for (late, signed) in [(false, false), (false, true), (true, false), (true, true)] {
            for sequences in [false, true] {
                let functions = functions(&image(late, signed, sequences));
                assert_eq!(functions.len(), 300, "{late} {signed} {sequences}");
                assert_eq!(functions[0], (BASE, "f0".to_owned()));
                assert_eq!(functions[299], (BASE + 299 * 16, "f299".to_owned()));
            }
        }
    }

    #[test]
    fn damage_never_panics() {
        let whole = image(true, true, false);
        for end in (0..whole.len()).step_by(7) {
            functions(&whole[..end]);
        }
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            functions(&damaged);
        }
        assert!(functions(b"").is_empty());
    }
}
