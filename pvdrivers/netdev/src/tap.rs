//! Tap devices: opening them, one descriptor for each queue (`linux/if_tun.h`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use nix::errno::Errno;

use crate::netlink::Netlink;
use crate::open::{Chores, Description, Framing, Request, is_interface_name};
use crate::script::Script;
use crate::spec::TapSpec;
use crate::sys::tun;
use crate::vnet::VNET_HEADER;
use crate::{NetdevError, Offloads, bridge};

const TUN: &str = "/dev/net/tun";

pub(crate) const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Tells the device what to give to this side; it takes everything always.
pub(crate) fn set_offload(fd: BorrowedFd<'_>, offloads: Offloads) -> io::Result<()> {
    let mut flags = 0;
    // Without checksum offload the kernel refuses segmentation.
    for (wanted, flag) in [
        (offloads != Offloads::NONE, libc::TUN_F_CSUM),
        (offloads.tso4, libc::TUN_F_TSO4),
        (offloads.tso6, libc::TUN_F_TSO6),
        (offloads.tso4 || offloads.tso6, libc::TUN_F_TSO_ECN),
    ] {
        flags |= if wanted { flag } else { 0 };
    }
    tun::offload(fd, flags)?;
    Ok(())
}

/// The host's end of a card of ours, as on Xen: a bridge never takes it for its own.
const HOST_END: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Opens an interface and sets it up.
pub(crate) fn open(
    spec: &TapSpec,
    request: &Request,
    mtu: Option<u32>,
    description: &mut Description,
) -> Result<(Vec<OwnedFd>, Chores), NetdevError> {
    let name = spec.name.as_ref().unwrap_or(&request.name);
    if !is_interface_name(name) {
        return Err(NetdevError::Name(name.clone()));
    }
    let failed = || NetdevError::host(format!("look for the interface {name}"));
    let netlink = Netlink::new().map_err(failed())?;
    if let (Some(bridge), false, None) = (&spec.bridge, spec.create, &spec.script) {
        bridge::require(&netlink, bridge)?; // Before anything is made.
    }
    let persistent = netlink.find(name).map_err(failed())?.is_some();
    let mut chores = Chores::default(); // Before the descriptors, so that they go first.
    let fds = open_queues(name, request.queues)?;
    let missing = || failed()(io::ErrorKind::NotFound.into());
    let port = netlink.find(name).map_err(failed())?;
    let port = port.ok_or_else(missing)?;
    let mut attributes = Vec::new();
    if !persistent {
        attributes.push(LinkAttribute::Address(HOST_END.to_vec()));
        let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let inet6 = AfSpecUnspec::Inet6(vec![no_address]);
        attributes.push(LinkAttribute::AfSpecUnspec(vec![inet6]));
    }
    let mut wanted = mtu.unwrap_or(port.mtu);
    if let (Some(name), None) = (&spec.bridge, &spec.script) {
        chores.bridge = spec.create.then(|| name.clone());
        let bridge = bridge::join(&netlink, &port, name, spec.create)?;
        if !persistent && mtu.is_none() {
            wanted = bridge.mtu;
        }
    }
    if wanted != port.mtu {
        attributes.push(LinkAttribute::Mtu(wanted));
    }
    if !attributes.is_empty() || !port.up {
        netlink
            .set(port.index, attributes, true)
            .map_err(NetdevError::denied(format!(
                "Setting up the interface {name}"
            )))?;
    }
    if let Some(path) = &spec.script {
        let mut script = Script::tap(path, name, spec.bridge.as_deref(), wanted, description.mac);
        script.variables.extend(spec.variables.clone());
        script.run()?;
        chores.script = Some(script.removing());
    }
    description.framing = Framing::Tap;
    description.offloads = Offloads::ALL;
    description.interface = Some(name.clone());
    description.mtu = wanted;
    Ok((fds, chores))
}

/// Makes a tap device or opens a persistent one, with up to `queues` queues.
fn open_queues(name: &str, queues: u16) -> Result<Vec<OwnedFd>, NetdevError> {
    // A persistent device insists on what it was made with, one queue or several.
    let (first, multi) = match open_queue(name, queues > 1) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (open_queue(name, queues <= 1), queues <= 1)
        }
        result => (result, queues > 1),
    };
    let mut fds = vec![first.map_err(|source| refused(name, source))?];
    while multi && fds.len() < usize::from(queues) {
        match open_queue(name, true) {
            Ok(fd) => fds.push(fd),
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => break, // As many as it has.
            Err(source) => return Err(refused(name, source)),
        }
    }
    Ok(fds)
}

fn refused(name: &str, source: io::Error) -> NetdevError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NetdevError::Permission {
            what: format!("Making the tap interface {name}"),
            tap: Some(name.to_owned()),
            source,
        },
        Some(libc::EBUSY) => NetdevError::Host {
            what: format!("open the tap interface {name}, which another program has"),
            source,
        },
        Some(libc::EINVAL) => NetdevError::Kind {
            name: name.to_owned(),
            wanted: "tap interface",
        },
        _ => NetdevError::Host {
            what: format!("open the tap interface {name}"),
            source,
        },
    }
}

fn open_queue(name: &str, multi: bool) -> io::Result<OwnedFd> {
    let flags = FLAGS | if multi { libc::IFF_MULTI_QUEUE } else { 0 };
    attach(Path::new(TUN), name, flags)
}

/// Opens a device file and attaches it to an interface.
pub(crate) fn attach(device: &Path, name: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let fd: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(device)?
        .into();
    tun::attach(fd.as_fd(), name, flags)?;
    tun::set_header(fd.as_fd(), VNET_HEADER)?;
    set_offload(fd.as_fd(), Offloads::NONE)?;
    Ok(fd)
}

/// Name of the interface that a device belongs to.
pub(crate) fn interface(fd: BorrowedFd<'_>) -> Option<String> {
    tun::attached(fd).ok().map(|(name, _)| name)
}

/// Makes a tap device that was opened elsewhere fit for a link. `None` if it is none; otherwise
/// its interface's name, and what is wrong with it.
pub(crate) fn adopt(fd: BorrowedFd<'_>) -> Option<(String, Result<(), String>)> {
    let (name, flags) = tun::attached(fd).ok()?;
    let fit = || {
        if flags & FLAGS != FLAGS {
            return Err("is no tap device with IFF_NO_PI and IFF_VNET_HDR".to_owned());
        }
        let told = |error: Errno| format!("cannot be set up: {error}");
        let now = nix::fcntl::fcntl(fd, nix::fcntl::F_GETFL).map_err(told)?;
        let now = nix::fcntl::OFlag::from_bits_retain(now) | nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(fd, nix::fcntl::F_SETFL(now)).map_err(told)?;
        tun::set_header(fd, VNET_HEADER).map_err(told)?;
        set_offload(fd, Offloads::NONE).map_err(|error| format!("cannot be set up: {error}"))
    };
    Some((name, fit()))
}
