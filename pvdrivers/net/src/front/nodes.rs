//! What to read and write in xenstore.

use core::fmt;

use pv_xenbus::Text;
use xen_sys::{EvtchnPort, GrantRef};

/// What the back end says it can do, in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// It takes packets of several slots.
    pub sg: bool,
    /// It takes large TCP segments over IPv4.
    pub gso_tcpv4: bool,
    /// It takes large TCP segments over IPv6.
    pub gso_tcpv6: bool,
    /// It takes blank checksums over IPv4 without computing them itself.
    pub csum: bool,
    /// It takes blank checksums over IPv6.
    pub ipv6_csum: bool,
    /// It copies what is received into granted pages.
    pub rx_copy: bool,
    /// It can be told which multicast frames are wanted.
    pub multicast_control: bool,
    /// Each direction can have an event channel of its own.
    pub split_event_channels: bool,
    /// Queues it has at most; at least 1.
    pub max_queues: u32,
}

impl Offered {
    /// Reads it; `number` reads a node of the back end's directory, `None` if it is not there.
    pub fn read(mut number: impl FnMut(&str) -> Option<u32>) -> Self {
        let mut flag = |key| number(key).unwrap_or(0) != 0;
        Self {
            sg: flag("feature-sg"),
            gso_tcpv4: flag("feature-gso-tcpv4"),
            gso_tcpv6: flag("feature-gso-tcpv6"),
            csum: !flag("feature-no-csum-offload"),
            ipv6_csum: flag("feature-ipv6-csum-offload"),
            rx_copy: flag("feature-rx-copy"),
            multicast_control: flag("feature-multicast-control"),
            split_event_channels: flag("feature-split-event-channels"),
            max_queues: number("multi-queue-max-queues").unwrap_or(1).max(1),
        }
    }
}

/// What the front end tells the back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Packets of several slots can be received.
    pub sg: bool,
    /// Large TCP segments over IPv4 can be received; needs `sg` and `csum`.
    pub gso_tcpv4: bool,
    /// Large TCP segments over IPv6 can be received; needs `sg` and `ipv6_csum`.
    pub gso_tcpv6: bool,
    /// Blank checksums over IPv4 can be received.
    pub csum: bool,
    /// Blank checksums over IPv6 can be received.
    pub ipv6_csum: bool,
    /// The back end is notified of buffers, when it asks for that.
    pub rx_notify: bool,
    /// Only multicast frames that were asked for are wanted.
    pub multicast_control: bool,
}

impl Wanted {
    /// Everything but multicast control.
    pub const ALL: Self = Self {
        sg: true,
        gso_tcpv4: true,
        gso_tcpv6: true,
        csum: true,
        ipv6_csum: true,
        rx_notify: true,
        multicast_control: false,
    };
}

/// Where a queue's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRefs {
    /// The transmit ring's page.
    pub tx_ring: GrantRef,
    /// The receive ring's page.
    pub rx_ring: GrantRef,
    /// The event channel, of transmission only if there is another.
    pub tx_port: EvtchnPort,
    /// The event channel of reception, if it has one of its own.
    pub rx_port: Option<EvtchnPort>,
}

/// Writes what precedes state `Connected`; `write` writes a node of the front end's directory, best
/// in one transaction.
///
/// # Errors
/// The first one of `write`'s.
pub fn publish<E>(
    wanted: &Wanted,
    queues: &[QueueRefs],
    mut write: impl FnMut(&str, u32) -> Result<(), E>,
) -> Result<(), E> {
    let mut flag = |key, on| write(key, u32::from(on));
    flag("request-rx-copy", true)?;
    flag("feature-rx-notify", wanted.rx_notify)?;
    flag("feature-sg", wanted.sg)?;
    flag("feature-gso-tcpv4", wanted.gso_tcpv4)?;
    flag("feature-gso-tcpv6", wanted.gso_tcpv6)?;
    flag("feature-no-csum-offload", !wanted.csum)?;
    flag("feature-ipv6-csum-offload", wanted.ipv6_csum)?;
    flag("request-multicast-control", wanted.multicast_control)?;
    if let [queue] = queues {
        return queue.publish("", &mut write);
    }
    write("multi-queue-num-queues", queues.len() as u32)?;
    for (n, queue) in queues.iter().enumerate() {
        queue.publish(text(format_args!("queue-{n}/")).as_str(), &mut write)?;
    }
    Ok(())
}

impl QueueRefs {
    fn publish<E>(
        &self,
        directory: &str,
        write: &mut impl FnMut(&str, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut node = |key, value| write(text(format_args!("{directory}{key}")).as_str(), value);
        node("tx-ring-ref", self.tx_ring.0)?;
        node("rx-ring-ref", self.rx_ring.0)?;
        match self.rx_port {
            None => node("event-channel", self.tx_port.0),
            Some(rx_port) => {
                node("event-channel-tx", self.tx_port.0)?;
                node("event-channel-rx", rx_port.0)
            }
        }
    }
}

fn text(arguments: fmt::Arguments<'_>) -> Text<48> {
    Text::format(arguments).expect("the longest name has 40 bytes")
}
