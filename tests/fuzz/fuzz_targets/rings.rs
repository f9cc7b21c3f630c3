//! Shared rings whose far end writes whatever it likes, whenever it likes.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pv_console::back::{ConsoleBack, ConsoleStats};
use pv_ring::{
    BackRing, ByteRing, Consumer, EventChannel, FrontRing, Producer, RingError, SharedPage,
    WordPage,
};
use xen_sys::errno::Errno;
use xen_sys::io::blkif::{BlkifRequest, BlkifResponse};
use xen_sys::io::netif::{NetifTxRequest, NetifTxResponse};

#[derive(Arbitrary, Debug)]
enum Step {
    /// The far end writes one of the first words, where indices are, or any.
    Index {
        word: u8,
        value: u8,
    },
    Word {
        word: u16,
        value: u32,
    },
    Pop(u8),
    Push(u8),
    Publish,
    FinalCheck,
    /// A back end that was restarted.
    Attach,
}

#[derive(Arbitrary, Debug)]
enum Input {
    BlockBack {
        start: u32,
        steps: Vec<Step>,
    },
    NetFront(Vec<Step>),
    Bytes {
        ring: u8,
        start: u32,
        steps: Vec<Step>,
    },
    Console {
        start: u32,
        steps: Vec<Step>,
    },
}

/// Notifications reach nobody.
struct Nobody;

impl EventChannel for Nobody {
    fn notify(&self) -> Result<(), Errno> {
        Ok(())
    }
}

fuzz_target!(|input: Input| {
    let page = WordPage::new();
    match input {
        Input::BlockBack { start, steps } => block_back(&page, start, steps),
        Input::NetFront(steps) => net_front(&page, steps),
        Input::Bytes { ring, start, steps } => bytes(&page, ring, start, steps),
        Input::Console { start, steps } => console(&page, start, steps),
    }
});

/// The far end's writes; false for the steps of this end.
fn scribble(page: &WordPage, step: &Step) -> bool {
    match step {
        Step::Index { word, value } => {
            // Request rings have their indices in front, byte rings behind the data.
            let word = usize::from(word % 16);
            let at = if word < 8 {
                word * 4
            } else {
                2048 + 1024 * (word % 2) + (word - 8) / 2 * 4
            };
            let near = page
                .load_u32(at)
                .wrapping_add(u32::from(*value))
                .wrapping_sub(8);
            page.store_u32(at, near);
        }
        Step::Word { word, value } => page.store_u32(usize::from(word % 1024) * 4, *value),
        _ => return false,
    }
    true
}

fn block_back(page: &WordPage, start: u32, steps: Vec<Step>) {
    type Back<'a> = BackRing<&'a WordPage, BlkifRequest, BlkifResponse>;
    page.store_u32(0, start);
    page.store_u32(8, start);
    let Ok(mut back) = Back::attach(page) else {
        return;
    };
    for step in steps {
        if scribble(page, &step) {
            continue;
        }
        let before = back.in_flight();
        match step {
            Step::Pop(count) => {
                let waiting = back.waiting();
                let mut popped = 0;
                while popped < u32::from(count) && matches!(back.pop(), Ok(Some(_))) {
                    popped += 1;
                }
                assert_eq!(back.in_flight(), before + popped);
                match waiting {
                    Ok(waiting) => assert_eq!(popped, waiting.min(count.into())),
                    Err(_) => assert_eq!(popped, 0),
                }
            }
            Step::Push(count) => {
                for _ in 0..count {
                    match back.push(&BlkifResponse::default()) {
                        Ok(()) => {}
                        Err(error) => assert_eq!((error, back.in_flight()), (RingError::Full, 0)),
                    }
                }
            }
            Step::Publish => drop(back.publish()),
            Step::FinalCheck => drop(back.final_check()),
            Step::Attach => match Back::attach(page) {
                Ok(again) => back = again,
                Err(_) => return,
            },
            Step::Index { .. } | Step::Word { .. } => {}
        }
        assert!(back.in_flight() <= back.slots());
    }
}

fn net_front(page: &WordPage, steps: Vec<Step>) {
    let mut front = FrontRing::<_, NetifTxRequest, NetifTxResponse>::init(page).expect("fits");
    for step in steps {
        if scribble(page, &step) {
            continue;
        }
        match step {
            Step::Push(count) => {
                let free = front.free();
                let pushed = (0..count).filter(|_| front.push(&NetifTxRequest::default()).is_ok());
                assert_eq!(pushed.count() as u32, free.min(count.into()));
            }
            Step::Pop(count) => {
                for _ in 0..count {
                    let before = front.free();
                    match front.pop() {
                        Ok(Some(_)) => assert_eq!(front.free(), before + 1),
                        _ => assert_eq!(front.free(), before),
                    }
                }
            }
            Step::Publish => drop(front.publish()),
            Step::FinalCheck => drop(front.final_check()),
            Step::Attach | Step::Index { .. } | Step::Word { .. } => {}
        }
        assert!(front.free() <= front.slots());
    }
}

fn bytes(page: &WordPage, ring: u8, start: u32, steps: Vec<Step>) {
    let rings = [
        ByteRing::CONSOLE_IN,
        ByteRing::CONSOLE_OUT,
        ByteRing::XENSTORE_REQ,
        ByteRing::XENSTORE_RSP,
    ];
    let ring = rings[usize::from(ring % 4)];
    for at in (2048..2064).chain(3072..3088).step_by(4) {
        page.store_u32(at, start);
    }
    let mut producer = Producer::attach(page, ring).expect("fits");
    let mut consumer = Consumer::attach(page, ring).expect("fits");
    for step in steps {
        if scribble(page, &step) {
            continue;
        }
        match step {
            Step::Push(count) => {
                let bytes = vec![count; usize::from(count) * 16];
                if let Ok(space) = producer.space() {
                    assert!(space <= ring.size() as usize);
                    assert_eq!(producer.write(&bytes), Ok(bytes.len().min(space)));
                } else {
                    assert!(producer.write(&bytes).is_err());
                }
            }
            Step::Pop(count) => {
                let mut to = vec![0; usize::from(count) * 16];
                if let Ok(available) = consumer.available() {
                    assert!(available <= ring.size() as usize);
                    assert_eq!(consumer.read(&mut to), Ok(to.len().min(available)));
                } else {
                    assert!(consumer.read(&mut to).is_err());
                }
            }
            Step::FinalCheck => drop(consumer.consume(usize::MAX)),
            Step::Attach => producer.reset(start),
            Step::Publish | Step::Index { .. } | Step::Word { .. } => {}
        }
    }
}

fn console(page: &WordPage, start: u32, steps: Vec<Step>) {
    for at in (3072..3088).step_by(4) {
        page.store_u32(at, start);
    }
    let stats = ConsoleStats::new();
    let mut back = ConsoleBack::attach(page, Nobody, &stats).expect("fits");
    let (mut printed, mut typed) = (0, 0);
    for step in steps {
        if scribble(page, &step) {
            continue;
        }
        match step {
            Step::Pop(most) => {
                if let Ok(taken) = back.drain(|bytes| bytes.len().min(usize::from(most))) {
                    assert!(taken <= 2048);
                    printed += taken as u64;
                }
            }
            Step::Push(count) => {
                let bytes = vec![count; usize::from(count) * 16];
                if let Ok(taken) = back.feed(&bytes) {
                    assert!(taken <= bytes.len().min(1024));
                    typed += taken as u64;
                }
            }
            _ => {}
        }
        let counts = stats.counts();
        assert_eq!((counts.out_bytes, counts.in_bytes), (printed, typed));
    }
}
