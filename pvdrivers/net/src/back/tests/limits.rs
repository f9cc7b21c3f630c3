//! Rates, filters, links that are full, down or broken, and guests without buffers.

use std::io::ErrorKind;

use pv_netdev::FrameInfo;
use xen_sys::io::netif::NETIF_RSP_ERROR;

use super::frames::*;
use super::*;
use crate::front::TxFrame;

fn to_guest(bytes: Vec<u8>) -> Frame {
    Frame {
        bytes,
        info: FrameInfo::default(),
    }
}

fn to(address: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = plain(len);
    frame[..6].copy_from_slice(&address);
    frame
}

#[test]
fn a_rate_limit_makes_the_guest_wait() {
    // The first two packets pass by the credit of the start; a third would in an hour.
    let mut rig = Setup {
        nodes: vec![("rate", "2000,3600000000")],
        ..Default::default()
    }
    .start();
    for _ in 0..6 {
        rig.q()
            .send(&TxFrame::default(), &plain(1000), &[], 0)
            .unwrap();
    }
    rig.q().tx.publish().unwrap();
    until(|| rig.card.counter("tx_rate_limited") >= 1);
    rig.counts("tx_packets", 2);
    // Those that wait go when it is lifted.
    rig.card.change(&[("rate", "")], &[]).unwrap();
    assert_eq!(rig.finish(0), (6, 0));
    for _ in 0..100 {
        rig.q()
            .send(&TxFrame::default(), &plain(1000), &[], 0)
            .unwrap();
    }
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (100, 0));
}

#[test]
fn multicast_frames_that_were_not_asked_for() {
    let group = [1, 0, 0x5e, 0, 0, 9];
    let mut rig = Setup {
        wanted: Wanted {
            multicast_control: true,
            ..Wanted::ALL
        },
        ..Default::default()
    }
    .start();
    rig.wires[0].push(to_guest(to(group, 60)));
    rig.wires[0].push(to_guest(to([0xff; 6], 61)));
    rig.wires[0].push(to_guest(to(OTHER, 62)));
    assert_eq!(rig.received(0).1.len(), 61);
    assert_eq!(rig.received(0).1.len(), 62);
    rig.counts("rx_drops_multicast", 1);

    rig.q().tx.multicast(group, true, 0).unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (1, 0));
    rig.wires[0].push(to_guest(to(group, 63)));
    assert_eq!(rig.received(0).1.len(), 63);

    rig.q().tx.multicast(group, false, 0).unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (1, 0));
    rig.wires[0].push(to_guest(to(group, 64)));
    rig.counts("rx_drops_multicast", 2);

    let off = [("request-multicast-control", "0")];
    rig.card.change(&[], &off).unwrap();
    rig.wires[0].push(to_guest(to(group, 65)));
    assert_eq!(rig.received(0).1.len(), 65);
    rig.counts("tx_multicast_requests", 2);
}

#[test]
fn a_guest_asks_for_more_groups_than_it_may() {
    let mut rig = Setup::default().start();
    for n in 0..65 {
        rig.q()
            .tx
            .multicast([1, 0, 0x5e, 0, 0, n], true, n.into())
            .unwrap();
    }
    rig.q().tx.publish().unwrap();
    let mut statuses = Vec::new();
    until(|| {
        while let Some(done) = rig.q().tx.done().unwrap() {
            statuses.push(done.status);
        }
        statuses.len() == 65
    });
    let refused = statuses.iter().filter(|s| **s == NETIF_RSP_ERROR);
    assert_eq!(refused.count(), 1);
}

#[test]
fn addresses_are_filtered_when_asked_for() {
    let mut spec = VifSpec::new(LoopbackHost::GUEST, 0);
    spec.filter_received = true;
    spec.filter_sent = true;
    let mut rig = Setup {
        nodes: vec![("mac", "00:16:3e:00:00:01")],
        spec,
        ..Default::default()
    }
    .start();
    rig.wires[0].push(to_guest(to(OTHER, 60)));
    rig.wires[0].push(to_guest(to(OWN, 61)));
    assert_eq!(rig.received(0).1.len(), 61);
    rig.counts("rx_drops_filtered", 1);

    let mut forged = plain(60);
    forged[11] ^= 1;
    for bytes in [&forged, &plain(61)] {
        rig.q().send(&TxFrame::default(), bytes, &[], 0).unwrap();
    }
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (2, 1));
    assert_eq!(rig.sent().bytes.len(), 61);
    rig.counts("tx_drops_filtered", 1);
}

#[test]
fn a_pulled_cable() {
    let mut rig = Setup::default().start();
    rig.card.change(&[("link", "down")], &[]).unwrap();
    rig.wires[0].push(to_guest(plain(60)));
    rig.counts("rx_drops_link_down", 1);
    rig.q()
        .send(&TxFrame::default(), &plain(60), &[], 0)
        .unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (1, 1));
    rig.counts("tx_drops_link_down", 1);
    rig.card.change(&[("link", "up")], &[]).unwrap();
    rig.wires[0].push(to_guest(plain(61)));
    assert_eq!(rig.received(0).1.len(), 61);
}

#[test]
fn a_full_link_makes_the_guest_wait() {
    let mut rig = Setup::default().start();
    rig.wires[0].set_busy(true);
    for len in 60..160 {
        rig.q()
            .send(&TxFrame::default(), &plain(len), &[], 0)
            .unwrap();
    }
    rig.q().tx.publish().unwrap();
    until(|| rig.card.counter("tx_link_busy") > 0);
    assert_eq!(rig.q().reclaim().unwrap(), (0, 0));
    // Reception goes on.
    rig.wires[0].push(to_guest(plain(70)));
    assert_eq!(rig.received(0).1.len(), 70);
    rig.wires[0].set_busy(false);
    for len in 60..160 {
        assert_eq!(rig.sent().bytes, plain(len));
    }
    assert_eq!(rig.finish(0), (100, 0));
}

#[test]
fn a_card_ends_while_the_link_is_full() {
    let mut rig = Setup::default().start();
    rig.wires[0].set_busy(true);
    rig.q()
        .send(&TxFrame::default(), &plain(60), &[], 0)
        .unwrap();
    rig.q().tx.publish().unwrap();
    until(|| rig.card.counter("tx_link_busy") > 0);
    rig.card.disconnect();
    assert_eq!(rig.host.mappings(), 0);
}

#[test]
fn a_link_that_fails() {
    let mut rig = Setup::default().start();
    rig.wires[0].fail_send(Some(ErrorKind::HostUnreachable));
    rig.q()
        .send(&TxFrame::default(), &plain(60), &[], 0)
        .unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (1, 1));
    rig.counts("tx_drops_link", 1);
    rig.wires[0].fail_send(None);

    rig.wires[0].fail_recv(Some(ErrorKind::NetworkDown));
    until(|| rig.card.counter("rx_errors_link") > 0);
    rig.wires[0].fail_recv(None);
    rig.wires[0].push(to_guest(plain(60)));
    assert_eq!(rig.received(0).1.len(), 60);

    let before = rig.card.counter("rx_errors_link");
    rig.wires[0].fail_recv(Some(ErrorKind::UnexpectedEof));
    until(|| rig.card.counter("rx_errors_link") > before);
    rig.q()
        .send(&TxFrame::default(), &plain(64), &[], 0)
        .unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.sent().bytes.len(), 64, "the other direction goes on");
}

#[test]
fn frames_wait_for_buffers_then_are_given_up() {
    let mut spec = VifSpec::new(LoopbackHost::GUEST, 0);
    spec.drain_timeout = Duration::from_millis(50);
    let mut rig = Setup {
        spec,
        buffers: 1,
        ..Default::default()
    }
    .start();
    rig.wires[0].push(to_guest(plain(60)));
    let start = Instant::now();
    let (frame, _) = {
        let queue = rig.q();
        let mut got = None;
        until(|| {
            got = queue.rx.recv().unwrap();
            got.is_some()
        });
        (got.unwrap(), ())
    };
    assert_eq!(frame.len(), 60);
    for _ in 0..3 {
        rig.wires[0].push(to_guest(plain(61)));
    }
    rig.counts("rx_drops_no_buffers", 3);
    assert!(start.elapsed() >= Duration::from_millis(50));
    rig.counts("rx_stalls", 1);
    for name in 0..20 {
        rig.q().post(name).unwrap();
    }
    rig.q().rx.publish().unwrap();
    rig.wires[0].push(to_guest(plain(62)));
    assert_eq!(rig.received(0).1.len(), 62);
}

/// A frame that came while there were too few buffers goes on when there are more.
#[test]
fn a_frame_waits_for_its_last_buffers() {
    let mut rig = Setup {
        buffers: 2,
        ..Default::default()
    }
    .start();
    rig.wires[0].push(to_guest(plain(9000)));
    until(|| rig.wires[0].waiting() == 0);
    rig.q().post(10).unwrap();
    // The back end has asked for that notification.
    until(|| rig.q().rx.publish().unwrap() || rig.card.counter("rx_packets") > 0);
    assert_eq!(rig.received(0).1, plain(9000));
    rig.counts("rx_drops", 0);
}

#[test]
fn a_front_end_that_does_not_notify() {
    let mut rig = Setup {
        wanted: Wanted {
            rx_notify: false,
            ..Wanted::ALL
        },
        buffers: 1,
        ..Default::default()
    }
    .start();
    for len in 60..64 {
        rig.wires[0].push(to_guest(plain(len)));
        let queue = rig.q();
        let mut got = None;
        until(|| {
            got = queue.recv().unwrap();
            got.is_some()
        });
        // Posted, but nobody is told.
        let event = 4;
        let page = &queue.ring_pages[1];
        pv_ring::SharedPage::store_u32(page, event, u32::MAX / 2);
        let _ = queue.rx.publish();
        assert_eq!(got.unwrap().1.len(), len);
    }
}

#[test]
fn frames_the_guest_cannot_take() {
    let mut rig = Setup {
        wanted: Wanted {
            sg: false,
            gso_tcpv4: false,
            gso_tcpv6: false,
            ..Wanted::ALL
        },
        ..Default::default()
    }
    .start();
    assert!(!rig.wires[0].accepted().tso4 && rig.wires[0].accepted().csum);
    for len in [13, 4097, 60_000] {
        rig.wires[0].push(to_guest(plain(len)));
    }
    let large = tcp(false, &[0; 2000]);
    let found = transport(&large);
    let info = FrameInfo {
        csum_start: Some(found.start as u16),
        csum_offset: 16,
        csum_valid: true,
        gso: Some(pv_netdev::Gso {
            v6: false,
            size: 1000,
            header_len: 54,
            ecn: false,
        }),
    };
    rig.wires[0].push(Frame { bytes: large, info });
    rig.wires[0].push(to_guest(plain(4096)));
    assert_eq!(rig.received(0).1, plain(4096));
    rig.counts("rx_drops_size", 3);
    rig.counts("rx_drops_gso", 1);
}
