//! Whether the device model is confined: another user than root, an empty root directory, and no right to
//! domains other than its own (Xen's `docs/features/qemu-depriv.pandoc`).
//!
//! `dm_restrict` asks for it or forbids it. Without the key it is confined where the host has a user for it
//! and nothing of the domain would break; [`hindrance`] says what is in the way.

use nix::errno::Errno;
use nix::unistd::User;
use xen_sys::DomId;
use xt_config::disk::{DiskBackend, DiskFormat, DiskSpec};
use xt_config::{DomainSpec, HvmSpec};
use xt_host::{HostError, Result};

use super::arguments::Confined;
use super::process;
use crate::failed;

/// A user for the domain of a number that is this user's and the number's sum.
const RANGE: &str = "xen-qemuuser-range-base";
/// A user for all domains.
const SHARED: &str = "xen-qemuuser-shared";

/// As whom and where the device model runs; `None`: as root, and anywhere.
pub(super) fn wanted(domid: DomId, spec: &DomainSpec, hvm: &HvmSpec) -> Result<Option<Confined>> {
    let (uid, gid) = match hvm.dm_restrict.0 {
        Some(false) => return Ok(None),
        None if hindrance(spec, hvm)?.is_some() => return Ok(None),
        _ => user(domid, hvm)?,
    };
    if uid == 0 {
        let message = "a device model that is confined cannot be root".into();
        return Err(refused("device_model_user", message, None));
    }
    let root = process::root_dir(domid);
    Ok(Some(Confined { uid, gid, root }))
}

/// Why a domain that does not say whether has a device model that is not confined.
///
/// # Errors
/// The users of this host cannot be looked up.
pub(crate) fn hindrance(spec: &DomainSpec, hvm: &HvmSpec) -> Result<Option<String>> {
    if hvm.dm_restrict.0.is_some() {
        return Ok(None);
    }
    if let Some(disk) = spec.disks.iter().find(|disk| is_served(disk)) {
        let vdev = &disk.vdev;
        return Ok(Some(format!("it is the back end of disk {vdev}")));
    }
    let named = hvm.device_model_user.is_some();
    if named || find(RANGE)?.is_some() || find(SHARED)?.is_some() {
        return Ok(None);
    }
    let make = "adduser --system --no-create-home";
    Ok(Some(format!("there is no user {SHARED} ({make} {SHARED})")))
}

/// Whether the device model is what paravirtual drivers have behind a disk, which takes rights that one
/// that is confined has given up.
fn is_served(disk: &DiskSpec) -> bool {
    let by_kernel = disk.format == DiskFormat::Raw || disk.script.is_some();
    match disk.backend_type {
        _ if disk.cdrom => false,
        Some(backend) => backend == DiskBackend::Qdisk,
        None => !by_kernel,
    }
}

/// The one that is asked for, the domain's own, one of a range, or one for all, as libxl looks for them.
fn user(domid: DomId, hvm: &HvmSpec) -> Result<(u32, u32)> {
    let ids = |user: User| (user.uid.as_raw(), user.gid.as_raw());
    if let Some(name) = &hvm.device_model_user {
        let message = format!("there is no user {name:?}");
        let missing = || refused("device_model_user", message, None);
        return find(name)?.map(ids).ok_or_else(missing);
    }
    let own = format!("xen-qemuuser-domid{}", domid.0);
    if let Some(user) = find(&own)? {
        return Ok(ids(user));
    }
    if let Some(user) = find(RANGE)? {
        let (base, gid) = ids(user);
        return Ok((base + u32::from(domid.0), gid));
    }
    find(SHARED)?.map(ids).ok_or_else(|| {
        let help = format!(
            "Make one (adduser --system --no-create-home {SHARED}), name one as device_model_user, or set \
             dm_restrict=0."
        );
        let message =
            format!("there is no user for the device model: neither {own}, {RANGE} nor {SHARED}");
        refused("dm_restrict", message, Some(help))
    })
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

    fn why_not(more: &str) -> Option<String> {
        let text = format!("name = 'd'\ntype = 'hvm'\nmemory = 256\n{more}\n");
        let document = xt_config::parse(&text, "d.cfg").expect("a configuration");
        let keys = [xt_config::keys::SPEC_KEYS, xt_config::HVM_KEYS].concat();
        let spec = DomainSpec::from_document(&document, &keys);
        let spec = spec.expect("a specification").value;
        hindrance(&spec, spec.hvm.as_deref().expect("an HVM domain")).expect("users")
    }

    #[test]
    fn only_who_does_not_say_is_told() {
        assert_eq!(why_not("dm_restrict = 0"), None);
        assert_eq!(why_not("dm_restrict = 1"), None);
        assert_eq!(why_not("device_model_user = 'nobody'"), None);
        // No such user on machines that tests run on.
        let said = why_not("").expect("a hindrance");
        assert!(said.contains("adduser"), "{said}");
    }

    #[test]
    fn who_serves_disks_is_not_confined() {
        let user = "device_model_user = 'nobody'";
        for (disk, served) in [
            ("/d,qcow2,xvda,w", true),
            ("/d,raw,xvda,w,backendtype=qdisk", true),
            ("/d,raw,xvda,w", false),
            ("/d,qcow2,xvda,w,backendtype=phy", false),
            ("/d,raw,hdc,cdrom", false),
        ] {
            let said = why_not(&format!("{user}\ndisk = ['{disk}']"));
            let wanted = "it is the back end of disk xvda".to_owned();
            assert_eq!(said, served.then_some(wanted), "{disk}");
        }
    }
}
