//! What back ends need of the host they run on.

use std::io;
use std::os::fd::AsFd;

use pv_ring::{EventChannel, GrantMap, HostPage};
use xen_sys::{DomId, EvtchnPort};

/// A host: a process that owns a guest's memory (xenner), or a domain of Xen with gntdev and
/// evtchn.
pub trait Host: Clone + Send + Sync + 'static {
    /// Maps what a domain grants. Its pages go from thread to thread, and those kept mapped are
    /// shared between them.
    type Grants: GrantMap<Page: HostPage + Send + Sync + 'static> + Clone + Send + 'static;
    /// An end of an event channel.
    type Channel: HostChannel;

    /// The grants of a domain.
    ///
    /// # Errors
    /// The host's, or the domain is gone.
    fn grants(&self, domid: DomId) -> io::Result<Self::Grants>;

    /// Binds to a port which the domain has allocated for this one (`EVTCHNOP_bind_interdomain`).
    ///
    /// # Errors
    /// The port is not waiting for this domain, or the host's.
    fn bind(&self, domid: DomId, port: EvtchnPort) -> io::Result<Self::Channel>;
}

/// The host's end of an event channel; dropping it closes it.
pub trait HostChannel: EventChannel + AsFd + Send + 'static {
    /// Takes note of the notifications so far, so that the descriptor becomes readable with the
    /// next. Whether there were any.
    ///
    /// # Errors
    /// The host's; the channel is of no use then.
    fn clear(&self) -> io::Result<bool>;

    /// Called by a thread before it does anything else: from now on it serves this channel's queue
    /// of a device of `kind` (`vbd`, `vif`) and nothing else. A host that confines its threads does
    /// so here.
    fn confine(&self, _kind: &str) {}

    /// Called by the thread that serves the channel: whether it had better not interrupt the guest
    /// on whose processor it is woken, because more is to come. A host whose guests do not share
    /// processors with threads does nothing.
    fn be_patient(&self, _patient: bool) {}
}
