//! The machine's time zone, for `localtime=1`: `/etc/localtime` in the form of `tzfile(5)`.

/// Larger than any zone's file.
const MOST: u64 = 1 << 20;

/// Seconds that local time is ahead of UTC at `time`, in seconds since 1970. A machine without a time
/// zone has UTC.
pub(crate) fn offset_at(time: i64) -> i64 {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open("/etc/localtime");
    let read = read.and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    match read {
        Ok(_) => parse(&bytes, time).unwrap_or(0),
        Err(_) => 0,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*field)).ok()
}

/// Of the second part, with 64-bit times: transitions, the type behind each, and the types.
fn parse(bytes: &[u8], time: i64) -> Option<i64> {
    const HEAD: usize = 44;
    if !bytes.starts_with(b"TZif") {
        return None;
    }
    let counts = |at: usize| Some([20, 24, 28, 32, 36, 40].map(|field| number(bytes, at + field)));
    let [
        Some(isut),
        Some(isstd),
        Some(leap),
        Some(times),
        Some(types),
        Some(chars),
    ] = counts(0)?
    else {
        return None;
    };
    // The first part has 32-bit times.
    let second = HEAD + times * 5 + types * 6 + chars + leap * 8 + isstd + isut;
    let [_, _, _, Some(times), Some(types), _] = counts(second)? else {
        return None;
    };
    let start = second + HEAD;
    let moments = bytes.get(start..)?.get(..times.checked_mul(8)?)?;
    let kinds = bytes.get(start + moments.len()..)?;
    let (kinds, records) = (kinds.get(..times)?, kinds.get(times..)?);
    let begun = moments
        .chunks_exact(8)
        .filter_map(|moment| moment.first_chunk().map(|m| i64::from_be_bytes(*m)))
        .take_while(|moment| *moment <= time)
        .count();
    let kind = match begun {
        0 => 0,
        begun => usize::from(*kinds.get(begun - 1)?),
    };
    let record = records
        .get(kind.checked_mul(6)?..)?
        .get(..6)?
        .first_chunk()?;
    (kind < types).then_some(i64::from(i32::from_be_bytes(*record)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two transitions: +1 h from time 1000 on, +2 h from 2000 on.
    fn zone() -> Vec<u8> {
        let mut bytes = Vec::new();
        for times in [0u32, 2] {
            bytes.extend_from_slice(b"TZif2");
            bytes.extend_from_slice(&[0; 15]);
            let types = if times == 0 { 0u32 } else { 2 };
            for count in [0, 0, 0, times, types, 0] {
                bytes.extend_from_slice(&count.to_be_bytes());
            }
        }
        for moment in [1000i64, 2000] {
            bytes.extend_from_slice(&moment.to_be_bytes());
        }
        bytes.extend_from_slice(&[0, 1]);
        for offset in [3600i32, 7200] {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
        }
        bytes
    }

    #[test]
    fn the_last_transition_counts() {
        let zone = zone();
        assert_eq!(parse(&zone, 1500), Some(3600));
        assert_eq!(parse(&zone, 2000), Some(7200));
        assert_eq!(parse(&zone, 1), Some(3600), "before the first");
    }

    #[test]
    fn nonsense_is_no_zone() {
        let zone = zone();
        for len in 0..zone.len() {
            assert_eq!(parse(&zone[..len], 2500), None, "{len}");
        }
        let mut large = zone;
        large[44 + 32..44 + 36].fill(0xff);
        assert_eq!(parse(&large, 1500), None);
    }
}
