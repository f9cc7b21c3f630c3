//! Bridges: joining one, making it if asked to, removing it after its last user.
//!
//! A bridge that was made here carries a mark; whoever leaves a marked bridge as the last removes
//! it. A lock keeps one from removing it while another joins.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use netlink_packet_route::link::LinkAttribute;
use nix::fcntl::{Flock, FlockArg};

use crate::NetdevError;
use crate::netlink::{Interface, Netlink};

/// The mark, the interface's alias.
const MADE: &str = "made by xenner";

const LOCK: &str = "/run/xenner-bridges.lock";

/// Makes an interface a port of a bridge. Gives the bridge.
pub(crate) fn join(
    netlink: &Netlink,
    port: &Interface,
    name: &str,
    create: bool,
) -> Result<Interface, NetdevError> {
    let _lock = lock();
    let bridge = match find(netlink, name)? {
        Some(bridge) => bridge,
        None if create => make(netlink, name)?,
        None => return Err(missing(name)),
    };
    if port.bridge != Some(bridge.index) {
        let attributes = vec![LinkAttribute::Controller(bridge.index)];
        netlink
            .set(port.index, attributes, false)
            .map_err(NetdevError::denied(format!(
                "Adding {} to the bridge {name}",
                port.name
            )))?;
    }
    Ok(bridge)
}

/// Refuses when there is no such bridge.
pub(crate) fn require(netlink: &Netlink, name: &str) -> Result<(), NetdevError> {
    find(netlink, name)?.map(drop).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> NetdevError {
    NetdevError::Missing {
        what: "bridge",
        name: name.to_owned(),
        help: format!(
            ": as root, ip link add {name} type bridge; or let it be made by the option create"
        ),
    }
}

/// The bridge of that name; without one, `None`.
fn find(netlink: &Netlink, name: &str) -> Result<Option<Interface>, NetdevError> {
    let found = netlink
        .find(name)
        .map_err(NetdevError::host(format!("look for the bridge {name}")))?;
    match found {
        Some(other) if other.kind.as_deref() != Some("bridge") => Err(NetdevError::Kind {
            name: name.to_owned(),
            wanted: "bridge",
        }),
        found => Ok(found),
    }
}

fn make(netlink: &Netlink, name: &str) -> Result<Interface, NetdevError> {
    let denied = || NetdevError::denied(format!("Making the bridge {name}"));
    netlink.make_bridge(name).map_err(denied())?;
    let bridge = netlink.find(name).map_err(denied())?;
    let bridge = bridge.ok_or_else(|| denied()(std::io::ErrorKind::NotFound.into()))?;
    let mut attributes = vec![LinkAttribute::IfAlias(MADE.into())];
    // An address that was set stays; otherwise the bridge takes the lowest of its ports'.
    attributes.extend(bridge.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    netlink
        .set(bridge.index, attributes, true)
        .map_err(denied())?;
    Ok(bridge)
}

/// Removes a bridge that was made here and has no port left.
pub(crate) fn leave(name: &str) -> Result<(), NetdevError> {
    let failed = || NetdevError::host(format!("remove the bridge {name}"));
    let _lock = lock();
    let netlink = Netlink::new().map_err(failed())?;
    let Some(bridge) = find(&netlink, name)? else {
        return Ok(());
    };
    let interfaces = netlink.all().map_err(failed())?;
    let used = interfaces
        .iter()
        .any(|port| port.bridge == Some(bridge.index));
    if used || bridge.alias.as_deref() != Some(MADE) {
        return Ok(());
    }
    netlink.delete(bridge.index).map_err(failed())
}

/// Without the right to write there we go on unlocked: then the network is a container's own.
fn lock() -> Option<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(LOCK)
        .inspect_err(|error| tracing::debug!("No lock on bridges: {LOCK}: {error}"))
        .ok()?;
    Flock::lock(file, FlockArg::LockExclusive).ok()
}
