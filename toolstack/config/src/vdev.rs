//! Virtual disk names: what a guest calls a disk, and the number of it in xenstore.
//!
//! Fact: `xen-vbd-interface(7)`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{SpecError, quote};

/// The largest disk index the extended encoding has room for.
const MOST_DISKS: u32 = 1 << 20;

/// A virtual device name (`xvda`, `hdc`, `sda2`, `d0p1`, `51712`) with the number it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vdev {
    name: String,
    number: u32,
}

impl Vdev {
    /// The name as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number: last part of `/local/domain/D/device/vbd/NUMBER` in xenstore.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<Vdev> for String {
    fn from(vdev: Vdev) -> String {
        vdev.name
    }
}

impl TryFrom<String> for Vdev {
    type Error = SpecError;

    fn try_from(name: String) -> Result<Self, SpecError> {
        name.parse()
    }
}

impl FromStr for Vdev {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        match number(name) {
            Some(number) => Ok(Vdev {
                name: name.into(),
                number,
            }),
            None => Err(SpecError::new(
                0..name.len(),
                format!("{} is no virtual disk name.", quote(name)),
            )
            .help("Use xvda, xvdb, … (or hda, sda, d0p1, or a number); partitions as in xvda1.")),
        }
    }
}

fn number(name: &str) -> Option<u32> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return crate::document::integer(name).and_then(|n| u32::try_from(n).ok());
    }
    if let Some(rest) = name
        .strip_prefix('d')
        .filter(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    {
        let (disk, partition) = rest.split_once('p').unwrap_or((rest, "0"));
        return encode_xvd(decimal(disk)?, decimal(partition)?);
    }
    for (prefix, encode) in ENCODINGS {
        if let Some(rest) = name.strip_prefix(prefix) {
            let letters = rest
                .find(|c: char| !c.is_ascii_lowercase())
                .unwrap_or(rest.len());
            let (letters, partition) = (rest.get(..letters)?, rest.get(letters..)?);
            let partition = if partition.is_empty() {
                0
            } else {
                decimal(partition)?
            };
            return encode(disk_index(letters)?, partition);
        }
    }
    None
}

type Encode = fn(disk: u32, partition: u32) -> Option<u32>;

const ENCODINGS: [(&str, Encode); 3] = [("xvd", encode_xvd), ("hd", encode_hd), ("sd", encode_sd)];

fn encode_xvd(disk: u32, partition: u32) -> Option<u32> {
    match (disk, partition) {
        (0..16, 0..16) => Some(202 << 8 | disk << 4 | partition),
        (0..MOST_DISKS, 0..256) => Some(1 << 28 | disk << 8 | partition),
        _ => None,
    }
}

fn encode_hd(disk: u32, partition: u32) -> Option<u32> {
    match (disk, partition) {
        (0..2, 0..64) => Some(3 << 8 | disk << 6 | partition),
        (2..4, 0..64) => Some(22 << 8 | (disk - 2) << 6 | partition),
        _ => None,
    }
}

fn encode_sd(disk: u32, partition: u32) -> Option<u32> {
    (disk < 16 && partition < 16).then_some(8 << 8 | disk << 4 | partition)
}

/// Digits only: `parse` would take a sign.
fn decimal(text: &str) -> Option<u32> {
    text.chars()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// `a` is 0, `z` 25, `aa` 26.
fn disk_index(letters: &str) -> Option<u32> {
    let mut count = 0u32;
    for letter in letters.bytes() {
        count = count
            .checked_mul(26)?
            .checked_add(u32::from(letter - b'a') + 1)?;
    }
    count.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_xen_vbd_interface() {
        let good = [
            ("xvda", 51712),
            ("xvda1", 51713),
            ("xvdb", 51728),
            ("xvdp15", 51967),
            ("xvdq", 1 << 28 | 16 << 8),
            ("xvda16", 1 << 28 | 16),
            ("xvdaa", 1 << 28 | 26 << 8),
            ("d0", 51712),
            ("d0p1", 51713),
            ("d16p0", 1 << 28 | 16 << 8),
            ("hda", 768),
            ("hdb1", 833),
            ("hdc", 5632),
            ("sda", 2048),
            ("sdb3", 2067),
            ("51712", 51712),
            ("0xca00", 51712),
        ];
        for (name, number) in good {
            assert_eq!(
                name.parse::<Vdev>().map(|v| v.number()),
                Ok(number),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_disk() {
        let long = format!("xvd{}", "z".repeat(100));
        for name in [
            "",
            "xvd",
            "xvda-1",
            "xvdA",
            "hde",
            "sdq",
            "sda16",
            "foo",
            "d",
            "dx",
            "d0p",
            "d0p+1",
            "/dev/xvda",
            "99999999999",
            &long,
        ] {
            assert!(name.parse::<Vdev>().is_err(), "{name}");
        }
    }
}
