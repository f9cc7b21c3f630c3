//! Decompressed kernel payloads, kept on disk.
//!
//! Decompressing a kernel takes longer than all the rest of starting a domain. The cache is a
//! directory of files named by the digest of the compressed payload; an entry is a header and the
//! decompressed bytes. Beside them are notes of which kernel file had which payload, so that a file
//! that has not changed is not read again. It holds nothing that cannot be made again, so every doubt
//! is answered by dropping the entry, and no failure of the cache is a failure of the build.
//!
//! Entries reach the disk before they get their name, and are never changed afterwards: processes that
//! race make the same entry twice, and a reader sees a whole one or none, after a power failure, too.

use std::fs::{self, File, Metadata, Permissions};
use std::hash::Hasher;
use std::io::{self, BufRead, Read, Write};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{Mmap, MmapOptions};
use twox_hash::XxHash3_64;

use crate::elf::ImageFile;

const MAGIC: &[u8; 8] = b"xtkern2\n";
const HEADER: usize = 56;
/// Seconds that a file must have stood still before what `stat` says of it stands for its content:
/// changes within one tick of the file system's clock look the same.
const SETTLED: i64 = 2;
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
        match CachedPayload::open(file, key) {
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
        let sum = XxHash3_64::oneshot(bytes);
        file.write_all(&header(key, bytes.len(), sum))?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o400))?;
        file.as_file().sync_all()?;
        file.persist(self.path(key)).map_err(|e| e.error)?;
        Ok(())
    }

    /// The key of the payload of a kernel file that is the same as when it was noted.
    pub fn noted(&self, file: &File) -> Option<Key> {
        let metadata = file.metadata().ok()?;
        let note = fs::read(self.note_path(&metadata)).ok()?;
        let key = note.strip_prefix(&identity(&metadata)[..])?;
        Some(Key(key.try_into().ok()?))
    }

    /// Notes the key of a kernel file's payload, unless the file has changed just now: then it may
    /// change once more and look the same.
    ///
    /// # Errors
    /// What the file system says. The caller may go on without.
    pub fn note(&self, file: &File, key: &Key) -> io::Result<()> {
        let metadata = file.metadata()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs() as i64);
        if metadata.ctime().saturating_add(SETTLED) > now {
            return Ok(());
        }
        let mut note = tempfile::NamedTempFile::new_in(&self.dir)?;
        note.write_all(&identity(&metadata))?;
        note.write_all(&key.0)?;
        let path = self.note_path(&metadata);
        note.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name: String = key.0.iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(name)
    }

    /// One for each file there is, whatever is in it: a new note takes the old one's place.
    fn note_path(&self, file: &Metadata) -> PathBuf {
        self.dir
            .join(format!("of-{:x}-{:x}", file.dev(), file.ino()))
    }
}

/// What changes with a file's content.
fn identity(file: &Metadata) -> Vec<u8> {
    let times = [
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ];
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&file.len().to_le_bytes());
    bytes.extend(times.iter().flat_map(|time| time.to_le_bytes()));
    bytes
}

/// Magic, key, length and checksum of the bytes that follow, both little endian.
fn header(key: &Key, len: usize, sum: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&key.0);
    header.extend_from_slice(&(len as u64).to_le_bytes());
    header.extend_from_slice(&sum.to_le_bytes());
    header
}

/// The checksum of what follows the header. It is read, not mapped: see [`CachedPayload`].
fn checksum(file: &File) -> io::Result<u64> {
    let mut hasher = XxHash3_64::new();
    let mut piece = vec![0; READ];
    let mut at = HEADER as u64;
    loop {
        let count = file.read_at(&mut piece, at)?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.write(bytes);
        at += count as u64;
    }
}

/// The decompressed bytes of a cache entry, mapped, and the file they are in.
///
/// The mapping is for what is looked at: headers, notes, symbols. What goes into a domain is read from
/// the file, which takes no page faults; those cost more than the copy.
#[derive(Debug)]
pub struct CachedPayload {
    bytes: Mmap,
    file: File,
}

impl CachedPayload {
    fn open(file: File, key: &Key) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "Damaged cache entry");
        let bytes = map(&file)?;
        let payload = Self { bytes, file };
        let found = payload.bytes.get(..HEADER).ok_or_else(damaged)?;
        let sum = checksum(&payload.file)?;
        match found == header(key, payload.len(), sum) {
            true => Ok(payload),
            false => Err(damaged()),
        }
    }

    /// Where the bytes are on disk.
    pub fn file(&self) -> ImageFile<'_> {
        ImageFile {
            file: &self.file,
            start: HEADER as u64,
        }
    }
}

impl Deref for CachedPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

#[allow(unsafe_code, reason = "a file mapping cannot be had otherwise")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file must neither change nor shrink while it is mapped. Entries are written
    // before they get their name, are read-only from then on, and are only ever unlinked, in a
    // directory that belongs to the user this process runs as.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
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
    fn a_file_is_known_until_it_changes() {
        let (dir, cache) = cache();
        let key = Key::of(b"payload");
        cache.put(&key, b"decompressed").unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, b"one").unwrap();
        let open = || File::options().write(true).open(&path).unwrap();
        let file = open();
        // Just written: its content may change within the same tick.
        cache.note(&file, &key).unwrap();
        assert_eq!(cache.noted(&file), None);
        let note = |file: &File| {
            let metadata = file.metadata().unwrap();
            let bytes = [&identity(&metadata)[..], &key.0].concat();
            fs::write(cache.note_path(&metadata), bytes).unwrap();
        };
        note(&file);
        assert_eq!(cache.noted(&file), Some(key));
        file.set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(cache.noted(&file), None, "another time");
        note(&file);
        fs::write(&path, b"longer").unwrap();
        open().set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(cache.noted(&open()), None, "another length");
        fs::write(cache.note_path(&file.metadata().unwrap()), b"damaged").unwrap();
        assert_eq!(cache.noted(&file), None);
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
