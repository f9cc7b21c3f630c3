//! Whether a block device has a cache that loses its content with the power.
//!
//! Linux says so in `queue/write_cache` of the device's directory in sysfs
//! (`Documentation/ABI/stable/sysfs-block`): `write back`, or `write through` for a device whose writes
//! are durable when they are done. A partition's queue is its disk's.

use std::path::PathBuf;

use nix::sys::stat::{major, minor};

use crate::Opener;

/// Whether the device with this number has no such cache. What cannot be read is taken for one.
pub(super) fn is_absent(device: u64, opener: &dyn Opener) -> bool {
    places(device).into_iter().any(|path| {
        let mut text = [0; 16];
        let read = opener
            .open(&path, false)
            .and_then(|file| std::os::unix::fs::FileExt::read_at(&file, &mut text, 0));
        read.is_ok_and(|n| says_absent(&text[..n]))
    })
}

/// Where it stands for a disk, and for a partition.
fn places(device: u64) -> [PathBuf; 2] {
    let (major, minor) = (major(device), minor(device));
    ["", "../"].map(|up| format!("/sys/dev/block/{major}:{minor}/{up}queue/write_cache").into())
}

fn says_absent(text: &[u8]) -> bool {
    text.trim_ascii_end() == b"write through"
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use nix::sys::stat::makedev;

    use super::*;
    use crate::NbdUri;

    /// A sysfs with one attribute.
    struct Attribute(&'static str, &'static str);

    impl Opener for Attribute {
        fn open(&self, path: &Path, _write: bool) -> io::Result<File> {
            if path != Path::new(self.0) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let mut file = tempfile::tempfile()?;
            file.write_all(self.1.as_bytes())?;
            Ok(file)
        }

        fn open_direct(&self, _path: &Path, _write: bool) -> io::Result<File> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn connect(&self, _uri: &NbdUri) -> io::Result<OwnedFd> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn only_a_device_that_says_so_has_no_cache() {
        const DISK: &str = "/sys/dev/block/259:3/queue/write_cache";
        const PARTITION: &str = "/sys/dev/block/259:3/../queue/write_cache";
        for (path, text, absent) in [
            (DISK, "write through\n", true),
            (PARTITION, "write through\n", true),
            (DISK, "write back\n", false),
            (PARTITION, "write back\n", false),
            (DISK, "write through, or not\n", false),
            (DISK, "", false),
            (
                "/sys/dev/block/259:4/queue/write_cache",
                "write through\n",
                false,
            ),
        ] {
            let said = is_absent(makedev(259, 3), &Attribute(path, text));
            assert_eq!(said, absent, "{path}: {text:?}");
        }
    }
}
