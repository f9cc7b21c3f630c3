//! What a front end can do wrong, and what becomes of it.

use pv_backend::DeviceError;
use pv_netdev::Offloads;
use pv_ring::SharedPage;
use xen_sys::GrantRef;
use xen_sys::io::netif::*;
use xen_sys::io::ring::{SRING_REQ_PROD, SRING_RSP_PROD};
use zerocopy::{FromZeros, IntoBytes};

use super::frames::*;
use super::*;
use crate::extra::GsoInfo;
use crate::front::{Buffer, TxFrame};

const FIRST: NetifTxRequest = NetifTxRequest {
    gref: GrantRef(0),
    offset: 0,
    flags: 0,
    id: 7,
    size: 60,
};

/// A request with a good page.
fn first(rig: &Rig) -> NetifTxRequest {
    NetifTxRequest {
        gref: rig.queues[0].tx_gref(0),
        ..FIRST
    }
}

fn extra(kind: u8, flags: u8, u: [u8; 6]) -> NetifTxRequest {
    let mut slot = NetifTxRequest::new_zeroed();
    let info = NetifExtraInfo { kind, flags, u };
    slot.as_mut_bytes()[..8].copy_from_slice(info.as_bytes());
    slot
}

fn send(rig: &mut Rig, requests: &[NetifTxRequest]) {
    for request in requests {
        rig.q().tx.send_raw(request).unwrap();
    }
    rig.q().tx.publish().unwrap();
}

/// The status of the next answers.
fn answers(rig: &mut Rig, count: usize) -> Vec<i16> {
    let mut answers = Vec::new();
    until(|| {
        while let Some(answer) = rig.q().tx.raw_response().unwrap() {
            assert_eq!(answer.id, 7);
            answers.push(answer.status);
        }
        answers.len() >= count
    });
    assert_eq!(answers.len(), count);
    answers
}

/// These requests are answered with an error, counted; then a good packet goes through.
fn refused(mut rig: Rig, requests: &[NetifTxRequest], counter: &str) {
    send(&mut rig, requests);
    let extras = requests.iter().filter(|r| r.id != 7).count();
    let answers = answers(&mut rig, requests.len());
    let errors = answers.iter().filter(|s| **s == NETIF_RSP_ERROR).count();
    let nulls = answers.iter().filter(|s| **s == NETIF_RSP_NULL).count();
    assert_eq!((errors, nulls), (requests.len() - extras, extras));
    rig.counts(counter, 1);
    rig.counts("tx_errors", 1);
    still_works(rig);
}

fn still_works(mut rig: Rig) {
    rig.q().tx_page(0).write(0, &plain(60));
    let good = first(&rig);
    send(&mut rig, &[good]);
    assert_eq!(answers(&mut rig, 1), [NETIF_RSP_OKAY]);
    assert_eq!(rig.sent().bytes, plain(60));
}

#[test]
fn ring_indices_that_lie() {
    for (page, ring) in [(0, "transmit"), (1, "receive")] {
        for lie in [300, u32::MAX, 0x8000_0000] {
            let rig = Setup {
                buffers: 0,
                ..Default::default()
            }
            .start();
            rig.queues[0].ring_pages[page].store_u32(SRING_REQ_PROD, lie);
            pv_ring::EventChannel::notify(rig.queues[0].tx.channel()).unwrap();
            rig.fails(ring);
        }
    }
}

#[test]
fn ring_indices_that_lie_before_the_start() {
    for page in 0..2 {
        let host = LoopbackHost::new(FrontQueue::PAGES);
        let queue = FrontQueue::new(&host, false, 0).unwrap();
        let (link, _wire) = wire(Offloads::ALL);
        let mut card = Card::new(
            &host,
            VifSpec::new(LoopbackHost::GUEST, 0),
            vec![Box::new(link)],
        );
        queue.ring_pages[page].store_u32(SRING_RSP_PROD, 1000);
        let error = card.connect(&Wanted::ALL, &[queue.refs]).unwrap_err();
        assert!(error.0.contains("ring makes no sense"), "{error}");
        drop(card);
        assert_eq!(host.mappings(), 0);
    }
}

#[test]
fn grants_that_are_none() {
    for gref in [0, 100_000, u32::MAX] {
        let rig = Setup::default().start();
        let request = NetifTxRequest {
            gref: GrantRef(gref),
            ..FIRST
        };
        refused(rig, &[request], "tx_errors_grant");
    }
    let rig = Setup::default().start();
    let good = NetifTxRequest {
        flags: NETTXF_more_data,
        ..first(&rig)
    };
    let bad = NetifTxRequest {
        gref: GrantRef(100_000),
        size: 10,
        ..FIRST
    };
    refused(rig, &[good, bad], "tx_errors_grant");
}

#[test]
fn slots_that_exceed_their_page() {
    for (offset, size) in [(4090, 60), (0, 4097), (u16::MAX, u16::MAX), (4096, 60)] {
        let mut rig = Setup::default().start();
        let request = NetifTxRequest {
            offset,
            size,
            ..first(&rig)
        };
        send(&mut rig, &[request]);
        rig.fails("exceeds its page");
    }
    let mut rig = Setup::default().start();
    let head = NetifTxRequest {
        flags: NETTXF_more_data,
        size: 200,
        ..first(&rig)
    };
    let rest = NetifTxRequest {
        offset: 4000,
        size: 100,
        ..first(&rig)
    };
    send(&mut rig, &[head, rest]);
    rig.fails("exceeds its page");
}

/// A packet of so many slots, 20 bytes each.
fn chain(rig: &Rig, slots: usize) -> Vec<NetifTxRequest> {
    let slot = |n| NetifTxRequest {
        size: if n == 0 { 20 * slots as u16 } else { 20 },
        flags: if n + 1 < slots { NETTXF_more_data } else { 0 },
        ..first(rig)
    };
    (0..slots).map(slot).collect()
}

#[test]
fn packets_of_too_many_slots() {
    let mut rig = Setup::default().start();
    let longest = chain(&rig, 19);
    send(&mut rig, &longest);
    assert_eq!(answers(&mut rig, 19), [NETIF_RSP_OKAY; 19]);
    for slots in [20, 21] {
        let rig = Setup::default().start();
        let long = chain(&rig, slots);
        refused(rig, &long, "tx_errors_slots");
    }
    let mut rig = Setup::default().start();
    let endless = chain(&rig, 22);
    send(&mut rig, &endless);
    rig.fails("more than 21 slots");
}

#[test]
fn packets_that_the_requests_cut_short() {
    let mut rig = Setup::default().start();
    let request = NetifTxRequest {
        flags: NETTXF_more_data,
        ..first(&rig)
    };
    send(&mut rig, &[request]);
    rig.fails("end within a packet");

    let mut rig = Setup::default().start();
    let request = NetifTxRequest {
        flags: NETTXF_extra_info,
        ..first(&rig)
    };
    send(&mut rig, &[request]);
    rig.fails("extra information should follow");
}

#[test]
fn sizes_that_do_not_add_up() {
    let rig = Setup::default().start();
    let head = NetifTxRequest {
        flags: NETTXF_more_data,
        ..first(&rig)
    };
    let larger = NetifTxRequest {
        size: 61,
        ..first(&rig)
    };
    refused(rig, &[head, larger], "tx_errors_size");

    // Nothing, or not even an Ethernet header, is left for the first slot.
    for size in [60, 47] {
        let rig = Setup::default().start();
        let rest = NetifTxRequest {
            size,
            ..first(&rig)
        };
        refused(rig, &[head, rest], "tx_errors_size");
    }
}

#[test]
fn packets_that_are_too_short() {
    for size in [0, 1, 13] {
        let rig = Setup::default().start();
        let request = NetifTxRequest {
            size,
            ..first(&rig)
        };
        refused(rig, &[request], "tx_errors_size");
    }
}

#[test]
fn slots_of_no_bytes_are_passed_by() {
    let mut rig = Setup::default().start();
    rig.q().tx_page(0).write(0, &plain(60));
    let head = NetifTxRequest {
        flags: NETTXF_more_data,
        ..first(&rig)
    };
    let nothing = NetifTxRequest {
        size: 0,
        gref: GrantRef(100_000),
        ..FIRST
    };
    send(&mut rig, &[head, nothing]);
    assert_eq!(answers(&mut rig, 2), [NETIF_RSP_OKAY; 2]);
    assert_eq!(rig.sent().bytes, plain(60));
}

#[test]
fn extra_information_of_unknown_type() {
    for kind in [XEN_NETIF_EXTRA_TYPE_NONE, XEN_NETIF_EXTRA_TYPE_MAX, 255] {
        let mut rig = Setup::default().start();
        let request = NetifTxRequest {
            flags: NETTXF_extra_info,
            ..first(&rig)
        };
        send(&mut rig, &[request, extra(kind, 0, [0; 6])]);
        rig.fails("Extra information of type");
    }
}

#[test]
fn extra_information_without_end() {
    let mut rig = Setup::default().start();
    let mut requests = vec![NetifTxRequest {
        flags: NETTXF_extra_info,
        ..first(&rig)
    }];
    let more = extra(XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_FLAG_MORE, [0; 6]);
    requests.resize(256, more);
    send(&mut rig, &requests);
    rig.fails("extra information should follow");
}

#[test]
fn segmentation_that_makes_no_sense() {
    for u in [
        [0, 0, 1, 0, 0, 0],
        [100, 0, 0, 0, 0, 0],
        [100, 0, 3, 0, 0, 0],
    ] {
        let mut rig = Setup::default().start();
        let request = NetifTxRequest {
            flags: NETTXF_extra_info | NETTXF_csum_blank,
            ..first(&rig)
        };
        send(&mut rig, &[request, extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, u)]);
        rig.fails("segmentation makes no sense");
    }
}

/// A packet that claims to be a large segment.
fn large(offloads: Offloads, bytes: &[u8], v6: bool) {
    let mut rig = Setup {
        offloads,
        ..Default::default()
    }
    .start();
    let frame = TxFrame {
        csum_blank: true,
        data_validated: true,
        gso: Some(GsoInfo { v6, size: 100 }),
    };
    rig.q().send(&frame, bytes, &[], 0).unwrap();
    rig.q().tx.publish().unwrap();
    assert_eq!(rig.finish(0), (1, 1));
    rig.counts("tx_errors_gso", 1);
    assert!(rig.wires[0].take().is_none());
}

#[test]
fn large_segments_that_are_none() {
    let bytes = tcp(false, &[1; 1000]);
    large(Offloads::NONE, &bytes, false);
    let csum = Offloads {
        csum: true,
        ..Offloads::NONE
    };
    large(csum, &bytes, false);
    large(Offloads::ALL, &bytes, true);
    large(Offloads::ALL, &udp(false, &[1; 1000]), false);
    large(Offloads::ALL, &plain(1000), false);
    let mut header = bytes.clone();
    header[14 + 20 + 12] = 4 << 4;
    large(Offloads::ALL, &header, false);
}

#[test]
fn checksums_beyond_the_packet() {
    let whole = tcp(false, &[]);
    let mut lengths = whole.clone();
    lengths[16] = 0xff;
    let mut options = whole.clone();
    options[14] = 0x4f;
    for bytes in [&whole[..40], &lengths, &options, &plain(60)] {
        for offloads in [Offloads::ALL, Offloads::NONE] {
            let mut rig = Setup {
                offloads,
                ..Default::default()
            }
            .start();
            let frame = TxFrame {
                csum_blank: true,
                ..Default::default()
            };
            rig.q().send(&frame, bytes, &[], 0).unwrap();
            rig.q().tx.publish().unwrap();
            assert_eq!(rig.finish(0), (1, 1));
            rig.counts("tx_errors_csum", 1);
        }
    }
}

#[test]
fn buffers_that_are_none() {
    let mut rig = Setup {
        buffers: 0,
        ..Default::default()
    }
    .start();
    let read_only = rig.queues[0].tx_gref(0);
    for gref in [GrantRef(100_000), read_only, GrantRef(0)] {
        rig.q().rx.post(Buffer { name: 0, gref }).unwrap();
    }
    rig.q().rx.publish().unwrap();
    rig.counts("rx_errors_grant", 3);
    // What is posted next is of use.
    rig.q().post(1).unwrap();
    rig.q().rx.publish().unwrap();
    rig.wires[0].push(Frame {
        bytes: plain(60),
        info: Default::default(),
    });
    let queue = rig.q();
    let mut errors = 0;
    until(|| {
        // Refused buffers come back, and are posted again.
        let got = queue.rx.recv().unwrap();
        errors = errors.max(queue.rx.errors());
        got.is_some()
    });
    assert!(errors >= 3);
}

#[test]
fn a_frame_across_a_buffer_that_is_none() {
    let mut rig = Setup {
        buffers: 2,
        ..Default::default()
    }
    .start();
    let gref = GrantRef(100_000);
    rig.q().rx.post(Buffer { name: 0, gref }).unwrap();
    for name in 3..10 {
        rig.q().post(name).unwrap();
    }
    rig.q().rx.publish().unwrap();
    rig.wires[0].push(Frame {
        bytes: plain(9000),
        info: Default::default(),
    });
    rig.counts("rx_errors_grant", 1);
    rig.counts("rx_drops_no_buffers", 1);
    rig.wires[0].push(Frame {
        bytes: plain(9001),
        info: Default::default(),
    });
    let queue = rig.q();
    let mut len = 0;
    until(|| {
        if let Some(frame) = queue.rx.recv().unwrap() {
            len = frame.len();
        }
        len > 0
    });
    assert_eq!((len, queue.rx.errors()), (9001, 3));
}

/// What `connect` says of a change to good nodes.
fn connect_with(key: &str, value: Option<&str>) -> Result<(), DeviceError> {
    let host = LoopbackHost::new(FrontQueue::PAGES);
    let queue = FrontQueue::new(&host, false, 0).unwrap();
    let (link, _wire) = wire(Offloads::ALL);
    let spec = VifSpec::new(LoopbackHost::GUEST, 0);
    let mut card = Card::new(&host, spec, vec![Box::new(link)]);
    card.connect(&Wanted::ALL, &[queue.refs]).unwrap();
    card.disconnect();
    let (link, _wire) = wire(Offloads::ALL);
    let mut again = Card::new(
        &host,
        VifSpec::new(LoopbackHost::GUEST, 0),
        vec![Box::new(link)],
    );
    again.front = card.front.clone();
    match value {
        Some(value) => crate::loopback::set(&mut again.front, [(key, value)]),
        None => drop(again.front.0.remove(key)),
    }
    let result = again.connect_nodes();
    drop(again);
    assert_eq!(host.mappings(), 0);
    result
}

#[test]
fn nodes_that_make_no_sense() {
    connect_with("feature-rx-notify", None).unwrap();
    for (key, values) in [
        ("multi-queue-num-queues", &["0", "2", "4294967295"][..]),
        ("tx-ring-ref", &["0", "100000", "4294967296", "x"]),
        ("rx-ring-ref", &["0", "100000", ""]),
        ("event-channel", &["0", "77", "x"]),
        ("request-rx-copy", &["0", "x"]),
    ] {
        for value in values {
            assert!(connect_with(key, Some(value)).is_err(), "{key} {value}");
        }
        let needed = key != "multi-queue-num-queues";
        assert_eq!(connect_with(key, None).is_err(), needed, "{key}");
    }
}
