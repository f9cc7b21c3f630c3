//! What the user asked for: the types. `spec::parse` has the textual form.
//!
//! # On the command line
//! `--nic KIND[,OPTION...]`; a comma within a value is written twice.
//!
//! | text | what |
//! |---|---|
//! | `user` | passt: network without root. Options: `hostfwd=tcp:[ADDRESS:]PORT:GUESTPORT` (also `udp`; any number; ADDRESS is 127.0.0.1 unless given, an IPv6 one in brackets), `address=`, `gateway=`, `dns=` (each any number), `interface=IF`, `ipv4` or `ipv6` (only that), `hostaccess` (the gateway's address leads to the host's loopback) |
//! | `tap` or `tap=IF` | a tap interface; made unless a persistent one of that name is there. Options: `bridge=BR`, `create` (makes the bridge if it is missing and removes it after its last user), `script=PATH` |
//! | `bridge=BR` | short for `tap,bridge=BR` |
//! | `macvtap=PARENT` | a macvtap interface on a host interface. Options: `mode=bridge` (the default), `private`, `vepa` or `passthru`; `name=IF` |
//! | `unix:PATH` | connects to a UNIX socket. Options: `type=stream` (the default: each frame behind its length, 4 bytes, most significant first), `seqpacket` or `dgram` (a frame a message); `local=PATH` (binds a datagram socket, so that the peer can answer) |
//! | `fd=N` or `fd=N:N...` | descriptors opened before, one for each queue: sockets or tap devices |
//!
//! Options of every kind: `mac=ADDRESS` (the guest's), `mtu=BYTES`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::MacAddress;

#[path = "parse.rs"]
mod parse;

/// A network card as the user asked for it. The default is passt's user-mode network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// Where it is plugged in.
    pub netdev: NetdevSpec,
    /// Address in the guest; `None` leaves the choice to whoever makes the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Longest packet in bytes, 68 to 65520; `None` is what the network has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Where a network card is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetdevSpec {
    /// passt, a child process: user-mode networking.
    User(UserSpec),
    /// A tap interface.
    Tap(TapSpec),
    /// A macvtap interface.
    Macvtap(MacvtapSpec),
    /// A UNIX socket.
    Unix(UnixSpec),
    /// Descriptors this process has already, one for each queue. The card gets copies; whoever has
    /// the originals closes them, or the far end never hears that the card is gone.
    Fd(Vec<RawFd>),
}

impl Default for NetdevSpec {
    fn default() -> Self {
        NetdevSpec::User(UserSpec::default())
    }
}

/// User-mode networking. All is passt's choice unless said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserSpec {
    /// Ports of the host that lead to the guest.
    pub forwards: Vec<Forward>,
    /// The guest's addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The guest's gateways, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Name servers the guest is told of.
    pub dns: Vec<IpAddr>,
    /// The host's interface whose addresses and routes the guest gets.
    pub interface: Option<String>,
    /// Only one family of addresses.
    pub family: Option<Family>,
    /// Connections to the gateway's address lead to the host's loopback.
    pub host_access: bool,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A port of the host that leads to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Which protocol's.
    pub protocol: Protocol,
    /// The host's address it is bound to; unspecified: all.
    pub address: IpAddr,
    /// The host's port, not 0.
    pub port: u16,
    /// The guest's port, not 0.
    pub guest_port: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A tap interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TapSpec {
    /// Its name; `None` is the request's (`vifD.N`).
    pub name: Option<String>,
    /// The bridge it joins.
    pub bridge: Option<String>,
    /// Makes the bridge if it is missing.
    pub create: bool,
    /// Configures the interface in our place.
    pub script: Option<PathBuf>,
    /// Variables of the script besides those that [`Script`](crate::Script) tells of. They have no
    /// textual form.
    pub variables: BTreeMap<String, String>,
}

/// A macvtap interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacvtapSpec {
    /// The host's interface it is on.
    pub parent: String,
    /// Whom it talks to.
    #[serde(default)]
    pub mode: MacvtapMode,
    /// Its name; `None` is the request's (`vifD.N`).
    #[serde(default)]
    pub name: Option<String>,
}

/// Whom a macvtap interface talks to besides the parent's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvtapMode {
    /// Others of the same parent, directly.
    #[default]
    Bridge,
    /// No other of the same parent.
    Private,
    /// Others of the same parent, by way of a switch that sends back.
    Vepa,
    /// It has the parent alone.
    Passthru,
}

/// A UNIX socket to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnixSpec {
    /// The peer's path.
    pub path: PathBuf,
    /// Its kind.
    #[serde(default)]
    pub kind: UnixKind,
    /// Path of a datagram socket's own end, removed afterwards.
    #[serde(default)]
    pub local: Option<PathBuf>,
}

/// Kinds of UNIX sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnixKind {
    /// Each frame behind its length.
    #[default]
    Stream,
    /// A frame a message, with connection.
    Seqpacket,
    /// A frame a message.
    Dgram,
}

/// Why a text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// Bytes of the text that are meant.
    pub range: Range<usize>,
    /// What is wrong, a sentence.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl SpecError {
    /// The message with the text and a mark below the place, several lines.
    pub fn located(&self, text: &str) -> impl fmt::Display {
        // One column for each character, so that the mark stands below it.
        let shown: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let columns = |bytes: Range<usize>| text.get(bytes).map_or(0, |part| part.chars().count());
        let before = " ".repeat(columns(0..self.range.start));
        let mark = "^".repeat(columns(self.range.clone()).max(1));
        let help = self.help.iter().map(|help| format!("\n  help: {help}"));
        let help: String = help.collect();
        format!("{}\n  | {shown}\n  | {before}{mark}{help}", self.message)
    }
}
