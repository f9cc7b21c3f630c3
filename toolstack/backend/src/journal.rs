//! Where a worker's journals are: files in a `tmpfs`, which outlive it when it is killed.
//!
//! One for each queue. Whoever comes next finds it by its name; an orderly end removes it.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use pv_backend::DeviceId;
use pv_block::back::{JournalMemory, OpenJournal};
use xen_sys::DomId;
use xt_host_xen::mapping::Mapping;

/// A mapped journal; its file goes when it is dropped.
struct Journal {
    memory: Mapping,
    path: PathBuf,
}

impl Deref for Journal {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.memory
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // At worst it stays, and speaks of a ring that is no more.
        let _ = fs::remove_file(&self.path);
    }
}

/// The journals of a disk.
pub fn of(run_dir: &Path, id: &DeviceId) -> OpenJournal {
    let dir = folder(run_dir);
    let name = format!("{}-{}-{}", id.kind, id.domid, id.devid);
    Box::new(move |queue, bytes| open(&dir, &format!("{name}-{queue}"), bytes))
}

/// Removes what a killed worker has left of a domain that is no more.
pub fn forget(run_dir: &Path, kind: &str, domid: DomId) {
    let prefix = format!("{kind}-{domid}-");
    let entries = fs::read_dir(folder(run_dir)).into_iter().flatten();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("journal")
}

fn open(dir: &Path, name: &str, bytes: usize) -> io::Result<JournalMemory> {
    fs::create_dir_all(dir)?;
    let path = dir.join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    // All of it is there, or a store could end the process (SIGBUS).
    posix_fallocate(&file, 0, bytes.try_into().map_err(io::Error::other)?)?;
    let len = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let memory = Mapping::new(&file, 0, len, true)?;
    Ok(Box::new(Journal { memory, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_found_again_unless_it_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let id = DeviceId {
            kind: "qdisk".into(),
            domid: DomId(7),
            devid: 51712,
        };
        let mut journals = of(dir.path(), &id);
        let killed = journals(0, 8256).unwrap();
        killed.store_u32(8252, 5);
        std::mem::forget(killed);
        let found = journals(0, 8256).unwrap();
        assert_eq!((found.len(), found.load_u32(8252)), (8256, 5));
        drop(found);
        let new = journals(0, 8256).unwrap();
        assert_eq!(new.load_u32(8252), 0);
        std::mem::forget(new);
        forget(dir.path(), "qdisk", DomId(70));
        assert_eq!(fs::read_dir(folder(dir.path())).unwrap().count(), 1);
        forget(dir.path(), "qdisk", DomId(7));
        assert_eq!(fs::read_dir(folder(dir.path())).unwrap().count(), 0);
    }
}
