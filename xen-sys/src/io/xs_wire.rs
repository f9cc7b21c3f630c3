//! `io/xs_wire.h`: xenstore's messages and its page.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control of the daemon; privileged.
pub const XS_CONTROL: u32 = 0;
/// List children.
pub const XS_DIRECTORY: u32 = 1;
/// Read a node.
pub const XS_READ: u32 = 2;
/// Read permissions.
pub const XS_GET_PERMS: u32 = 3;
/// Set a watch.
pub const XS_WATCH: u32 = 4;
/// Remove a watch.
pub const XS_UNWATCH: u32 = 5;
/// Start a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// End a transaction: "T" commits, "F" aborts.
pub const XS_TRANSACTION_END: u32 = 7;
/// Introduce a domain; privileged.
pub const XS_INTRODUCE: u32 = 8;
/// Release a domain; privileged.
pub const XS_RELEASE: u32 = 9;
/// A domain's home.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Write a node.
pub const XS_WRITE: u32 = 11;
/// Make a node.
pub const XS_MKDIR: u32 = 12;
/// Remove a node and its children.
pub const XS_RM: u32 = 13;
/// Set permissions.
pub const XS_SET_PERMS: u32 = 14;
/// From the server: a watch fired.
pub const XS_WATCH_EVENT: u32 = 15;
/// From the server: the request failed, see [`XSD_ERRORS`].
pub const XS_ERROR: u32 = 16;
/// Is a domain introduced?
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// A domain resumes; privileged.
pub const XS_RESUME: u32 = 18;
/// A domain gets rights of another; privileged.
pub const XS_SET_TARGET: u32 = 19;
/// Remove all watches and transactions of the connection.
pub const XS_RESET_WATCHES: u32 = 21;
/// List children, in parts.
pub const XS_DIRECTORY_PART: u32 = 22;
/// Number of types.
pub const XS_TYPE_COUNT: u32 = 23;
/// Never a type.
pub const XS_INVALID: u32 = 0xffff;

/// Text of a `XS_ERROR` reply and its errno (`xsd_errors`).
pub const XSD_ERRORS: [(crate::errno::Errno, &str); 16] = {
    use crate::errno::Errno;
    [
        (Errno::EINVAL, "EINVAL"),
        (Errno::EACCES, "EACCES"),
        (Errno::EEXIST, "EEXIST"),
        (Errno::EISDIR, "EISDIR"),
        (Errno::ENOENT, "ENOENT"),
        (Errno::ENOMEM, "ENOMEM"),
        (Errno::ENOSPC, "ENOSPC"),
        (Errno::EIO, "EIO"),
        (Errno::ENOTEMPTY, "ENOTEMPTY"),
        (Errno::ENOSYS, "ENOSYS"),
        (Errno::EROFS, "EROFS"),
        (Errno::EBUSY, "EBUSY"),
        (Errno::EAGAIN, "EAGAIN"),
        (Errno::EISCONN, "EISCONN"),
        (Errno::E2BIG, "E2BIG"),
        (Errno::EPERM, "EPERM"),
    ]
};

/// Head of every message.
///
/// `struct xsd_sockmsg`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XsdSockmsg {
    /// `XS_*` (`type`).
    pub kind: u32,
    /// Chosen by the client, echoed in the reply.
    pub req_id: u32,
    /// Transaction, 0 for none.
    pub tx_id: u32,
    /// Bytes that follow.
    pub len: u32,
}
const _: () = assert!(size_of::<XsdSockmsg>() == 16);

/// The xenstore page: two byte rings, indices run free.
///
/// `struct xenstore_domain_interface`, 2076 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenstoreDomainInterface {
    /// Requests to the daemon.
    pub req: [u8; XENSTORE_RING_SIZE],
    /// Replies and watch events.
    pub rsp: [u8; XENSTORE_RING_SIZE],
    /// Bytes the daemon has read.
    pub req_cons: u32,
    /// Bytes the guest has written.
    pub req_prod: u32,
    /// Bytes the guest has read.
    pub rsp_cons: u32,
    /// Bytes the daemon has written.
    pub rsp_prod: u32,
    /// `XENSTORE_SERVER_FEATURE_*`.
    pub server_features: u32,
    /// `XENSTORE_CONNECTED`, `XENSTORE_RECONNECT`.
    pub connection: u32,
    /// `XENSTORE_ERROR_*`.
    pub error: u32,
}
const _: () = assert!(size_of::<XenstoreDomainInterface>() == 2076);
/// Bytes of each ring.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Largest payload of a message.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Longest absolute path.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest relative path.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;
/// The daemon can reconnect.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// The daemon reports errors in `error`.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// The connection is up.
pub const XENSTORE_CONNECTED: u32 = 0;
/// The guest asks for a reconnection.
pub const XENSTORE_RECONNECT: u32 = 1;
/// No error.
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// Communication problem.
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// Invalid ring index.
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// Protocol violation.
pub const XENSTORE_ERROR_PROTO: u32 = 3;
