//! Frames arrive as they were sent.

use proptest::prelude::*;
use pv_netdev::{FrameInfo, Gso, Offloads};

use super::frames::*;
use super::*;
use crate::extra::GsoInfo;
use crate::front::TxFrame;

fn plain_info() -> FrameInfo {
    FrameInfo::default()
}

/// What a link says of a frame whose checksum is left out.
fn blank_info(frame: &[u8], gso: Option<u16>) -> FrameInfo {
    let found = transport(frame);
    FrameInfo {
        csum_start: Some(found.start as u16),
        csum_offset: found.checksum_offset() as u16,
        csum_valid: true,
        gso: gso.map(|size| Gso {
            v6: found.v6,
            size,
            header_len: found.header_end(frame).unwrap() as u16,
            ecn: false,
        }),
    }
}

/// The frame with the pseudo header's sum where its checksum belongs.
fn partial(frame: &[u8]) -> Vec<u8> {
    let found = transport(frame);
    let mut frame = frame.to_vec();
    let at = found.checksum_at();
    frame[at..at + 2].copy_from_slice(&found.pseudo.to_be_bytes());
    frame
}

#[test]
fn a_frame_goes_each_way() {
    for split in [false, true] {
        let mut rig = Setup {
            split,
            ..Default::default()
        }
        .start();
        rig.q()
            .send(&TxFrame::default(), &plain(60), &[], 17)
            .unwrap();
        rig.q().tx.publish().unwrap();
        let sent = rig.sent();
        assert_eq!((sent.bytes, sent.info), (plain(60), plain_info()));
        assert_eq!(rig.finish(0), (1, 0));

        rig.wires[0].push(Frame {
            bytes: plain(1514),
            info: plain_info(),
        });
        let (frame, bytes) = rig.received(0);
        assert_eq!(bytes, plain(1514));
        assert!(!frame.csum_blank && !frame.data_validated && frame.gso.is_none());
        rig.counts("tx_packets", 1);
        rig.counts("tx_bytes", 60);
        rig.counts("rx_packets", 1);
        rig.counts("rx_bytes", 1514);
    }
}

#[test]
fn payload_is_not_copied_here() {
    let mut rig = Setup::default().start();
    let bytes = tcp(false, &[7; 65_000]);
    let frame = TxFrame {
        csum_blank: true,
        data_validated: true,
        gso: Some(GsoInfo {
            v6: false,
            size: 1448,
        }),
    };
    rig.q().send(&frame, &bytes, &[4000; 16], 0).unwrap();
    rig.q().tx.publish().unwrap();
    let sent = rig.sent();
    assert_eq!(sent.info, blank_info(&bytes, Some(1448)));
    assert_eq!(sent.bytes, partial(&bytes));
    assert_eq!(rig.finish(0), (1, 0));
    assert_eq!(
        rig.wires[0].most_pieces(),
        1 + 17,
        "the headers and each page"
    );
    rig.wires[0].push(sent);
    let (frame, received) = rig.received(0);
    assert_eq!(received, partial(&bytes));
    assert_eq!((frame.gso.unwrap().size, frame.csum_blank), (1448, true));
    assert_eq!(frame.pieces().len(), 16);
    rig.counts("rx_copied_bytes", 0);
    rig.counts("rx_gso_packets", 1);
    rig.counts("tx_gso_packets", 1);
    rig.counts("tx_gso_csum_fixup", 0);
}

#[test]
fn a_long_frame_that_is_no_large_segment() {
    for (nodes, wanted, copied) in [
        (vec![("mtu", "9000")], Wanted::ALL, 9014 - 4096),
        // A front end that takes none has no buffer kept free for their extra information.
        (
            vec![("mtu", "9000")],
            Wanted {
                gso_tcpv4: false,
                gso_tcpv6: false,
                ..Wanted::ALL
            },
            0,
        ),
        // Longer than expected, but the guest takes it.
        (
            vec![],
            Wanted {
                gso_tcpv4: false,
                gso_tcpv6: false,
                ..Wanted::ALL
            },
            9014 - 4096,
        ),
    ] {
        let mut rig = Setup {
            nodes,
            wanted,
            ..Default::default()
        }
        .start();
        rig.wires[0].push(Frame {
            bytes: plain(9014),
            info: plain_info(),
        });
        assert_eq!(rig.received(0).1, plain(9014));
        rig.counts("rx_copied_bytes", copied);
    }
}

#[test]
fn checksums_are_computed_where_the_link_cannot() {
    let mut rig = Setup {
        offloads: Offloads::NONE,
        ..Default::default()
    }
    .start();
    assert_eq!(rig.card.back.0["feature-no-csum-offload"], b"1");
    assert_eq!(rig.card.back.0["feature-gso-tcpv4"], b"0");
    let blank = TxFrame {
        csum_blank: true,
        ..Default::default()
    };
    let mut count = 0;
    for v6 in [false, true] {
        for payload in [0, 1, 200, 201, 1300] {
            for bytes in [tcp(v6, &vec![9; payload]), udp(v6, &vec![9; payload])] {
                rig.q().send(&blank, &bytes, &[33, 5], 3).unwrap();
                rig.q().tx.publish().unwrap();
                let sent = rig.sent();
                assert!(is_summed(&sent.bytes), "{v6} {payload}");
                assert_eq!(unsummed(&sent.bytes), bytes);
                assert_eq!((sent.info.csum_start, sent.info.csum_valid), (None, true));
                count += 1;
            }
        }
    }
    rig.counts("tx_csum_finished", count);
    rig.counts("tx_csum_blank", count);
    assert_eq!(rig.finish(0), (count as usize, 0));
}

#[test]
fn checksums_are_computed_where_the_guest_cannot() {
    let wanted = Wanted {
        gso_tcpv4: false,
        gso_tcpv6: false,
        csum: false,
        ipv6_csum: true,
        ..Wanted::ALL
    };
    let mut rig = Setup {
        wanted,
        ..Default::default()
    }
    .start();
    for v6 in [false, true] {
        for bytes in [tcp(v6, &[5; 5001]), udp(v6, &[5; 9])] {
            let padded = [&partial(&bytes)[..], &[0xee; 3]].concat();
            let info = blank_info(&bytes, None);
            rig.wires[0].push(Frame {
                bytes: padded,
                info,
            });
            let (frame, received) = rig.received(0);
            assert_eq!((frame.csum_blank, frame.data_validated), (v6, true));
            assert_eq!(is_summed(&received), !v6);
            assert_eq!(unsummed(&received[..bytes.len()]), bytes);
            assert_eq!(received[bytes.len()..], [0xee; 3]);
        }
    }
    rig.counts("rx_csum_finished", 2);
    rig.counts("rx_csum_blank", 2);
}

#[test]
fn a_tagged_frame_is_summed_for_the_guest() {
    let mut rig = Setup::default().start();
    let mut tagged = udp(false, b"tagged");
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let info = blank_info(&tagged, None);
    rig.wires[0].push(Frame {
        bytes: partial(&tagged),
        info,
    });
    let (frame, bytes) = rig.received(0);
    assert!(!frame.csum_blank);
    let mut bare = bytes.clone();
    bare.drain(12..16);
    assert!(is_summed(&bare));
}

#[test]
fn a_large_segment_with_a_checksum_loses_it() {
    let mut rig = Setup::default().start();
    let bytes = tcp(true, &[1; 5000]);
    let frame = TxFrame {
        gso: Some(GsoInfo {
            v6: true,
            size: 1000,
        }),
        ..Default::default()
    };
    rig.q().send(&frame, &bytes, &[4000], 0).unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.sent().info, blank_info(&bytes, Some(1000)));
    rig.counts("tx_gso_csum_fixup", 1);

    // Of one segment only: not large.
    let bytes = tcp(true, &[1; 1000]);
    rig.q().send(&frame, &bytes, &[], 0).unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.sent().info, blank_info(&bytes, None));
    assert_eq!(rig.finish(0), (2, 0));
}

#[test]
fn queues_are_apart() {
    let mut rig = Setup {
        queues: 3,
        split: true,
        ..Default::default()
    }
    .start();
    for n in 0..3 {
        let bytes = plain(100 + n);
        rig.queues[n]
            .send(&TxFrame::default(), &bytes, &[], 0)
            .unwrap();
        rig.queues[n].tx.publish().unwrap();
        assert_eq!(rig.wires[n].take_within(PATIENCE).unwrap().bytes, bytes);
        rig.wires[n].push(Frame {
            bytes: bytes.clone(),
            info: plain_info(),
        });
        assert_eq!(rig.received(n).1, bytes);
    }
    let stats = rig.card.stats();
    assert_eq!((stats.queues.len(), &*stats.state), (3, "connected"));
    for (n, queue) in stats.queues.iter().enumerate() {
        assert_eq!(queue.counters["tx_bytes"], 100 + n as u64);
        assert_eq!(queue.counters["rx_bytes"], 100 + n as u64);
    }
}

#[test]
fn a_card_connects_again() {
    let host = LoopbackHost::new(2 * FrontQueue::PAGES);
    let (first, wire_1) = wire(Offloads::ALL);
    let (second, wire_2) = wire(Offloads::ALL);
    let links: Vec<Box<dyn Link>> = vec![Box::new(first), Box::new(second)];
    let mut card = Card::new(&host, VifSpec::new(LoopbackHost::GUEST, 3), links);
    for wire in [wire_1, wire_2] {
        let mut queue = FrontQueue::new(&host, false, 8).unwrap();
        card.connect(&Wanted::ALL, &[queue.refs]).unwrap();
        queue.send(&TxFrame::default(), &plain(60), &[], 0).unwrap();
        queue.tx.publish().unwrap();
        assert!(wire.take_within(PATIENCE).is_some());
        card.disconnect();
        card.disconnect();
        assert_eq!(host.mappings(), 0);
        let stats = card.stats();
        assert_eq!((&*stats.state, stats.queues.len()), ("closed", 1));
        assert_eq!(stats.queues[0].counters["tx_packets"], 1);
    }
}

/// A burst that fills the ring wakes each end a few times only.
#[test]
fn notifications_are_shared() {
    let mut rig = Setup::default().start();
    let mut sent = 0;
    for _ in 0..50 {
        while rig
            .q()
            .send(&TxFrame::default(), &plain(60), &[], 0)
            .is_ok()
        {
            sent += 1;
        }
        rig.q().tx.publish().unwrap();
        rig.finish(0);
        while rig.wires[0].take().is_some() {}
    }
    rig.counts("tx_packets", sent);
    assert_eq!(rig.card.counter("responses"), sent);
    let notified = rig.card.counter("notifications_sent") + rig.q().tx.notifications();
    assert!(notified * 10 < sent, "{notified} for {sent}");
}

#[derive(Clone, Debug)]
struct Packet {
    kind: u8,
    len: usize,
    cuts: Vec<usize>,
    offset: usize,
    mss: u16,
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let cuts = prop::collection::vec(0..3000usize, 0..6);
    let packet = (0..10u8, 0..9000usize, cuts, 0..512usize, 1..3000u16);
    let packet = packet.prop_map(|(kind, len, cuts, offset, mss)| Packet {
        kind,
        len,
        cuts,
        offset,
        mss,
    });
    prop::collection::vec(packet, 1..60)
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let payload: Vec<u8> = (0..self.len).map(|n| (n * 31 + self.len) as u8).collect();
        match self.kind {
            0..2 => plain(60 + self.len),
            2..4 => udp(self.kind == 3, &payload),
            _ => tcp(self.kind % 2 == 1, &payload),
        }
    }

    /// Which pages it lies in: the first holds all headers, as every front end has it.
    fn cuts(&self, len: usize) -> Vec<usize> {
        let room = 4096 - self.offset;
        let mut cuts = Vec::new();
        let mut left = len;
        let mut wanted = self.cuts.iter().copied();
        while left > room || wanted.len() > 0 {
            let cut = wanted.next().unwrap_or(room).min(room).min(left);
            let cut = if cuts.is_empty() {
                cut.max(14).min(left)
            } else {
                cut
            };
            cuts.push(cut);
            left -= cut;
        }
        cuts
    }

    fn tx(&self) -> TxFrame {
        TxFrame {
            csum_blank: self.kind >= 2,
            data_validated: self.kind >= 2,
            gso: (self.kind >= 6).then_some(GsoInfo {
                v6: self.kind % 2 == 1,
                size: self.mss,
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The link is a mirror: what the guest sends it receives again, whole and in order.
    #[test]
    fn random_packets_come_back(
        packets in packets(),
        buffers in 1..257usize,
        link_sums: bool,
        guest_sums: bool,
    ) {
        let link_segments = link_sums && guest_sums;
        let offloads = Offloads { csum: link_sums, tso4: link_segments, tso6: link_segments };
        let wanted = Wanted {
            csum: guest_sums,
            ipv6_csum: guest_sums,
            gso_tcpv4: guest_sums,
            gso_tcpv6: guest_sums,
            ..Wanted::ALL
        };
        // A frame needs four buffers here, three for its bytes.
        let buffers = buffers.max(4);
        let mut rig = Setup { offloads, wanted, buffers, ..Default::default() }.start();
        for packet in &packets {
            let bytes = packet.bytes();
            let mut tx = packet.tx();
            if !link_segments {
                tx.gso = None;
            }
            let cuts = packet.cuts(bytes.len());
            prop_assume!(cuts.len() < 17);
            rig.q().send(&tx, &bytes, &cuts, packet.offset).unwrap();
            rig.q().tx.publish().unwrap();
            let sent = rig.sent();
            let summed = packet.kind >= 2;
            match summed {
                false => prop_assert_eq!(&sent.bytes, &bytes),
                true if link_sums => prop_assert_eq!(&sent.bytes, &started(&bytes)),
                true => {
                    prop_assert!(is_summed(&sent.bytes));
                    prop_assert_eq!(unsummed(&sent.bytes), unsummed(&bytes));
                }
            }
            rig.wires[0].push(sent);
            let (frame, received) = rig.received(0);
            prop_assert_eq!(received.len(), bytes.len());
            if summed {
                prop_assert_eq!(unsummed(&received), unsummed(&bytes));
                prop_assert_eq!(frame.csum_blank, link_sums && guest_sums);
                prop_assert!(frame.csum_blank || is_summed(&received));
            } else {
                prop_assert_eq!(received, bytes);
            }
            let large = tx.gso.filter(|gso| packet.len > usize::from(gso.size));
            prop_assert_eq!(frame.gso, large);
            prop_assert_eq!(rig.finish(0), (1, 0));
        }
        prop_assert_eq!(rig.card.counter("tx_packets"), packets.len() as u64);
        prop_assert_eq!(rig.card.counter("rx_packets"), packets.len() as u64);
        prop_assert_eq!(rig.card.counter("tx_errors") + rig.card.counter("rx_drops"), 0);
    }
}

/// Two guests with a cable between their cards, which is a socket with little room.
#[test]
fn two_guests_by_a_socket() {
    let (a, b) = pv_netdev::pair(Offloads::ALL).unwrap();
    let mut guests: Vec<_> = [a, b]
        .into_iter()
        .map(|link| {
            let host = LoopbackHost::new(FrontQueue::PAGES);
            let queue = FrontQueue::new(&host, false, 256).unwrap();
            let spec = VifSpec::new(LoopbackHost::GUEST, 0);
            let mut card = Card::new(&host, spec, vec![link]);
            card.connect(&Wanted::ALL, &[queue.refs]).unwrap();
            (card, queue)
        })
        .collect();
    let frame = TxFrame {
        csum_blank: true,
        data_validated: true,
        gso: Some(GsoInfo {
            v6: false,
            size: 1448,
        }),
    };
    const COUNT: usize = 500;
    let len = |n: usize| 2000 + n * 97 % 60_000;
    let (mut sent, mut got) = (0, 0);
    let (first, second) = guests.split_at_mut(1);
    let ((card, from), (peer, to)) = (&mut first[0], &mut second[0]);
    until(|| {
        while sent < COUNT {
            let bytes = tcp(false, &vec![sent as u8; len(sent)]);
            let cuts = vec![4096; (bytes.len() - 1) / 4096];
            if from.send(&frame, &bytes, &cuts, 0).is_err() {
                break;
            }
            sent += 1;
        }
        from.tx.publish().unwrap();
        from.reclaim().unwrap();
        while let Some((frame, bytes)) = to.recv().unwrap() {
            let sent = tcp(false, &vec![got as u8; len(got)]);
            assert_eq!(unsummed(&bytes), sent);
            assert_eq!(frame.gso.map(|gso| gso.size), Some(1448));
            got += 1;
        }
        to.rx.publish().unwrap();
        got == COUNT
    });
    for name in ["tx_errors", "tx_drops", "rx_errors", "rx_drops"] {
        assert_eq!(card.counter(name) + peer.counter(name), 0, "{name}");
    }
    assert_eq!(peer.counter("rx_gso_packets"), COUNT as u64);
}

/// A front end ends its grants as soon as it sees the answer, and must not be let down.
#[test]
fn pages_are_unmapped_before_the_answer() {
    use pv_ring::GrantAccess;
    let mut rig = Setup {
        buffers: 100,
        ..Default::default()
    }
    .start();
    let frame = TxFrame::default();
    for round in 0..100u16 {
        rig.q().send(&frame, &plain(60), &[], 0).unwrap();
        rig.q().tx.publish().unwrap();
        until(|| rig.q().reclaim().unwrap().0 == 1);
        // The only page this front end sends from so far.
        if round == 99 {
            let gref = rig.queues[0].tx_gref(0);
            assert!(rig.host.end(gref), "still mapped for transmission");
        }
        let info = plain_info();
        let bytes = plain(60);
        rig.wires[0].push(Frame { bytes, info });
        let queue = &mut rig.queues[0];
        let mut got = None;
        until(|| {
            got = queue.rx.recv().unwrap();
            got.is_some()
        });
        let gref = got.unwrap().pieces()[0].buffer.gref;
        assert!(rig.host.end(gref), "still mapped for reception");
    }
}
