//! Decompressed kernel payloads, kept on disk.
//!
//! Decompressing a kernel takes longer than all the rest of starting a domain. The cache is a
//! directory of files named by the digest of the compressed payload; an entry is a header and the
//! decompressed bytes. It holds nothing that cannot be made again, so every doubt is answered by
//! dropping the entry, and no failure of the cache is a failure of the build.
//!
//! Entries appear by rename and are never changed afterwards: processes that race make the same
//! entry twice, and a reader sees a whole one or none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"xtkern1\n";
const HEADER: usize = 56;

/// A directory of decompressed payloads.
///
/// Whoever can write to the directory decides what kernels run: it must be the user's own, like
/// `$XDG_CACHE_HOME/xenner/kernels`. The checksum of an entry finds rot, not malice.
#[derive(Debug, Clone)]
pub struct PayloadCache {
    dir: PathBuf,
}

/// The name of an entry: the BLAKE3 digest of the compressed payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a compressed payload.
    pub fn of(payload: &[u8]) -> Self {
        Self(*blake3::hash(payload).as_bytes())
    }
}

impl PayloadCache {
    /// A cache in `dir`, which is made when the first entry is.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The decompressed bytes of an entry; a damaged entry is removed and `None` returned.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        match read_entry(file, key) {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Stores the decompressed bytes of an entry.
    ///
    /// # Errors
    /// What the file system says. The caller may go on without.
    pub fn put(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&header(key, bytes))?;
        file.write_all(bytes)?;
        file.persist(self.path(key)).map_err(|e| e.error)?;
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name: String = key.0.iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(name)
    }
}

/// Magic, key, length and checksum of the bytes that follow, both little endian.
fn header(key: &Key, bytes: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&key.0);
    header.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    header.extend_from_slice(&XxHash3_64::oneshot(bytes).to_le_bytes());
    header
}

fn read_entry(mut file: File, key: &Key) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "Damaged cache entry");
    let mut found = [0; HEADER];
    file.read_exact(&mut found)?;
    let len = file
        .metadata()?
        .len()
        .checked_sub(HEADER as u64)
        .ok_or_else(damaged)?;
    if len > crate::image::MAX_DECOMPRESSED {
        return Err(damaged());
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    match found[..] == header(key, &bytes) {
        true => Ok(bytes),
        false => Err(damaged()),
    }
}
