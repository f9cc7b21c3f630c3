use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The checksum as RFC 1071 tells it, byte pair by byte pair.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

fn ipv4(protocol: u8, options: usize, transport: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + transport.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.resize(header, 1);
    packet.extend(transport);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0xfd; 32]);
    packet.extend(payload);
    packet
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[12] = 5 << 4;
    segment.extend(payload);
    segment
}

fn find(frame: &[u8]) -> Result<Transport, HeaderError> {
    Transport::find(&frame[..frame.len().min(MAX_HEADERS)], frame.len())
}

#[test]
fn transport_headers_are_found() {
    let plain = ethernet(0x800, &ipv4(6, 0, &tcp(b"data")));
    let found = find(&plain).unwrap();
    assert_eq!((found.start, found.end, found.v6), (34, 58, false));
    assert_eq!(found.checksum_at(), 50);
    assert_eq!(found.header_end(&plain), Ok(54));

    let options = find(&ethernet(0x800, &ipv4(17, 8, &[0; 12]))).unwrap();
    assert_eq!((options.start, options.protocol), (42, Protocol::Udp));

    let mut tagged = vec![0, 5];
    tagged.extend(0x8100u16.to_be_bytes());
    tagged.extend([0, 6]);
    tagged.extend(0x86ddu16.to_be_bytes());
    tagged.extend(ipv6(6, &tcp(&[])));
    let tagged = find(&ethernet(0x88a8, &tagged)).unwrap();
    assert_eq!(
        (tagged.vlan, tagged.start, tagged.v6),
        (8, 14 + 8 + 40, true)
    );

    let mut extensions = vec![60, 1];
    extensions.resize(16, 0);
    extensions.extend([44, 0, 0, 0, 0, 0, 0, 0]);
    extensions.extend([6, 0, 0, 0, 0, 0, 0, 9]);
    extensions.extend(tcp(b"x"));
    let extended = find(&ethernet(0x86dd, &ipv6(0, &extensions))).unwrap();
    assert_eq!(extended.start, 14 + 40 + 32);
}

#[test]
fn a_padded_frame_ends_with_its_packet() {
    let mut frame = ethernet(0x800, &ipv4(17, 0, &[0; 10]));
    frame.resize(60, 0xee);
    assert_eq!(find(&frame).unwrap().end, 14 + 30);
}

#[test]
fn what_has_no_known_checksum() {
    assert_eq!(find(&ethernet(0x806, &[0; 28])), Err(HeaderError::Unknown));
    let icmp = ethernet(0x800, &ipv4(1, 0, &[0; 8]));
    assert_eq!(find(&icmp), Err(HeaderError::Unknown));
    let mut fragment = ethernet(0x800, &ipv4(6, 0, &tcp(b"x")));
    fragment[14 + 6] = 0x20;
    assert_eq!(find(&fragment), Err(HeaderError::Unknown));
    let mut next = vec![6, 0, 0, 8, 0, 0, 0, 9];
    next.extend(tcp(b"x"));
    let fragment = ethernet(0x86dd, &ipv6(44, &next));
    assert_eq!(find(&fragment), Err(HeaderError::Unknown));
}

#[test]
fn headers_beyond_the_frame() {
    let whole = ethernet(0x800, &ipv4(6, 0, &tcp(&[])));
    for len in 0..whole.len() {
        assert_eq!(find(&whole[..len]), Err(HeaderError::Truncated), "{len}");
    }
    let mut short = whole.clone();
    short[14] = 0x44;
    assert_eq!(find(&short), Err(HeaderError::Truncated), "IP header of 16");
    let mut offset = whole.clone();
    offset[34 + 12] = 4 << 4;
    let found = find(&offset).unwrap();
    assert_eq!(found.header_end(&offset), Err(HeaderError::Truncated));
    offset[34 + 12] = 15 << 4;
    assert_eq!(found.header_end(&offset), Err(HeaderError::Truncated));
    let chain = ethernet(0x86dd, &ipv6(60, &[60, 255, 0, 0]));
    assert_eq!(find(&chain), Err(HeaderError::Truncated));
}

#[test]
fn zero_is_sent_in_its_other_form_for_udp_only() {
    let udp = find(&ethernet(0x800, &ipv4(17, 0, &[0; 8]))).unwrap();
    assert_eq!(udp.checksum(0xffff), [0xff; 2]);
    let tcp = find(&ethernet(0x800, &ipv4(6, 0, &tcp(&[])))).unwrap();
    assert_eq!(tcp.checksum(0xffff), [0; 2]);
}

proptest! {
    #[test]
    fn sums_are_the_same_in_any_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(0..300usize, 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut sum = Checksum::default();
        let mut from = 0;
        for to in cuts {
            sum.add(&bytes[from..to]);
            from = to;
        }
        let (found, expected) = (sum.fold(), plain_sum(&bytes));
        // Both are forms of zero.
        prop_assert!(found == expected || found % 0xffff == expected % 0xffff);
    }

    #[test]
    fn nothing_found_exceeds_the_frame(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0..4u8,
    ) {
        for (at, value) in [(12, [8, 0]), (14, [0x45, 0]), (22, [64, 6]), (20, [0, 0])] {
            if kind > 0 && bytes.len() > at + 2 {
                bytes[at..at + 2].copy_from_slice(&value);
            }
        }
        if kind == 2 && bytes.len() > 54 {
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes[20] = [0, 6, 17, 43, 44, 51, 60, 1][usize::from(bytes[53] % 8)];
        }
        if let Ok(found) = find(&bytes) {
            prop_assert!(found.start <= found.end && found.end <= bytes.len());
            prop_assert!(found.checksum_at() + 2 <= found.end);
            if let Ok(end) = found.header_end(&bytes) {
                prop_assert!(end <= found.end);
            }
        }
    }
}
