//! macvtap interfaces: a station of their own on a host interface.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use netlink_packet_route::link::{LinkAttribute, MacVtapMode};

use crate::netlink::Netlink;
use crate::open::{Chores, Description, Request};
use crate::spec::{MacvtapMode, MacvtapSpec};
use crate::{NetdevError, Offloads, tap};

/// Makes one and opens its queues.
pub(crate) fn open(
    spec: &MacvtapSpec,
    request: &Request,
    mtu: Option<u32>,
    description: &mut Description,
) -> Result<(Vec<OwnedFd>, Chores), NetdevError> {
    let name = spec.name.as_ref().unwrap_or(&request.name);
    let denied = || NetdevError::denied(format!("Making the macvtap interface {name}"));
    let netlink = Netlink::new().map_err(denied())?;
    let parent = netlink.find(&spec.parent).map_err(denied())?;
    let parent = parent.ok_or_else(|| NetdevError::Missing {
        what: "interface",
        name: spec.parent.clone(),
        help: String::new(),
    })?;
    let mode = match spec.mode {
        MacvtapMode::Bridge => MacVtapMode::Bridge,
        MacvtapMode::Private => MacVtapMode::Private,
        MacvtapMode::Vepa => MacVtapMode::Vepa,
        MacvtapMode::Passthru => MacVtapMode::Passthrough,
    };
    netlink
        .make_macvtap(name, parent.index, mode, description.mac)
        .map_err(denied())?;
    // From here on it goes with the chores, whatever happens.
    let mut chores = Chores::default();
    chores.macvtap = Some(name.clone());
    let made = netlink.find(name).map_err(denied())?;
    let made = made.ok_or_else(|| denied()(io::ErrorKind::NotFound.into()))?;
    let attributes = mtu.map(LinkAttribute::Mtu).into_iter().collect();
    netlink
        .set(made.index, attributes, true)
        .map_err(denied())?;
    let device = PathBuf::from(format!("/dev/tap{}", made.index));
    let flags = tap::FLAGS | libc::IFF_MULTI_QUEUE;
    let queue = |_| {
        let denied = || NetdevError::denied(format!("Opening {}", device.display()));
        let fd = tap::attach(&device, name, flags).map_err(denied())?;
        // In a container the file could be that of another network's interface.
        match tap::interface(fd.as_fd()) {
            Some(other) if other == *name => Ok(fd),
            _ => Err(denied()(io::ErrorKind::NotFound.into())),
        }
    };
    let fds = (0..request.queues).map(queue).collect::<Result<_, _>>()?;
    description.mac = description.mac.or(made.mac);
    description.mtu = mtu.unwrap_or(made.mtu);
    description.offloads = Offloads::ALL;
    description.interface = Some(name.clone());
    Ok((fds, chores))
}

/// Deletes one.
pub(crate) fn delete(name: &str) -> Result<(), NetdevError> {
    let failed = || NetdevError::host(format!("delete the macvtap interface {name}"));
    let netlink = Netlink::new().map_err(failed())?;
    match netlink.find(name).map_err(failed())? {
        Some(found) if found.kind.as_deref() == Some("macvtap") => {
            netlink.delete(found.index).map_err(failed())
        }
        _ => Ok(()), // It went with its parent.
    }
}
