//! Locks against a second writer, the ones QEMU takes, so that each sees the other.
//!
//! Byte 100 + n is locked, shared, by who uses permission n, byte 200 + n by who cannot bear
//! anybody else using it. Whoever comes takes his locks and then tests whether his uses are borne
//! and his demands are met.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

const USED: i64 = 100;
const REFUSED: i64 = 200;
/// To see consistent data.
const READ: i64 = 0;
/// To change data.
const WRITE: i64 = 1;
/// To change the size.
const RESIZE: i64 = 3;

/// Takes the locks, which end with the file; false when somebody else's exclude this use. File
/// systems without locks do without.
pub(super) fn take(file: &File, write: bool) -> io::Result<bool> {
    let used: &[i64] = if write {
        &[READ, WRITE, RESIZE]
    } else {
        &[READ]
    };
    let refused = [WRITE, RESIZE];
    for byte in used
        .iter()
        .map(|p| USED + p)
        .chain(refused.map(|p| REFUSED + p))
    {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(byte, libc::F_RDLCK))) {
            Ok(_) => {}
            Err(Errno::EINVAL | Errno::ENOLCK | Errno::EOPNOTSUPP) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    for byte in used
        .iter()
        .map(|p| REFUSED + p)
        .chain(refused.map(|p| USED + p))
    {
        let mut found = range(byte, libc::F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) != libc::F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends the locks now, even if another descriptor shares the description.
pub(super) fn release(file: &File) {
    let mut all = range(USED, libc::F_UNLCK);
    all.l_len = 2 * (REFUSED - USED);
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&all));
}

fn range(byte: i64, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}
