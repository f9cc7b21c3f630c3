//! The lock that toolstacks hold while they create a domain on Xen, so that two do not take the same
//! memory or name.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use xt_host::{HostError, Result};

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "the lock is the open file's")] File);

/// Takes the lock at `path`, saying so if somebody else has it.
///
/// # Errors
/// There can be no such file, or a signal came.
pub(crate) fn take(path: &Path) -> Result<Held> {
    let failed = |error: &dyn std::fmt::Display| {
        HostError::Unusable(format!(
            "Cannot lock {path:?}: {error}; a toolstack runs as root"
        ))
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|error| failed(&error))?;
    // xl's is a POSIX lock of the whole file, which flock(2) would not see.
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&lock)) {
        Ok(_) => return Ok(Held(file)),
        Err(Errno::EACCES | Errno::EAGAIN) => {
            eprintln!("Another xt or xl creates a domain just now ({path:?}); waiting for it");
        }
        Err(errno) => return Err(failed(&errno)),
    }
    match fcntl(&file, FcntlArg::F_SETLKW(&lock)) {
        Ok(_) => Ok(Held(file)),
        Err(errno) => Err(failed(&errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_seen_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xl");
        let held = take(&path).unwrap();
        use std::os::unix::fs::MetadataExt;
        let inode = std::fs::metadata(&path).unwrap().ino();
        let locked = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            let end = format!(":{inode} ");
            locks
                .lines()
                .any(|line| line.contains("POSIX") && line.contains(&end))
        };
        assert!(locked());
        drop(held);
        assert!(!locked());
        assert!(take(Path::new("/nosuch/lock")).is_err());
    }
}
