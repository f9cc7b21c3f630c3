//! Numbers in headers, which are read without being trusted.

/// A big-endian number of N bytes at `at`; zero beyond the end.
pub(crate) fn be(bytes: &[u8], at: usize, n: usize) -> u64 {
    let field = bytes.get(at..at + n).unwrap_or(&[]);
    field
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The same, little-endian.
pub(crate) fn le(bytes: &[u8], at: usize, n: usize) -> u64 {
    let field = bytes.get(at..at + n).unwrap_or(&[]);
    field
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Big-endian 64-bit numbers.
pub(crate) fn be64s(bytes: &[u8]) -> Vec<u64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_be_bytes(*word))
        .collect()
}

/// And back.
pub(crate) fn to_be64s(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}
