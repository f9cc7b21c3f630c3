//! UNIX sockets as networks: connecting to them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::NetdevError;
use crate::open::{Chores, Framing};
use crate::spec::{UnixKind, UnixSpec};

/// Connects.
pub(crate) fn open(spec: &UnixSpec) -> Result<(OwnedFd, Framing, Chores), NetdevError> {
    let connected = |source| NetdevError::Connect {
        path: spec.path.clone(),
        source,
    };
    let mut chores = Chores::default();
    let (fd, framing) = match spec.kind {
        UnixKind::Stream => {
            let socket = UnixStream::connect(&spec.path).map_err(connected)?;
            (socket.into(), Framing::Stream)
        }
        UnixKind::Seqpacket => (seqpacket(spec).map_err(connected)?, Framing::Seqpacket),
        UnixKind::Dgram => {
            let socket = match &spec.local {
                None => UnixDatagram::unbound(),
                Some(local) => UnixDatagram::bind(local),
            };
            let here = spec.local.as_deref().unwrap_or(&spec.path).display();
            let socket = socket.map_err(NetdevError::host(format!("make a socket at {here}")))?;
            chores.socket.clone_from(&spec.local);
            socket.connect(&spec.path).map_err(connected)?;
            (socket.into(), Framing::Datagram)
        }
    };
    Ok((fd, framing, chores))
}

fn seqpacket(spec: &UnixSpec) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(fd.as_raw_fd(), &UnixAddr::new(&spec.path)?)?;
    Ok(fd)
}
