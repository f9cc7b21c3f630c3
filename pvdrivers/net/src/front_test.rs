use pv_ring::{BackRing, EventChannel, WordPage};
use xen_sys::GrantRef;
use xen_sys::io::netif::*;

use super::*;
use crate::extra::GsoInfo;

struct Nobody;

impl EventChannel for Nobody {
    fn notify(&self) -> Result<(), Errno> {
        Ok(())
    }
}

type TxBack<'a> = BackRing<&'a WordPage, NetifTxRequest, NetifTxResponse>;
type RxBack<'a> = BackRing<&'a WordPage, NetifRxRequest, NetifRxResponse>;

fn tx(page: &WordPage) -> (TxQueue<&WordPage, Nobody>, TxBack<'_>) {
    let front = TxQueue::new(page, Nobody).unwrap();
    (front, BackRing::attach(page).unwrap())
}

fn rx(page: &WordPage) -> (RxQueue<&WordPage, Nobody>, RxBack<'_>) {
    let mut front = RxQueue::new(page, Nobody).unwrap();
    for name in 0..256 {
        let gref = GrantRef(1000 + u32::from(name));
        front.post(Buffer { name, gref }).unwrap();
    }
    front.publish().unwrap();
    (front, BackRing::attach(page).unwrap())
}

fn pieces(count: usize) -> Vec<TxPiece> {
    let piece = TxPiece {
        gref: GrantRef(9),
        offset: 5,
        len: 100,
    };
    vec![piece; count]
}

#[test]
fn requests_are_as_the_header_says() {
    let page = WordPage::new();
    let (mut front, mut back) = tx(&page);
    let frame = TxFrame {
        csum_blank: true,
        data_validated: true,
        gso: Some(GsoInfo { v6: true, size: 7 }),
    };
    front.send(&frame, &pieces(3), 77).unwrap();
    assert!(front.publish().unwrap());
    let first = back.pop().unwrap().unwrap();
    assert_eq!((first.size, first.offset), (300, 5));
    let all = NETTXF_csum_blank | NETTXF_data_validated | NETTXF_more_data | NETTXF_extra_info;
    assert_eq!(first.flags, all);
    // Extra information is read as the first bytes of the slot: type, flags, size, type.
    let extra = back.pop().unwrap().unwrap();
    assert_eq!(extra.gref, GrantRef(1 | 7 << 16));
    assert_eq!(extra.offset, 2);
    let second = back.pop().unwrap().unwrap();
    assert_eq!((second.size, second.flags), (100, NETTXF_more_data));
    let third = back.pop().unwrap().unwrap();
    assert_eq!((third.size, third.flags), (100, 0));

    // Answers may come in any order; the packet is done with the last.
    for (id, status) in [
        (third.id, NETIF_RSP_OKAY),
        (0, NETIF_RSP_NULL),
        (first.id, NETIF_RSP_OKAY),
        (second.id, NETIF_RSP_ERROR),
    ] {
        assert_eq!(front.done().unwrap(), None);
        back.push(&NetifTxResponse { id, status }).unwrap();
        let _ = back.publish();
    }
    let done = front.done().unwrap().unwrap();
    assert_eq!((done.packet, done.status), (77, NETIF_RSP_ERROR));
    assert_eq!(front.free(), 256);
}

#[test]
fn packets_that_cannot_be() {
    let page = WordPage::new();
    let (mut front, _back) = tx(&page);
    let frame = TxFrame::default();
    for count in [0, 19] {
        let result = front.send(&frame, &pieces(count), 0);
        assert_eq!(result, Err(FrontError::Packet));
    }
    let long = vec![
        TxPiece {
            len: 4096,
            ..TxPiece::default()
        };
        16
    ];
    assert_eq!(front.send(&frame, &long, 0), Err(FrontError::Packet));
    for _ in 0..14 {
        front.send(&frame, &pieces(18), 0).unwrap();
    }
    let full = Err(FrontError::Ring(RingError::Full));
    assert_eq!(front.send(&frame, &pieces(5), 0), full);
    front.send(&frame, &pieces(4), 0).unwrap();
}

#[test]
fn a_back_end_that_answers_what_was_not_asked() {
    for ids in [&[300u16][..], &[5], &[0, 0]] {
        let page = WordPage::new();
        let (mut front, mut back) = tx(&page);
        front.send(&TxFrame::default(), &pieces(2), 0).unwrap();
        front.publish().unwrap();
        let mut first = back.pop().unwrap().unwrap().id;
        back.pop().unwrap();
        for id in ids {
            let id = if *id == 0 { first } else { *id };
            first = id;
            back.push(&NetifTxResponse { id, status: 0 }).unwrap();
        }
        let _ = back.publish();
        assert_eq!(front.done(), Err(FrontError::Response));
    }
}

fn answer(back: &mut RxBack<'_>, flags: u16, offset: u16, status: i16) {
    let id = back.pop().unwrap().unwrap().id;
    let response = NetifRxResponse {
        id,
        offset,
        flags,
        status,
    };
    back.push(&response).unwrap();
}

#[test]
fn frames_with_errors_are_passed_by() {
    let page = WordPage::new();
    let (mut front, mut back) = rx(&page);
    answer(&mut back, 0, 0, NETIF_RSP_ERROR);
    answer(&mut back, 0, 4000, 97);
    answer(&mut back, 0, u16::MAX, i16::MAX);
    answer(&mut back, NETRXF_more_data, 0, 4096);
    answer(&mut back, 0, 1, -1);
    for _ in 0..19 {
        answer(&mut back, NETRXF_more_data, 0, 10);
    }
    answer(&mut back, 0, 0, 10);
    answer(&mut back, NETRXF_data_validated, 4000, 96);
    let _ = back.publish();
    let good = front.recv().unwrap().unwrap();
    assert_eq!((good.len(), front.errors()), (96, 5));
    assert!(good.data_validated && !good.csum_blank);
    let piece = good.pieces()[0];
    assert_eq!((piece.offset, piece.buffer.name), (4000, 25));
    // All other buffers are in the ring again.
    assert_eq!(front.free(), 1);
    assert_eq!(front.recv().unwrap(), None);
}

#[test]
fn half_a_frame_is_a_broken_back_end() {
    for flags in [NETRXF_more_data, NETRXF_extra_info] {
        let page = WordPage::new();
        let (mut front, mut back) = rx(&page);
        answer(&mut back, flags, 0, 60);
        let _ = back.publish();
        assert_eq!(front.recv(), Err(FrontError::Response));
    }
}

#[test]
fn what_is_offered_and_wanted() {
    let none = nodes::Offered::read(|_| None);
    assert!(none.csum && !none.sg && !none.rx_copy);
    assert_eq!(none.max_queues, 1);
    let all = nodes::Offered::read(|_| Some(1));
    assert!(!all.csum && all.sg && all.gso_tcpv6 && all.split_event_channels);

    let refs = nodes::QueueRefs {
        tx_ring: GrantRef(1),
        rx_ring: GrantRef(2),
        tx_port: xen_sys::EvtchnPort(3),
        rx_port: Some(xen_sys::EvtchnPort(4)),
    };
    let mut written = Vec::new();
    let mut write = |key: &str, value| {
        written.push((key.to_owned(), value));
        Ok::<(), ()>(())
    };
    nodes::publish(&nodes::Wanted::ALL, &[refs], &mut write).unwrap();
    nodes::publish(&nodes::Wanted::ALL, &[refs, refs], &mut write).unwrap();
    for pair in [
        ("event-channel-rx", 4),
        ("multi-queue-num-queues", 2),
        ("queue-1/tx-ring-ref", 1),
        ("queue-1/event-channel-tx", 3),
    ] {
        assert!(written.contains(&(pair.0.to_owned(), pair.1)), "{pair:?}");
    }
}
