//! What xenstore says to and of a network card. Missing and malformed nodes mean what they mean to
//! Linux's netback.

use pv_backend::driver::Publish;
use pv_backend::{DeviceError, Nodes};
use pv_netdev::Offloads;
use xen_sys::{EvtchnPort, GrantRef};

use crate::extra::MacAddr;

/// A limit on what a guest sends: so many bytes each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes.
    pub bytes: u64,
    /// The interval, microseconds.
    pub usecs: u64,
}

/// What the toolstack says, in the back end's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackNodes {
    /// `mac`: the guest's address.
    pub mac: Option<MacAddr>,
    /// `rate`: `bytes,microseconds`. One without an interval, or without bytes, is none.
    pub rate: Option<Rate>,
    /// `mtu`: bytes of an IP packet; 1500 if missing.
    pub mtu: u16,
    /// `link` is `down`: the cable is pulled. Not a node of netback's: it has `ip link` for that.
    pub link_down: bool,
}

impl BackNodes {
    /// Reads them.
    pub fn read(nodes: &Nodes) -> Self {
        let text = |key| nodes.0.get(key).map(|value| value.trim_ascii());
        let rate = text("rate").map(|value| {
            let rate = parse_rate(value);
            if rate.is_none() {
                tracing::warn!("Cannot read the rate limit, the traffic is not limited");
            }
            rate
        });
        Self {
            mac: text("mac").and_then(parse_mac),
            rate: rate.flatten().filter(|r| r.usecs > 0 && r.bytes > 0),
            mtu: unsigned(nodes, "mtu")
                .and_then(|mtu| u16::try_from(mtu).ok())
                .filter(|mtu| *mtu >= 68)
                .unwrap_or(1500),
            link_down: text("link") == Some(b"down"),
        }
    }
}

fn parse_rate(value: &[u8]) -> Option<Rate> {
    let (bytes, usecs) = std::str::from_utf8(value).ok()?.split_once(',')?;
    Some(Rate {
        bytes: bytes.parse().ok()?,
        usecs: usecs.parse().ok()?,
    })
}

fn parse_mac(value: &[u8]) -> Option<MacAddr> {
    let mut bytes = std::str::from_utf8(value).ok()?.split(':');
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
    }
    bytes.next().is_none().then_some(mac)
}

/// What is published with state `InitWait`: what this end and its link can do.
pub fn features(offloads: Offloads, max_queues: u32) -> Publish {
    let flag = |name: &str, on: bool| (name.to_owned(), u32::from(on).to_string());
    vec![
        flag("feature-sg", true),
        flag("feature-gso-tcpv4", offloads.csum && offloads.tso4),
        flag("feature-gso-tcpv6", offloads.csum && offloads.tso6),
        flag("feature-ipv6-csum-offload", offloads.csum),
        flag("feature-no-csum-offload", !offloads.csum),
        flag("feature-rx-copy", true),
        flag("feature-rx-flip", false),
        flag("feature-multicast-control", true),
        flag("feature-dynamic-multicast-control", true),
        flag("feature-split-event-channels", true),
        ("multi-queue-max-queues".to_owned(), max_queues.to_string()),
    ]
}

/// What the front end says, in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontNodes {
    /// Its queues.
    pub queues: Vec<QueueNodes>,
    /// It notifies when it posts buffers (`feature-rx-notify`).
    pub rx_notify: bool,
    /// It receives packets of several slots (`feature-sg`).
    pub sg: bool,
    /// What it receives besides plain frames. `csum` is that over IPv4 (not
    /// `feature-no-csum-offload`).
    pub accepts: Offloads,
    /// It receives blank checksums over IPv6 (`feature-ipv6-csum-offload`).
    pub csum_v6: bool,
    /// It receives only multicast frames it has asked for (`request-multicast-control`).
    pub multicast_control: bool,
}

/// Whether a front end receives only multicast frames it has asked for. It may change its mind.
pub(super) fn multicast_control(nodes: &Nodes) -> bool {
    unsigned(nodes, "request-multicast-control").is_some_and(|value| value != 0)
}

/// Where a queue's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueNodes {
    /// `tx-ring-ref`.
    pub tx_ring: GrantRef,
    /// `rx-ring-ref`.
    pub rx_ring: GrantRef,
    /// `event-channel-tx`, or `event-channel` for both directions.
    pub tx_port: EvtchnPort,
    /// `event-channel-rx`; `None` if it is the other.
    pub rx_port: Option<EvtchnPort>,
}

impl FrontNodes {
    /// Reads them.
    ///
    /// # Errors
    /// It asks for queues that cannot be, does not say where its rings are, or wants pages flipped.
    pub fn read(nodes: &Nodes, max_queues: u32) -> Result<Self, DeviceError> {
        let flag = |key| unsigned(nodes, key).is_some_and(|value| value != 0);
        // Netback goes on without, and never flips a page: such a front end would wait for ever.
        if !flag("request-rx-copy") {
            return Err(DeviceError(
                "The front end does not ask for copying (request-rx-copy)".into(),
            ));
        }
        let count = unsigned(nodes, "multi-queue-num-queues").unwrap_or(1);
        if count == 0 || count > u64::from(max_queues) {
            return Err(DeviceError(format!(
                "The front end asks for {count} queues, there are 1 to {max_queues}"
            )));
        }
        let queue = |n| match count {
            1 => QueueNodes::read(nodes, ""),
            _ => QueueNodes::read(nodes, &format!("queue-{n}/")),
        };
        let sg = flag("feature-sg");
        let csum = !flag("feature-no-csum-offload");
        let csum_v6 = flag("feature-ipv6-csum-offload");
        Ok(Self {
            queues: (0..count).map(queue).collect::<Result<_, _>>()?,
            rx_notify: flag("feature-rx-notify"),
            sg,
            accepts: Offloads {
                csum,
                // As Linux does: no large segments without pieces, nor with a checksum.
                tso4: sg && csum && flag("feature-gso-tcpv4"),
                tso6: sg && csum_v6 && flag("feature-gso-tcpv6"),
            },
            csum_v6,
            multicast_control: multicast_control(nodes),
        })
    }
}

impl QueueNodes {
    fn read(nodes: &Nodes, directory: &str) -> Result<Self, DeviceError> {
        let optional = |key: &str| {
            let value = unsigned(nodes, &format!("{directory}{key}"))?;
            u32::try_from(value).ok()
        };
        let needed = |key: &str| {
            optional(key).ok_or_else(|| {
                DeviceError(format!("The front end's {directory}{key} is no number"))
            })
        };
        let split = optional("event-channel-tx").zip(optional("event-channel-rx"));
        let (tx_port, rx_port) = match split {
            Some((tx, rx)) => (tx, Some(EvtchnPort(rx)).filter(|_| rx != tx)),
            None => (needed("event-channel")?, None),
        };
        Ok(Self {
            tx_ring: GrantRef(needed("tx-ring-ref")?),
            rx_ring: GrantRef(needed("rx-ring-ref")?),
            tx_port: EvtchnPort(tx_port),
            rx_port,
        })
    }
}

/// A node's number as `sscanf("%u")` reads it: what follows the digits is ignored.
pub(super) fn unsigned(nodes: &Nodes, key: &str) -> Option<u64> {
    let value = nodes.0.get(key)?.trim_ascii_start();
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "nodes_test.rs"]
mod tests;
