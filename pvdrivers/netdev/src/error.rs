//! Why a network card's host side could not be opened.

use std::io;
use std::path::PathBuf;

/// Why a network card's host side could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// No right to make or use the interface.
    #[error(
        "{what} needs root (CAP_NET_ADMIN){}",
        tap.as_ref().map(|name| format!(
            ", or a persistent tap owned by you, which root makes by: ip tuntap add dev {name} mode tap user {}",
            crate::open::user_name()
        )).unwrap_or_default()
    )]
    Permission {
        /// What was tried, a noun phrase with a capital.
        what: String,
        /// Name of a tap interface that root can make for good.
        tap: Option<String>,
        /// The operating system's answer.
        source: io::Error,
    },
    /// An operation on the host's network failed.
    #[error("Cannot {what}")]
    Host {
        /// What was tried, a verb phrase.
        what: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// As `Host`, otherwise put.
    #[error("{what} failed")]
    Failed {
        /// What was tried, a noun phrase with a capital.
        what: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A name that no interface can have.
    #[error("{0:?} is no name of an interface: 1 to 15 bytes without space, slash or colon")]
    Name(String),
    /// There is no such interface.
    #[error("There is no {what} {name}{help}")]
    Missing {
        /// `bridge`, `interface`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do, behind a colon.
        help: String,
    },
    /// An interface is there, but of another kind.
    #[error("{name} is no {wanted}")]
    Kind {
        /// Its name.
        name: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// A socket could not be connected.
    #[error("Cannot connect to {path}")]
    Connect {
        /// Its path.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A descriptor that is no link.
    #[error("Descriptor {fd} {why}")]
    Descriptor {
        /// Its number.
        fd: i32,
        /// Why not.
        why: String,
    },
    /// passt is not installed.
    #[error(
        "User-mode networking needs the program passt, which is not installed: install the package \
         passt (apt install passt), or as root choose a bridge (--nic bridge=BR)"
    )]
    PasstMissing,
    /// passt gave up.
    #[error("passt gave up ({status}): {said}")]
    Passt {
        /// How it ended.
        status: String,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// A script failed.
    #[error("The script {path} failed ({status}): {said}")]
    Script {
        /// Its path.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// The end of what it wrote to standard error.
        said: String,
    },
}

impl NetdevError {
    /// For `map_err`: an operation on the host's network.
    pub(crate) fn host<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Host {
            what,
            source: source.into(),
        }
    }

    /// For `map_err`: as [`host`](Self::host), and the right may be missing. `what` is a noun phrase.
    pub(crate) fn denied(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission {
                what,
                tap: None,
                source,
            },
            _ => Self::Failed { what, source },
        }
    }
}
