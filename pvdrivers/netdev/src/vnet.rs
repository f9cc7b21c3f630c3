//! `struct virtio_net_hdr` (`linux/virtio_net.h`), in front of each frame of a tap device.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{FrameInfo, Gso};

/// Flag: the checksum is to be filled in.
pub(crate) const NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was checked.
pub(crate) const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// The header without `num_buffers`. Its numbers are in the host's byte order, the tap device's
/// default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct VnetHeader {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

/// Bytes of it.
pub(crate) const VNET_HEADER: usize = size_of::<VnetHeader>();
const _: () = assert!(VNET_HEADER == 10);

impl From<&FrameInfo> for VnetHeader {
    fn from(info: &FrameInfo) -> Self {
        let mut header = VnetHeader::default();
        if let Some(start) = info.csum_start {
            header.flags |= NEEDS_CSUM;
            header.csum_start = start;
            header.csum_offset = info.csum_offset;
        } else if info.csum_valid {
            header.flags |= DATA_VALID;
        }
        if let Some(gso) = info.gso {
            header.gso_type = if gso.v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            header.gso_type |= if gso.ecn { GSO_ECN } else { 0 };
            header.gso_size = gso.size;
            header.hdr_len = gso.header_len;
        }
        header
    }
}

impl VnetHeader {
    /// What it says; `None` when the frame is of a kind nobody asked for.
    pub(crate) fn info(&self) -> Option<FrameInfo> {
        let needs_csum = self.flags & NEEDS_CSUM != 0;
        let v6 = match self.gso_type & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(false),
            GSO_TCPV6 => Some(true),
            _ => return None,
        };
        Some(FrameInfo {
            csum_start: needs_csum.then_some(self.csum_start),
            csum_offset: if needs_csum { self.csum_offset } else { 0 },
            csum_valid: needs_csum || self.flags & DATA_VALID != 0,
            gso: v6.map(|v6| Gso {
                v6,
                size: self.gso_size,
                header_len: self.hdr_len,
                ecn: self.gso_type & GSO_ECN != 0,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_segment_there_and_back() {
        let info = FrameInfo {
            csum_start: Some(34),
            csum_offset: 16,
            csum_valid: true,
            gso: Some(Gso {
                v6: true,
                size: 1440,
                header_len: 74,
                ecn: true,
            }),
        };
        let header = VnetHeader::from(&info);
        let [flags, kind] = [header.as_bytes()[0], header.as_bytes()[1]];
        assert_eq!((flags, kind), (1, 0x84));
        assert_eq!(header.info(), Some(info));
    }

    #[test]
    fn kinds_not_asked_for_are_refused() {
        let udp = VnetHeader {
            gso_type: 3,
            ..VnetHeader::default()
        };
        assert_eq!(udp.info(), None);
        assert_eq!(
            VnetHeader::default().info(),
            Some(FrameInfo::default()),
            "a plain frame"
        );
    }
}
