//! Transactions: a private copy of what was touched.
//!
//! The first access to a node, read or write, copies it and remembers its
//! generation (or its absence). Later accesses see the copy. At the end the
//! transaction holds if every touched node is still of that generation: then
//! all its reads and writes could as well have happened at that one moment.
//! Transactions that touch different nodes never disturb each other.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Change, Node, Store};
use crate::path::Path;
use crate::perms::DomId;
use crate::wire::XsError;

#[derive(Debug)]
struct Touched {
    /// Generation at the first access, `None` where there was no node.
    base: Option<u64>,
    node: Option<Arc<Node>>,
    changed: bool,
    /// Index into the changes.
    change: Option<usize>,
}

/// An open transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    touched: HashMap<Path, Touched>,
    /// Nodes gained (or lost) per owner.
    growth: HashMap<DomId, isize>,
    changes: Vec<Change>,
}

impl Transaction {
    /// The node as this transaction sees it; touches it.
    pub(super) fn find(
        &mut self,
        store: &Store,
        path: &str,
        limit: usize,
    ) -> Result<Option<&Arc<Node>>, XsError> {
        if !self.touched.contains_key(path) {
            if self.touched.len() >= limit {
                return Err(XsError::ENOSPC);
            }
            let node = store.nodes.get(path).cloned();
            let base = node.as_ref().map(|node| node.generation);
            let touched = Touched {
                base,
                node,
                changed: false,
                change: None,
            };
            self.touched.insert(Path::known(path), touched);
        }
        Ok(self
            .touched
            .get(path)
            .and_then(|touched| touched.node.as_ref()))
    }

    /// Replaces a node found before.
    pub(super) fn put(&mut self, path: &str, node: Option<Arc<Node>>) {
        let Some(touched) = self.touched.get_mut(path) else {
            return;
        };
        if let Some(node) = &node {
            *self.growth.entry(node.perms.owner()).or_default() += 1;
        }
        touched.changed = true;
        if let Some(old) = std::mem::replace(&mut touched.node, node) {
            *self.growth.entry(old.perms.owner()).or_default() -= 1;
        }
    }

    /// Takes a node found before out for editing; `put` must follow.
    pub(super) fn borrow(&mut self, path: &str) -> Option<Arc<Node>> {
        let node = self.touched.get_mut(path)?.node.take()?;
        *self.growth.entry(node.perms.owner()).or_default() -= 1;
        Some(node)
    }

    /// Remembers a change for the commit; one per node, however often it
    /// changes, so that the list is bounded by the nodes touched.
    pub(super) fn record(&mut self, change: Change) {
        let Some(touched) = self.touched.get_mut(change.path.as_str()) else {
            return;
        };
        match touched.change.and_then(|at| self.changes.get_mut(at)) {
            Some(known) => {
                known.exact &= change.exact;
                known.perms = change.perms;
                known.past = known.past.take().or(change.past);
            }
            None => {
                touched.change = Some(self.changes.len());
                self.changes.push(change);
            }
        }
    }

    /// By how many nodes the transaction changes what `domid` owns.
    pub(super) fn growth(&self, domid: DomId) -> isize {
        self.growth.get(&domid).copied().unwrap_or(0)
    }

    /// As [`Transaction::growth`], `None` unless it is more than nothing.
    pub(super) fn grown(&self, domid: DomId) -> Option<usize> {
        usize::try_from(self.growth(domid))
            .ok()
            .filter(|&more| more > 0)
    }

    pub(super) fn touched(&self) -> impl Iterator<Item = (&Path, Option<u64>)> {
        self.touched
            .iter()
            .map(|(path, touched)| (path, touched.base))
    }

    pub(super) fn into_parts(
        self,
    ) -> (impl Iterator<Item = (Path, Option<Arc<Node>>)>, Vec<Change>) {
        let changed = self
            .touched
            .into_iter()
            .filter(|(_, touched)| touched.changed);
        (
            changed.map(|(path, touched)| (path, touched.node)),
            self.changes,
        )
    }
}
