//! The wire protocol: header, message types, error names, framing.
//!
//! Facts from Xen's public header `io/xs_wire.h`; integers are in the
//! machine's byte order, as both ends share a machine.

use thiserror::Error;

pub use xen_sys::io::xs_wire::XENSTORE_PAYLOAD_MAX;
use xen_sys::io::xs_wire::{self, XsdSockmsg};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a `struct xsd_sockmsg`.
pub const HEADER_SIZE: usize = size_of::<XsdSockmsg>();

/// A message type, `enum xsd_sockmsg_type`. Open: any number can arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MsgType(pub u32);

#[allow(missing_docs, reason = "the names are those of io/xs_wire.h")]
impl MsgType {
    pub const CONTROL: MsgType = MsgType(xs_wire::XS_CONTROL);
    pub const DIRECTORY: MsgType = MsgType(xs_wire::XS_DIRECTORY);
    pub const READ: MsgType = MsgType(xs_wire::XS_READ);
    pub const GET_PERMS: MsgType = MsgType(xs_wire::XS_GET_PERMS);
    pub const WATCH: MsgType = MsgType(xs_wire::XS_WATCH);
    pub const UNWATCH: MsgType = MsgType(xs_wire::XS_UNWATCH);
    pub const TRANSACTION_START: MsgType = MsgType(xs_wire::XS_TRANSACTION_START);
    pub const TRANSACTION_END: MsgType = MsgType(xs_wire::XS_TRANSACTION_END);
    pub const INTRODUCE: MsgType = MsgType(xs_wire::XS_INTRODUCE);
    pub const RELEASE: MsgType = MsgType(xs_wire::XS_RELEASE);
    pub const GET_DOMAIN_PATH: MsgType = MsgType(xs_wire::XS_GET_DOMAIN_PATH);
    pub const WRITE: MsgType = MsgType(xs_wire::XS_WRITE);
    pub const MKDIR: MsgType = MsgType(xs_wire::XS_MKDIR);
    pub const RM: MsgType = MsgType(xs_wire::XS_RM);
    pub const SET_PERMS: MsgType = MsgType(xs_wire::XS_SET_PERMS);
    pub const WATCH_EVENT: MsgType = MsgType(xs_wire::XS_WATCH_EVENT);
    pub const ERROR: MsgType = MsgType(xs_wire::XS_ERROR);
    pub const IS_DOMAIN_INTRODUCED: MsgType = MsgType(xs_wire::XS_IS_DOMAIN_INTRODUCED);
    pub const RESUME: MsgType = MsgType(xs_wire::XS_RESUME);
    pub const SET_TARGET: MsgType = MsgType(xs_wire::XS_SET_TARGET);
    pub const RESET_WATCHES: MsgType = MsgType(xs_wire::XS_RESET_WATCHES);
    pub const DIRECTORY_PART: MsgType = MsgType(xs_wire::XS_DIRECTORY_PART);
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// An error a request is answered with. The protocol sends the name,
        /// never a number (`xsd_errors` in `io/xs_wire.h`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
        #[allow(clippy::upper_case_acronyms, reason = "errno names")]
        pub enum XsError {
            $(
                $(#[$doc])*
                #[error("{}", self.name())]
                $name,
            )*
        }

        impl XsError {
            /// Every error the protocol has, in the header's order.
            pub const ALL: &[XsError] = &[$(XsError::$name),*];

            /// The name sent on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(XsError::$name => stringify!($name)),* }
            }
        }
    };
}

errors! {
    /// Malformed request.
    EINVAL,
    /// Not permitted by the node's permissions, or only for domain 0.
    EACCES,
    /// The watch exists already.
    EEXIST,
    /// Unused by this server.
    EISDIR,
    /// No such node, watch, transaction or domain.
    ENOENT,
    /// Unused by this server.
    ENOMEM,
    /// A quota is used up.
    ENOSPC,
    /// Unused by this server.
    EIO,
    /// Unused by this server.
    ENOTEMPTY,
    /// Unknown message type.
    ENOSYS,
    /// Unused by this server.
    EROFS,
    /// A transaction inside a transaction.
    EBUSY,
    /// The transaction met a conflicting change: start it again.
    EAGAIN,
    /// Unused by this server.
    EISCONN,
    /// The reply does not fit a message, or too many watches.
    E2BIG,
    /// Only the host may change a node's owner.
    EPERM,
}

impl XsError {
    /// The error called `name`.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<XsError> {
        XsError::ALL
            .iter()
            .copied()
            .find(|error| error.name().as_bytes() == name)
    }
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is asked or answered.
    pub kind: MsgType,
    /// Chosen by the client, echoed in the reply.
    pub req_id: u32,
    /// Transaction, 0 for none.
    pub tx_id: u32,
    /// At most [`XENSTORE_PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// Header and payload as sent.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when the payload exceeds the protocol's limit.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let len = checked_len(self.payload.len())?;
        let (req_id, tx_id) = (self.req_id, self.tx_id);
        let header = XsdSockmsg {
            kind: self.kind.0,
            req_id,
            tx_id,
            len,
        };
        Ok([header.as_bytes(), &self.payload].concat())
    }

    /// The payload's nul-ended strings, or `None` when the last has no nul.
    #[must_use]
    pub fn strings(&self) -> Option<Vec<&[u8]>> {
        strings(&self.payload)
    }
}

/// Splits `bytes` into nul-ended strings, `None` when the last has no nul.
#[must_use]
pub fn strings(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let body = bytes.strip_suffix(b"\0")?;
    Some(body.split(|&byte| byte == 0).collect())
}

/// Joins strings, each ended by a nul byte.
#[must_use]
pub fn join_strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        joined.extend_from_slice(part);
        joined.push(0);
    }
    joined
}

fn checked_len(len: usize) -> Result<u32, WireError> {
    match u32::try_from(len) {
        Ok(short) if len <= XENSTORE_PAYLOAD_MAX => Ok(short),
        _ => Err(WireError::TooLong(len)),
    }
}

/// Broken framing: the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// A payload longer than [`XENSTORE_PAYLOAD_MAX`].
    #[error("Message with a payload of {0} bytes: the protocol allows 4096.")]
    TooLong(usize),
}

/// Cuts a byte stream into messages, however it is fragmented.
///
/// It holds at most one message of the largest size, so a sender can neither
/// make it grow nor make it reserve memory by announcing a length.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
}

impl Decoder {
    /// Bytes it can take before [`Decoder::next_message`] must be called.
    #[must_use]
    pub fn space(&self) -> usize {
        (HEADER_SIZE + XENSTORE_PAYLOAD_MAX).saturating_sub(self.held.len())
    }

    /// Whether part of a message is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes bytes, at most [`Decoder::space`]; returns how many it took.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.space());
        self.held.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The next whole message, `None` while bytes are missing.
    ///
    /// # Errors
    /// [`WireError::TooLong`]; the stream is then useless.
    pub fn next_message(&mut self) -> Result<Option<Message>, WireError> {
        let Ok((header, rest)) = XsdSockmsg::read_from_prefix(&self.held) else {
            return Ok(None);
        };
        let XsdSockmsg {
            kind,
            req_id,
            tx_id,
            len,
        } = header;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        checked_len(len)?;
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let message = Message {
            kind: MsgType(kind),
            req_id,
            tx_id,
            payload: payload.to_vec(),
        };
        self.held.drain(..HEADER_SIZE + len);
        Ok(Some(message))
    }

    /// Forgets everything held.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u32, payload: Vec<u8>) -> Message {
        Message {
            kind: MsgType(kind),
            req_id: 7,
            tx_id: 9,
            payload,
        }
    }

    #[test]
    fn a_message_is_four_words_and_the_payload() {
        let words = [2u32, 7, 9, 1].map(u32::to_ne_bytes).concat();
        assert_eq!(
            message(2, b"x".to_vec()).to_bytes().unwrap(),
            [&words[..], b"x"].concat()
        );
    }

    #[test]
    fn errors_have_their_names() {
        assert_eq!(XsError::from_name(b"EAGAIN"), Some(XsError::EAGAIN));
        assert_eq!(XsError::from_name(b"EDOM"), None);
        let names = xs_wire::XSD_ERRORS.map(|(_, name)| name);
        assert!(XsError::ALL.iter().map(|error| error.name()).eq(names));
        assert_eq!(XsError::E2BIG.to_string(), "E2BIG");
    }

    #[test]
    fn a_hostile_length_is_an_error_at_the_header() {
        let mut decoder = Decoder::default();
        let header = XsdSockmsg {
            kind: 2,
            req_id: 0,
            tx_id: 0,
            len: u32::MAX,
        };
        decoder.feed(header.as_bytes());
        assert_eq!(
            decoder.next_message(),
            Err(WireError::TooLong(u32::MAX as usize))
        );
        assert!(message(0, vec![0; 4097]).to_bytes().is_err());
    }

    #[test]
    fn the_decoder_never_holds_more_than_one_message() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(&[0; 10_000]), 4112);
        assert_eq!((decoder.feed(&[0]), decoder.space()), (0, 0));
    }

    #[test]
    fn strings_need_their_nul() {
        assert_eq!(strings(b"a\0\0b\0"), Some(vec![&b"a"[..], b"", b"b"]));
        assert_eq!(strings(b"a\0b"), None);
        assert_eq!(strings(b""), Some(vec![]));
        assert_eq!(join_strings(&[b"a", b""]), b"a\0\0");
    }

    proptest! {
        #[test]
        fn any_fragmentation_gives_the_same_messages(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            cuts in prop::collection::vec(1usize..64, 1..64),
        ) {
            let sent: Vec<Message> = payloads.into_iter().map(|p| message(11, p)).collect();
            let stream: Vec<u8> = sent.iter().flat_map(|m| m.to_bytes().unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < stream.len() {
                let end = (at + cut.next().unwrap()).min(stream.len());
                at += decoder.feed(&stream[at..end]);
                while let Some(message) = decoder.next_message().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(decoder.is_empty());
        }
    }
}
