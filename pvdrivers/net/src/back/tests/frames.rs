//! Frames to send about.

use crate::headers::Transport;

pub const OWN: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];
pub const OTHER: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 2];

/// A frame of `len` bytes with another protocol than IP.
pub fn plain(len: usize) -> Vec<u8> {
    let mut frame = [&OTHER[..], &OWN[..], &[0x88, 0xb5]].concat();
    frame.extend((frame.len()..len).map(|n| (n * 7) as u8));
    frame.truncate(len);
    frame
}

/// A TCP segment with this payload, its checksum zero.
pub fn tcp(v6: bool, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![
        0x12,
        0x34,
        0,
        80,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        5 << 4,
        0x18,
        1,
        0,
    ];
    segment.extend([0; 4]);
    segment.extend(payload);
    packet(v6, 6, &segment)
}

/// A UDP datagram with this payload, its checksum zero.
pub fn udp(v6: bool, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x12, 0x34, 0, 53];
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    packet(v6, 17, &datagram)
}

fn packet(v6: bool, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = [&OTHER[..], &OWN[..]].concat();
    let len = transport.len() as u16;
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend((0..32).map(|n| n ^ 0xfd));
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + len).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend(transport);
    frame
}

pub fn transport(frame: &[u8]) -> Transport {
    Transport::find(frame, frame.len()).unwrap()
}

/// Whether the transport checksum is right, told by RFC 1071's plain words.
pub fn is_summed(frame: &[u8]) -> bool {
    let found = transport(frame);
    let mut bytes = pseudo_header(frame);
    bytes.extend(&frame[found.start..found.end]);
    sum(&bytes) == 0xffff
}

/// The frame with the pseudo header's sum alone, which a card goes on from.
pub fn started(frame: &[u8]) -> Vec<u8> {
    let sum = sum(&pseudo_header(frame));
    let mut frame = frame.to_vec();
    let at = transport(&frame).checksum_at();
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn pseudo_header(frame: &[u8]) -> Vec<u8> {
    let found = transport(frame);
    let mut bytes = match found.v6 {
        false => frame[26..34].to_vec(),
        true => frame[22..54].to_vec(),
    };
    bytes.extend(((found.end - found.start) as u16).to_be_bytes());
    bytes.extend([0, if found.checksum_offset() == 16 { 6 } else { 17 }]);
    bytes
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The frame without its checksum.
pub fn unsummed(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = transport(&frame).checksum_at();
    frame[at..at + 2].fill(0);
    frame
}
