//! Whether the device model is confined: another user than root, an empty root directory, and no right to
//! domains other than its own (Xen's `docs/features/qemu-depriv.pandoc`).
//!
//! `dm_restrict` asks for it or forbids it. Without the key it is confined where the host has a user for it
//! and no disk of the domain would be lost by it.

use nix::errno::Errno;
use nix::unistd::User;
use xen_sys::DomId;
use xt_config::HvmSpec;
use xt_host::{HostError, Result};

use super::arguments::Confined;
use super::process;
use crate::failed;

/// A user for the domain of a number that is this user's and the number's sum.
const RANGE: &str = "xen-qemuuser-range-base";
/// A user for all domains.
const SHARED: &str = "xen-qemuuser-shared";

/// How the device model runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// As another user, with its own domain only.
    Confined(Confined),
    /// As root, which the configuration asks for.
    Root,
    /// As root, which the configuration leaves open, because of this.
    RootBecause(String),
}

/// The rights of a domain's device model. `served` is a disk whose back end it is for paravirtual drivers:
/// that takes rights to map the domain's grants, which one that is confined has given up.
///
/// # Errors
/// The domain is to have one that is confined, and there is no user for it.
pub(super) fn rights(domid: DomId, hvm: &HvmSpec, served: Option<&str>) -> Result<Rights> {
    let asked = hvm.dm_restrict.0;
    let found = match (asked, served) {
        (Some(false), _) => return Ok(Rights::Root),
        (None, Some(vdev)) => {
            let why = format!("it is the back end of disk {vdev}");
            return Ok(Rights::RootBecause(why));
        }
        _ => user(domid, hvm)?,
    };
    match (found, asked) {
        (Some((0, _)), None) => Ok(Rights::Root),
        (Some((0, _)), _) => {
            let message = "a device model that is confined cannot be root".into();
            Err(refused("device_model_user", message, None))
        }
        (Some((uid, gid)), _) => {
            let root = process::root_dir(domid);
            Ok(Rights::Confined(Confined { uid, gid, root }))
        }
        (None, None) => {
            let make = "adduser --system --no-create-home";
            let why = format!("there is no user {SHARED} ({make} {SHARED})");
            Ok(Rights::RootBecause(why))
        }
        (None, _) => {
            let own = own_user(domid);
            let message = format!(
                "there is no user for the device model: neither {own}, {RANGE} nor {SHARED}"
            );
            let help = format!(
                "Make one (adduser --system --no-create-home {SHARED}), name one as device_model_user, or set \
                 dm_restrict=0."
            );
            Err(refused("dm_restrict", message, Some(help)))
        }
    }
}

/// User and group: those that are asked for, the domain's own, one of a range, or those for all, as libxl
/// looks for them.
fn user(domid: DomId, hvm: &HvmSpec) -> Result<Option<(u32, u32)>> {
    let ids = |user: User| (user.uid.as_raw(), user.gid.as_raw());
    if let Some(name) = &hvm.device_model_user {
        let message = format!("there is no user {name:?}");
        let missing = || refused("device_model_user", message, None);
        return find(name)?.map(ids).ok_or_else(missing).map(Some);
    }
    if let Some(user) = find(&own_user(domid))? {
        return Ok(Some(ids(user)));
    }
    if let Some(user) = find(RANGE)? {
        let (base, gid) = ids(user);
        return Ok(Some((base + u32::from(domid.0), gid)));
    }
    Ok(find(SHARED)?.map(ids))
}

fn own_user(domid: DomId) -> String {
    format!("xen-qemuuser-domid{}", domid.0)
}

fn find(name: &str) -> Result<Option<User>> {
    match User::from_name(name) {
        // Nobody of that name, or no list of users at all (getpwnam(3)).
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        found => found.map_err(|errno| failed("Cannot look for users")(errno.into())),
    }
}

fn refused(key: &'static str, message: String, help: Option<String>) -> HostError {
    HostError::Key { key, message, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xt_config::DomainSpec;

    fn asked(more: &str, served: Option<&str>) -> Result<Rights> {
        let text = format!("name = 'd'\ntype = 'hvm'\nmemory = 256\n{more}\n");
        let document = xt_config::parse(&text, "d.cfg").expect("a configuration");
        let keys = [xt_config::keys::SPEC_KEYS, xt_config::HVM_KEYS].concat();
        let spec = DomainSpec::from_document(&document, &keys);
        let spec = spec.expect("a specification").value;
        rights(
            DomId(7),
            spec.hvm.as_deref().expect("an HVM domain"),
            served,
        )
    }

    fn why_root(more: &str, served: Option<&str>) -> Option<String> {
        match asked(more, served).expect("rights") {
            Rights::RootBecause(why) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn it_is_confined_where_there_is_a_user() {
        let confined = asked("device_model_user = 'daemon'", None).expect("rights");
        assert!(matches!(confined, Rights::Confined(to) if to.uid != 0));
        // No such user on machines that tests run on.
        let why = why_root("", None).expect("a hindrance");
        assert!(why.contains("adduser"), "{why}");
        let none = asked("dm_restrict = 1", None).unwrap_err().chain();
        assert!(none.contains("xen-qemuuser-domid7"), "{none}");
    }

    #[test]
    fn root_is_what_it_is_told_to_be() {
        assert_eq!(
            asked("dm_restrict = 0", Some("xvda")).expect("rights"),
            Rights::Root
        );
        assert_eq!(
            asked("device_model_user = 'root'", None).expect("rights"),
            Rights::Root
        );
        let both = "device_model_user = 'root'\ndm_restrict = 1";
        let said = asked(both, None).unwrap_err().chain();
        assert!(said.contains("cannot be root"), "{said}");
    }

    #[test]
    fn who_serves_a_disk_is_confined_only_when_told_to() {
        let user = "device_model_user = 'daemon'";
        let why = why_root(user, Some("xvda"));
        assert_eq!(why.as_deref(), Some("it is the back end of disk xvda"));
        let told = asked(&format!("{user}\ndm_restrict = 1"), Some("xvda"));
        assert!(matches!(told.expect("rights"), Rights::Confined(_)));
    }
}
