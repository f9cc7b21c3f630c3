//! Ends of event channels: `/dev/xen/evtchn`.
//!
//! Each [`Channel`] has the device open for itself. So its descriptor becomes readable for this
//! channel alone, a queue's thread polls it beside its disk without a dispatcher between, and
//! closing it closes the channel, whatever way the process ends. A descriptor and a page of kernel
//! memory a queue is what that costs.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use pv_backend::HostChannel;
use pv_ring::EventChannel;
use xen_sys::{DomId, EvtchnPort, errno};

use crate::device::{self, OpenError};
use crate::ioctl::{self, Argument, BindInterdomain, BindUnboundPort, BindVirq, Notify};

const PATH: &str = "/dev/xen/evtchn";

/// An end of an event channel, unmasked. Dropped, it is closed: the far end of an interdomain channel
/// is then unbound and waits for this domain to bind to it anew.
#[derive(Debug)]
pub struct Channel {
    device: File,
    port: EvtchnPort,
}

impl Channel {
    /// Binds to a port that a domain has allocated for this one
    /// (`EVTCHNOP_bind_interdomain`). The channel is pending at once.
    ///
    /// # Errors
    /// `EINVAL` when the port does not wait for this domain, `ESRCH` when the domain is gone.
    pub fn bind_interdomain(domid: DomId, port: EvtchnPort) -> io::Result<Self> {
        Self::bind(BindInterdomain {
            remote_domain: domid.0.into(),
            remote_port: port.0,
        })
    }

    /// Allocates a port for a domain to bind to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// The hypervisor's: no such domain, no port left.
    pub fn alloc_unbound(domid: DomId) -> io::Result<Self> {
        Self::bind(BindUnboundPort {
            remote_domain: domid.0.into(),
        })
    }

    /// Binds to a virtual interrupt, `VIRQ_*` of `xen.h` (`EVTCHNOP_bind_virq`).
    ///
    /// # Errors
    /// `EEXIST` when it is bound already, `EPERM` when it is not for this domain.
    pub fn bind_virq(virq: u32) -> io::Result<Self> {
        Self::bind(BindVirq { virq })
    }

    fn bind(mut argument: impl Argument) -> io::Result<Self> {
        let device = open()?;
        let port = ioctl::call(&device, &mut argument)?;
        Ok(Self {
            device,
            port: EvtchnPort(port as u32),
        })
    }

    /// This end's port.
    pub fn port(&self) -> EvtchnPort {
        self.port
    }
}

/// The device, not yet bound to anything.
pub(crate) fn open() -> Result<File, OpenError> {
    device::open(PATH, "xen-evtchn", libc::O_NONBLOCK)
}

impl EventChannel for Channel {
    fn notify(&self) -> Result<(), errno::Errno> {
        let mut argument = Notify { port: self.port.0 };
        let told = ioctl::call(&self.device, &mut argument);
        told.map(drop).map_err(|error| xen_errno(&error))
    }
}

impl HostChannel for Channel {
    /// Takes the events from the driver and unmasks the port. In this order, and before the ring is
    /// looked at: what comes later makes the descriptor readable again.
    fn clear(&self) -> io::Result<bool> {
        let mut any = false;
        let mut ports = [0; 4];
        loop {
            match (&self.device).read(&mut ports) {
                Ok(4) => {
                    any = true;
                    // One port is one event: the driver keeps it masked until it is written back.
                    (&self.device).write_all(&ports)?;
                }
                Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// A system call's error as one of Xen's: their numbers agree as far as a driver of Xen's returns
/// them.
pub(crate) fn xen_errno(error: &io::Error) -> errno::Errno {
    errno::Errno(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}
