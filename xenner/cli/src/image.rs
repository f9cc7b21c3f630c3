//! Reading kernels, RAM disks and symbols: files somebody else made.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use crate::machine::StartError;
use crate::spec::{DomainSpec, Kernel};

/// The largest kernel image accepted.
pub const MAX_KERNEL: u64 = 1 << 30;
/// The largest initial RAM disk accepted: what fits the largest domain a kernel boots with one.
pub const MAX_RAMDISK: u64 = 64 << 30;

/// Reads the regular file `path`, which must not be longer than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path, limit)?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length.min(limit) as usize + 1)?;
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(too_long(limit)),
        false => Ok(bytes),
    }
}

/// Opens the regular file `path`. Opening a device or a pipe could wait for ever, so those are
/// refused before.
pub fn open(path: &Path, limit: u64) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    if metadata.len() > limit {
        return Err(too_long(limit));
    }
    File::open(path)
}

/// Makes the folder `path` if need be. True if only this user can write there.
pub fn private_dir(path: &Path) -> bool {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let ours = |metadata: Metadata| {
        metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    };
    made.is_ok() && std::fs::symlink_metadata(path).is_ok_and(ours)
}

fn too_long(limit: u64) -> io::Error {
    let message = format!("it is longer than {} MiB", limit >> 20);
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Checks, before anything is built, that the files `spec` names can be opened and could fit.
pub fn check(spec: &DomainSpec) -> Result<(), StartError> {
    if let Kernel::File(path) = &spec.kernel {
        let file = open(path, MAX_KERNEL).map_err(|error| unusable("kernel", path, &error))?;
        require_contents("kernel", path, &file)?;
    }
    if let Some(path) = &spec.ramdisk {
        let file = open(path, MAX_RAMDISK).map_err(|error| unusable("initrd", path, &error))?;
        let length = require_contents("initrd", path, &file)?;
        let memory = spec.memory.as_kib() * 1024;
        if length >= memory {
            return Err(StartError::Image(format!(
                "The initrd {path:?} has {} MiB, the domain only {}; raise the memory",
                length.div_ceil(1 << 20),
                spec.memory
            )));
        }
    }
    Ok(())
}

/// Says that the `what` at `path` can't be read.
pub fn unusable(what: &str, path: &Path, error: &io::Error) -> StartError {
    StartError::Image(format!(
        "Cannot read the {what} {path:?}: {error}; check the path and its permissions"
    ))
}

fn require_contents(what: &str, path: &Path, file: &File) -> Result<u64, StartError> {
    match file.metadata() {
        Ok(metadata) if metadata.len() == 0 => {
            Err(StartError::Image(format!("The {what} {path:?} is empty")))
        }
        Ok(metadata) => Ok(metadata.len()),
        Err(error) => Err(unusable(what, path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MemorySize;

    #[test]
    fn only_regular_files_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("longer"));
        assert!(
            read(Path::new("/dev/zero"), 4)
                .unwrap_err()
                .to_string()
                .contains("regular")
        );
        assert!(read(dir.path(), 4).is_err());
    }

    #[test]
    fn the_spec_is_checked_before_anything_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, initrd) = (dir.path().join("empty"), dir.path().join("initrd"));
        std::fs::write(&empty, b"").unwrap();
        File::create(&initrd).unwrap().set_len(33 << 20).unwrap();

        let mut spec = DomainSpec::new("a");
        check(&spec).unwrap();
        spec.kernel = Kernel::File("/nonexistent/vmlinuz".into());
        assert!(
            check(&spec)
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/vmlinuz")
        );
        spec.kernel = Kernel::File(empty);
        assert!(check(&spec).unwrap_err().to_string().contains("is empty"));
        spec.kernel = Kernel::Embedded;
        spec.ramdisk = Some(initrd);
        check(&spec).unwrap();
        spec.memory = MemorySize::mib(32);
        assert!(check(&spec).unwrap_err().to_string().contains("33 MiB"));
    }
}
