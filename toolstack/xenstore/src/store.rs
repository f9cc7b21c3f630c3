//! The tree of nodes.
//!
//! Nodes live in one flat map from path to [`Node`]; a node lists its
//! children's names in the order of their creation. Every change gives the
//! node a new, never reused generation: transactions compare generations
//! instead of contents. Nodes are shared (`Arc`) with the transactions that
//! touched them and copied only when written.
//!
//! All operations go through a [`Session`]: who asks, and in which
//! transaction. Each change leaves a [`Change`] behind, from which the server
//! makes watch events.

use std::collections::HashMap;
use std::sync::Arc;

use crate::path::Path;
use crate::perms::{DOM0, DomId, Identity, Perm, Perms, Rights};
use crate::wire::XsError;

mod session;
mod transaction;

pub use session::Session;
pub use transaction::Transaction;

/// Special watch fired when a domain is introduced.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// Special watch fired when a domain shuts down, dies or is released.
pub const RELEASE_DOMAIN: &str = "@releaseDomain";

/// What an unprivileged domain may use up. The defaults are xenstored's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Nodes owned.
    pub entries: usize,
    /// Bytes of one node: value, children's names and permissions.
    pub node_size: usize,
    /// Entries of a node's permission list.
    pub perms: usize,
    /// Watches per connection.
    pub watches: usize,
    /// Open transactions per connection.
    pub transactions: usize,
    /// Nodes touched by one transaction.
    pub transaction_nodes: usize,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas {
            entries: 1000,
            node_size: 2048,
            perms: 5,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The value; often empty for a node with children.
    pub value: Vec<u8>,
    /// Who may do what.
    pub perms: Perms,
    /// Names of the children, oldest first.
    pub children: Vec<Box<str>>,
    /// Differs from that of every other state of any node.
    pub generation: u64,
}

impl Node {
    fn new(value: &[u8], perms: Perms) -> Node {
        Node {
            value: value.to_vec(),
            perms,
            children: Vec::new(),
            generation: 0,
        }
    }

    /// Size as xenstored counts it: the 24 bytes of its node header, 8 per
    /// permission, the value, and each child's name with its nul.
    fn size(&self) -> usize {
        let names: usize = self.children.iter().map(|name| name.len() + 1).sum();
        24 + 8 * self.perms.count() + self.value.len() + names
    }
}

/// A change that watches are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changed, or a special name.
    pub path: Path,
    /// Tell only watches on this very path: it went away together with an
    /// ancestor, whose own event serves the watches above.
    pub exact: bool,
    /// The node's permissions, the last ones if it is gone.
    perms: Perms,
    /// Who could read by these may know too: the permissions before, where
    /// they changed, or those of the parent, where it went along.
    past: Option<Perms>,
}

/// The database.
#[derive(Debug)]
pub struct Store {
    nodes: HashMap<Path, Arc<Node>>,
    owned: HashMap<DomId, usize>,
    generation: u64,
    quotas: Quotas,
    changes: Vec<Change>,
}

impl Default for Store {
    fn default() -> Store {
        Store::new(Quotas::default())
    }
}

impl Store {
    /// The tree a fresh xenstored has: `/`, `/tool`, `/tool/xenstored` and the
    /// special names, all domain 0's and closed to others.
    #[must_use]
    pub fn new(quotas: Quotas) -> Store {
        let mut store = Store {
            nodes: HashMap::new(),
            owned: HashMap::new(),
            generation: 0,
            quotas,
            changes: Vec::new(),
        };
        let perms = Perms::new(Perm::none(DOM0), &[]);
        for name in ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
            store.put(Path::known(name), Arc::new(Node::new(b"", perms.clone())));
        }
        // Nothing can be missing or forbidden here, and nobody watches yet.
        let _ = store.host().mkdir(&Path::known("/tool/xenstored"));
        store.changes.clear();
        store
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Nodes owned by a domain.
    #[must_use]
    pub fn entries_of(&self, domid: DomId) -> usize {
        self.owned.get(&domid).copied().unwrap_or(0)
    }

    /// A node, without any permission check.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path).map(Arc::as_ref)
    }

    /// Operations by `who`, inside `tx` if given.
    pub fn session<'a>(
        &'a mut self,
        who: Identity,
        tx: Option<&'a mut Transaction>,
    ) -> Session<'a> {
        Session::new(self, who, tx)
    }

    /// Operations by the host itself, outside transactions.
    pub fn host(&mut self) -> Session<'_> {
        self.session(Identity::host(), None)
    }

    /// The changes since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether `who` may learn of a change: it can read the node, could before
    /// the change, or can read the parent or could until it went along.
    #[must_use]
    pub fn may_see(&self, change: &Change, who: &Identity) -> bool {
        let readable = |perms: &Perms| perms.rights(who).contains(Rights::READ);
        let parent = || {
            change
                .path
                .parent_str()
                .and_then(|parent| self.node(parent))
        };
        readable(&change.perms)
            || change.past.as_ref().is_some_and(readable)
            || parent().is_some_and(|node| readable(&node.perms))
    }

    /// Records the special change `name`, such as [`RELEASE_DOMAIN`].
    pub fn announce(&mut self, name: &'static str) {
        if let Some(node) = self.nodes.get(name) {
            let perms = node.perms.clone();
            let path = Path::known(name);
            self.changes.push(Change {
                path,
                exact: false,
                perms,
                past: None,
            });
        }
    }

    /// Forgets a dead domain: what it owned goes, and every grant to it, lest
    /// a later domain of the same id inherit either.
    pub fn forget_domain(&mut self, domid: DomId) {
        let mut owned: Vec<Path> = self
            .nodes
            .iter()
            .filter(|(path, node)| node.perms.owner() == domid && path.parent_str().is_some())
            .map(|(path, _)| path.clone())
            .collect();
        // Ancestors first: what goes with one is no news of its own.
        owned.sort();
        for path in owned {
            // It may have gone with an ancestor already.
            let _ = self.host().rm(&path);
        }
        for node in self.nodes.values_mut() {
            if let Some(perms) = node.perms.without(domid) {
                self.generation += 1;
                let node = Arc::make_mut(node);
                (node.perms, node.generation) = (perms, self.generation);
            }
        }
    }

    /// Ends a transaction, keeping what it did.
    ///
    /// # Errors
    /// `EAGAIN` when a node it touched has changed since; `ENOSPC` when `who`
    /// would own too many nodes. The transaction is gone either way.
    pub fn commit(&mut self, who: Identity, tx: Transaction) -> Result<(), XsError> {
        let fresh = tx
            .touched()
            .all(|(path, base)| self.nodes.get(path.as_str()).map(|node| node.generation) == base);
        if !fresh {
            return Err(XsError::EAGAIN);
        }
        let grown = tx.grown(who.domid).is_some_and(|more| {
            self.entries_of(who.domid).saturating_add(more) > self.quotas.entries
        });
        if grown && !who.privileged {
            return Err(XsError::ENOSPC);
        }
        let (nodes, changes) = tx.into_parts();
        for (path, node) in nodes {
            match node {
                Some(node) => self.put(path, node),
                None => drop(self.take(&path)),
            }
        }
        self.changes.extend(changes);
        Ok(())
    }

    /// Verifies the invariants of the tree.
    ///
    /// # Errors
    /// A sentence naming the first broken one.
    pub fn check(&self) -> Result<(), String> {
        let mut owned: HashMap<DomId, usize> = HashMap::new();
        let mut listed = 0;
        for (path, node) in &self.nodes {
            *owned.entry(node.perms.owner()).or_default() += 1;
            for name in &node.children {
                listed += 1;
                if !self.nodes.contains_key(path.child(name).as_str()) {
                    return Err(format!("{path} lists {name}, which does not exist."));
                }
            }
        }
        let below = self
            .nodes
            .keys()
            .filter(|path| path.parent_str().is_some())
            .count();
        if listed != below {
            return Err(format!(
                "{below} nodes have parents, {listed} are listed as children."
            ));
        }
        let counted: HashMap<_, _> = self.owned.iter().filter(|(_, count)| **count > 0).collect();
        if counted != owned.iter().collect() {
            return Err(format!("Owners counted as {counted:?}, found {owned:?}."));
        }
        Ok(())
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn put(&mut self, path: Path, node: Arc<Node>) {
        *self.owned.entry(node.perms.owner()).or_default() += 1;
        if let Some(old) = self.nodes.insert(path, node) {
            self.disown(old.perms.owner());
        }
    }

    fn take(&mut self, path: &str) -> Option<Arc<Node>> {
        let old = self.nodes.remove(path)?;
        self.disown(old.perms.owner());
        Some(old)
    }

    fn disown(&mut self, domid: DomId) {
        if let Some(count) = self.owned.get_mut(&domid) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
