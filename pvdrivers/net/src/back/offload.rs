//! What one side says of a frame in the other's words: checksums left out, large segments. What
//! the other side does not take is done here.

use pv_netdev::{FrameInfo, Gso, Offloads};
use pv_stats::Counter;

use super::chains::Packet;
use super::stats::QueueCounters;
use crate::extra::GsoInfo;
use crate::headers::{Checksum, HeaderError, Protocol, Transport};

/// A frame for the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToLink {
    pub info: FrameInfo,
    /// The checksum is to be computed: the link does not.
    pub finish: Option<Transport>,
    /// The checksum was or is now left out by the guest.
    pub blank: bool,
    /// A large segment came with a checksum.
    pub fixup: bool,
}

impl ToLink {
    /// What a packet of the guest's is to a link. `head` are its first bytes, all that can be
    /// headers; the pseudo header's sum is put where a blank checksum is, whatever was there.
    ///
    /// # Errors
    /// It cannot be sent; the counter of the reason.
    pub fn new<'a>(
        packet: &Packet,
        head: &mut [u8],
        offloads: Offloads,
        counters: &'a QueueCounters,
    ) -> Result<Self, &'a Counter> {
        let mut info = FrameInfo {
            csum_valid: packet.data_validated,
            ..Default::default()
        };
        if !packet.csum_blank && packet.gso.is_none() {
            return Ok(Self {
                info,
                finish: None,
                blank: false,
                fixup: false,
            });
        }
        let transport = Transport::find(head, packet.len).map_err(|_| match packet.gso {
            Some(_) => &counters.tx_errors_gso,
            None => &counters.tx_errors_csum,
        })?;
        if let Some(gso) = packet.gso {
            info.gso = large_segment(gso, &transport, head, packet.len)
                .map_err(|_| &counters.tx_errors_gso)?;
        }
        let at = transport.checksum_at();
        head[at..at + 2].copy_from_slice(&transport.pseudo.to_be_bytes());

        let taken = match info.gso {
            None => true,
            Some(Gso { v6: false, .. }) => offloads.csum && offloads.tso4,
            Some(Gso { v6: true, .. }) => offloads.csum && offloads.tso6,
        };
        if !taken {
            return Err(&counters.tx_errors_gso);
        }
        info.csum_valid = true;
        if offloads.csum {
            // Within the first 256 bytes.
            info.csum_start = Some(transport.start as u16);
            info.csum_offset = transport.checksum_offset() as u16;
        }
        Ok(Self {
            info,
            finish: (!offloads.csum).then_some(transport),
            blank: true,
            fixup: !packet.csum_blank,
        })
    }
}

/// How to cut a packet; `None` if it is but one segment.
fn large_segment(
    gso: GsoInfo,
    transport: &Transport,
    head: &[u8],
    len: usize,
) -> Result<Option<Gso>, HeaderError> {
    if transport.protocol != Protocol::Tcp || transport.v6 != gso.v6 {
        return Err(HeaderError::Unknown);
    }
    let header_len = transport.header_end(head)?;
    if len - header_len <= usize::from(gso.size) {
        return Ok(None);
    }
    Ok(Some(Gso {
        v6: gso.v6,
        size: gso.size,
        header_len: u16::try_from(header_len).map_err(|_| HeaderError::Truncated)?,
        ecn: transport.has_cwr(head),
    }))
}

/// What a front end takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrontTakes {
    /// Blank checksums over IPv4, and large segments.
    pub offloads: Offloads,
    /// Blank checksums over IPv6.
    pub csum_v6: bool,
    /// Frames of several pages.
    pub sg: bool,
}

/// A checksum to be computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// It covers from here ...
    pub start: usize,
    /// ... to here, the sum of the pseudo header being in its place ...
    pub end: usize,
    /// ... here.
    pub at: usize,
    pub transport: Option<Transport>,
}

/// A frame for the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToGuest {
    pub csum_blank: bool,
    pub data_validated: bool,
    pub gso: Option<GsoInfo>,
    pub finish: Option<Finish>,
}

impl ToGuest {
    /// What a frame of the link's is to a guest. `head` are its first bytes.
    ///
    /// # Errors
    /// The guest cannot have it; the counter of the reason.
    pub fn new<'a>(
        info: &FrameInfo,
        head: &[u8],
        len: usize,
        takes: &FrontTakes,
        counters: &'a QueueCounters,
    ) -> Result<Self, &'a Counter> {
        let Some(start) = info.csum_start.map(usize::from) else {
            return match info.gso {
                Some(_) => Err(&counters.rx_drops_gso),
                None => Ok(Self {
                    data_validated: info.csum_valid,
                    ..Default::default()
                }),
            };
        };
        // The guest has to find the place again, as its kernel does: no VLAN tags.
        let transport = Transport::find(head, len).ok().filter(|found| {
            found.start == start && found.checksum_offset() == usize::from(info.csum_offset)
        });
        let csum_blank = transport.is_some_and(|found| match (found.vlan, found.v6) {
            (0, false) => takes.offloads.csum,
            (0, true) => takes.csum_v6,
            _ => false,
        });
        if let Some(gso) = info.gso {
            let taken = match gso.v6 {
                false => takes.offloads.tso4,
                true => takes.offloads.tso6,
            };
            let same = transport.is_some_and(|found| found.v6 == gso.v6);
            if !(csum_blank && taken && same && gso.size > 0) {
                return Err(&counters.rx_drops_gso);
            }
        }
        let at = start + usize::from(info.csum_offset);
        let end = transport.map_or(len, |found| found.end);
        if at + 2 > end {
            return Err(&counters.rx_errors_link);
        }
        let finish = Finish {
            start,
            end,
            at,
            transport,
        };
        Ok(Self {
            csum_blank,
            data_validated: true,
            gso: info.gso.map(|gso| GsoInfo {
                v6: gso.v6,
                size: gso.size,
            }),
            finish: (!csum_blank).then_some(finish),
        })
    }
}

/// Adds bytes `from..to` of something that is read in pieces.
pub(super) fn sum_of(
    sum: &mut Checksum,
    mut from: usize,
    to: usize,
    mut read: impl FnMut(usize, &mut [u8]),
) {
    let mut buffer = [0; 1024];
    while from < to {
        let n = buffer.len().min(to - from);
        read(from, &mut buffer[..n]);
        sum.add(&buffer[..n]);
        from += n;
    }
}
