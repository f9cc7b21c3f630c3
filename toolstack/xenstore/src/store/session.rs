//! The operations on nodes, as `docs/misc/xenstore.txt` defines them.

use std::sync::Arc;

use super::{Change, Node, Store, Transaction};
use crate::path::Path;
use crate::perms::{Identity, Perms, Rights};
use crate::wire::XsError;

/// A node about to be removed.
struct Doomed {
    path: Path,
    perms: Perms,
    /// The parent's permissions, if the parent goes too.
    above: Option<Perms>,
}

/// Operations on the store by one caller, possibly inside a transaction.
#[derive(Debug)]
pub struct Session<'a> {
    store: &'a mut Store,
    who: Identity,
    tx: Option<&'a mut Transaction>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        store: &'a mut Store,
        who: Identity,
        tx: Option<&'a mut Transaction>,
    ) -> Session<'a> {
        Session { store, who, tx }
    }

    /// A node's value.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES` without `READ`.
    pub fn read(&mut self, path: &Path) -> Result<Vec<u8>, XsError> {
        self.open(path, Rights::READ).map(|node| node.value.clone())
    }

    /// A node with children, value, permissions and generation.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES` without `READ`.
    pub fn node(&mut self, path: &Path) -> Result<Arc<Node>, XsError> {
        self.open(path, Rights::READ)
    }

    /// Sets a value; creates the node and its missing ancestors.
    ///
    /// # Errors
    /// `EACCES` without `WRITE` on the node or its nearest existing ancestor;
    /// `ENOSPC` beyond a quota.
    pub fn write(&mut self, path: &Path, value: &[u8]) -> Result<(), XsError> {
        match self.open(path, Rights::WRITE) {
            Ok(node) => {
                self.check_size(node.size() - node.value.len() + value.len())?;
                drop(node);
                self.edit(path, |node| node.value = value.to_vec());
            }
            Err(XsError::ENOENT) => self.create(path, value)?,
            Err(error) => return Err(error),
        }
        self.changed(path, None)
    }

    /// Creates a node with an empty value, and its missing ancestors. A node
    /// that exists stays as it is.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn mkdir(&mut self, path: &Path) -> Result<(), XsError> {
        match self.open(path, Rights::WRITE) {
            Ok(_) => Ok(()),
            Err(XsError::ENOENT) => {
                self.create(path, b"")?;
                self.changed(path, None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a node and everything below it. A missing node is no error if
    /// its parent exists.
    ///
    /// # Errors
    /// `ENOENT` without the parent; `EACCES` without `WRITE` on the node (the
    /// nodes below are not asked); `EINVAL` for the root, even with it.
    pub fn rm(&mut self, path: &Path) -> Result<(), XsError> {
        let Some(parent) = path.parent() else {
            self.open(path, Rights::WRITE)?;
            return Err(XsError::EINVAL);
        };
        match self.open(path, Rights::WRITE) {
            Ok(_) => {}
            Err(XsError::ENOENT) if self.find(&parent)?.is_some() => return Ok(()),
            Err(error) => return Err(error),
        }
        let doomed = self.subtree(path)?;
        self.find(&parent)?;
        for Doomed { path, perms, above } in doomed.into_iter().rev() {
            self.erase(&path);
            let exact = above.is_some();
            self.record(Change {
                path,
                exact,
                perms,
                past: above,
            });
        }
        self.edit(&parent, |node| {
            node.children.retain(|name| **name != *path.name())
        });
        Ok(())
    }

    /// A node's permissions; special names have them too.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES` without `READ`.
    pub fn perms(&mut self, path: &Path) -> Result<Perms, XsError> {
        self.open(path, Rights::READ).map(|node| node.perms.clone())
    }

    /// Replaces a node's permissions; special names have them too.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES` for others than the owner; `EPERM` when an
    /// unprivileged caller would change the owner; `ENOSPC` beyond a quota.
    pub fn set_perms(&mut self, path: &Path, perms: Perms) -> Result<(), XsError> {
        if !self.who.privileged && perms.count() > self.store.quotas.perms {
            return Err(XsError::ENOSPC);
        }
        let node = self.open(path, Rights::WRITE | Rights::OWNER)?;
        let old = node.perms.clone();
        if !self.who.privileged && perms.owner() != old.owner() {
            return Err(XsError::EPERM);
        }
        self.check_size(node.size() + 8 * perms.count() - 8 * old.count())?;
        drop(node);
        self.edit(path, |node| node.perms = perms);
        if path.is_special() {
            Ok(())
        } else {
            self.changed(path, Some(old))
        }
    }

    /// The node if the caller has all rights needed, else the error that
    /// tells no more than the caller may know.
    fn open(&mut self, path: &Path, need: Rights) -> Result<Arc<Node>, XsError> {
        let who = self.who;
        if let Some(node) = self.find(path)? {
            let allowed = node.perms.rights(&who).contains(need);
            return if allowed {
                Ok(Arc::clone(node))
            } else {
                Err(XsError::EACCES)
            };
        }
        for ancestor in path.lineage().skip(1) {
            if let Some(node) = self.find(ancestor)? {
                let known = node.perms.rights(&who).intersects(need);
                return Err(if known {
                    XsError::ENOENT
                } else {
                    XsError::EACCES
                });
            }
        }
        Err(XsError::ENOENT)
    }

    /// Creates a missing node and its missing ancestors. Permissions come from
    /// the nearest ancestor; an unprivileged caller owns what it creates.
    fn create(&mut self, path: &Path, value: &[u8]) -> Result<(), XsError> {
        let mut missing = vec![path.clone()];
        let (base, above) = loop {
            let parent = missing
                .last()
                .and_then(Path::parent)
                .ok_or(XsError::EINVAL)?;
            match self.find(&parent)? {
                Some(node) => break (parent, Arc::clone(node)),
                None => missing.push(parent),
            }
        };
        let perms = match self.who.privileged {
            true => above.perms.clone(),
            false => above.perms.owned_by(self.who.domid),
        };
        let new_name = missing.last().map_or(0, |top| top.name().len() + 1);
        self.check_size(above.size() + new_name)?;
        drop(above);
        self.check_size(Node::new(value, perms.clone()).size())?;
        self.check_entries(missing.len())?;

        let mut parent = base;
        for path in missing.into_iter().rev() {
            let name = Box::from(path.name());
            self.edit(&parent, |node| node.children.push(name));
            self.insert(&path, Node::new(b"", perms.clone()));
            parent = path;
        }
        self.edit(&parent, |node| node.value = value.to_vec());
        Ok(())
    }

    /// A node and everything below it, parents before children.
    fn subtree(&mut self, top: &Path) -> Result<Vec<Doomed>, XsError> {
        let mut found = Vec::new();
        let mut open = vec![(top.clone(), None)];
        while let Some((path, above)) = open.pop() {
            let Some(node) = self.find(&path)? else {
                continue;
            };
            let perms = node.perms.clone();
            let children = node.children.iter().rev();
            open.extend(children.map(|name| (path.child(name), Some(perms.clone()))));
            found.push(Doomed { path, perms, above });
        }
        Ok(found)
    }

    fn check_size(&self, size: usize) -> Result<(), XsError> {
        let fits = self.who.privileged || size < self.store.quotas.node_size;
        if fits { Ok(()) } else { Err(XsError::ENOSPC) }
    }

    fn check_entries(&self, more: usize) -> Result<(), XsError> {
        let growth = self.tx.as_ref().map_or(0, |tx| tx.growth(self.who.domid));
        let have = self
            .store
            .entries_of(self.who.domid)
            .saturating_add_signed(growth);
        let fits = self.who.privileged || have + more <= self.store.quotas.entries;
        if fits { Ok(()) } else { Err(XsError::ENOSPC) }
    }

    fn changed(&mut self, path: &Path, past: Option<Perms>) -> Result<(), XsError> {
        if let Some(node) = self.find(path)? {
            let perms = node.perms.clone();
            self.record(Change {
                path: path.clone(),
                exact: false,
                perms,
                past,
            });
        }
        Ok(())
    }

    fn record(&mut self, change: Change) {
        match &mut self.tx {
            Some(tx) => tx.record(change),
            None => self.store.changes.push(change),
        }
    }

    fn find(&mut self, path: &str) -> Result<Option<&Arc<Node>>, XsError> {
        let Some(tx) = &mut self.tx else {
            return Ok(self.store.nodes.get(path));
        };
        let limit = match self.who.privileged {
            true => usize::MAX,
            false => self.store.quotas.transaction_nodes,
        };
        tx.find(self.store, path, limit)
    }

    /// Changes a node that `find` has found.
    fn edit(&mut self, path: &Path, change: impl FnOnce(&mut Node)) {
        let node = match &mut self.tx {
            Some(tx) => tx.borrow(path),
            None => self.store.take(path),
        };
        let Some(mut node) = node else { return };
        change(Arc::make_mut(&mut node));
        self.replace(path, node);
    }

    fn insert(&mut self, path: &Path, node: Node) {
        self.replace(path, Arc::new(node));
    }

    fn replace(&mut self, path: &Path, mut node: Arc<Node>) {
        Arc::make_mut(&mut node).generation = self.store.next_generation();
        match &mut self.tx {
            Some(tx) => tx.put(path, Some(node)),
            None => self.store.put(path.clone(), node),
        }
    }

    fn erase(&mut self, path: &Path) {
        match &mut self.tx {
            Some(tx) => tx.put(path, None),
            None => drop(self.store.take(path)),
        }
    }
}
