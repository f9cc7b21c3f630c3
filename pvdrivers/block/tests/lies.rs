//! A front end that lies. A request that makes no sense is answered with an error, a broken ring
//! ends the device and is reported; either way the process lives and serves the next front end.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use pv_backend::{DeviceError, Driver};
use pv_block::loopback::Shape;
use pv_block::wire::{Abi, slot};
use pv_ring::{Access, EventChannel, SharedPage};
use xen_sys::GrantRef;
use xen_sys::io::blkif::{
    BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ,
    BLKIF_OP_RESERVED_1, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, BlkifRequest, BlkifRequestIndirect, BlkifRequestSegment,
};
use xen_sys::io::ring::{SRING_REQ_EVENT, SRING_REQ_PROD, SRING_RSP_EVENT, SRING_RSP_PROD};
use zerocopy::IntoBytes;

fn read_of(segments: &[BlkifRequestSegment]) -> BlkifRequest {
    let mut request = BlkifRequest {
        operation: BLKIF_OP_READ,
        nr_segments: segments.len() as u8,
        id: 99,
        ..Default::default()
    };
    request.seg[..segments.len()].copy_from_slice(segments);
    request
}

/// The front end is found out, everything is unmapped, and another one is served.
fn fails_and_recovers(mut device: Device) -> DeviceError {
    let failure = device.failures.recv_timeout(Duration::from_secs(60));
    let failure = failure.expect("the device reports that it cannot go on");
    device.back.disconnect();
    assert_eq!(device.host.mappings(), 0);
    device.make_queues(Shape::default());
    device.connect().unwrap();
    write(&mut device, 0, 1).unwrap();
    assert!(device.failures.try_recv().is_err());
    failure
}

#[test]
fn an_index_that_claims_more_than_the_ring_holds() {
    for ahead in [33, 64, 1 << 31, u32::MAX] {
        let raw = Raw::new(Shape::default());
        raw.device.rings[0].page().store_u32(SRING_REQ_PROD, ahead);
        raw.channel().notify().unwrap();
        let failure = fails_and_recovers(raw.device);
        assert!(failure.0.contains("out of bounds"), "{failure}");
    }
}

#[test]
fn an_index_that_goes_back() {
    let mut raw = Raw::new(Shape::default());
    let page = raw.device.lend(Access::ReadWrite);
    assert_eq!(raw.ask(&read_of(&[segment(&page, 0, 7)])), BLKIF_RSP_OKAY);
    raw.device.rings[0].page().store_u32(SRING_REQ_PROD, 0);
    raw.channel().notify().unwrap();
    fails_and_recovers(raw.device);
}

#[test]
fn a_ring_that_is_broken_before_it_is_used() {
    let (_, mut device) = connected(INFO, Shape::default());
    device.back.disconnect();
    device.rings[0].page().store_u32(SRING_REQ_PROD, 1000);
    let error = device.connect().unwrap_err();
    assert!(error.0.contains("ring is unusable"), "{error}");
    assert_eq!(device.host.mappings(), 0);
}

/// The back end's own indices and the events are only what the front end hears.
#[test]
fn what_the_back_end_writes_is_not_believed_when_it_is_read_back() {
    let mut raw = Raw::new(Shape::default());
    let page = raw.device.lend(Access::ReadWrite);
    let request = read_of(&[segment(&page, 0, 7)]);
    for value in [0, 5, u32::MAX] {
        let ring = raw.device.rings[0].page();
        ring.store_u32(SRING_REQ_EVENT, value);
        ring.store_u32(SRING_RSP_PROD, 0);
        ring.store_u32(SRING_RSP_EVENT, value);
        // Whoever lies about the events has to look by himself.
        raw.ring.push(&request).unwrap();
        let _asked = raw.ring.publish();
        raw.channel().notify().unwrap();
        let answer = loop {
            if let Ok(Some(answer)) = raw.ring.pop() {
                break answer;
            }
            std::thread::yield_now();
        };
        assert_eq!(answer.status, BLKIF_RSP_OKAY);
    }
}

#[test]
fn grants_that_are_none() {
    for persistent in [false, true] {
        let mut raw = Raw::new(Shape {
            persistent,
            ..Shape::default()
        });
        let page = raw.device.lend(Access::ReadWrite);
        let readonly = raw.device.lend(Access::Read);
        let mut wrong = segment(&page, 0, 7);
        for gref in [0, 7, 1_000_000, u32::MAX] {
            wrong.gref = GrantRef(gref);
            assert_eq!(raw.ask(&read_of(&[wrong])), BLKIF_RSP_ERROR);
            // Behind good ones, which are given back.
            let good = segment(&page, 0, 7);
            assert_eq!(raw.ask(&read_of(&[good, good, wrong])), BLKIF_RSP_ERROR);
        }
        readonly.page().write(0, b"mine");
        assert_eq!(
            raw.ask(&read_of(&[segment(&readonly, 0, 7)])),
            BLKIF_RSP_ERROR
        );
        let mut bytes = [0; 4];
        readonly.page().read(0, &mut bytes);
        assert_eq!(
            &bytes, b"mine",
            "a page that may only be read is not written"
        );
        let mut request = read_of(&[segment(&readonly, 0, 7)]);
        request.operation = BLKIF_OP_WRITE;
        assert_eq!(raw.ask(&request), BLKIF_RSP_OKAY);
        assert_eq!(
            (raw.counter("grant_errors"), raw.counter("read_errors")),
            (9, 9)
        );
        let kept = raw.device.stats(0).gauges["persistent_grants"];
        assert_eq!(raw.device.host.mappings(), 1 + kept);
    }
}

#[test]
fn segments_that_cannot_be() {
    let mut raw = Raw::new(Shape::default());
    let page = raw.device.lend(Access::ReadWrite);
    for (first, last) in [
        (1, 0),
        (0, 8),
        (7, 6),
        (8, 8),
        (255, 255),
        (0, 255),
        (255, 0),
    ] {
        assert_eq!(
            raw.ask(&read_of(&[segment(&page, first, last)])),
            BLKIF_RSP_ERROR,
            "{first}..={last}"
        );
    }
    for count in [0, 12, 255] {
        let mut request = read_of(&[segment(&page, 0, 7); 11]);
        request.nr_segments = count;
        assert_eq!(raw.ask(&request), BLKIF_RSP_ERROR, "{count} segments");
        request.operation = BLKIF_OP_WRITE_BARRIER;
        let expected = match count {
            0 => BLKIF_RSP_OKAY,
            _ => BLKIF_RSP_ERROR,
        };
        assert_eq!(raw.ask(&request), expected, "barrier of {count} segments");
        request.operation = BLKIF_OP_FLUSH_DISKCACHE;
        assert_eq!(raw.ask(&request), expected, "flush of {count} segments");
    }
    assert_eq!(raw.counter("invalid_requests"), 7 + 3 + 2 + 2);
}

#[test]
fn sectors_that_are_not_on_the_disk() {
    let mut raw = Raw::new(Shape::default());
    let page = raw.device.lend(Access::ReadWrite);
    for sector in [
        SECTORS - 7,
        SECTORS,
        1 << 55,
        1 << 62,
        u64::MAX - 7,
        u64::MAX,
    ] {
        for operation in [BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER] {
            let mut request = read_of(&[segment(&page, 0, 7)]);
            (request.sector_number, request.operation) = (sector, operation);
            assert_eq!(raw.ask(&request), BLKIF_RSP_ERROR, "{sector}");
        }
    }
    assert_eq!(raw.counter("invalid_requests"), 18);
    assert_eq!(
        raw.counter("medium_errors"),
        0,
        "found before the medium does"
    );
    let mut request = read_of(&[segment(&page, 0, 7)]);
    request.sector_number = SECTORS - 8;
    assert_eq!(raw.ask(&request), BLKIF_RSP_OKAY);
}

#[test]
fn operations_that_nobody_knows() {
    let mut raw = Raw::new(Shape::default());
    let page = raw.device.lend(Access::ReadWrite);
    for operation in
        (0..=u8::MAX).filter(|op| *op > BLKIF_OP_INDIRECT || *op == BLKIF_OP_RESERVED_1)
    {
        let mut request = read_of(&[segment(&page, 0, 7)]);
        request.operation = operation;
        assert_eq!(raw.ask(&request), BLKIF_RSP_EOPNOTSUPP, "{operation}");
    }
    assert_eq!(raw.counter("unsupported_requests"), 250);
}

fn indirect(count: u16, operation: u8, gref: GrantRef) -> BlkifRequest {
    slot(&BlkifRequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: operation,
        nr_segments: count,
        id: 99,
        indirect_grefs: [gref; 8],
        ..Default::default()
    })
}

#[test]
fn indirect_requests_that_cannot_be() {
    let mut raw = Raw::new(Shape::default());
    let (page, table) = (
        raw.device.lend(Access::ReadWrite),
        raw.device.lend(Access::Read),
    );
    for at in 0..512 {
        table.page().write(at * 8, segment(&page, 0, 0).as_bytes());
    }
    let gref = table.gref();
    for count in [0, 257, 512, 4096, u16::MAX] {
        assert_eq!(
            raw.ask(&indirect(count, BLKIF_OP_READ, gref)),
            BLKIF_RSP_ERROR,
            "{count}"
        );
    }
    let others = [
        BLKIF_OP_WRITE_BARRIER,
        BLKIF_OP_FLUSH_DISKCACHE,
        BLKIF_OP_DISCARD,
    ];
    for operation in others.into_iter().chain([BLKIF_OP_INDIRECT, 255]) {
        assert_eq!(
            raw.ask(&indirect(1, operation, gref)),
            BLKIF_RSP_ERROR,
            "{operation}"
        );
    }
    assert_eq!(
        raw.ask(&indirect(1, BLKIF_OP_READ, GrantRef(0))),
        BLKIF_RSP_ERROR
    );
    // The whole page of them, all to one page of the guest's: odd, but its own affair.
    assert_eq!(raw.ask(&indirect(256, BLKIF_OP_READ, gref)), BLKIF_RSP_OKAY);
    table.page().write(8 * 100, segment(&page, 5, 4).as_bytes());
    assert_eq!(
        raw.ask(&indirect(256, BLKIF_OP_READ, gref)),
        BLKIF_RSP_ERROR
    );
    table
        .page()
        .write(8 * 100, segment(&table, 0, 0).as_bytes());
    assert_eq!(
        raw.ask(&indirect(256, BLKIF_OP_READ, gref)),
        BLKIF_RSP_ERROR,
        "a read into a page granted for reading only"
    );
    assert_eq!(raw.counter("indirect_requests"), 14);
    assert_eq!(raw.device.host.mappings(), 1);
}

/// The table of segments changes between good and bad while it is read. Whatever the back end
/// sees, it sees once: the test disk's own checks would panic on a length that does not fit.
#[test]
fn indirect_pages_that_change_while_they_are_read() {
    let mut raw = Raw::new(Shape::default());
    let pages = [(); 2].map(|()| raw.device.lend(Access::ReadWrite));
    let table = raw.device.lend(Access::ReadWrite);
    let good = segment(&pages[0], 0, 0);
    let bad = [
        segment(&pages[1], 7, 0),
        segment(&pages[1], 0, 255),
        segment(&pages[1], 0, 7),
        BlkifRequestSegment {
            gref: GrantRef(u32::MAX),
            ..good
        },
    ];
    for at in 0..256 {
        table.page().write(at * 8, good.as_bytes());
    }
    let stop = AtomicBool::new(false);
    let shared = table.page().clone();
    let (mut okay, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..256).cycle() {
                for other in &bad {
                    shared.write(at * 8, other.as_bytes());
                }
                shared.write(at * 8, good.as_bytes());
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        // Until both have been seen, and often.
        while okay < 200 || refused < 200 {
            match raw.ask(&indirect(256, BLKIF_OP_WRITE, table.gref())) {
                BLKIF_RSP_OKAY => okay += 1,
                BLKIF_RSP_ERROR => refused += 1,
                other => panic!("status {other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(raw.device.host.mappings(), 1);
    assert!(raw.device.failures.try_recv().is_err());
}

#[test]
fn one_grant_many_times() {
    for persistent in [false, true] {
        let mut raw = Raw::new(Shape {
            persistent,
            ..Shape::default()
        });
        let page = raw.device.lend(Access::ReadWrite);
        for _ in 0..100 {
            assert_eq!(
                raw.ask(&read_of(&[segment(&page, 0, 7); 11])),
                BLKIF_RSP_OKAY
            );
        }
        assert_eq!(raw.device.host.mappings(), 1 + u64::from(persistent));
    }
}

#[test]
fn more_persistent_grants_than_are_kept() {
    let mut raw = Raw::new(Shape {
        persistent: true,
        ..Shape::default()
    });
    // 64 grants of each page: more grants than memory.
    let pages: Vec<_> = (0..100)
        .map(|_| raw.device.lend(Access::ReadWrite))
        .collect();
    let host = raw.device.host.clone();
    let mut grants: Vec<_> = Vec::new();
    while let Some(gref) = pv_ring::GrantAccess::grant(
        &host,
        pages[grants.len() % pages.len()].page(),
        Access::ReadWrite,
    ) {
        grants.push(gref);
    }
    assert!(grants.len() > 1900);
    // The back end keeps 2048 in sets of four: all with the same low bits compete for one.
    let colliding: Vec<_> = grants.iter().filter(|gref| gref.0 % 512 == 3).collect();
    for gref in grants.iter().chain(colliding.into_iter().cycle().take(100)) {
        let segment = BlkifRequestSegment {
            gref: *gref,
            ..segment(&pages[0], 0, 7)
        };
        assert_eq!(raw.ask(&read_of(&[segment])), BLKIF_RSP_OKAY);
    }
    let kept = raw.device.stats(0).gauges["persistent_grants"];
    assert!(kept <= 2048 && kept > 1900);
    assert_eq!(raw.device.host.mappings(), 1 + kept);
    raw.device.back.disconnect();
    assert_eq!(raw.device.host.mappings(), 0);
}

#[test]
fn nodes_that_are_nonsense() {
    let several = Shape {
        queues: 2,
        ring_page_order: 1,
        ..Shape::default()
    };
    let one = Shape::default();
    for (shape, name, value) in [
        (several, "ring-page-order", Some("5")),
        (several, "ring-page-order", Some("31")),
        (several, "ring-page-order", Some("4294967295")),
        (several, "ring-page-order", Some("4294967296")),
        (several, "ring-page-order", Some("-1")),
        (several, "ring-page-order", Some("")),
        (several, "ring-page-order", Some("2")),
        (several, "multi-queue-num-queues", Some("0")),
        (several, "multi-queue-num-queues", Some("3")),
        (several, "multi-queue-num-queues", Some("5")),
        (several, "multi-queue-num-queues", Some("1000000000")),
        (several, "multi-queue-num-queues", Some("two")),
        (several, "multi-queue-num-queues", Some("1")),
        (several, "queue-1/event-channel", None),
        (several, "queue-1/event-channel", Some("1")),
        (several, "queue-1/ring-ref1", None),
        (several, "queue-1/ring-ref0", Some("99999")),
        (one, "event-channel", None),
        (one, "event-channel", Some("0")),
        (one, "event-channel", Some("4294967295")),
        (one, "event-channel", Some("1 ")),
        (one, "ring-ref", None),
        (one, "ring-ref", Some("0")),
        (one, "ring-ref", Some("\u{1b}[2J")),
        (one, "protocol", Some("arm-abi")),
        (one, "protocol", Some("")),
        (one, "feature-persistent", Some("yes")),
    ] {
        let (_, mut device) = connected(INFO, shape);
        device.back.disconnect();
        device.make_queues(shape);
        match value {
            Some(value) => device.front_nodes.0.insert(name.to_owned(), value.into()),
            None => device.front_nodes.0.remove(name),
        };
        let error = device.connect().expect_err(name);
        assert!(error.0.chars().all(|c| !c.is_control()), "{error:?}");
        assert_eq!(device.host.mappings(), 0, "{name} {value:?}");
        device.make_queues(shape);
        device.connect().unwrap();
        write(&mut device, 0, 1).unwrap();
    }
    let (_, mut device) = connected(INFO, one);
    device.back.disconnect();
    device
        .front_nodes
        .0
        .insert("protocol".to_owned(), vec![0xff; 5000]);
    assert!(device.connect().unwrap_err().0.len() < 300);
}

#[test]
fn two_rings_in_one_page() {
    let shape = Shape {
        queues: 2,
        ..Shape::default()
    };
    let (_, mut device) = connected(INFO, shape);
    device.back.disconnect();
    device.make_queues(shape);
    let first = device.front_nodes.0["queue-0/ring-ref"].clone();
    let nodes = &mut device.front_nodes.0;
    nodes.insert("queue-1/ring-ref".to_owned(), first);
    // The two queues' threads answer the same requests: the guest has only itself to blame.
    device.connect().unwrap();
    let page = device.lend(Access::ReadWrite);
    let segments = [segment(&page, 0, 7)];
    let command = pv_block::front::Command::Read(0, pv_block::front::Segments::Direct(&segments));
    for queue in &mut device.queues[..1] {
        queue.submit(&command, 0).unwrap();
        queue.publish().unwrap();
        while let Ok(None) = queue.answer() {
            std::thread::yield_now();
        }
    }
    device.back.disconnect();
    assert_eq!(device.host.mappings(), 0);
}

#[test]
fn a_layout_other_than_the_one_told() {
    let (_, mut device) = connected(INFO, Shape::default());
    device.back.disconnect();
    device.make_queues(Shape {
        abi: Abi::X86_32,
        ..Shape::default()
    });
    let name = "protocol".to_owned();
    device.front_nodes.0.insert(name, b"x86_64-abi".to_vec());
    device.connect().unwrap();
    let page = device.lend(Access::ReadWrite);
    let segments = [segment(&page, 0, 7)];
    let command = pv_block::front::Command::Read(0, pv_block::front::Segments::Direct(&segments));
    let queue = &mut device.queues[0];
    queue.submit(&command, 0).unwrap();
    queue.publish().unwrap();
    // It gets an answer in the other layout, which means nothing to it.
    while let Ok(None) = queue.answer() {
        std::thread::yield_now();
    }
    device.back.disconnect();
    assert_eq!(device.host.mappings(), 0);
}
