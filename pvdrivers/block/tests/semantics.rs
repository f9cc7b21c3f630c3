//! What a front end that keeps to the protocol gets.

mod common;

use std::time::Duration;

use common::*;
use pv_backend::Driver;
use pv_block::back::{MediumInfo, Settings};
use pv_block::front::{Command, Failure, IndirectPage, Segments};
use pv_block::loopback::{RamDisk, Shape};
use pv_block::wire::Abi;
use pv_ring::{Access, SharedPage};

/// Every shape a front end can have.
fn shapes() -> impl Iterator<Item = Shape> {
    let queues = [1, 3].into_iter();
    queues.flat_map(|queues| {
        [0, 2, 4].into_iter().flat_map(move |ring_page_order| {
            [Abi::X86_64, Abi::X86_32].into_iter().flat_map(move |abi| {
                [false, true].map(|persistent| Shape {
                    queues,
                    ring_page_order,
                    abi,
                    persistent,
                })
            })
        })
    })
}

#[test]
fn what_was_written_is_read_by_every_kind_of_front_end() {
    for shape in shapes() {
        let (disk, mut device) = connected(INFO, shape);
        let slots = 32 << shape.ring_page_order;
        assert_eq!(device.queues[0].free(), slots, "{shape:?}");
        write(&mut device, 8, 0xa5).unwrap();
        assert_eq!(read(&mut device, 8), Ok(vec![0xa5; 4096]), "{shape:?}");
        let pages: Vec<_> = (0..100).map(|_| device.lend(Access::ReadWrite)).collect();
        for (at, page) in pages.iter().enumerate() {
            page.page().write(0, &[at as u8; 4096]);
        }
        ask_indirect(&mut device, true, 16, &pages).unwrap();
        let mut expected = vec![0xa5; 4096];
        expected.extend((0..100).flat_map(|at| [at; 4096]));
        assert_eq!(disk.data()[4096..102 * 4096], expected, "{shape:?}");
        pages[3].page().write(0, &[0xff; 4096]);
        ask_indirect(&mut device, false, 16, &pages).unwrap();
        let mut page = [0; 4096];
        pages[3].page().read(0, &mut page);
        assert_eq!(page, [3; 4096]);
        let last = shape.queues - 1;
        assert_eq!(ask(&mut device, last, &Command::Flush), Ok(()), "{shape:?}");
        device.back.disconnect();
        assert_eq!(device.host.mappings(), 0, "{shape:?}");
        assert!(device.failures.try_recv().is_err());
    }
}

#[test]
fn the_back_end_says_what_the_disk_is() {
    let (_, device) = connected(INFO, Shape::default());
    let info = device.info();
    assert_eq!((info.sectors, info.sector_size), (SECTORS, 512));
    assert_eq!(info.physical_sector_size, 4096);
    assert!(info.flush && info.barrier && !info.readonly && !info.cdrom);
    assert_eq!((info.discard, info.discard_secure), (Some(4096), false));
    assert_eq!(info.max_indirect_segments, 256);
    for (node, value) in [
        ("feature-persistent", "1"),
        ("max-ring-page-order", "4"),
        ("multi-queue-max-queues", "4"),
        ("discard-alignment", "0"),
        ("info", "0"),
    ] {
        assert_eq!(device.back_nodes.0[node], value.as_bytes(), "{node}");
    }
}

#[test]
fn a_sub_page_transfer_touches_only_its_sectors() {
    let (disk, mut device) = connected(INFO, Shape::default());
    let page = device.lend(Access::ReadWrite);
    page.page().write(0, &[1; 4096]);
    let segments = [segment(&page, 2, 4), segment(&page, 7, 7)];
    let command = Command::Write(5, Segments::Direct(&segments));
    assert_eq!(ask(&mut device, 0, &command), Ok(()));
    let data = disk.data();
    assert!(data[..5 * 512].iter().all(|b| *b == 0));
    assert!(data[5 * 512..9 * 512].iter().all(|b| *b == 1));
    assert!(data[9 * 512..].iter().all(|b| *b == 0));
    let segments = [segment(&page, 0, 0)];
    let command = Command::Read(100, Segments::Direct(&segments));
    assert_eq!(ask(&mut device, 0, &command), Ok(()));
    let mut bytes = [0; 4096];
    page.page().read(0, &mut bytes);
    assert!(bytes[..512].iter().all(|b| *b == 0) && bytes[512..].iter().all(|b| *b == 1));
}

#[test]
fn a_flush_makes_durable_what_was_answered() {
    let (disk, mut device) = connected(INFO, Shape::default());
    write(&mut device, 0, 7).unwrap();
    assert_eq!(disk.durable()[0], 0);
    assert_eq!(ask(&mut device, 0, &Command::Flush), Ok(()));
    assert_eq!(disk.durable()[..4096], [7; 4096]);
    let counters = device.stats(0).counters;
    assert_eq!(
        (counters["flush_requests"], counters["write_requests"]),
        (1, 1)
    );
}

#[test]
fn a_barrier_waits_for_what_is_before_and_holds_what_is_after() {
    let (disk, mut device) = connected(INFO, Shape::default());
    disk.hold();
    let pages: Vec<_> = (0..3).map(|_| device.lend(Access::ReadWrite)).collect();
    for (byte, page) in (1..).zip(&pages) {
        page.page().write(0, &[byte; 4096]);
    }
    let all: Vec<_> = pages.iter().map(|page| [segment(page, 0, 7)]).collect();
    // All to one place: only their order decides what is left.
    let queue = &mut device.queues[0];
    queue
        .submit(&Command::Write(0, Segments::Direct(&all[0])), 0)
        .unwrap();
    queue.submit(&Command::Barrier(0, &all[1]), 1).unwrap();
    queue
        .submit(&Command::Write(0, Segments::Direct(&all[2])), 2)
        .unwrap();
    queue.publish().unwrap();
    while device.stats(0).gauges["in_flight"] < 2 {
        std::thread::yield_now();
    }
    let given = disk.operations();
    disk.release();
    assert_eq!(given, 1, "only the first is at the disk");
    let queue = &mut device.queues[0];
    let answers = [(); 3].map(|()| queue.wait().unwrap());
    assert_eq!(answers.map(|answer| answer.tag), [0, 1, 2]);
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
    assert_eq!(disk.data()[..4096], [3; 4096]);
    assert_eq!(
        disk.durable()[..4096],
        [2; 4096],
        "the barrier's, not what came after it"
    );
    // Without data, from a front end that leaves nonsense in the sector as Linux does.
    assert_eq!(
        ask(&mut device, 0, &Command::Barrier(u64::MAX, &[])),
        Ok(())
    );
    assert_eq!(disk.durable()[..4096], [3; 4096]);
    assert_eq!(device.stats(0).counters["barrier_requests"], 2);
}

#[test]
fn a_barrier_whose_write_fails_is_answered_and_the_ring_goes_on() {
    let (disk, mut device) = connected(INFO, Shape::default());
    disk.break_sector(3);
    let page = device.lend(Access::ReadWrite);
    let segments = [segment(&page, 0, 7)];
    assert_eq!(
        ask(&mut device, 0, &Command::Barrier(0, &segments)),
        Err(Failure::Failed)
    );
    assert_eq!(ask(&mut device, 0, &Command::Barrier(8, &segments)), Ok(()));
    let counters = device.stats(0).counters;
    assert_eq!(
        (counters["barrier_errors"], counters["medium_errors"]),
        (1, 1)
    );
}

#[test]
fn a_disk_without_a_cache_offers_no_flush() {
    let info = MediumInfo {
        flush: false,
        discard: None,
        ..INFO
    };
    let (_, mut device) = connected(info, Shape::default());
    assert!(!device.info().flush && !device.info().barrier && device.info().discard.is_none());
    let discard = Command::Discard {
        sector: 0,
        sectors: 8,
        secure: false,
    };
    for command in [Command::Flush, Command::Barrier(0, &[]), discard] {
        assert_eq!(ask(&mut device, 0, &command), Err(Failure::Unsupported));
    }
    assert_eq!(device.stats(0).counters["unsupported_requests"], 3);
}

#[test]
fn discards_reach_the_disk() {
    let (disk, mut device) = connected(INFO, Shape::default());
    write(&mut device, 0, 1).unwrap();
    write(&mut device, 8, 2).unwrap();
    let mut discard = |sector, sectors, secure| {
        let command = Command::Discard {
            sector,
            sectors,
            secure,
        };
        ask(&mut device, 0, &command)
    };
    assert_eq!(discard(0, 8, false), Ok(()));
    assert_eq!(discard(8, 8, true), Err(Failure::Unsupported));
    for (sector, sectors) in [(SECTORS - 1, 2), (0, 0), (u64::MAX, 2), (1, u64::MAX)] {
        assert_eq!(discard(sector, sectors, false), Err(Failure::Failed));
    }
    assert_eq!(disk.data()[..8192], [[0; 4096], [2; 4096]].concat());
    let counters = device.stats(0).counters;
    assert_eq!(
        (counters["discard_requests"], counters["discard_bytes"]),
        (1, 4096)
    );
    assert_eq!(counters["discard_errors"], 5);
}

#[test]
fn a_read_only_disk_is_not_written() {
    for by_mode in [false, true] {
        let info = MediumInfo {
            readonly: !by_mode,
            ..INFO
        };
        let disk = RamDisk::new(info);
        let medium = disk.clone();
        let open = move |_: &_| Some(medium.clone());
        let mut device = Device::open(host(), Settings::default(), open).unwrap();
        if by_mode {
            device.back_nodes.0.insert("mode".to_owned(), b"r".to_vec());
            device.changed().unwrap();
        }
        device.make_queues(Shape::default());
        device.connect().unwrap();
        assert!(device.info().readonly && device.info().discard.is_none());
        assert_eq!(write(&mut device, 0, 1), Err(Failure::Failed));
        let page = device.lend(Access::ReadWrite);
        let barrier = [segment(&page, 0, 7)];
        assert_eq!(
            ask(&mut device, 0, &Command::Barrier(0, &barrier)),
            Err(Failure::Failed)
        );
        assert_eq!(read(&mut device, 0), Ok(vec![0; 4096]));
        assert!(disk.data().iter().all(|byte| *byte == 0));
        assert_eq!(device.stats(0).counters["refused_requests"], 2);
    }
}

#[test]
fn sectors_of_4096_bytes_are_not_split() {
    let info = MediumInfo {
        sector_size: 4096,
        ..INFO
    };
    let (_, mut device) = connected(info, Shape::default());
    assert_eq!(device.info().sector_size, 4096);
    write(&mut device, 8, 1).unwrap();
    assert_eq!(write(&mut device, 4, 1), Err(Failure::Failed));
    let page = device.lend(Access::ReadWrite);
    let part = [segment(&page, 0, 3)];
    let command = Command::Read(8, Segments::Direct(&part));
    assert_eq!(ask(&mut device, 0, &command), Err(Failure::Failed));
    let odd = Command::Discard {
        sector: 8,
        sectors: 4,
        secure: false,
    };
    assert_eq!(ask(&mut device, 0, &odd), Err(Failure::Failed));
    assert_eq!(device.stats(0).counters["invalid_requests"], 3);
}

#[test]
fn a_disk_grows_under_its_front_end() {
    let (disk, mut device) = connected(INFO, Shape::default());
    assert!(!device.changed().unwrap(), "nothing has changed");
    assert_eq!(write(&mut device, SECTORS, 9), Err(Failure::Failed));
    disk.resize(SECTORS + 8);
    assert!(device.changed().unwrap());
    assert_eq!(device.info().sectors, SECTORS + 8);
    // The thread learns of it in its own time.
    let page = device.lend(Access::ReadWrite);
    page.page().write(0, &[9; 4096]);
    while write_page(&mut device, SECTORS, &page).is_err() {}
    assert_eq!(disk.data()[(SECTORS * 512) as usize..], [9; 4096]);
    disk.resize(8);
    assert!(device.changed().unwrap());
    while write_page(&mut device, 8, &page).is_ok() {}
    assert_eq!(device.info().sectors, 8);
}

#[test]
fn a_medium_is_taken_out_and_another_put_in() {
    let disks = [1, 2].map(|size| {
        RamDisk::new(MediumInfo {
            sectors: SECTORS * size,
            readonly: true,
            ..INFO
        })
    });
    let media = disks.clone();
    let open = move |nodes: &pv_backend::Nodes| match nodes.0["params"].as_slice() {
        b"ram" => Some(media[0].clone()),
        b"other" => Some(media[1].clone()),
        _ => None,
    };
    let mut device = Device::open(host(), Settings::default(), open).unwrap();
    let put = |device: &mut Device, name: &str| {
        device.back_nodes.0.insert("params".to_owned(), name.into());
        device.changed().unwrap()
    };
    device
        .back_nodes
        .0
        .insert("device-type".to_owned(), b"cdrom".to_vec());
    assert!(put(&mut device, ""));
    device.make_queues(Shape::default());
    device.connect().unwrap();
    assert_eq!(device.info().sectors, 0, "an empty drive");
    assert!(device.info().cdrom && device.info().removable && device.info().readonly);
    assert_eq!(read(&mut device, 0), Err(Failure::Failed));
    let page = device.lend(Access::ReadWrite);
    for (name, size) in [("ram", SECTORS), ("other", SECTORS * 2), ("ram", SECTORS)] {
        assert!(put(&mut device, name));
        assert_eq!(device.info().sectors, size);
        while read_page(&mut device, size - 8, &page).is_err() {}
    }
    // Out, while a request is on its way: it is answered from the medium it was meant for.
    disks[0].hold();
    let segments = [segment(&page, 0, 7)];
    let command = Command::Read(0, Segments::Direct(&segments));
    device.queues[0].submit(&command, 1).unwrap();
    device.queues[0].publish().unwrap();
    while device.stats(0).gauges["in_flight"] == 0 {
        std::thread::yield_now();
    }
    assert!(put(&mut device, ""));
    disks[0].release();
    assert_eq!(device.queues[0].wait().unwrap().result, Ok(()));
    while read_page(&mut device, 0, &page).is_ok() {}
    assert_eq!(device.info().sectors, 0);
}

#[test]
fn a_bad_sector_fails_its_own_request_only() {
    for indirect in [false, true] {
        bad_sector(indirect);
    }
}

fn bad_sector(indirect: bool) {
    let (disk, mut device) = connected(INFO, Shape::default());
    disk.break_sector(3 * 8 + 5);
    disk.hold();
    let pages: Vec<_> = (0..8).map(|_| device.lend(Access::ReadWrite)).collect();
    let tables: Vec<_> = (0..8).map(|_| device.lend(Access::ReadWrite)).collect();
    let queue = &mut device.queues[0];
    for (at, page) in pages.iter().enumerate() {
        page.page().write(0, &[at as u8 + 1; 4096]);
        let segments = [segment(page, 0, 7)];
        let table = [IndirectPage {
            page: tables[at].page(),
            gref: tables[at].gref(),
        }];
        let segments = match indirect {
            true => Segments::Indirect(&segments, &table),
            false => Segments::Direct(&segments),
        };
        let command = Command::Write(at as u64 * 8, segments);
        queue.submit(&command, at as u64).unwrap();
    }
    queue.publish().unwrap();
    disk.release();
    for _ in 0..8 {
        let answer = queue.wait().unwrap();
        let expected = match answer.tag {
            3 => Err(Failure::Failed),
            _ => Ok(()),
        };
        assert_eq!(answer.result, expected, "{}", answer.tag);
    }
    let counters = device.stats(0).counters;
    assert_eq!(counters["merged_requests"], 7, "all went together at first");
    assert_eq!(
        (counters["write_requests"], counters["write_errors"]),
        (7, 1)
    );
    let data = disk.data();
    assert!((0..8).all(|at| at == 3 || data[at * 4096] == at as u8 + 1));
}

#[test]
fn notifications_are_batched() {
    let (disk, mut device) = connected(INFO, Shape::default());
    // The thread sleeps, so that it has asked for a notification.
    read(&mut device, 0).unwrap();
    disk.hold();
    let pages: Vec<_> = (0..32).map(|_| device.lend(Access::ReadWrite)).collect();
    let before = device.stats(0).counters["notifications_sent"];
    let queue = &mut device.queues[0];
    let sent = queue.notifications();
    for (at, page) in pages.iter().enumerate() {
        let segments = [segment(page, 0, 7)];
        // Far apart: not merged.
        let command = Command::Read(at as u64 * 16, Segments::Direct(&segments));
        queue.submit(&command, at as u64).unwrap();
    }
    queue.publish().unwrap();
    assert!(queue.notifications() - sent <= 1);
    while device.stats(0).gauges["in_flight"] < 32 {
        std::thread::yield_now();
    }
    disk.release();
    for _ in 0..32 {
        assert_eq!(device.queues[0].wait().unwrap().result, Ok(()));
    }
    let counters = device.stats(0).counters;
    let notified = counters["notifications_sent"] - before;
    assert!(
        notified <= 2,
        "{notified} notifications for 32 answers that came together"
    );
    assert_eq!(
        (counters["read_requests"], counters["merged_requests"]),
        (33, 0)
    );
    assert!(counters["ring_full"] >= 1);
    assert!(counters["wakeups"] >= 1 && counters["notifications_received"] >= 1);
    let histogram = &device.stats(0).histograms["read_latency_ns"];
    assert_eq!(histogram.count(), 33);
}

#[test]
fn persistent_grants_stay_mapped_until_the_end() {
    let shape = Shape {
        persistent: true,
        ..Shape::default()
    };
    let (_, mut device) = connected(INFO, shape);
    let pages: Vec<_> = (0..16).map(|_| device.lend(Access::ReadWrite)).collect();
    for round in 0..4 {
        ask_indirect(&mut device, round % 2 == 0, 0, &pages).unwrap();
    }
    let stats = device.stats(0);
    // Each round has its own page of segments, which is kept too.
    assert_eq!(stats.counters["persistent_grant_misses"], 16 + 4);
    assert_eq!(stats.counters["persistent_grant_hits"], 3 * 16);
    assert_eq!(stats.gauges["persistent_grants"], 20);
    assert_eq!(device.host.mappings(), 20 + 1);
    let page = pages.into_iter().next().unwrap().take_back().unwrap_err();
    device.back.disconnect();
    assert_eq!(device.host.mappings(), 0);
    assert!(page.take_back().is_ok());
}

#[test]
fn disconnecting_waits_for_what_is_in_flight() {
    let (disk, mut device) = connected(INFO, Shape::default());
    disk.hold();
    let page = device.lend(Access::ReadWrite);
    let segments = [segment(&page, 0, 7)];
    let command = Command::Write(0, Segments::Direct(&segments));
    device.queues[0].submit(&command, 5).unwrap();
    device.queues[0].publish().unwrap();
    while device.stats(0).gauges["in_flight"] == 0 {
        std::thread::yield_now();
    }
    let (mut back, host) = (device.back, device.host);
    let (tell, told) = std::sync::mpsc::channel();
    let closer = std::thread::spawn(move || {
        back.disconnect();
        tell.send(()).unwrap();
        back
    });
    assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
    assert_eq!(host.mappings(), 2, "the ring and the page");
    disk.release();
    drop(closer.join().unwrap());
    assert_eq!(host.mappings(), 0);
    let answer = device.queues[0].answer().unwrap().unwrap();
    assert_eq!((answer.tag, answer.result), (5, Ok(())));
}

#[test]
fn a_front_end_may_die_at_any_moment_and_come_back() {
    let disk = RamDisk::new(INFO);
    let medium = disk.clone();
    let open = move |_: &_| Some(medium.clone());
    let mut device = Device::open(host(), Settings::default(), open).unwrap();
    let back = &mut device.back;
    back.disconnect();
    back.disconnect();
    for round in 0..4 {
        let shape = Shape {
            queues: 1 + round % 3,
            persistent: round % 2 == 1,
            ..Shape::default()
        };
        device.make_queues(shape);
        // The ring and the port are gone before the back end looks.
        let rings = std::mem::take(&mut device.rings);
        drop(rings);
        assert!(device.connect().is_err());
        assert_eq!(
            device.host.mappings(),
            0,
            "nothing is left of half a connection"
        );
        device.make_queues(shape);
        device.connect().unwrap();
        write(&mut device, 0, round as u8).unwrap();
        // Dies with a request on its way, and nobody listens any more.
        disk.hold();
        let page = device.lend(Access::ReadWrite);
        let segments = [segment(&page, 0, 7)];
        let command = Command::Read(0, Segments::Direct(&segments));
        device.queues[0].submit(&command, 5).unwrap();
        device.queues[0].publish().unwrap();
        device.queues.clear();
        drop(page);
        disk.release();
        device.back.disconnect();
        assert_eq!(device.host.mappings(), 0);
    }
    assert_eq!(device.back.stats().stats().queues.len(), 1);
    assert!(device.failures.try_recv().is_err());
}

/// What a killed process left in the ring may have been answered already.
#[test]
fn a_ring_is_taken_over_if_it_holds_what_is_unanswered() {
    let (_, mut device) = connected(INFO, Shape::default());
    write(&mut device, 0, 1).unwrap();
    device.back.disconnect();
    device.queues[0].submit(&Command::Flush, 5).unwrap();
    device.queues[0].publish().unwrap();
    device.connect().unwrap();
    assert_eq!(device.queues[0].wait().unwrap().tag, 5);

    device.back.disconnect();
    device.queues[0].submit(&Command::Flush, 6).unwrap();
    device.queues[0].publish().unwrap();
    // As of a back end that had taken three requests and answered two.
    device.rings[0].page().store_u32(60, 3);
    let error = device.connect().unwrap_err();
    assert!(error.0.contains("was killed"), "{error}");
    assert_eq!(device.host.mappings(), 0);
}
