//! The device model's process: started, awaited, found again and ended.
//!
//! Its monitor listens on a socket that is there before it is, so its first answer, or its end, is awaited
//! and not looked for. Whoever wants to end it finds it by its command line: so nothing is left of a
//! command that was killed in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use xen_sys::DomId;
use xt_host::{HostError, Result};

use super::qmp::{Monitor, QmpError};
use crate::failed;

/// libxl's.
const RUN_DIR: &str = "/run/xen";
const LOG_DIR: &str = "/var/log/xen";
/// How long it may take to be there; libxl has 60 s and, for its monitor, 10 s.
const START: Duration = Duration::from_secs(120);
/// How long it may take to go when told to.
const END: Duration = Duration::from_secs(10);
/// How much of its last words an error repeats.
const LAST_WORDS: u64 = 1000;

/// Where its monitor listens.
pub(crate) fn monitor_socket(domid: DomId) -> PathBuf {
    Path::new(RUN_DIR).join(format!("qmp-libxl-{}", domid.0))
}

/// Where it tells `xentop` of its disks.
pub(crate) fn statistics_socket(domid: DomId) -> PathBuf {
    Path::new(RUN_DIR).join(format!("qmp-libxenstat-{}", domid.0))
}

/// The empty directory that a confined one is locked into.
pub(crate) fn root_dir(domid: DomId) -> PathBuf {
    Path::new(RUN_DIR).join(format!("qemu-root-{}", domid.0))
}

/// A device model that answers.
pub(crate) struct Started {
    pub pid: u32,
    pub monitor: Monitor,
}

/// Starts one, and waits until it answers.
///
/// # Errors
/// It ends instead, with its last words; or it cannot be started, or does not answer.
pub(crate) fn start(
    domid: DomId,
    name: &str,
    program: &Path,
    arguments: &[String],
    confined: bool,
) -> Result<Started> {
    let what = "Cannot prepare the device model's start";
    fs::create_dir_all(RUN_DIR).map_err(failed(what))?;
    forget(domid).map_err(failed(what))?;
    if confined {
        let mut builder = fs::DirBuilder::new();
        builder
            .mode(0o000)
            .create(root_dir(domid))
            .map_err(failed(what))?;
    }
    let socket = monitor_socket(domid);
    let listener = UnixListener::bind(&socket).map_err(failed(what))?;
    let (log, path) = log(name).map_err(failed(what))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone().map_err(failed(what))?)
        .stderr(log)
        .env("XEN_DOMAIN_ID", domid.0.to_string())
        .env("XEN_QEMU_CONSOLE_LIMIT", "1048576")
        .current_dir("/")
        // No key at this terminal is for it.
        .process_group(0);
    let child = command.spawn();
    // The listening end is the child's alone: when it ends, so does the conversation.
    drop(command);
    let mut child = child.map_err(|source| {
        HostError::failed(format!("Cannot start the device model {program:?}"), source)
    })?;
    let pid = child.id();
    // Where this process outlives it, somebody has to collect it.
    std::thread::spawn(move || child.wait());
    match Monitor::connect(&socket, START) {
        Ok(monitor) => Ok(Started { pid, monitor }),
        Err(QmpError::Gone) => Err(HostError::Refused(format!(
            "The device model ended at its start: {}",
            last_words(&path)
        ))),
        Err(QmpError::Io(error)) if is_reset(&error) => Err(HostError::Refused(format!(
            "The device model ended at its start: {}",
            last_words(&path)
        ))),
        Err(QmpError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
            Err(HostError::TimedOut(format!(
                "The device model did not answer within {} s; {} may say why",
                START.as_secs(),
                path.display()
            )))
        }
        Err(error) => Err(HostError::failed("The device model does not start", error)),
    }
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionReset | K::ConnectionRefused | K::BrokenPipe
    )
}

/// The log, with that of the last domain of this name beside it.
fn log(name: &str) -> io::Result<(File, PathBuf)> {
    fs::create_dir_all(LOG_DIR)?;
    let path = Path::new(LOG_DIR).join(format!("qemu-dm-{name}.log"));
    match fs::rename(&path, path.with_extension("log.1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)?;
    Ok((file, path))
}

/// The end of the log, on one line.
fn last_words(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LAST_WORDS)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    match lines.as_slice() {
        [] => format!("it gives no reason in {}", path.display()),
        lines => lines.join("; "),
    }
}

/// The processes that are a domain's device model, whoever started them.
pub(crate) fn of(domid: DomId) -> Vec<Pid> {
    all()
        .filter(|(_, theirs)| *theirs == domid)
        .map(|(pid, _)| pid)
        .collect()
}

/// All device models, with their domains.
pub(crate) fn all() -> impl Iterator<Item = (Pid, DomId)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, domain_of(&words)?))
    })
}

/// The domain of a process with this command line, if it is a device model.
fn domain_of(words: &[u8]) -> Option<DomId> {
    let mut words = words.split(|byte| *byte == 0);
    let program = std::str::from_utf8(words.next()?).ok()?;
    if !Path::new(program).file_name()?.to_str()?.contains("qemu") {
        return None;
    }
    words.find(|word| *word == b"-xen-domid")?;
    let number = std::str::from_utf8(words.next()?).ok()?;
    number.parse().ok().map(DomId)
}

/// Ends a domain's device model: asks it, waits, and forces it. Its files go, too.
///
/// # Errors
/// It cannot be reached.
pub(crate) fn end(domid: DomId) -> Result<()> {
    let what = "Cannot end the device model";
    for pid in of(domid) {
        for signal in [Signal::TERM, Signal::KILL] {
            if ended_by(pid, signal).map_err(failed(what))? {
                break;
            }
        }
    }
    forget(domid).map_err(failed("Cannot remove the device model's files"))
}

/// Whether a process is gone, after this signal and some time.
fn ended_by(pid: Pid, signal: Signal) -> io::Result<bool> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        other => other?,
    };
    match pidfd_send_signal(&process, signal) {
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        other => other?,
    }
    await_end(&process, Some(END))
}

/// Waits for a process' end; false when it has not come within the limit.
fn await_end(process: &OwnedFd, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    loop {
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// Waits until a device model has ended.
///
/// # Errors
/// It cannot be watched.
pub(crate) fn wait(pid: Pid) -> io::Result<()> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => await_end(&other?, None).map(drop),
    }
}

/// Removes its sockets and its directory.
fn forget(domid: DomId) -> io::Result<()> {
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    for path in [monitor_socket(domid), statistics_socket(domid)] {
        absent(fs::remove_file(path))?;
    }
    absent(fs::remove_dir(root_dir(domid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_models_are_known_by_their_command_line() {
        let of = |line: &str| domain_of(line.replace(' ', "\0").as_bytes());
        let xl = "/usr/libexec/xen-qemu-system-i386 -xen-domid 3 -no-shutdown";
        assert_eq!(of(xl), Some(DomId(3)));
        assert_eq!(of("/usr/bin/less -xen-domid 3"), None);
        assert_eq!(of("/usr/bin/qemu-system-x86_64 -xen-domid"), None);
        assert_eq!(of("/usr/bin/qemu-system-x86_64 -m 3"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn last_words_are_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(last_words(&path).contains("no reason"));
        fs::write(&path, "a\n\n b \n").unwrap();
        assert_eq!(last_words(&path), "a; b");
    }
}
