//! Opening Xen's device nodes, and saying what is wrong when that fails.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;

/// Why a device of Xen's drivers could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This is no domain of Xen.
    #[error("This system does not run on Xen: {HYPERVISOR} does not say so")]
    NotXen,
    /// A domain of Xen without this driver.
    #[error("There is no {path}: load the module {module}")]
    NoDriver {
        /// The device.
        path: &'static str,
        /// The driver.
        module: &'static str,
    },
    /// The user may not.
    #[error("{path} may not be opened: run this as root")]
    Permission {
        /// The device.
        path: &'static str,
    },
    /// Another failure.
    #[error("{path} cannot be opened")]
    Io {
        /// The device.
        path: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::NotXen | OpenError::NoDriver { .. } => ErrorKind::NotFound,
            OpenError::Permission { .. } => ErrorKind::PermissionDenied,
            OpenError::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// There in every domain of Xen, whatever drivers it has.
const HYPERVISOR: &str = "/sys/hypervisor/type";

/// Opens a device node for reading and writing.
pub(crate) fn open(
    path: &'static str,
    module: &'static str,
    flags: i32,
) -> Result<File, OpenError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path);
    opened.map_err(|source| match source.kind() {
        ErrorKind::NotFound if !on_xen() => OpenError::NotXen,
        ErrorKind::NotFound => OpenError::NoDriver { path, module },
        ErrorKind::PermissionDenied => OpenError::Permission { path },
        _ => OpenError::Io { path, source },
    })
}

/// Whether the kernel says that Xen is below it.
fn on_xen() -> bool {
    std::fs::read(HYPERVISOR).is_ok_and(|text| text.trim_ascii() == b"xen")
}
