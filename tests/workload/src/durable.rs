//! What power cuts leave of files that were said to be on the disk.
//!
//! `durable write DIR SEED` puts file after file there, each by a new file, fsync, a rename onto one
//! of [`SLOTS`] names and fsync of the directory, and says so after each: `durable: N`. It goes on
//! until the machine dies. `durable check DIR SEED N` then finds each name to hold the last file put
//! there up to N, or the one that was on its way, whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::{Context, Failure, ensure};

/// How many names there are.
const SLOTS: u64 = 24;
/// The largest file, in words of eight bytes.
const MOST_WORDS: u64 = 32 << 10;

/// Does what the arguments after `durable` say.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["write", dir, seed] => number(seed).and_then(|seed| write(Path::new(dir), seed)),
        ["check", dir, seed, last] => number(seed).and_then(|seed| {
            let last = number(last)?;
            check(Path::new(dir), seed, last)
        }),
        _ => Err("usage: durable write DIR SEED | check DIR SEED LAST".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("durable: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().context(text)
}

/// File `number`: its number, then what only the seed and that number tell.
fn content(seed: u64, number: u64) -> Vec<u8> {
    // Marsaglia's xorshift, never from zero.
    let mut state = (seed << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..8 {
        next();
    }
    let words = 1 + next() % MOST_WORDS;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((1..words).flat_map(|_| next().to_le_bytes()));
    bytes
}

fn write(dir: &Path, seed: u64) -> Result<(), Failure> {
    fs::create_dir_all(dir).context("create the directory")?;
    let parent = dir.parent().unwrap_or(dir);
    let sync = |path: &Path| {
        let opened = File::open(path);
        opened
            .and_then(|f| f.sync_all())
            .context("fsync of a directory")
    };
    sync(parent)?;
    let fresh = dir.join("new");
    for number in 1.. {
        let mut file = File::create(&fresh).context("create")?;
        file.write_all(&content(seed, number)).context("write")?;
        file.sync_all().context("fsync")?;
        fs::rename(&fresh, dir.join(slot(number))).context("rename")?;
        sync(dir)?;
        println!("durable: {number}");
    }
    Ok(())
}

fn slot(number: u64) -> String {
    (number % SLOTS).to_string()
}

fn check(dir: &Path, seed: u64, last: u64) -> Result<(), Failure> {
    ensure!(last > 0, "no file was said to be there");
    // The next one may have come as far as its name.
    for number in (last + 1).saturating_sub(SLOTS).max(1)..=last {
        let name = slot(number);
        let got = fs::read(dir.join(&name)).context(&format!("file {number}"))?;
        let head = got.get(..8).and_then(|head| head.try_into().ok());
        let found = head.map_or(0, u64::from_le_bytes);
        let on_its_way = found == last + 1 && slot(found) == name;
        ensure!(
            found == number || on_its_way,
            "file {number} of {last} is file {found}"
        );
        ensure!(got == content(seed, found), "file {found} is damaged");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, seed: u64, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            fs::write(dir.join(slot(number)), content(seed, number)).expect("a file");
        }
    }

    #[test]
    fn what_is_lost_or_damaged_is_noticed() {
        let dir = std::env::temp_dir().join(format!("durable-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        put(&dir, 7, 1..=40);
        assert_eq!(check(&dir, 7, 40), Ok(()));
        // One more was on its way.
        assert_eq!(check(&dir, 7, 39), Ok(()));
        assert!(check(&dir, 7, 41).is_err(), "lost");
        assert!(check(&dir, 8, 40).is_err(), "of another run");
        let path = dir.join(slot(38));
        let mut bytes = content(7, 38);
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&path, &bytes).expect("a file");
        assert!(check(&dir, 7, 40).is_err(), "damaged");
        fs::remove_file(&path).expect("removed");
        assert!(check(&dir, 7, 40).is_err(), "missing");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
