//! How files are had: by path, or from outside of a sandbox.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::nbd::NbdUri;

/// How files are had.
pub trait Opener {
    /// Opens a file or block device for reading, or for reading and writing.
    ///
    /// # Errors
    /// The host's.
    fn open(&self, path: &Path, write: bool) -> io::Result<File>;

    /// The same once more, with `O_DIRECT`.
    ///
    /// # Errors
    /// The host's; the medium then does without direct I/O.
    fn open_direct(&self, path: &Path, write: bool) -> io::Result<File>;

    /// A connection to a server of network block devices.
    ///
    /// # Errors
    /// The host's.
    fn connect(&self, uri: &NbdUri) -> io::Result<OwnedFd>;

    /// The way to connect again, later and in other threads; `None` where that cannot be.
    fn connects_later(&self) -> Option<Connect> {
        None
    }
}

/// Connects to a server of network block devices.
pub type Connect = fn(&NbdUri) -> io::Result<OwnedFd>;

/// Opens what the process itself can.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paths;

impl Opener for Paths {
    fn open(&self, path: &Path, write: bool) -> io::Result<File> {
        open(path, write, 0)
    }

    fn open_direct(&self, path: &Path, write: bool) -> io::Result<File> {
        open(path, write, libc::O_DIRECT)
    }

    fn connect(&self, uri: &NbdUri) -> io::Result<OwnedFd> {
        uri.connect()
    }

    fn connects_later(&self) -> Option<Connect> {
        Some(NbdUri::connect)
    }
}

/// A terminal device or a pipe that happens to have the name must not make the process wait or
/// gain a controlling terminal.
fn open(path: &Path, write: bool, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
}

/// Files that another process has opened. `needed` tells which those are.
#[derive(Debug, Default)]
pub struct FileMap {
    files: HashMap<(PathBuf, bool), File>,
    sockets: HashMap<String, OwnedFd>,
}

impl FileMap {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, opened as `Needed` says.
    pub fn insert(&mut self, path: impl Into<PathBuf>, direct: bool, file: File) {
        self.files.insert((path.into(), direct), file);
    }

    /// Adds a connected socket of the URI.
    pub fn insert_socket(&mut self, uri: impl Into<String>, socket: OwnedFd) {
        self.sockets.insert(uri.into(), socket);
    }

    fn get(&self, path: &Path, direct: bool) -> io::Result<File> {
        let file = self.files.get(&(path.to_owned(), direct));
        file.ok_or(io::ErrorKind::NotFound)?.try_clone()
    }
}

impl Opener for FileMap {
    fn open(&self, path: &Path, _write: bool) -> io::Result<File> {
        self.get(path, false)
    }

    fn open_direct(&self, path: &Path, _write: bool) -> io::Result<File> {
        self.get(path, true)
    }

    fn connect(&self, uri: &NbdUri) -> io::Result<OwnedFd> {
        let socket = self.sockets.get(uri.as_str());
        socket.ok_or(io::ErrorKind::NotFound)?.try_clone()
    }
}
