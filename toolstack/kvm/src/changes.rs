//! News of domains, from their run directories.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use xt_host::{Changes, HostError, Result};

use crate::KvmHost;

/// A run directory goes with its domain, and gets a file when its domain has ended and is kept.
pub struct Folders {
    host: KvmHost,
    inotify: Inotify,
    watched: BTreeMap<String, WatchDescriptor>,
}

fn failed(errno: Errno) -> HostError {
    HostError::failed("Cannot watch the run directories.", errno)
}

impl Folders {
    pub fn open(host: &KvmHost) -> Result<Self> {
        let unusable = |error: xenner::rundir::RunDirError| HostError::Unusable(error.to_string());
        host.base.create().map_err(unusable)?;
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(failed)?;
        let places = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        inotify
            .add_watch(host.base.path(), places)
            .map_err(failed)?;
        let mut folders = Self {
            host: host.clone(),
            inotify,
            watched: BTreeMap::new(),
        };
        folders.follow()?;
        Ok(folders)
    }

    /// Watches the folder of every domain that there is now.
    fn follow(&mut self) -> Result<()> {
        let names = self.host.names()?;
        self.watched.retain(|name, _| names.contains(name));
        for name in names {
            if self.watched.contains_key(&name) {
                continue;
            }
            let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF;
            match self.inotify.add_watch(&self.host.base.of(&name), flags) {
                Ok(watch) => drop(self.watched.insert(name, watch)),
                // Gone meanwhile, which the folder above tells.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }
}

impl Changes for Folders {
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, patience) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            match self.inotify.read_events() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
            self.follow()?;
            return Ok(true);
        }
    }
}
