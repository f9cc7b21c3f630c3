//! Images of disks: opened, read, written, flushed, and opened again.
//!
//! The first byte chooses the format, the second where on the disk, the rest is the file.
#![no_main]

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pv_media::{Blocking, Disk, Format, MediumSpec, NbdUri, Opener};

/// Larger files say nothing that smaller ones don't.
const LARGEST: usize = 1 << 20;
const NAME: &str = "image";

/// The image and what it may refer to: files without names, in memory.
struct Files {
    image: File,
    other: File,
}

impl Files {
    fn new() -> io::Result<Self> {
        let other = file(1)?;
        other.write_all_at(&[0x77; 8192], 0)?;
        Ok(Self {
            image: file(0)?,
            other,
        })
    }
}

fn file(number: u32) -> io::Result<File> {
    let path = format!("/dev/shm/xenner-fuzz-{}-{number}", std::process::id());
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

impl Opener for Files {
    fn open(&self, path: &Path, write: bool) -> io::Result<File> {
        match path == Path::new(NAME) {
            true => self.image.try_clone(),
            // What an image refers to is never written.
            false if write => Err(io::ErrorKind::PermissionDenied.into()),
            false => self.other.try_clone(),
        }
    }

    fn open_direct(&self, _: &Path, _: bool) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, _: &NbdUri) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

fuzz_target!(|data: &[u8]| {
    static FILES: OnceLock<Files> = OnceLock::new();
    let [format, place, image @ ..] = data else {
        return;
    };
    if image.len() > LARGEST {
        return;
    }
    let files = FILES.get_or_init(|| Files::new().expect("files in memory"));
    files.image.set_len(0).expect("an empty file");
    files.image.write_all_at(image, 0).expect("the image");
    let (format, readonly) = match format % 8 {
        0 | 1 => (Format::Qcow2, false),
        2 => (Format::Qcow2, true),
        3 => (Format::Vhd, false),
        4 => (Format::Vhd, true),
        5 | 6 => (Format::Vmdk, true),
        _ => (Format::Probe, true),
    };
    let spec = MediumSpec {
        readonly,
        ..MediumSpec::new(format, NAME)
    };
    if let Some(written) = work(&spec, files, *place) {
        // What a sound image was told to keep it keeps.
        let disk = Disk::open(&spec, files).expect("it opens again");
        let mut io = Blocking::new(&disk).expect("a queue");
        assert!(io.read(written, 4096).expect("it is read") == [0xa5; 4096]);
    }
});

/// Where something was written and flushed.
fn work(spec: &MediumSpec, files: &Files, place: u8) -> Option<u64> {
    let disk = match Disk::open(spec, files) {
        Ok(disk) => disk,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let info = disk.info();
    assert!(info.sector_size == 512 || info.sector_size == 4096);
    let size = info.sectors.checked_mul(512).expect("bytes fit 64 bits");
    let mut io = Blocking::new(&disk).expect("a queue");
    // Anywhere on the disk, as far as a byte tells.
    let at = (size / 256 * u64::from(place)) / 4096 * 4096;
    assert!(io.read(size, 512).is_err(), "beyond the end");
    if at + 65536 <= size {
        let _ = io.read(at, 65536);
    }
    if info.readonly {
        assert!(io.write(0, &[0; 512]).is_err());
        return None;
    }
    if at + 4096 > size || io.write(at, &[0xa5; 4096]).is_err() || io.flush().is_err() {
        return None;
    }
    assert!(io.read(at, 4096).expect("just written") == [0xa5; 4096]);
    let _ = io.discard(at.saturating_sub(65536), 65536.min(at));
    let _ = io.flush();
    Some(at)
}
