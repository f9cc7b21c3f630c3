//! What is being made or taken apart, so that a command that is killed leaves nothing behind for good.
//!
//! Each such work has a file named by the domain's UUID, locked by whoever does it, and removed when it is
//! done. A file that nobody has locked belongs to a command that died: the next one ends the domain.
//! The UUID is in the file before the hypervisor hears of it, and Xen keeps it with the domain, so there
//! is no moment at which a domain exists that cannot be found this way.
//!
//! Files come, go and are looked through under one lock of the directory: who looks sees none that is not
//! locked yet, nor one that is gone or another's by the time it is locked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;
use xen_sys::DomId;

/// Work on one domain.
#[derive(Debug)]
pub(crate) struct Entry {
    file: Flock<File>,
    path: PathBuf,
    /// Whose.
    pub uuid: Uuid,
    /// Its number, once it has one.
    pub domid: Option<DomId>,
}

impl Entry {
    /// Notes that a domain with this UUID is about to be made or taken apart.
    pub(crate) fn begin(dir: &Path, uuid: Uuid, domid: Option<DomId>) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let _all = lock_all(dir)?;
        let path = dir.join(uuid.to_string());
        let mut entry =
            Self::open(path, uuid)?.ok_or_else(|| io::Error::from(io::ErrorKind::ResourceBusy))?;
        if let Some(domid) = domid {
            entry.set_domid(domid)?;
        }
        Ok(entry)
    }

    /// Opens and locks a file; `None` if somebody else has it.
    fn open(path: PathBuf, uuid: Uuid) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(None);
        };
        let mut text = String::new();
        (&*file).read_to_string(&mut text)?;
        let domid = text.trim().parse().ok().map(DomId);
        Ok(Some(Self {
            file,
            path,
            uuid,
            domid,
        }))
    }

    /// Notes the number.
    pub(crate) fn set_domid(&mut self, domid: DomId) -> io::Result<()> {
        self.domid = Some(domid);
        let mut file = &*self.file;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(domid.0.to_string().as_bytes())
    }

    /// The work is done.
    pub(crate) fn done(self) -> io::Result<()> {
        let _all = self.path.parent().map(lock_all).transpose()?;
        fs::remove_file(&self.path)
    }
}

/// Whether somebody makes a domain with this UUID, or takes it apart.
pub(crate) fn is_at_work(dir: &Path, uuid: Uuid) -> bool {
    dir.join(uuid.to_string()).exists()
}

/// Held while files come, go or are looked through, and no longer.
fn lock_all(dir: &Path) -> io::Result<Flock<File>> {
    let file = File::create(dir.join("journal.lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Work that nobody does any more.
pub(crate) fn abandoned(dir: &Path) -> io::Result<Vec<Entry>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let _all = lock_all(dir)?;
    let listed = fs::read_dir(dir)?;
    let mut found = Vec::new();
    for file in listed {
        let file = file?;
        let uuid = file
            .file_name()
            .to_str()
            .and_then(|name| Uuid::try_parse(name).ok());
        let Some(uuid) = uuid else { continue };
        found.extend(Entry::open(file.path(), uuid)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_not_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let uuid = Uuid::new_v4();
        let mut entry = Entry::begin(dir.path(), uuid, None).unwrap();
        entry.set_domid(DomId(12)).unwrap();
        assert!(Entry::begin(dir.path(), uuid, None).is_err());
        assert!(abandoned(dir.path()).unwrap().is_empty());
        // As if the process had died.
        drop(entry);
        let found = abandoned(dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].uuid, found[0].domid), (uuid, Some(DomId(12))));
        for entry in found {
            entry.done().unwrap();
        }
        assert!(abandoned(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn without_a_directory_nothing_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        assert!(abandoned(&dir.path().join("none")).unwrap().is_empty());
    }
}
