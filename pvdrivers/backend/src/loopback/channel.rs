//! Event channels: an eventfd for each direction.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno as HostErrno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_ring::{EventChannel, WaitChannel};
use xen_sys::EvtchnPort;
use xen_sys::errno::Errno;

use crate::HostChannel;

/// The guest's ports.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeMap<u32, Port>>);

#[derive(Debug)]
struct Port {
    to_host: Arc<EventFd>,
    to_guest: Arc<EventFd>,
    bound: bool,
}

impl Ports {
    pub(super) fn alloc(ports: &Arc<Self>) -> io::Result<(EvtchnPort, LoopbackChannel)> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let event = || EventFd::from_value_and_flags(0, flags).map(Arc::new);
        let (to_host, to_guest) = (event()?, event()?);
        let mut known = ports.0.lock().expect("no panic inside");
        let port = known.last_key_value().map_or(1, |(last, _)| last + 1);
        known.insert(
            port,
            Port {
                to_host: to_host.clone(),
                to_guest: to_guest.clone(),
                bound: false,
            },
        );
        let channel = LoopbackChannel {
            peer: to_host,
            own: to_guest,
            end: End::Guest,
            port,
            ports: ports.clone(),
        };
        Ok((EvtchnPort(port), channel))
    }

    pub(super) fn bind(ports: &Arc<Self>, port: EvtchnPort) -> io::Result<LoopbackChannel> {
        let mut known = ports.0.lock().expect("no panic inside");
        let Some(entry) = known.get_mut(&port.0).filter(|entry| !entry.bound) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("Port {port} does not wait for the host"),
            ));
        };
        entry.bound = true;
        let channel = LoopbackChannel {
            peer: entry.to_guest.clone(),
            own: entry.to_host.clone(),
            end: End::Host,
            port: port.0,
            ports: ports.clone(),
        };
        drop(known);
        // As Xen does: the end that binds finds its port pending.
        channel.own.write(1)?;
        Ok(channel)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Guest,
    Host,
}

/// An end of an event channel; dropping it closes it. When the host's end is closed the port waits
/// for it again; when the guest's is, notifications to it are lost.
#[derive(Debug)]
pub struct LoopbackChannel {
    peer: Arc<EventFd>,
    own: Arc<EventFd>,
    end: End,
    port: u32,
    ports: Arc<Ports>,
}

impl Drop for LoopbackChannel {
    fn drop(&mut self) {
        let mut known = self.ports.0.lock().expect("no panic inside");
        match self.end {
            End::Guest => drop(known.remove(&self.port)),
            End::Host => {
                if let Some(entry) = known.get_mut(&self.port) {
                    entry.bound = false;
                }
            }
        }
    }
}

impl EventChannel for LoopbackChannel {
    fn notify(&self) -> Result<(), Errno> {
        match self.peer.write(1) {
            // A counter that is full is pending all the same.
            Ok(_) | Err(HostErrno::EAGAIN) => Ok(()),
            Err(_) => Err(Errno::EIO),
        }
    }
}

impl WaitChannel for LoopbackChannel {
    fn wait(&self) -> Result<(), Errno> {
        let mut fds = [PollFd::new(self.own.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => self.clear().map(drop).map_err(|_| Errno::EIO),
            Err(HostErrno::EINTR) => Ok(()),
            Err(_) => Err(Errno::EIO),
        }
    }
}

impl HostChannel for LoopbackChannel {
    fn clear(&self) -> io::Result<bool> {
        match self.own.read() {
            Ok(_) => Ok(true),
            Err(HostErrno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for LoopbackChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}
