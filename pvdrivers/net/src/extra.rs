//! What the slots of extra information say (`struct netif_extra_info`).

use xen_sys::io::netif::{
    NetifExtraInfo, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6,
};

/// An Ethernet address.
pub type MacAddr = [u8; 6];

/// A large TCP segment, to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GsoInfo {
    /// TCP over IPv6, not IPv4.
    pub v6: bool,
    /// Bytes of payload in each segment.
    pub size: u16,
}

/// Why extra information on segmentation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GsoError {
    /// Segments without payload.
    #[error("The size of segments is zero")]
    ZeroSize,
    /// Neither TCP over IPv4 nor over IPv6.
    #[error("The type of segmentation is {0}")]
    Type(u8),
}

impl GsoInfo {
    /// As `XEN_NETIF_EXTRA_TYPE_GSO`, the last extra information of its packet.
    pub fn encode(self) -> NetifExtraInfo {
        let kind = if self.v6 {
            XEN_NETIF_GSO_TYPE_TCPV6
        } else {
            XEN_NETIF_GSO_TYPE_TCPV4
        };
        let [low, high] = self.size.to_le_bytes();
        NetifExtraInfo {
            kind: XEN_NETIF_EXTRA_TYPE_GSO,
            flags: 0,
            u: [low, high, kind, 0, 0, 0],
        }
    }

    /// What a `XEN_NETIF_EXTRA_TYPE_GSO` says.
    ///
    /// # Errors
    /// [`GsoError`].
    pub fn decode(extra: &NetifExtraInfo) -> Result<Self, GsoError> {
        let [low, high, kind, ..] = extra.u;
        let size = u16::from_le_bytes([low, high]);
        if size == 0 {
            return Err(GsoError::ZeroSize);
        }
        match kind {
            XEN_NETIF_GSO_TYPE_TCPV4 => Ok(Self { v6: false, size }),
            XEN_NETIF_GSO_TYPE_TCPV6 => Ok(Self { v6: true, size }),
            other => Err(GsoError::Type(other)),
        }
    }
}

/// Asks for frames to a multicast address, or for no more of them.
pub fn multicast(address: MacAddr, wanted: bool) -> NetifExtraInfo {
    let kind = if wanted {
        XEN_NETIF_EXTRA_TYPE_MCAST_ADD
    } else {
        XEN_NETIF_EXTRA_TYPE_MCAST_DEL
    };
    NetifExtraInfo {
        kind,
        flags: 0,
        u: address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segmentation_is_read_as_it_is_written() {
        for v6 in [false, true] {
            let gso = GsoInfo { v6, size: 1448 };
            assert_eq!(GsoInfo::decode(&gso.encode()), Ok(gso));
        }
        let mut extra = GsoInfo { v6: false, size: 1 }.encode();
        assert_eq!(extra.u, [1, 0, 1, 0, 0, 0]);
        extra.u[2] = 3;
        assert_eq!(GsoInfo::decode(&extra), Err(GsoError::Type(3)));
        extra.u[0] = 0;
        assert_eq!(GsoInfo::decode(&extra), Err(GsoError::ZeroSize));
    }
}
