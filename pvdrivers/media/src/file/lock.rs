//! Locks against a second writer, the ones QEMU takes, so that each sees the other.
//!
//! Byte 100 + n is locked, shared, by who uses permission n, byte 200 + n by who cannot bear
//! anybody else using it. Whoever comes takes his locks and then tests whether his uses are borne
//! and his demands are met.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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

/// Byte that is locked as long as there can be transfers. QEMU uses none beyond the other ones.
const TRANSFERS: i64 = 300;
/// For the transfers of a process that has ended. The host's kernel gives up on a disk by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// Locks a file for its transfers, whole; waits for those of a process that has ended.
///
/// What a killed process had given to io_uring goes on without it and can change the file after its
/// end: data that another process writes meanwhile would be overwritten with old data. The ring
/// keeps its files until all is done, so it must be one of those that has this lock.
pub(super) fn await_transfers(file: &File) -> io::Result<()> {
    let lock = |file: &File, wait: bool| {
        let range = range(TRANSFERS, libc::F_WRLCK);
        let how = match wait {
            true => FcntlArg::F_OFD_SETLKW(&range),
            false => FcntlArg::F_OFD_SETLK(&range),
        };
        match fcntl(file, how) {
            Err(Errno::EINVAL | Errno::ENOLCK | Errno::EOPNOTSUPP) => Ok(()),
            other => other.map(drop),
        }
    };
    match lock(file, false) {
        Err(Errno::EAGAIN | Errno::EACCES) => {}
        other => return Ok(other?),
    }
    tracing::info!("Waiting for the transfers of a process that has ended");
    // No lock can be waited for with a limit. If it comes later, it goes with the file.
    let waiting = file.try_clone()?;
    let (tell, told) = mpsc::channel();
    let wait = move || {
        // Nobody listens any more: it came too late.
        let _ = tell.send(lock(&waiting, true));
    };
    thread::Builder::new().name("disk".into()).spawn(wait)?;
    match told.recv_timeout(PATIENCE) {
        Ok(locked) => Ok(locked?),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "transfers of a process that has ended are still under way",
        )),
    }
}

/// Ends the locks now, even if another descriptor shares the description.
pub(super) fn release(file: &File) {
    let mut all = range(USED, libc::F_UNLCK);
    all.l_len = TRANSFERS + 1 - USED;
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
