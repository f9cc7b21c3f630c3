//! Checked xenstore paths.
//!
//! A [`Path`] is a claim that has been proved: absolute, well formed and short
//! enough. Rules: `docs/misc/xenstore.txt`, first section, and the limits of
//! `io/xs_wire.h`.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use thiserror::Error;

use xen_sys::io::xs_wire::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

use crate::perms::DomId;

/// Why some bytes are no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// No byte at all.
    #[error("Empty path: name at least \"/\".")]
    Empty,
    /// A byte outside `[A-Za-z0-9/_@-]`.
    #[error("Byte {0:#04x} in a path: only letters, digits and -/_@ may occur.")]
    Character(u8),
    /// Two slashes in a row, or one at the end.
    #[error("Path with an empty component: remove the doubled or trailing slash.")]
    EmptyComponent,
    /// Longer than the protocol allows.
    #[error("Path of {0} bytes: the limit is 2048 below a domain's directory and elsewhere.")]
    TooLong(usize),
    /// Starts with `@`, where only a node can be meant.
    #[error("Path starting with @: such names serve watches and permissions only.")]
    Special,
}

/// An absolute, checked path: `/`, or `/` and components joined by `/`.
///
/// The special names `@introduceDomain` and `@releaseDomain` are paths too, so
/// that watches and permissions treat them alike; [`Path::is_special`] tells
/// them apart. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    /// The root, `/`.
    #[must_use]
    pub fn root() -> Path {
        Path(Arc::from("/"))
    }

    /// Checks an absolute path.
    ///
    /// # Errors
    /// Any [`PathError`]; a relative path is refused as [`PathError::EmptyComponent`].
    pub fn absolute(text: &str) -> Result<Path, PathError> {
        match text.as_bytes().first() {
            None => Err(PathError::Empty),
            Some(b'@') => Err(PathError::Special),
            Some(b'/') => check(text).map(Path),
            Some(_) => Err(PathError::EmptyComponent),
        }
    }

    /// Resolves what a connection of `domid` sent: absolute paths as they are,
    /// others below `/local/domain/<domid>`.
    ///
    /// # Errors
    /// Any [`PathError`].
    pub fn resolve(bytes: &[u8], domid: DomId) -> Result<Path, PathError> {
        let text = ascii(bytes)?;
        match text.as_bytes().first() {
            None | Some(b'@' | b'/') => Path::absolute(text),
            Some(_) => check(&format!("{}/{text}", domain_path(domid))).map(Path),
        }
    }

    /// As [`Path::resolve`], and also accepts the special names starting with `@`.
    ///
    /// # Errors
    /// Any [`PathError`] but [`PathError::Special`].
    pub fn resolve_or_special(bytes: &[u8], domid: DomId) -> Result<Path, PathError> {
        if bytes.first() != Some(&b'@') {
            return Path::resolve(bytes, domid);
        }
        if bytes.len() > XENSTORE_REL_PATH_MAX {
            return Err(PathError::TooLong(bytes.len()));
        }
        ascii(bytes).map(|text| Path(Arc::from(text)))
    }

    /// A path known to be well formed: a constant, or a part of another path.
    pub(crate) fn known(text: &str) -> Path {
        Path(Arc::from(text))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a name like `@releaseDomain` and no node of the tree.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The parent, `None` for the root and for special names.
    #[must_use]
    pub fn parent(&self) -> Option<Path> {
        self.parent_str().map(|text| Path(Arc::from(text)))
    }

    /// The parent as text, `None` for the root and for special names.
    #[must_use]
    pub fn parent_str(&self) -> Option<&str> {
        parent_of(self)
    }

    /// The path itself, its parent, and so on up to the root.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |path| parent_of(path))
    }

    /// The child called `name`.
    ///
    /// # Errors
    /// Any [`PathError`]: the name has a slash or the result is too long.
    pub fn join(&self, name: &str) -> Result<Path, PathError> {
        if name.contains('/') || name.is_empty() {
            return Err(PathError::EmptyComponent);
        }
        check(&self.joined(name)).map(Path)
    }

    /// The child called `name`, which is known to exist below this path.
    pub(crate) fn child(&self, name: &str) -> Path {
        Path(Arc::from(self.joined(name)))
    }

    fn joined(&self, name: &str) -> String {
        let parent = if &*self.0 == "/" { "" } else { &*self.0 };
        format!("{parent}/{name}")
    }
}

/// `/local/domain/<domid>`, the base of a domain's relative paths.
#[must_use]
pub fn domain_path(domid: DomId) -> String {
    format!("/local/domain/{}", domid.0)
}

fn parent_of(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

fn ascii(bytes: &[u8]) -> Result<&str, PathError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    if let Some(&byte) = bytes.iter().find(|&&byte| !allowed(byte)) {
        return Err(PathError::Character(byte));
    }
    // Every allowed byte is ASCII, so the conversion cannot fail.
    Ok(std::str::from_utf8(bytes).unwrap_or_default())
}

fn check(text: &str) -> Result<Arc<str>, PathError> {
    ascii(text.as_bytes())?;
    if text != "/" && (text.ends_with('/') || text.contains("//")) {
        return Err(PathError::EmptyComponent);
    }
    let free = domain_prefix(text);
    if text.len() > XENSTORE_ABS_PATH_MAX || text.len() - free > XENSTORE_REL_PATH_MAX {
        return Err(PathError::TooLong(text.len()));
    }
    Ok(Arc::from(text))
}

/// Bytes of a leading `/local/domain/<domid>/`: they do not count against the
/// limit, so that a path a guest may name relatively can be named absolutely.
fn domain_prefix(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("/local/domain/") else {
        return 0;
    };
    match rest.split_once('/') {
        Some((domid, below)) if domid.parse::<u16>().is_ok() => text.len() - below.len(),
        _ => 0,
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: DomId = DomId(3);

    fn resolve(text: &str) -> Result<Path, PathError> {
        Path::resolve(text.as_bytes(), GUEST)
    }

    #[test]
    fn relative_paths_start_at_the_domain() {
        assert_eq!(resolve("x/y").unwrap().as_str(), "/local/domain/3/x/y");
        assert_eq!(resolve("/x").unwrap().as_str(), "/x");
    }

    #[test]
    fn malformed_paths_are_refused() {
        assert_eq!(resolve(""), Err(PathError::Empty));
        assert_eq!(resolve("/a//b"), Err(PathError::EmptyComponent));
        assert_eq!(resolve("/a/"), Err(PathError::EmptyComponent));
        assert_eq!(resolve("a/"), Err(PathError::EmptyComponent));
        assert_eq!(resolve("//"), Err(PathError::EmptyComponent));
        assert_eq!(resolve("/a.b"), Err(PathError::Character(b'.')));
        assert_eq!(resolve("/a b"), Err(PathError::Character(b' ')));
        assert_eq!(
            Path::resolve(b"/\xff", GUEST),
            Err(PathError::Character(0xff))
        );
        assert_eq!(resolve("@releaseDomain"), Err(PathError::Special));
        assert_eq!(Path::absolute("a"), Err(PathError::EmptyComponent));
    }

    #[test]
    fn length_limits_count_below_the_domain() {
        let long = "a".repeat(XENSTORE_REL_PATH_MAX);
        assert!(resolve(&long).is_ok());
        assert!(resolve(&format!("/local/domain/65535/{long}")).is_ok());
        assert_eq!(
            resolve(&format!("{long}a")),
            Err(PathError::TooLong(2048 + 16 + 1))
        );
        assert_eq!(resolve(&format!("/{long}")), Err(PathError::TooLong(2049)));
        assert_eq!(
            resolve(&format!("/local/domain/65536/{long}")),
            Err(PathError::TooLong(2048 + 20))
        );
    }

    #[test]
    fn lineage_ends_at_the_root() {
        let path = resolve("/a/b").unwrap();
        assert_eq!(path.lineage().collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(Path::root().parent(), None);
        assert_eq!((path.name(), Path::root().name()), ("b", ""));
        let special = Path::resolve_or_special(b"@releaseDomain", GUEST).unwrap();
        assert_eq!(special.parent(), None);
        assert_eq!(special.lineage().count(), 1);
    }

    #[test]
    fn children_are_joined_below_root_too() {
        assert_eq!(Path::root().join("a").unwrap().as_str(), "/a");
        assert_eq!(resolve("/a").unwrap().join("b").unwrap().as_str(), "/a/b");
        assert!(Path::root().join("a/b").is_err());
        assert!(Path::root().join("").is_err());
    }
}
