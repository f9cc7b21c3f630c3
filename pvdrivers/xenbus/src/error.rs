use pv_ring::RingError;
use xen_sys::errno::Errno;
use xen_sys::io::xs_wire::XENSTORE_PAYLOAD_MAX;

/// What can go wrong between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XenbusError {
    /// The page is too small, or the far end broke its indices.
    #[error("The xenstore page cannot be used")]
    Ring(#[from] RingError),
    /// The far end could not be notified or waited for.
    #[error("The event channel of xenstore failed")]
    Channel(#[source] Errno),
    /// A payload is longer than the protocol allows.
    #[error("A xenstore message of {0} bytes exceeds the protocol's {XENSTORE_PAYLOAD_MAX}")]
    TooLong(usize),
    /// The daemon answered with an error, by name.
    #[error("Xenstore refused the request")]
    Store(#[source] Errno),
    /// A message that does not belong here: a reply to no request, or one of the wrong form.
    #[error("Unexpected xenstore message of type {kind} for request {req_id}")]
    Unexpected {
        /// `XS_*`.
        kind: u32,
        /// Request number.
        req_id: u32,
    },
}
