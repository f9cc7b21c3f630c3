//! The table of watches, indexed by the watched path.
//!
//! A change of `/a/b` concerns the watches on `/a/b`, `/a` and `/`: as many
//! look-ups as the path is deep, however many watches there are.

use std::collections::{BTreeMap, HashMap};

use super::ConnId;
use crate::path::Path;
use crate::store::Change;
use crate::wire::{XENSTORE_PAYLOAD_MAX, XsError, join_strings};

/// Names one watch for as long as the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WatchId(u64);

#[derive(Debug)]
pub(super) struct Watch {
    pub conn: ConnId,
    path: Path,
    token: Vec<u8>,
    /// Bytes to leave out of the paths reported: the watch was relative.
    strip: usize,
}

impl Watch {
    /// The payload of a WATCH_EVENT for `path`, `None` if no message holds it.
    pub fn event(&self, path: &Path) -> Option<Vec<u8>> {
        let shown = path.as_bytes().get(self.strip..).unwrap_or_default();
        let payload = join_strings(&[shown, &self.token]);
        (payload.len() <= XENSTORE_PAYLOAD_MAX).then_some(payload)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug, Default)]
pub(super) struct Watches {
    all: BTreeMap<WatchId, Watch>,
    by_path: HashMap<Path, Vec<WatchId>>,
    next: u64,
}

impl Watches {
    /// Adds a watch; `strip` as in [`Watch`].
    pub fn add(
        &mut self,
        conn: ConnId,
        path: Path,
        token: &[u8],
        strip: usize,
    ) -> Result<WatchId, XsError> {
        if self.find(conn, &path, token).is_some() {
            return Err(XsError::EEXIST);
        }
        let id = WatchId(self.next);
        self.next += 1;
        self.by_path.entry(path.clone()).or_default().push(id);
        self.all.insert(
            id,
            Watch {
                conn,
                path,
                token: token.to_vec(),
                strip,
            },
        );
        Ok(id)
    }

    pub fn remove(&mut self, conn: ConnId, path: &Path, token: &[u8]) -> Result<WatchId, XsError> {
        let id = self.find(conn, path, token).ok_or(XsError::ENOENT)?;
        self.forget(id);
        Ok(id)
    }

    pub fn remove_all(&mut self, conn: ConnId) {
        let ids: Vec<WatchId> = self
            .all
            .iter()
            .filter(|(_, watch)| watch.conn == conn)
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.forget(id);
        }
    }

    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(&id)
    }

    /// The watches a change concerns.
    pub fn concerned(&self, change: &Change) -> Vec<(WatchId, &Watch)> {
        let levels = if change.exact { 1 } else { usize::MAX };
        let ids = change
            .path
            .lineage()
            .take(levels)
            .filter_map(|path| self.by_path.get(path));
        ids.flatten()
            .filter_map(|id| Some((*id, self.all.get(id)?)))
            .collect()
    }

    pub fn find(&self, conn: ConnId, path: &Path, token: &[u8]) -> Option<WatchId> {
        let ids = self.by_path.get(path)?.iter().copied();
        ids.into_iter().find(|id| {
            self.all
                .get(id)
                .is_some_and(|watch| watch.conn == conn && watch.token == token)
        })
    }

    fn forget(&mut self, id: WatchId) {
        let Some(watch) = self.all.remove(&id) else {
            return;
        };
        if let Some(ids) = self.by_path.get_mut(&watch.path) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_path.remove(&watch.path);
            }
        }
    }
}
