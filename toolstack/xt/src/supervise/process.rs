//! The supervisor as a process: the only one, in the background, in a session of its own.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::status::Failure;

/// Where its lock is.
const DIR: &str = "/run/xt";
/// Set for a supervisor that `create` starts: it says [`READY`] on standard output when it watches.
const STARTED: &str = "XT_SUPERVISE_STARTED";
const READY: &str = "ready";

/// The place of the only supervisor. It is free again when the process ends, however that happens.
pub struct Place {
    _lock: Flock<File>,
}

fn lock_path() -> PathBuf {
    Path::new(DIR).join("supervise.lock")
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::plain(format!("Cannot {what}: {error}"))
}

fn open() -> Result<File, Failure> {
    std::fs::create_dir_all(DIR).map_err(|error| failed("create /run/xt", error))?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let path = lock_path();
    options
        .open(&path)
        .map_err(|error| failed(&format!("open {path:?}"), error))
}

impl Place {
    /// Takes it.
    ///
    /// # Errors
    /// Somebody has it.
    pub fn take() -> Result<Self, Failure> {
        match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Failure::plain(
                "Another xt supervise looks after the domains already",
            )),
            Err((_, errno)) => Err(failed("lock the supervisor's place", errno)),
        }
    }

    /// Tells who started this that every end is seen from now on.
    pub fn announce(&self) -> Result<(), Failure> {
        if std::env::var_os(STARTED).is_none() {
            return Ok(());
        }
        // The terminal of whoever came first is not this process's.
        nix::unistd::setsid().map_err(|errno| failed("leave the terminal", errno))?;
        let mut out = std::io::stdout();
        writeln!(out, "{READY}")
            .and_then(|()| out.flush())
            .map_err(|error| failed("tell that it is ready", error))?;
        // Who started it waits for this to close, and may have gone.
        let null = OpenOptions::new().write(true).open("/dev/null");
        let null = null.map_err(|error| failed("open /dev/null", error))?;
        nix::unistd::dup2_stdout(&null).map_err(|error| failed("leave the output", error))
    }
}

/// Whether one runs.
fn runs() -> Result<bool, Failure> {
    match Flock::lock(open()?, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(failed("look for the supervisor", errno)),
    }
}

/// Starts one where none runs, and waits until it watches.
pub fn start() -> Result<(), Failure> {
    if runs()? {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| failed("find this program", error))?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(Path::new(DIR).join("supervise.log"))
        .map_err(|error| failed("open the supervisor's log", error))?;
    let mut child = Command::new(program)
        .args(["--host", "xen", "supervise"])
        .env(STARTED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(|error| failed("start the supervisor", error))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut line);
    }
    // It may have found another one that was started at the same moment.
    match line.trim() == READY || runs()? {
        true => Ok(()),
        false => Err(Failure::plain(
            "The supervisor did not start; /run/xt/supervise.log says why",
        )),
    }
}
