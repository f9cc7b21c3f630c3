//! What can go wrong in a rig: one enum, because every caller does the same
//! with all of them (print it and fail the test).

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A rig, or something it is made of, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be used.
    #[error("Cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb ("read", "create").
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program of the host could not be started.
    #[error("Cannot start {program}: {source}. {advice}")]
    Start {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
        /// How to mend it.
        advice: String,
    },
    /// A program of the host ended with an error.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program with its arguments.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it said on stderr.
        output: String,
    },
    /// The Debian archive has no such package and none is cached.
    #[error("No Debian package {name}: {reason}")]
    Package {
        /// The package asked for.
        name: String,
        /// Why it cannot be had and how to mend that.
        reason: String,
    },
    /// A shared library an ELF program needs was found nowhere.
    #[error("{} needs {library}, which is in none of the packages nor on this machine", program.display())]
    Library {
        /// The program or library that names it.
        program: PathBuf,
        /// The DT_NEEDED entry.
        library: String,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A kernel module was asked for that the kernel does not have.
    #[error("The kernel in {} has no module {module}, built in or loadable", tree.display())]
    Module {
        /// The package tree searched.
        tree: PathBuf,
        /// The module's name.
        module: String,
    },
    /// Awaited output did not come in time.
    #[error("No match for /{pattern}/ on {channel} within {deadline:?}. It ends with:\n{tail}")]
    Timeout {
        /// Which of the rig's lines was watched.
        channel: &'static str,
        /// The regular expression.
        pattern: String,
        /// How long it was waited for.
        deadline: Duration,
        /// The end of the console.
        tail: String,
    },
    /// QEMU ended while output was awaited.
    #[error(
        "The rig ended ({status}) while /{pattern}/ was awaited. Its console ends with:\n{tail}"
    )]
    Ended {
        /// QEMU's exit status, as far as known.
        status: String,
        /// The regular expression.
        pattern: String,
        /// The end of the console.
        tail: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
