//! Which files a medium is made of.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::image::chain;
use crate::{MediumError, MediumSpec, NbdUri, Opener};

/// Something that has to be opened for a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// A file or block device. With `direct` it is wanted a second time, with `O_DIRECT`; the
    /// medium does without when that is not possible.
    File {
        /// Where.
        path: PathBuf,
        /// For reading and writing.
        write: bool,
        /// Also past the page cache.
        direct: bool,
    },
    /// A connected socket.
    Socket {
        /// To whom.
        uri: String,
    },
}

/// The files of a medium: the image, what it is based on, its extents. They are opened for reading
/// and their headers examined, as [`Disk::open`](crate::Disk::open) would, with the same limits;
/// then they can be opened elsewhere, for a process in a sandbox
/// ([`FileMap`](crate::FileMap)).
///
/// An image names the files it is based on, so **whoever made the image chooses them**: an image
/// from a stranger should be looked at before a guest gets it. A VMDK's extents can only be beside
/// it.
///
/// # Errors
/// As those of [`Disk::open`](crate::Disk::open), as far as they show without writing.
pub fn needed(spec: &MediumSpec, opener: &dyn Opener) -> Result<Vec<Needed>, MediumError> {
    if let Some(uri) = spec.nbd_uri() {
        let uri: NbdUri = uri.parse()?;
        let uri = uri.to_string();
        return Ok(vec![Needed::Socket { uri }]);
    }
    let log = Log {
        opener,
        opened: RefCell::default(),
    };
    let looked_at = MediumSpec {
        readonly: true,
        direct_io: false,
        direct_devices: false,
        shared: true,
        ..spec.clone()
    };
    chain::open(&looked_at, &log)?;
    let files = log.opened.into_inner().into_iter().enumerate();
    let files = files.map(|(i, path)| Needed::File {
        path,
        write: i == 0 && !spec.readonly,
        direct: spec.direct_io || spec.direct_devices,
    });
    Ok(files.collect())
}

/// Notes what is opened.
struct Log<'a> {
    opener: &'a dyn Opener,
    opened: RefCell<Vec<PathBuf>>,
}

impl Opener for Log<'_> {
    fn open(&self, path: &Path, write: bool) -> io::Result<File> {
        self.opened.borrow_mut().push(path.to_owned());
        self.opener.open(path, write)
    }

    fn open_direct(&self, _path: &Path, _write: bool) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, uri: &NbdUri) -> io::Result<OwnedFd> {
        self.opener.connect(uri)
    }
}
