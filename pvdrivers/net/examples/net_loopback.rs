//! What a network card costs without a VM: a front end and the back end in one process, each on a
//! thread of its own.
//!
//! `cargo run --release -p pv-net --features loopback --example net_loopback [-- SECONDS]`
//!
//! The link copies each byte once, as the kernel does behind a tap device; nothing else does. What
//! a hypervisor takes for grants and notifications is not in these figures. CPU times are those of
//! the two threads, so a row says what a machine with two free processors does even if this one
//! has not.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use nix::time::{ClockId, clock_gettime};
use pv_backend::loopback::LoopbackHost;
use pv_net::back::VifSpec;
use pv_net::extra::GsoInfo;
use pv_net::front::nodes::Wanted;
use pv_net::front::{TxFrame, TxPiece};
use pv_net::loopback::{Card, FrontQueue, copy_in};
use pv_netdev::{FrameInfo, Gso, Link, Offloads};
use pv_ring::{IoVec, SharedPage, WaitChannel};

/// What both threads see of a run.
struct Shared {
    stop: AtomicBool,
    /// CPU time of the queue's thread, as of its last turn, nanoseconds.
    back_cpu: AtomicU64,
    event: EventFd,
}

/// The far end: takes all the guest sends, and has a frame for it whenever it is asked.
struct Mill {
    buffer: Vec<u8>,
    /// The frame to give; empty: none.
    frame: Vec<u8>,
    info: FrameInfo,
    calls: u64,
    shared: Arc<Shared>,
}

impl Mill {
    fn tick(&mut self) {
        self.calls += 1;
        if self.calls.is_multiple_of(4096) {
            let now = thread_cpu().as_nanos() as u64;
            self.shared.back_cpu.store(now, Ordering::Relaxed);
        }
    }
}

impl Link for Mill {
    unsafe fn send(&mut self, _info: &FrameInfo, frame: &[IoVec]) -> io::Result<()> {
        let mut at = 0;
        for piece in frame {
            let to = &mut self.buffer[at..at + piece.len()];
            // SAFETY: the piece is mapped (contract), and no part of our buffer.
            unsafe {
                let from = piece.base().cast_const();
                std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len());
            }
            at += piece.len();
        }
        std::hint::black_box(&self.buffer[..at]);
        self.tick();
        Ok(())
    }

    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        if self.frame.is_empty() || self.shared.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.tick();
        // SAFETY: passed on, by the contract of this function.
        match unsafe { copy_in(&self.frame, room) } {
            true => Ok((self.frame.len(), self.info)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn accept(&mut self, _offloads: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// A row of the table.
struct Case {
    name: &'static str,
    len: usize,
    gso: Option<u16>,
    transmit: bool,
}

fn main() {
    let seconds = std::env::args().nth(1);
    let seconds = seconds.map_or(2.0, |text| text.parse().expect("seconds"));
    let time = Duration::from_secs_f64(seconds);
    let case = |name, len, gso, transmit| Case {
        name,
        len,
        gso,
        transmit,
    };
    println!(
        "{:24} {:>8} {:>8} {:>9} {:>9} {:>10} {:>10} {:>9}",
        "", "Mpkt/s", "Gbit/s", "front ns", "back ns", "to back", "to front", "wakeups"
    );
    for case in [
        case("transmit 60 bytes", 60, None, true),
        case("transmit 1514 bytes", 1514, None, true),
        case("transmit 64 KiB GSO", 65_000, Some(1448), true),
        case("receive 60 bytes", 60, None, false),
        case("receive 1514 bytes", 1514, None, false),
        case("receive 64 KiB GSO", 65_000, Some(1448), false),
    ] {
        run(&case, time);
    }
    println!("ns: CPU time per packet; the last three columns: per 1000 packets");
}

fn run(case: &Case, time: Duration) {
    let host = LoopbackHost::new(FrontQueue::PAGES);
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        back_cpu: AtomicU64::new(0),
        // Readable for ever where there is always a frame.
        event: EventFd::from_value(u32::from(!case.transmit)).expect("a file descriptor"),
    });
    let bytes = frame(case.len);
    let mill = Mill {
        buffer: vec![0; 65_536],
        frame: if case.transmit {
            Vec::new()
        } else {
            bytes.clone()
        },
        info: info(case),
        calls: 0,
        shared: shared.clone(),
    };
    let mut queue = FrontQueue::new(&host, true, 256).expect("file descriptors");
    let spec = VifSpec::new(LoopbackHost::GUEST, 0);
    let mut card = Card::new(&host, spec, vec![Box::new(mill)]);
    card.connect(&Wanted::ALL, &[queue.refs]).expect("connects");

    let (start, cpu) = (Instant::now(), thread_cpu());
    let packets = match case.transmit {
        true => transmit(&mut queue, &bytes, case, start + time),
        false => receive(&mut queue, case, start + time),
    };
    let (wall, front) = (start.elapsed(), thread_cpu() - cpu);
    shared.stop.store(true, Ordering::Relaxed);
    let per_packet = |n: f64| n / packets as f64;
    let per_1000 = |n: u64| per_packet(n as f64 * 1000.0);
    let seconds = wall.as_secs_f64();
    println!(
        "{:24} {:8.2} {:8.1} {:9.0} {:9.0} {:10.2} {:10.2} {:9.2}",
        case.name,
        packets as f64 / seconds / 1e6,
        packets as f64 * case.len as f64 * 8.0 / seconds / 1e9,
        per_packet(front.as_nanos() as f64),
        per_packet(shared.back_cpu.load(Ordering::Relaxed) as f64),
        per_1000(queue.tx.notifications() + queue.rx.notifications()),
        per_1000(card.counter("notifications_sent")),
        per_1000(card.counter("wakeups")),
    );
    let errors = ["tx_errors", "tx_drops", "rx_errors", "rx_drops"];
    let errors: u64 = errors.iter().map(|name| card.counter(name)).sum();
    assert_eq!(errors, 0, "{:?}", card.stats());
    card.disconnect();
}

/// Sends the same pages again and again: what filling them costs is the guest's own affair.
fn transmit(queue: &mut FrontQueue, bytes: &[u8], case: &Case, end: Instant) -> u64 {
    let count = bytes.len().div_ceil(4096).max(1);
    let packets = if count > 1 { 256 / count } else { 256 };
    let mut pieces = Vec::new();
    for n in 0..packets {
        let pages = (n * count..(n + 1) * count).map(|page| page as u16);
        let chunks = bytes.chunks(4096);
        let of_packet: Vec<TxPiece> = pages
            .zip(chunks)
            .map(|(page, chunk)| {
                queue.tx_page(page).write(0, chunk);
                TxPiece {
                    gref: queue.tx_gref(page),
                    offset: 0,
                    len: chunk.len() as u16,
                }
            })
            .collect();
        pieces.push(of_packet);
    }
    let frame = TxFrame {
        csum_blank: case.gso.is_some(),
        data_validated: case.gso.is_some(),
        gso: case.gso.map(|size| GsoInfo { v6: false, size }),
    };
    let mut free: Vec<u16> = (0..packets as u16).collect();
    let (mut done, mut turns) = (0, 0u64);
    loop {
        while let Some(packet) = queue.tx.done().expect("answers") {
            free.push(packet.packet);
            done += 1;
        }
        turns += 1;
        if turns.is_multiple_of(16) && Instant::now() > end {
            return done;
        }
        let mut sent = 0;
        while let Some(packet) = free.last().copied() {
            let slots = pieces[usize::from(packet)].as_slice();
            if queue.tx.send(&frame, slots, packet).is_err() {
                break;
            }
            free.pop();
            sent += 1;
            // As a guest does: a burst at a time.
            if sent % 32 == 0 {
                queue.tx.publish().expect("notifies");
            }
        }
        queue.tx.publish().expect("notifies");
        // Awake when half of what is in the ring is done.
        let outstanding = 256 - queue.tx.free();
        if !queue.tx.ask((outstanding / 2).max(1)).expect("answers") {
            queue.tx.channel().wait().expect("waits");
        }
    }
}

/// Takes frames and posts their buffers again, unread.
fn receive(queue: &mut FrontQueue, case: &Case, end: Instant) -> u64 {
    let (mut done, mut turns) = (0, 0u64);
    loop {
        let mut some = 0;
        while let Some(frame) = queue.rx.recv().expect("answers") {
            assert_eq!(frame.len(), case.len);
            for piece in frame.pieces() {
                queue.rx.post(piece.buffer).expect("a slot was freed");
            }
            done += 1;
            some += 1;
            if some % 32 == 0 {
                queue.rx.publish().expect("notifies");
            }
        }
        queue.rx.publish().expect("notifies");
        turns += 1;
        if turns.is_multiple_of(16) && Instant::now() > end {
            return done;
        }
        if !queue.rx.ask().expect("answers") {
            queue.rx.channel().wait().expect("waits");
        }
    }
}

/// A TCP segment over IPv4.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[46] = 5 << 4;
    frame
}

fn info(case: &Case) -> FrameInfo {
    let Some(size) = case.gso else {
        return FrameInfo::default();
    };
    FrameInfo {
        csum_start: Some(34),
        csum_offset: 16,
        csum_valid: true,
        gso: Some(Gso {
            v6: false,
            size,
            header_len: 54,
            ecn: false,
        }),
    }
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("the clock is there")
        .into()
}
