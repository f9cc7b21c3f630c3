//! Why a medium cannot be had.

use std::io;
use std::path::{Path, PathBuf};

/// Why a medium cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// A file of it cannot be opened or examined.
    #[error("Cannot {verb} {path:?}")]
    File {
        /// What was tried: "open … for writing" and the like.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its content is not what the specification says.
    #[error("{path:?} is no {format} image: {why}. {hint}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What was found.
        why: String,
        /// How to mend it.
        hint: String,
    },
    /// The image is damaged; nothing of it is believed.
    #[error("{format} image {path:?} is damaged: {why}. {hint}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Of which format.
        format: &'static str,
        /// What is wrong.
        why: String,
        /// How to mend it.
        hint: String,
    },
    /// The image is sound but needs something that is not there.
    #[error("{format} image {path:?} cannot be used: {why}. {hint}")]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// Of which format.
        format: &'static str,
        /// What it needs.
        why: String,
        /// How to mend it.
        hint: String,
    },
    /// Somebody else uses it in a way that excludes this one.
    #[error(
        "{path:?} is in use by another process{}. Stop that one first, or share the disk (access mode \"w!\", \
         or \"r\" for both)",
        if *.write { ", and two writers would destroy it" } else { ", which writes to it" }
    )]
    InUse {
        /// Which file.
        path: PathBuf,
        /// Whether it was to be written.
        write: bool,
    },
    /// The specification contradicts itself.
    #[error("{0}")]
    Spec(String),
    /// A server of network block devices refuses or does not answer.
    #[error("Network block device {uri}: {why}")]
    Nbd {
        /// Which.
        uri: String,
        /// What it said.
        why: String,
        /// The host's error, if there is one.
        #[source]
        source: Option<io::Error>,
    },
}

impl MediumError {
    /// For `map_err`.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}
