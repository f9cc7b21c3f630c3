//! Scripts that set an interface up: our own form, and that of Xen's hotplug scripts.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::{MacAddress, NetdevError, sys};

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(40);

/// Bytes of a child's complaints that are kept.
const KEPT: usize = 4096;

/// A script with what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables besides those of this process.
    pub variables: BTreeMap<String, String>,
}

impl Script {
    /// A script for a tap interface of ours: arguments `add type_if=tap` (later `remove
    /// type_if=tap`), variables `INTERFACE`, `bridge`, `mtu`, `mac` (the last two and `bridge` where known).
    pub(crate) fn tap(
        path: &Path,
        name: &str,
        bridge: Option<&str>,
        mtu: u32,
        mac: Option<MacAddress>,
    ) -> Self {
        let mut script = Self {
            path: path.to_owned(),
            arguments: vec!["add".into(), "type_if=tap".into()],
            variables: BTreeMap::new(),
        };
        let mut tell = |key: &str, value: Option<String>| {
            script.variables.extend(value.map(|v| (key.to_owned(), v)));
        };
        tell("INTERFACE", Some(name.to_owned()));
        tell("bridge", bridge.map(str::to_owned));
        tell("mtu", Some(mtu.to_string()));
        tell("mac", mac.map(String::from));
        script
    }

    /// One of Xen's hotplug scripts for a vif, as libxl runs it: arguments `online type_if=vif`;
    /// the rest it reads in xenstore.
    ///
    /// `backend` is the back end's directory there (`backend/vif/3/0` relative to its domain's).
    pub fn hotplug(path: &Path, name: &str, backend: &str, gatewaydev: Option<&str>) -> Self {
        let path_text = path.display().to_string();
        let mut variables: BTreeMap<String, String> = [
            ("script", path_text.as_str()),
            ("XENBUS_TYPE", "vif"),
            ("XENBUS_PATH", backend),
            ("XENBUS_BASE_PATH", "backend"),
            ("vif", name),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        variables.extend(gatewaydev.map(|dev| ("netdev".to_owned(), dev.to_owned())));
        Self {
            path: path.to_owned(),
            arguments: vec!["online".into(), "type_if=vif".into()],
            variables,
        }
    }

    /// The same when the interface goes.
    pub fn removing(mut self) -> Self {
        if let Some(action) = self.arguments.first_mut() {
            let opposite = match action.as_str() {
                "online" => "offline",
                _ => "remove",
            };
            opposite.clone_into(action);
        }
        self
    }

    /// Runs it to its end, 40 seconds at most, as long as libxl waits.
    ///
    /// # Errors
    /// It could not be started, took too long or did not succeed.
    pub fn run(&self) -> Result<(), NetdevError> {
        self.run_for(LIMIT)
    }

    /// Runs it to its end or to the limit, when it is killed with all of its process group.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_for(&self, limit: Duration) -> Result<(), NetdevError> {
        use std::os::unix::process::CommandExt;
        let failed = || NetdevError::host(format!("run the script {}", self.path.display()));
        let (complaints, theirs) = Complaints::new().map_err(failed())?;
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .envs(&self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(theirs)
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        let ended = wait(&mut child, limit).map_err(failed())?;
        let status = match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => status.to_string(),
            None => {
                let group = nix::unistd::Pid::from_raw(child.id() as i32);
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
                child.wait().map_err(failed())?;
                format!("took longer than {} s", limit.as_secs())
            }
        };
        Err(NetdevError::Script {
            path: self.path.clone(),
            status,
            said: complaints.read(),
        })
    }
}

/// Waits for a child's end; `None` when the time is over.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let pidfd = sys::pidfd(child.id())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        wait_readable(&[pidfd.as_fd()], left)?;
    }
}

/// Waits until one of the descriptors is readable or the time is over; which are.
pub(crate) fn wait_readable(
    fds: &[std::os::fd::BorrowedFd<'_>],
    limit: Duration,
) -> io::Result<Vec<bool>> {
    let polled = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
    let mut polled: Vec<PollFd<'_>> = polled.collect();
    let millis = limit.as_millis().saturating_add(1);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(polled.iter().map(|fd| fd.any() == Some(true)).collect())
}

/// A child's standard error: a pipe that never stops the child, whatever it writes.
#[derive(Debug)]
pub(crate) struct Complaints(OwnedFd);

impl Complaints {
    /// Our end and the child's.
    pub(crate) fn new() -> io::Result<(Self, Stdio)> {
        use nix::fcntl::OFlag;
        let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok((Self(ours), theirs.into()))
    }

    /// What was written since, its end if it is long, on one line.
    pub(crate) fn read(&self) -> String {
        let mut all = Vec::new();
        if let Ok(fd) = self.0.try_clone() {
            // Ends with WouldBlock where the child, or one of its own, is alive.
            let _ = std::fs::File::from(fd).take(1 << 20).read_to_end(&mut all);
        }
        let text = String::from_utf8_lossy(&all[all.len().saturating_sub(KEPT)..]);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.collect();
        lines.join("; ")
    }
}
