//! Interfaces of the host by rtnetlink: finding, making, setting up, deleting.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVtapMode,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::MacAddress;

/// Messages of a dump are at most this long.
const BUFFER: usize = 65_536;

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<MacAddress>,
    /// Index of the bridge it is a port of.
    pub(crate) bridge: Option<u32>,
    /// A word that whoever made it left on it.
    pub(crate) alias: Option<String>,
    /// `bridge`, `tun`, `macvtap`; physical ones have none.
    pub(crate) kind: Option<String>,
}

/// A socket of rtnetlink, in the network namespace of the thread that made it.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self(fd))
    }

    /// The interface of that name.
    pub(crate) fn find(&self, name: &str) -> io::Result<Option<Interface>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let answer = self.ask(RouteNetlinkMessage::GetLink(message), 0);
        match answer {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces.
    pub(crate) fn all(&self) -> io::Result<Vec<Interface>> {
        self.ask(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )
    }

    /// Makes a bridge, down.
    pub(crate) fn make_bridge(&self, name: &str) -> io::Result<()> {
        let info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        self.make(name, vec![LinkAttribute::LinkInfo(info)])
    }

    /// Makes a macvtap interface, down.
    pub(crate) fn make_macvtap(
        &self,
        name: &str,
        parent: u32,
        mode: MacVtapMode,
        mac: Option<MacAddress>,
    ) -> io::Result<()> {
        let info = vec![
            LinkInfo::Kind(InfoKind::MacVtap),
            LinkInfo::Data(InfoData::MacVtap(vec![InfoMacVtap::Mode(mode)])),
        ];
        let mut attributes = vec![LinkAttribute::Link(parent), LinkAttribute::LinkInfo(info)];
        attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        self.make(name, attributes)
    }

    fn make(&self, name: &str, mut attributes: Vec<LinkAttribute>) -> io::Result<()> {
        attributes.push(LinkAttribute::IfName(name.into()));
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.ask(RouteNetlinkMessage::NewLink(message), flags)?;
        Ok(())
    }

    /// Changes an interface; `up` brings it up afterwards.
    pub(crate) fn set(
        &self,
        index: u32,
        attributes: Vec<LinkAttribute>,
        up: bool,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = attributes;
        if up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        self.ask(RouteNetlinkMessage::SetLink(message), 0)?;
        Ok(())
    }

    /// Deletes an interface.
    pub(crate) fn delete(&self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(message), 0)?;
        Ok(())
    }

    /// Sends a request and gathers the interfaces of its answer.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Interface>> {
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), request.into());
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut found = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                let message = message.map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or(&[]);
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        found.push(interface(link));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn interface(message: LinkMessage) -> Interface {
    let mut interface = Interface {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Interface::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Address(mac) => interface.mac = mac.try_into().ok().map(MacAddress),
            LinkAttribute::Controller(index) => interface.bridge = Some(index),
            LinkAttribute::IfAlias(alias) => interface.alias = Some(alias),
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface
}
