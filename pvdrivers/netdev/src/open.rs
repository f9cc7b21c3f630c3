//! Opening a card's host side, and what comes of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use serde::{Deserialize, Serialize};

use crate::packet::PacketLink;
use crate::passt::Passt;
use crate::script::Script;
use crate::spec::{NetdevSpec, NicSpec};
use crate::stream::StreamLink;
use crate::{Link, MacAddress, NetdevError, Offloads, bridge, macvtap, passt, sys, tap, unix};

/// What to open a card's host side for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of a new interface where the specification has none; `vifD.N` as on Xen.
    pub name: String,
    /// Queues the card has. Fewer are opened where the network can't have so many.
    pub queues: u16,
}

impl Request {
    /// One queue; the interface's name is `vifDOMID.DEVID`.
    pub fn vif(domid: u16, devid: u32) -> Self {
        Self {
            name: format!("vif{domid}.{devid}"),
            queues: 1,
        }
    }

    /// With so many queues, at least one.
    pub fn queues(self, queues: u16) -> Self {
        Self {
            queues: queues.max(1),
            ..self
        }
    }
}

/// How frames lie on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// A tap or macvtap device, a `struct virtio_net_hdr` of 10 bytes before each frame.
    Tap,
    /// A stream socket, each frame behind its length.
    Stream,
    /// A sequenced packet socket, a frame a message; an empty one is its end.
    Seqpacket,
    /// A datagram socket, a frame a message.
    Datagram,
}

/// What the descriptors are, to be told to the process that uses them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// How frames lie on the descriptors.
    pub framing: Framing,
    /// What they can do.
    pub offloads: Offloads,
    /// The interface on the host, if there is one.
    pub interface: Option<String>,
    /// The guest's address, if the network demands a certain one or the user did.
    pub mac: Option<MacAddress>,
    /// The longest packet in bytes.
    pub mtu: u32,
}

/// A card's host side.
#[derive(Debug)]
#[must_use = "dropping it closes the link"]
pub struct Opened {
    /// One for each queue.
    pub descriptors: Vec<OwnedFd>,
    /// What they are.
    pub description: Description,
    /// What ends with the card.
    pub attachment: Attachment,
}

impl Opened {
    /// A link for each queue. Needs no rights and makes no system calls.
    pub fn into_links(self) -> (Vec<Box<dyn Link>>, Attachment) {
        let description = &self.description;
        let links = self.descriptors.into_iter();
        let links = links.map(|fd| description.link(fd)).collect();
        (links, self.attachment)
    }
}

impl Description {
    /// The link of one of the descriptors that this describes.
    pub fn link(&self, fd: OwnedFd) -> Box<dyn Link> {
        match self.framing {
            Framing::Tap => Box::new(PacketLink::device(fd, self.offloads)),
            Framing::Stream => Box::new(StreamLink::new(fd)),
            Framing::Seqpacket => Box::new(PacketLink::socket(fd).ending(true)),
            Framing::Datagram => Box::new(PacketLink::socket(fd)),
        }
    }
}

/// What lives with a card; dropping it undoes what was made for the card, as far as this process
/// still may. Close the descriptors first.
#[derive(Debug, Default)]
#[must_use = "dropping it undoes what was made for the card"]
pub struct Attachment {
    chores: Chores,
    /// passt, where it was asked for. Dropping it ends it.
    pub passt: Option<Passt>,
}

impl Attachment {
    /// What is to be undone after the card, for a process that keeps its rights when this one gives
    /// them up; here nothing is left to undo.
    pub fn take_chores(&mut self) -> Chores {
        std::mem::take(&mut self.chores)
    }
}

/// What is to be undone after a card. Dropping it does.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "dropping it undoes what was made for the card"]
pub struct Chores {
    /// A script to run once more.
    #[serde(default)]
    pub(crate) script: Option<Script>,
    /// A macvtap interface to delete.
    #[serde(default)]
    pub(crate) macvtap: Option<String>,
    /// A bridge to delete if it was made by us and has no port any more.
    #[serde(default)]
    pub(crate) bridge: Option<String>,
    /// A socket's path to remove.
    #[serde(default)]
    pub(crate) socket: Option<PathBuf>,
}

impl Chores {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let Self {
            script,
            macvtap,
            bridge,
            socket,
        } = self;
        script.is_none() && macvtap.is_none() && bridge.is_none() && socket.is_none()
    }

    /// Leaves them to another process, which got a copy.
    pub fn forget(self) {
        std::mem::forget(self);
    }

    fn undo(&mut self) {
        let told = |what: &str, result: Result<(), NetdevError>| {
            if let Err(error) = result {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!("{what} stays: {error} ({})", cause.unwrap_or_default());
            }
        };
        if let Some(script) = self.script.take() {
            told("What the script did", script.run());
        }
        if let Some(name) = self.macvtap.take() {
            told("The macvtap interface", macvtap::delete(&name));
        }
        if let Some(name) = self.bridge.take() {
            told("The bridge", bridge::leave(&name));
        }
        if let Some(path) = self.socket.take() {
            let what = format!("remove {}", path.display());
            let removed = std::fs::remove_file(path);
            told("The socket", removed.map_err(NetdevError::host(what)));
        }
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        self.undo();
    }
}

/// Opens a card's host side. Not for the sandbox; may take seconds.
///
/// # Errors
/// What the user can do about it is in the text.
pub fn open(spec: &NicSpec, request: &Request) -> Result<Opened, NetdevError> {
    let mut description = Description {
        framing: Framing::Tap,
        offloads: Offloads::NONE,
        interface: None,
        mac: spec.mac,
        mtu: spec.mtu.unwrap_or(1500),
    };
    let mut passt = None;
    let (descriptors, chores) = match &spec.netdev {
        NetdevSpec::User(user) => {
            let (fd, child) = Passt::start(user, spec.mtu, spec.mac)?;
            description.framing = Framing::Stream;
            description.mtu = spec.mtu.unwrap_or(passt::MTU);
            passt = Some(child);
            (vec![fd], Chores::default())
        }
        NetdevSpec::Tap(what) => tap::open(what, request, spec.mtu, &mut description)?,
        NetdevSpec::Macvtap(what) => macvtap::open(what, request, spec.mtu, &mut description)?,
        NetdevSpec::Unix(what) => {
            let (fd, framing, chores) = unix::open(what)?;
            description.framing = framing;
            (vec![fd], chores)
        }
        NetdevSpec::Fd(numbers) => {
            let fds = handed_over(numbers, &mut description)?;
            (fds, Chores::default())
        }
    };
    Ok(Opened {
        descriptors,
        description,
        attachment: Attachment { chores, passt },
    })
}

/// Whether an interface can be called so (`dev_valid_name` of Linux).
pub(crate) fn is_interface_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    (1..libc::IFNAMSIZ).contains(&name.len()) && ![".", ".."].contains(&name) && !name.contains(bad)
}

/// The user, for messages.
pub(crate) fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Takes descriptors that were opened before.
fn handed_over(
    numbers: &[RawFd],
    description: &mut Description,
) -> Result<Vec<OwnedFd>, NetdevError> {
    let mut fds = Vec::new();
    for &number in numbers {
        let refuse = |why: String| NetdevError::Descriptor { fd: number, why };
        let fd =
            sys::duplicate(number).map_err(|error| refuse(format!("cannot be used: {error}")))?;
        let (framing, interface) = framing(fd.as_fd()).map_err(refuse)?;
        if !fds.is_empty() && framing != description.framing {
            return Err(refuse("is of another kind than the first".into()));
        }
        description.framing = framing;
        description.interface = interface;
        fds.push(fd);
    }
    if description.framing == Framing::Tap {
        description.offloads = Offloads::ALL;
    }
    Ok(fds)
}

/// Finds out what a descriptor is.
fn framing(fd: BorrowedFd<'_>) -> Result<(Framing, Option<String>), String> {
    if let Some((interface, fit)) = tap::adopt(fd) {
        return fit.map(|()| (Framing::Tap, Some(interface)));
    }
    match getsockopt(&fd, sockopt::SockType) {
        Ok(SockType::Stream) => Ok((Framing::Stream, None)),
        Ok(SockType::SeqPacket) => Ok((Framing::Seqpacket, None)),
        Ok(SockType::Datagram) => Ok((Framing::Datagram, None)),
        _ => Err("is neither a tap device nor a socket of frames".into()),
    }
}
