use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::WordPage;

const RINGS: [ByteRing; 4] = [
    ByteRing::CONSOLE_IN,
    ByteRing::CONSOLE_OUT,
    ByteRing::XENSTORE_REQ,
    ByteRing::XENSTORE_RSP,
];

fn ends(page: &WordPage, ring: ByteRing) -> (Producer<&WordPage>, Consumer<&WordPage>) {
    (
        Producer::attach(page, ring).unwrap(),
        Consumer::attach(page, ring).unwrap(),
    )
}

#[test]
fn rings_lie_where_the_headers_say() {
    let page = WordPage::new();
    let (mut producer, _) = ends(&page, ByteRing::CONSOLE_OUT);
    producer.write(b"hello").unwrap();
    let mut bytes = [0; 5];
    page.read(1024, &mut bytes);
    assert_eq!(&bytes, b"hello");
    assert_eq!(page.load_u32(3084), 5);
}

#[test]
fn a_full_ring_takes_no_more() {
    let page = WordPage::new();
    let (mut producer, mut consumer) = ends(&page, ByteRing::CONSOLE_OUT);
    assert_eq!(producer.write(&[1; 3000]), Ok(2048));
    assert_eq!(producer.write(&[1]), Ok(0));
    assert_eq!(consumer.consume(10), Ok(10));
    assert_eq!(producer.write(&[2; 11]), Ok(10));
}

#[test]
fn a_small_page_is_refused() {
    let page = WordPage::<16>::zeroed();
    let error = Producer::attach(&page, ByteRing::CONSOLE_OUT).unwrap_err();
    assert_eq!(
        error,
        RingError::TooSmall {
            need: 3088,
            have: 64
        }
    );
}

#[test]
fn a_rewound_own_index_changes_nothing() {
    let page = WordPage::new();
    let (mut producer, mut consumer) = ends(&page, ByteRing::CONSOLE_OUT);
    producer.write(b"abc").unwrap();
    consumer.consume(3).unwrap();
    page.store_u32(ByteRing::CONSOLE_OUT.cons, 0);
    assert_eq!(consumer.available(), Ok(0));
}

#[test]
fn two_threads_pass_a_stream() {
    let page = WordPage::new();
    let (mut producer, mut consumer) = ends(&page, ByteRing::XENSTORE_REQ);
    let stream: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = &stream[..];
            while !rest.is_empty() {
                rest = &rest[producer.write(rest).unwrap()..];
                std::thread::yield_now();
            }
        });
        let mut got = Vec::new();
        let mut buffer = [0; 700];
        while got.len() < stream.len() {
            let n = consumer.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
            std::thread::yield_now();
        }
        assert_eq!(got, stream);
    });
}

proptest! {
    #[test]
    fn behaves_as_a_queue(
        which in 0..4usize,
        start in any::<u32>(),
        steps in prop::collection::vec((any::<bool>(), 0..3000usize), 1..50),
    ) {
        let ring = RINGS[which];
        let page = WordPage::new();
        page.store_u32(ring.cons, start);
        page.store_u32(ring.prod, start);
        let (mut producer, mut consumer) = ends(&page, ring);
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for (write, len) in steps {
            if write {
                let bytes: Vec<u8> = (0..len).map(|i| next.wrapping_add(i as u8)).collect();
                let n = producer.write(&bytes).unwrap();
                prop_assert_eq!(n, len.min(ring.size as usize - model.len()));
                model.extend(&bytes[..n]);
                next = next.wrapping_add(n as u8);
            } else {
                let mut bytes = vec![0; len];
                let n = consumer.read(&mut bytes).unwrap();
                prop_assert_eq!(n, len.min(model.len()));
                let expected: Vec<u8> = model.drain(..n).collect();
                prop_assert_eq!(&bytes[..n], &expected[..]);
            }
        }
    }

    #[test]
    fn hostile_indices_are_refused(which in 0..4usize, cons: u32, prod: u32, theirs: u32) {
        let ring = RINGS[which];
        let page = WordPage::new();
        page.store_u32(ring.cons, cons);
        page.store_u32(ring.prod, prod);
        let (mut producer, mut consumer) = ends(&page, ring);
        let mut buffer = [0; 4096];

        page.store_u32(ring.prod, theirs);
        let waiting = theirs.wrapping_sub(cons);
        match consumer.read(&mut buffer) {
            Ok(n) => prop_assert!(waiting <= ring.size && n == waiting as usize),
            Err(error) => {
                prop_assert!(waiting > ring.size);
                prop_assert_eq!(
                    error,
                    RingError::OutOfBounds { theirs, ours: cons, size: ring.size }
                );
                prop_assert_eq!(page.load_u32(ring.cons), cons);
            }
        }

        page.store_u32(ring.cons, theirs);
        let used = prod.wrapping_sub(theirs);
        match producer.write(&buffer) {
            Ok(n) => prop_assert_eq!(n as u32, ring.size - used),
            Err(_) => prop_assert!(used > ring.size),
        }
    }
}
