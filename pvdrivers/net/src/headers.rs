//! Where a frame's headers end, and its transport checksum.
//!
//! A blank checksum comes without a place: `netif.h` has no field for it, so each end finds it in
//! the headers. As in Linux, that is known for TCP and UDP over IPv4, not fragmented, and over IPv6
//! behind any extension headers; VLAN tags are passed by.

use crate::ETH_HLEN;

/// Bytes of a frame that are looked at. Ethernet, two VLAN tags, IPv4 with options and TCP with
/// options are 142; IPv6 may have extension headers.
pub const MAX_HEADERS: usize = 256;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// A transport protocol with a checksum that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where the transport header of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Its first byte; the checksum covers from here to `end`.
    pub start: usize,
    /// Behind the last byte of the IP packet; a frame may be padded.
    pub end: usize,
    /// What it is.
    pub protocol: Protocol,
    /// Over IPv6, not IPv4.
    pub v6: bool,
    /// Bytes of VLAN tags in front of the IP header.
    pub vlan: usize,
    /// The pseudo header's sum, not complemented.
    pub pseudo: u16,
}

/// Why a frame's transport checksum cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The headers, or what they say of their lengths, exceed the frame.
    #[error("The headers exceed the frame")]
    Truncated,
    /// Neither TCP nor UDP over IP, or a fragment of it.
    #[error("The frame has no transport checksum that is known")]
    Unknown,
}

impl Transport {
    /// Finds it in a frame of `len` bytes, of which `head` are the first: all, or at least
    /// [`MAX_HEADERS`].
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn find(head: &[u8], len: usize) -> Result<Self, HeaderError> {
        let mut at = ETH_HLEN - 2;
        let mut ethertype = be16(head, at)?;
        at += 2;
        while matches!(ethertype, ETH_P_8021Q | ETH_P_8021AD) {
            ethertype = be16(head, at + 2)?;
            at += 4;
        }
        let vlan = at - ETH_HLEN;
        let found = match ethertype {
            ETH_P_IP => Self::ipv4(head, at, len)?,
            ETH_P_IPV6 => Self::ipv6(head, at, len)?,
            _ => return Err(HeaderError::Unknown),
        };
        let found = Self { vlan, ..found };
        let checksum_end = found.checksum_at() + 2;
        if found.end > len || checksum_end > head.len() || checksum_end > found.end {
            return Err(HeaderError::Truncated);
        }
        Ok(found)
    }

    fn ipv4(head: &[u8], at: usize, len: usize) -> Result<Self, HeaderError> {
        let header = 4 * usize::from(byte(head, at)? & 0xf);
        let total = usize::from(be16(head, at + 2)?);
        let (more_fragments, offset_bits) = (0x2000, 0x1fff);
        if be16(head, at + 6)? & (more_fragments | offset_bits) != 0 {
            return Err(HeaderError::Unknown);
        }
        let protocol = protocol(byte(head, at + 9)?)?;
        if header < 20 || total < header {
            return Err(HeaderError::Truncated);
        }
        let addresses = head.get(at + 12..at + 20).ok_or(HeaderError::Truncated)?;
        // A large segment of more than 64 KiB with its Ethernet header may say so by 0 (BIG TCP),
        // but none such comes through a ring.
        let (start, end) = (at + header, at + total);
        let _ = len;
        Ok(Self::with_pseudo(start, end, protocol, false, addresses))
    }

    fn ipv6(head: &[u8], at: usize, len: usize) -> Result<Self, HeaderError> {
        let _ = len;
        let end = at + 40 + usize::from(be16(head, at + 4)?);
        let addresses = head.get(at + 8..at + 40).ok_or(HeaderError::Truncated)?;
        let mut next = byte(head, at + 6)?;
        let mut start = at + 40;
        loop {
            let bytes = match next {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(byte(head, start + 1)?),
                AUTHENTICATION => 8 + 4 * usize::from(byte(head, start + 1)?),
                // One that holds the whole packet ("atomic").
                FRAGMENT if be16(head, start + 2)? & 0xfff9 == 0 => 8,
                _ => break,
            };
            next = byte(head, start)?;
            start += bytes;
        }
        let protocol = protocol(next)?;
        if end < start {
            return Err(HeaderError::Truncated);
        }
        Ok(Self::with_pseudo(start, end, protocol, true, addresses))
    }

    fn with_pseudo(
        start: usize,
        end: usize,
        protocol: Protocol,
        v6: bool,
        addresses: &[u8],
    ) -> Self {
        let mut sum = Checksum::default();
        sum.add(addresses);
        let length = (end - start) as u16;
        let number = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        sum.add(&length.to_be_bytes());
        sum.add(&[0, number]);
        Self {
            start,
            end,
            protocol,
            v6,
            vlan: 0,
            pseudo: sum.fold(),
        }
    }

    /// Where the checksum is behind `start`.
    pub fn checksum_offset(&self) -> usize {
        match self.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
        }
    }

    /// Where the checksum is in the frame.
    pub fn checksum_at(&self) -> usize {
        self.start + self.checksum_offset()
    }

    /// Behind the last byte of the transport header.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`].
    pub fn header_end(&self, head: &[u8]) -> Result<usize, HeaderError> {
        let bytes = match self.protocol {
            Protocol::Udp => 8,
            Protocol::Tcp => 4 * usize::from(byte(head, self.start + 12)? >> 4),
        };
        let end = self.start + bytes;
        let whole = self.protocol == Protocol::Udp || bytes >= 20;
        if whole && end <= self.end {
            Ok(end)
        } else {
            Err(HeaderError::Truncated)
        }
    }

    /// The segment carries CWR (TCP only).
    pub fn has_cwr(&self, head: &[u8]) -> bool {
        self.protocol == Protocol::Tcp && head.get(self.start + 13).is_some_and(|f| f & 0x80 != 0)
    }

    /// The checksum as the frame carries it, where `sum` is that of pseudo header and bytes.
    pub fn checksum(&self, sum: u16) -> [u8; 2] {
        // RFC 768: none at all is sent as zero, so a computed zero is sent as its other form.
        match !sum {
            0 if self.protocol == Protocol::Udp => [0xff; 2],
            checksum => checksum.to_be_bytes(),
        }
    }
}

fn protocol(number: u8) -> Result<Protocol, HeaderError> {
    match number {
        TCP => Ok(Protocol::Tcp),
        UDP => Ok(Protocol::Udp),
        _ => Err(HeaderError::Unknown),
    }
}

fn byte(head: &[u8], at: usize) -> Result<u8, HeaderError> {
    head.get(at).copied().ok_or(HeaderError::Truncated)
}

fn be16(head: &[u8], at: usize) -> Result<u16, HeaderError> {
    Ok(u16::from_be_bytes([byte(head, at)?, byte(head, at + 1)?]))
}

/// The Internet checksum (RFC 1071) of bytes that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Of native-endian words; folded and swapped at the end.
    sum: u64,
    /// An odd number of bytes so far.
    odd: bool,
}

impl Checksum {
    /// More bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<4>();
        let mut sum = 0u64;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        sum += u64::from(u32::from_ne_bytes(last));
        let folded = u64::from(fold(sum));
        // Behind an odd byte all others stand in the other half of their words.
        self.sum += if self.odd {
            u64::from((folded as u16).swap_bytes())
        } else {
            folded
        };
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// A sum that was folded before.
    pub fn add_sum(&mut self, sum: u16) {
        self.add(&sum.to_be_bytes());
    }

    /// The sum, not complemented.
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.sum))
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
#[path = "headers_test.rs"]
mod tests;
