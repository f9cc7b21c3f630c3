//! Who may do what: domain ids, permission lists and the caller's identity.
//!
//! A permission list names the node's owner first. The owner has every right;
//! the first entry's letter is what domains not named further down get; each
//! later entry grants one domain (`docs/misc/xenstore.txt`, GET_PERMS).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

pub use xen_sys::DomId;
pub use xen_sys::xen::DOMID_FIRST_RESERVED;

/// The control domain, or the host where there is none.
pub const DOM0: DomId = DomId(0);

bitflags::bitflags! {
    /// Rights on a node.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// See value, children and permissions.
        const READ = 1;
        /// Change the value, create children, remove the node.
        const WRITE = 2;
        /// Change the permissions.
        const OWNER = 4;
    }
}

/// A permission string that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Malformed permission {0:?}: write one of n, r, w, b and a domain id, as in r5.")]
pub struct PermError(pub String);

/// One entry of a permission list: a letter and a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Perm {
    /// The domain spoken of.
    pub domid: DomId,
    /// `READ`, `WRITE`, both or none.
    pub rights: Rights,
}

impl Perm {
    /// No access (`n`).
    #[must_use]
    pub const fn none(domid: DomId) -> Perm {
        Perm {
            domid,
            rights: Rights::empty(),
        }
    }

    /// Read only (`r`).
    #[must_use]
    pub const fn read(domid: DomId) -> Perm {
        Perm {
            domid,
            rights: Rights::READ,
        }
    }

    /// Read and write (`b`).
    #[must_use]
    pub const fn both(domid: DomId) -> Perm {
        Perm {
            domid,
            rights: Rights::READ.union(Rights::WRITE),
        }
    }

    /// Parses `[nrwb]<domid>`.
    ///
    /// # Errors
    /// [`PermError`] with the text.
    pub fn parse(text: &[u8]) -> Result<Perm, PermError> {
        let bad = || PermError(String::from_utf8_lossy(text).into_owned());
        let (&letter, digits) = text.split_first().ok_or_else(bad)?;
        let rights = match letter {
            b'n' => Rights::empty(),
            b'r' => Rights::READ,
            b'w' => Rights::WRITE,
            b'b' => Rights::READ | Rights::WRITE,
            _ => return Err(bad()),
        };
        let domid = parse_domid(digits).ok_or_else(bad)?;
        Ok(Perm { domid, rights })
    }
}

/// A decimal domain id, digits only.
#[must_use]
pub fn parse_domid(digits: &[u8]) -> Option<DomId> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().map(DomId)
}

impl fmt::Display for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match (
            self.rights.contains(Rights::READ),
            self.rights.contains(Rights::WRITE),
        ) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        };
        write!(f, "{letter}{}", self.domid.0)
    }
}

/// A node's permission list: the owner's entry and any others. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Perms {
    owner: Perm,
    others: Arc<[Perm]>,
}

impl Perms {
    /// A list of the owner's entry and `others`, in their order.
    #[must_use]
    pub fn new(owner: Perm, others: &[Perm]) -> Perms {
        Perms {
            owner,
            others: Arc::from(others),
        }
    }

    /// Parses permission strings, the owner's first.
    ///
    /// # Errors
    /// [`PermError`] for a malformed string or an empty list.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<Perms, PermError> {
        let entries = texts
            .into_iter()
            .map(Perm::parse)
            .collect::<Result<Vec<Perm>, PermError>>()?;
        let (&owner, others) = entries
            .split_first()
            .ok_or_else(|| PermError(String::new()))?;
        Ok(Perms::new(owner, others))
    }

    /// The owning domain; the node counts against its quota.
    #[must_use]
    pub fn owner(&self) -> DomId {
        self.owner.domid
    }

    /// All entries, the owner's first.
    pub fn entries(&self) -> impl Iterator<Item = &Perm> {
        std::iter::once(&self.owner).chain(self.others.iter())
    }

    /// Number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// What `who` may do.
    #[must_use]
    pub fn rights(&self, who: &Identity) -> Rights {
        if who.privileged || who.acts_for(self.owner.domid) {
            return Rights::all();
        }
        self.others
            .iter()
            .find(|perm| who.acts_for(perm.domid))
            .unwrap_or(&self.owner)
            .rights
    }

    /// The same list owned by another domain.
    #[must_use]
    pub fn owned_by(&self, domid: DomId) -> Perms {
        Perms {
            owner: Perm {
                domid,
                ..self.owner
            },
            others: self.others.clone(),
        }
    }

    /// The list without grants to `domid`, or `None` when there are none.
    #[must_use]
    pub fn without(&self, domid: DomId) -> Option<Perms> {
        let kept: Vec<Perm> = self
            .others
            .iter()
            .copied()
            .filter(|perm| perm.domid != domid)
            .collect();
        (kept.len() != self.others.len()).then(|| Perms::new(self.owner, &kept))
    }

    /// The entries as the protocol sends them, each ended by a nul byte.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        self.entries()
            .flat_map(|perm| format!("{perm}\0").into_bytes())
            .collect()
    }
}

/// Who speaks on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Base of relative paths, owner of created nodes, holder of quotas.
    pub domid: DomId,
    /// Every right, no quota. True for domain 0 and the host's sockets.
    pub privileged: bool,
    /// A domain whose rights this one has too (SET_TARGET; stub domains).
    pub target: Option<DomId>,
}

impl Identity {
    /// Domain 0, or a host program.
    #[must_use]
    pub const fn host() -> Identity {
        Identity {
            domid: DOM0,
            privileged: true,
            target: None,
        }
    }

    /// An unprivileged domain.
    #[must_use]
    pub const fn guest(domid: DomId) -> Identity {
        Identity {
            domid,
            privileged: false,
            target: None,
        }
    }

    fn acts_for(&self, domid: DomId) -> bool {
        self.domid == domid || self.target == Some(domid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perms(texts: &[&str]) -> Perms {
        Perms::parse(texts.iter().map(|text| text.as_bytes())).unwrap()
    }

    #[test]
    fn letters_round_trip() {
        for text in ["n0", "r1", "w2", "b65535"] {
            assert_eq!(Perm::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        for text in ["", "r", "x1", "r65536", "r-1", "r+1", "r1 ", "1"] {
            assert!(Perm::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Perms::parse([]).is_err());
        assert_eq!(perms(&["n0", "r3"]).to_wire(), b"n0\0r3\0");
    }

    #[test]
    fn owner_has_all_named_domains_theirs_others_the_first_letter() {
        let list = perms(&["r5", "w6", "n7"]);
        assert_eq!(list.rights(&Identity::guest(DomId(5))), Rights::all());
        assert_eq!(list.rights(&Identity::guest(DomId(6))), Rights::WRITE);
        assert_eq!(list.rights(&Identity::guest(DomId(7))), Rights::empty());
        assert_eq!(list.rights(&Identity::guest(DomId(8))), Rights::READ);
        assert_eq!(list.rights(&Identity::host()), Rights::all());
    }

    #[test]
    fn a_target_lends_its_rights() {
        let stub = Identity {
            target: Some(DomId(5)),
            ..Identity::guest(DomId(9))
        };
        assert_eq!(perms(&["n5"]).rights(&stub), Rights::all());
        assert_eq!(perms(&["n0", "r5"]).rights(&stub), Rights::READ);
    }

    #[test]
    fn grants_to_a_dead_domain_go_away() {
        assert_eq!(
            perms(&["n0", "r3", "r4"]).without(DomId(3)),
            Some(perms(&["n0", "r4"]))
        );
        assert_eq!(perms(&["n3"]).without(DomId(3)), None);
    }
}
