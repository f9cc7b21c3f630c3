//! Decompressed kernel payloads, kept on disk.
//!
//! Decompressing a kernel takes longer than all the rest of starting a domain. The cache is a
//! directory of files named by the digest of the compressed payload; an entry is a header and the
//! decompressed bytes. It holds nothing that cannot be made again, so every doubt is answered by
//! dropping the entry, and no failure of the cache is a failure of the build.
//!
//! Entries appear by rename and are never changed afterwards: processes that race make the same
//! entry twice, and a reader sees a whole one or none.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, Read, Write};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"xtkern1\n";
const HEADER: usize = 56;
/// Bytes hashed at a time: they stay in the processor's cache.
const READ: usize = 256 << 10;

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

    /// The key of a compressed payload that is read once and not kept; its first bytes are in
    /// `start`.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_reader(start: &[u8], rest: impl Read) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(start);
        let mut rest = io::BufReader::with_capacity(READ, rest);
        loop {
            let bytes = rest.fill_buf()?;
            if bytes.is_empty() {
                return Ok(Self(*hasher.finalize().as_bytes()));
            }
            let count = bytes.len();
            hasher.update(bytes);
            rest.consume(count);
        }
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
    pub fn get(&self, key: &Key) -> Option<CachedPayload> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        match CachedPayload::open(&file, key) {
            Ok(payload) => Some(payload),
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
        file.as_file()
            .set_permissions(Permissions::from_mode(0o400))?;
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

/// The decompressed bytes of a cache entry, mapped.
///
/// Mapping is worth its `unsafe`: reading 53 MB into fresh memory takes 24 ms, nearly all of them
/// page faults; mapping and checking them takes 3 ms (AMD EPYC, virtual).
#[derive(Debug)]
pub struct CachedPayload(Mmap);

impl CachedPayload {
    fn open(file: &File, key: &Key) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "Damaged cache entry");
        let payload = Self(map(file)?);
        let found = payload.0.get(..HEADER).ok_or_else(damaged)?;
        match found == header(key, &payload) {
            true => Ok(payload),
            false => Err(damaged()),
        }
    }
}

impl Deref for CachedPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

#[allow(unsafe_code, reason = "a file mapping cannot be had otherwise")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file must neither change nor shrink while it is mapped. Entries are written
    // before they get their name, are read-only from then on, and are only ever unlinked, in a
    // directory that belongs to the user this process runs as.
    unsafe { MmapOptions::new().populate().map_copy_read_only(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, PayloadCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = PayloadCache::new(dir.path().join("not/yet/there"));
        (dir, cache)
    }

    fn files(cache: &PayloadCache) -> Vec<PathBuf> {
        fs::read_dir(cache.dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn what_was_put_is_got() {
        let (_dir, cache) = cache();
        let (one, two) = (Key::of(b"one"), Key::of(b"two"));
        assert!(cache.get(&one).is_none());
        cache.put(&one, b"decompressed").unwrap();
        cache.put(&two, b"").unwrap();
        assert_eq!(&cache.get(&one).unwrap()[..], b"decompressed");
        assert_eq!(&cache.get(&two).unwrap()[..], b"");
        assert_eq!(files(&cache).len(), 2, "temporary files are left");
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let (_dir, cache) = cache();
        let key = Key::of(b"payload");
        cache.put(&key, b"decompressed").unwrap();
        let good = fs::read(cache.path(&key)).unwrap();
        let damage = |bytes: &[u8]| {
            let _ = fs::remove_file(cache.path(&key));
            fs::write(cache.path(&key), bytes).unwrap();
            assert!(cache.get(&key).is_none());
            assert_eq!(
                files(&cache),
                Vec::<PathBuf>::new(),
                "the damaged entry is still there"
            );
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            damage(&bad);
            damage(&good[..at]);
        }
        damage(&[&good[..], b"!"].concat());
        fs::write(cache.path(&key), &good).unwrap();
        assert!(cache.get(&key).is_some());
    }

    #[test]
    fn an_entry_of_another_key_is_not_taken() {
        let (_dir, cache) = cache();
        let (one, two) = (Key::of(b"one"), Key::of(b"two"));
        cache.put(&one, b"one's").unwrap();
        fs::rename(cache.path(&one), cache.path(&two)).unwrap();
        assert!(cache.get(&two).is_none());
    }

    #[test]
    fn racing_writers_and_readers_see_whole_entries() {
        let (_dir, cache) = cache();
        let key = Key::of(b"payload");
        let bytes = vec![0x5a; 1 << 20];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.put(&key, &bytes).unwrap();
                        assert!(cache.get(&key).is_some_and(|found| *found == bytes[..]));
                    }
                });
            }
        });
        assert_eq!(files(&cache).len(), 1);
    }
}
