//! The run directory: one folder per running domain, holding its sockets and a lock.
//!
//! The lock, not the folder, says that a domain lives: the kernel drops it with the process,
//! however that ends, so a crash leaves at most a folder that the next command sweeps away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The lock file.
pub const LOCK: &str = "lock";
/// The control socket.
pub const CONTROL: &str = "control.sock";
/// The socket of the domain's xenstore.
pub const XENSTORE: &str = "xenstore.sock";
/// The link to the console's pty.
pub const CONSOLE: &str = "console";
/// The process id of the domain.
pub const PID: &str = "pid";
/// What the domain was built from.
pub const DOMAIN: &str = "domain.json";
/// The domain's number on this host.
pub const ID: &str = "id";
/// How a domain ended that is kept, in a word; only of those.
pub const ENDED: &str = "ended";
/// The number given last, in the folder of all run directories.
const LAST_ID: &str = ".last-id";
/// Numbers from here on mean something else to Xen (`DOMID_FIRST_RESERVED`).
const FIRST_RESERVED_ID: u16 = 0x7ff0;

/// What can go wrong with run directories.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// There is no place for run directories.
    #[error(
        "XDG_RUNTIME_DIR is not set, so there is no place for the domain's sockets; set it, or name a folder with --run-dir"
    )]
    NoPlace,
    /// The place is open to others.
    #[error(
        "{path:?} belongs to user {owner} with mode {mode:o}, so others could interfere; use --run-dir with a folder of your own, mode 700"
    )]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Someone has the name.
    #[error(
        "A domain named \"{name}\" runs already{pid}; choose another --name, or end it with: xenner destroy {name}"
    )]
    InUse {
        /// The name.
        name: String,
        /// " (process N)", where known.
        pid: String,
    },
    /// The file system refused.
    #[error("Cannot {doing} {path:?}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl RunDirError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
        let path = path.to_owned();
        move |source| RunDirError::Io {
            doing,
            path,
            source,
        }
    }
}

/// The folder that holds the run directories of one user.
#[derive(Clone, Debug)]
pub struct Base(PathBuf);

impl Base {
    /// `chosen`, or `/run/xenner` for root and `$XDG_RUNTIME_DIR/xenner` for anybody else.
    /// Creates nothing.
    pub fn find(chosen: Option<&Path>) -> Result<Base, RunDirError> {
        if let Some(path) = chosen {
            let path = std::path::absolute(path).map_err(RunDirError::io("find", path))?;
            return Ok(Base(path));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(Base("/run/xenner".into()));
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(place) if Path::new(&place).is_absolute() => {
                Ok(Base(Path::new(&place).join("xenner")))
            }
            _ => Err(RunDirError::NoPlace),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where domain `name` has its files.
    pub fn of(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes `name`, sweeping up what a dead domain of that name left.
    pub fn claim(&self, name: &str) -> Result<RunDir, RunDirError> {
        self.create()?;
        let path = self.of(name);
        let mut patience = 10;
        loop {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(RunDirError::io("create", &path)(error));
                }
                _ => {}
            }
            match try_lock(&path).map_err(RunDirError::io("lock", &path))? {
                Lock::Taken(lock) => {
                    empty(&path);
                    let id = self
                        .next_id()
                        .map_err(RunDirError::io("number a domain in", &self.0))?;
                    let dir = RunDir {
                        base: self.clone(),
                        name: name.to_owned(),
                        id,
                        _lock: lock,
                    };
                    dir.write(ID, &format!("{id}\n"))?;
                    return Ok(dir);
                }
                Lock::Busy => {
                    let pid = fs::read_to_string(path.join(PID)).unwrap_or_default();
                    // Without a process id it may be a command that sweeps; that lasts an instant.
                    if pid.is_empty() && patience > 0 {
                        patience -= 1;
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        continue;
                    }
                    let pid = match pid.trim().parse::<u32>() {
                        Ok(pid) => format!(" (process {pid})"),
                        Err(_) => String::new(),
                    };
                    return Err(RunDirError::InUse {
                        name: name.to_owned(),
                        pid,
                    });
                }
                // Its owner removed it meanwhile.
                Lock::Gone => {}
            }
        }
    }

    /// A number that no domain has: the one after that given last, as on Xen.
    fn next_id(&self) -> io::Result<u16> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(self.0.join(LAST_ID))?;
        let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut id: u16 = text.trim().parse().unwrap_or(0);
        let taken = self.ids();
        loop {
            id = if id + 1 < FIRST_RESERVED_ID {
                id + 1
            } else {
                1
            };
            if !taken.contains(&id) {
                break;
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{id}\n").as_bytes())?;
        Ok(id)
    }

    /// The numbers in every run directory, whether its domain runs or not.
    fn ids(&self) -> Vec<u16> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| fs::read_to_string(entry.path().join(ID)).ok());
        texts.filter_map(|text| text.trim().parse().ok()).collect()
    }

    /// Makes the folder, and makes sure that nobody else can write there.
    pub fn create(&self) -> Result<(), RunDirError> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(RunDirError::io("create", &self.0))?;
        let metadata = fs::metadata(&self.0).map_err(RunDirError::io("examine", &self.0))?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
        if owner != nix::unistd::geteuid().as_raw() || mode & 0o022 != 0 {
            return Err(RunDirError::Unsafe {
                path: self.0.clone(),
                owner,
                mode,
            });
        }
        Ok(())
    }

    /// The names of the domains that run, sorted. Removes the folders of dead ones.
    pub fn names(&self) -> Result<Vec<String>, RunDirError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunDirError::io("read", &self.0)(error)),
        };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if crate::spec::check_name(&name).is_err() {
                continue;
            }
            match try_lock(&entry.path()) {
                Ok(Lock::Busy) => names.push(name),
                Ok(Lock::Taken(lock)) => remove(&entry.path(), lock),
                Ok(Lock::Gone) | Err(_) => {}
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The run directory of a domain of this process. Dropping it removes it.
#[derive(Debug)]
pub struct RunDir {
    base: Base,
    name: String,
    id: u16,
    _lock: Flock<File>,
}

impl RunDir {
    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.base.of(&self.name)
    }

    /// The domain's number on this host.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The place of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes one of its files.
    pub fn write(&self, name: &str, contents: &str) -> Result<(), RunDirError> {
        let path = self.file(name);
        fs::write(&path, contents).map_err(RunDirError::io("write", &path))
    }

    /// Gives the domain another name, which must be free.
    pub fn rename(&mut self, name: &str) -> Result<(), RunDirError> {
        let (from, to) = (self.path(), self.base.of(name));
        fs::rename(&from, &to).map_err(RunDirError::io("rename", &from))?;
        self.name = name.to_owned();
        Ok(())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let path = self.path();
        empty(&path);
        remove_locked(&path);
    }
}

enum Lock {
    Taken(Flock<File>),
    Busy,
    Gone,
}

/// Tries to lock the run directory `path`. A lock on a file that was unlinked between opening and
/// locking is worth nothing, hence the comparison.
fn try_lock(path: &Path) -> io::Result<Lock> {
    let path = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Gone),
        Err(error) => return Err(error),
    };
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(Lock::Busy),
        Err((_, errno)) => return Err(errno.into()),
    };
    match fs::metadata(&path) {
        Ok(there) if there.ino() == lock.metadata()?.ino() => Ok(Lock::Taken(lock)),
        _ => Ok(Lock::Gone),
    }
}

/// Removes every file but the lock.
fn empty(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove(path: &Path, _lock: Flock<File>) {
    empty(path);
    remove_locked(path);
}

/// Removes an emptied run directory whose lock is held. Once the lock file is unlinked the name is
/// free, so nothing but the folder itself may be touched after that, and only while it is empty.
fn remove_locked(path: &Path) {
    let _ = fs::remove_file(path.join(LOCK));
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (tempfile::TempDir, Base) {
        let dir = tempfile::tempdir().unwrap();
        let base = Base::find(Some(&dir.path().join("run"))).unwrap();
        (dir, base)
    }

    #[test]
    fn a_name_is_taken_once_and_free_again_after() {
        let (_dir, base) = base();
        let first = base.claim("web").unwrap();
        first.write(PID, "42\n").unwrap();
        let error = base.claim("web").unwrap_err().to_string();
        assert!(
            error.contains("\"web\" runs already (process 42)"),
            "{error}"
        );
        assert_eq!(base.names().unwrap(), ["web"]);
        drop(first);
        assert!(!base.of("web").exists());
        assert!(base.names().unwrap().is_empty());
        base.claim("web").unwrap();
    }

    #[test]
    fn leftovers_of_a_dead_domain_are_swept() {
        let (_dir, base) = base();
        for name in ["dead", "other"] {
            fs::create_dir_all(base.of(name)).unwrap();
            fs::write(base.of(name).join(CONTROL), "").unwrap();
            fs::write(base.of(name).join(LOCK), "").unwrap();
        }
        fs::set_permissions(
            base.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let dir = base.claim("dead").unwrap();
        assert!(!dir.file(CONTROL).exists());
        assert_eq!(base.names().unwrap(), ["dead"]);
        assert!(!base.of("other").exists());
    }

    #[test]
    fn renaming_keeps_the_lock_and_frees_the_old_name() {
        let (_dir, base) = base();
        let mut old = base.claim("web").unwrap();
        old.rename("web-1").unwrap();
        let new = base.claim("web").unwrap();
        assert_eq!(base.names().unwrap(), ["web", "web-1"]);
        assert!(base.claim("web-1").is_err());
        assert_ne!(old.id(), new.id());
        drop(old);
        assert_eq!(base.names().unwrap(), ["web"]);
        drop(new);
    }

    #[test]
    fn numbers_go_on_and_come_back() {
        let (_dir, base) = base();
        assert_eq!(base.claim("a").unwrap().id(), 1);
        let kept = base.claim("b").unwrap();
        assert_eq!(kept.id(), 2);
        fs::write(base.path().join(LAST_ID), "32751\n").unwrap();
        assert_eq!(base.claim("c").unwrap().id(), 1);
        let next = base.claim("d").unwrap();
        assert_eq!(next.id(), 3, "2 is taken");
    }

    #[test]
    fn a_folder_others_may_write_is_refused() {
        let (_dir, base) = base();
        fs::create_dir_all(base.path()).unwrap();
        fs::set_permissions(
            base.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        assert!(matches!(
            base.claim("web"),
            Err(RunDirError::Unsafe { mode: 0o777, .. })
        ));
    }

    #[test]
    fn claiming_and_removing_at_once_never_shares_a_name() {
        let (_dir, base) = base();
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(dir) = base.claim("x") else { continue };
                        use std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(holders.fetch_add(1, SeqCst), 0);
                        dir.write(PID, "1").unwrap();
                        holders.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert!(base.names().unwrap().is_empty());
    }
}
