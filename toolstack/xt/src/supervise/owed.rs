//! Restarts that are owed: a note of each outlives the supervisor.
//!
//! Between the end of a domain and its next start nothing else knows of it. What is kept with a domain
//! goes with it, so the note is written before the old domain goes, and removed when the new one runs.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use uuid::Uuid;
use xt_config::DomainSpec;
use xt_config::libxl::DomainConfig;

use super::record::Record;
use crate::status::Failure;

/// A start that is owed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// Of the domain that ended.
    pub uuid: Uuid,
    /// The next one.
    pub spec: DomainSpec,
    /// What it was made from, as `xl` keeps it.
    pub source: String,
    /// The same in libxl's terms.
    pub libxl: DomainConfig,
    /// The next one's record.
    pub next: Record,
}

/// Where the notes are. They are worth nothing after the host's own restart.
#[derive(Debug)]
pub struct Owed {
    dir: PathBuf,
}

impl Owed {
    /// Those of this host.
    pub fn here() -> Self {
        Self::at(Path::new("/run/xt/restarts"))
    }

    /// Those in a directory.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, restart: &Restart) -> PathBuf {
        self.dir.join(restart.uuid.to_string())
    }

    /// Notes one. It is there whole or not at all.
    ///
    /// # Errors
    /// It cannot be written: then the domain may not end yet.
    pub fn note(&self, restart: &Restart) -> Result<(), Failure> {
        let write = || {
            fs::create_dir_all(&self.dir)?;
            let mut file = NamedTempFile::new_in(&self.dir)?;
            file.write_all(&serde_json::to_vec(restart)?)?;
            file.persist(self.path(restart)).map_err(|e| e.error)
        };
        let dir = &self.dir;
        write().map(drop).map_err(|error: std::io::Error| {
            Failure::plain(format!("Cannot note the restart in {dir:?}: {error}"))
        })
    }

    /// It has started, or never will.
    pub fn settle(&self, restart: &Restart) -> Result<(), Failure> {
        let path = self.path(restart);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::plain(format!("Cannot remove {path:?}: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Those that a supervisor noted and did not live to settle. Of a note that cannot be read its
    /// file's name is said, and the others come.
    pub fn left(&self) -> Vec<Restart> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut left = Vec::new();
        for file in files {
            let name = file.file_name();
            // Half a note has another name.
            if name
                .to_str()
                .and_then(|n| Uuid::try_parse(n).ok())
                .is_none()
            {
                continue;
            }
            let read = fs::read(file.path());
            match read.and_then(|data| Ok(serde_json::from_slice(&data)?)) {
                Ok(restart) => left.push(restart),
                Err(error) => eprintln!("xt: Cannot read {:?}: {error}", file.path()),
            }
        }
        left
    }
}
