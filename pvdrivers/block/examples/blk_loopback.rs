//! How fast front end and back end are without a VM and without a medium: what the ring, the
//! checks, the mappings and the notifications cost.
//!
//! `one core`: both ends take turns on one thread, each as if it slept before its turn, so that each
//! batch costs its notifications. `two threads`: the back end's own thread, woken by eventfds; on a
//! machine with fewer cores than threads that measures the scheduler too.
//!
//! Run: `cargo run --release -p pv-block --example blk_loopback [SECONDS]`

use std::error::Error;
use std::time::{Duration, Instant};

use pv_backend::loopback::LoopbackHost;
use pv_backend::{Host, HostChannel};
use pv_block::back::{BlockQueue, Geometry, MediumInfo, QueueParts};
use pv_block::front::{Command, FrontQueue, IndirectPage, LentPage, Segments};
use pv_block::loopback::{LoopbackVbd, Shape};
use pv_block::wire::Abi;
use pv_media::Disk;
use pv_ring::{Access, GrantMap, PageRun};
use xen_sys::io::blkif::BlkifRequestSegment;

const DISK: MediumInfo = MediumInfo {
    sectors: 1 << 30,
    sector_size: 512,
    physical_sector_size: 4096,
    readonly: false,
    discard: None,
    flush: true,
};

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// 4-KiB segments of a request.
    segments: usize,
    /// Whether each request continues the one before.
    sequential: bool,
    shape: Shape,
}

/// What a run came to.
struct Outcome {
    requests: u64,
    time: Duration,
    sent: u64,
    received: u64,
    merged: u64,
}

type Lent = LentPage<LoopbackHost>;

/// The requests a front end sends, all prepared: pages, segments, indirect pages.
struct Requests {
    segments: Vec<Vec<BlkifRequestSegment>>,
    indirect: Vec<Lent>,
    _pages: Vec<Lent>,
    next: u64,
    load: Load,
}

impl Requests {
    fn new(host: &LoopbackHost, load: Load, depth: usize) -> Self {
        let lend = || {
            LentPage::new(host.clone(), host.alloc(), Access::ReadWrite).expect("grants are left")
        };
        let pages: Vec<_> = (0..depth * load.segments).map(|_| lend()).collect();
        let segments = pages.chunks(load.segments);
        let segments = segments.map(|pages| pages.iter().map(whole).collect());
        Self {
            segments: segments.collect(),
            indirect: (0..depth).map(|_| lend()).collect(),
            _pages: pages,
            next: 0,
            load,
        }
    }

    /// Sends a read with the memory of the slot `tag`.
    fn submit<P: pv_ring::SharedPage, E: pv_ring::EventChannel, const N: usize>(
        &mut self,
        queue: &mut FrontQueue<P, E, N>,
        tag: u64,
    ) -> Result<(), Box<dyn Error>> {
        let sectors = self.load.segments as u64 * 8;
        let places = DISK.sectors / sectors;
        self.next = match self.load.sequential {
            true => self.next + 1,
            // A full-period generator: places in no order.
            false => self.next.wrapping_mul(6_364_136_223_846_793_005) + 1_442_695_040_888_963_407,
        };
        let sector = self.next % places * sectors;
        let segments = &self.segments[tag as usize];
        let page = &self.indirect[tag as usize];
        let indirect = [IndirectPage {
            page: page.page(),
            gref: page.gref(),
        }];
        let segments = match segments.len() {
            ..=11 => Segments::Direct(segments),
            _ => Segments::Indirect(segments, &indirect),
        };
        Ok(queue.submit(&Command::Read(sector, segments), tag)?)
    }
}

fn whole(page: &Lent) -> BlkifRequestSegment {
    BlkifRequestSegment {
        gref: page.gref(),
        first_sect: 0,
        last_sect: 7,
        ..Default::default()
    }
}

fn host(load: &Load) -> LoopbackHost {
    LoopbackHost::new(512 * (load.segments + 1) + 64)
}

fn one_core(load: Load, time: Duration) -> Result<Outcome, Box<dyn Error>> {
    let host = host(&load);
    let pages: Vec<_> = (0..1 << load.shape.ring_page_order)
        .map(|_| host.alloc())
        .collect();
    let (port, channel) = host.alloc_port()?;
    let mut front =
        FrontQueue::<_, _, 512>::new(PageRun::new(pages.clone())?, channel, load.shape.abi)?;
    let grants = host.grants(LoopbackHost::GUEST)?;
    let lent = pages
        .into_iter()
        .map(|page| LentPage::new(host.clone(), page, Access::ReadWrite).expect("grants are left"));
    let lent: Vec<_> = lent.collect();
    let ring = lent
        .iter()
        .map(|page| grants.map(page.gref(), Access::ReadWrite));
    let disk = Disk::null(DISK.sectors);
    let counters = std::sync::Arc::default();
    let mut back = BlockQueue::<LoopbackHost>::new(QueueParts {
        ring: ring.collect::<Result<_, _>>()?,
        abi: load.shape.abi,
        channel: host.bind(LoopbackHost::GUEST, port)?,
        grants,
        persistent_grants: if load.shape.persistent { 1 << 17 } else { 0 },
        counters: std::sync::Arc::clone(&counters),
    })?;
    let geometry = Geometry {
        medium: Some(DISK),
        max_indirect_segments: 256,
    };
    back.set_medium(Some(disk.queue(back.depth())?), geometry);
    let depth = front.free();
    let mut requests = Requests::new(&host, load, depth);
    for tag in 0..depth as u64 {
        requests.submit(&mut front, tag)?;
    }
    front.publish()?;
    let mut answered = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        back.channel().clear()?;
        while back.process()? || back.final_check()? {}
        front.channel().clear()?;
        loop {
            while let Some(answer) = front.answer()? {
                answer.result?;
                answered += 1;
                requests.submit(&mut front, answer.tag)?;
            }
            if !front.final_check()? {
                break;
            }
        }
        front.publish()?;
    }
    Ok(Outcome {
        requests: answered,
        time: start.elapsed(),
        sent: front.notifications(),
        received: counters.notifications_sent.get(),
        merged: counters.merged_requests.get(),
    })
}

fn two_threads(load: Load, time: Duration) -> Result<Outcome, Box<dyn Error>> {
    let mut device = LoopbackVbd::connected(host(&load), Disk::null(DISK.sectors), load.shape)?;
    let depth = device.queues[0].free();
    let mut requests = Requests::new(&device.host, load, depth);
    let front = &mut device.queues[0];
    for tag in 0..depth as u64 {
        requests.submit(front, tag)?;
    }
    front.publish()?;
    let mut answered = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        let mut answer = Some(front.wait()?);
        while let Some(done) = answer {
            done.result?;
            answered += 1;
            requests.submit(front, done.tag)?;
            answer = front.answer()?;
        }
        front.publish()?;
    }
    let time = start.elapsed();
    let sent = front.notifications();
    let counters = device.stats(0).counters;
    Ok(Outcome {
        requests: answered,
        time,
        sent,
        received: counters["notifications_sent"],
        merged: counters["merged_requests"],
    })
}

fn row(cores: &str, load: &Load, outcome: &Outcome) {
    let seconds = outcome.time.as_secs_f64();
    let requests = outcome.requests as f64;
    let bytes = requests * load.segments as f64 * 4096.0;
    println!(
        "{cores:<12} {:<34} {:>10.0} {:>8.2} {:>9.4} {:>9.4} {:>7.1}",
        load.name,
        requests / seconds,
        bytes / seconds / 1e9,
        outcome.sent as f64 / requests,
        outcome.received as f64 / requests,
        outcome.merged as f64 / requests * 100.0,
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |n| n.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let plain = Shape::default();
    let persistent = Shape {
        persistent: true,
        ..plain
    };
    let large = |shape: Shape| Shape {
        ring_page_order: 3,
        ..shape
    };
    let narrow = Shape {
        abi: Abi::X86_32,
        ..plain
    };
    let load = |name, segments, sequential, shape| Load {
        name,
        segments,
        sequential,
        shape,
    };
    let loads = [
        load("4 KiB random", 1, false, plain),
        load("4 KiB random, persistent", 1, false, persistent),
        load("4 KiB random, 32-bit", 1, false, narrow),
        load("4 KiB random, 8-page ring", 1, false, large(plain)),
        load(
            "4 KiB random, 8 pages, persistent",
            1,
            false,
            large(persistent),
        ),
        load("4 KiB sequential", 1, true, plain),
        load("44 KiB sequential", 11, true, plain),
        load("128 KiB indirect", 32, true, plain),
        load("128 KiB indirect, persistent", 32, true, persistent),
        load("1 MiB indirect", 256, true, plain),
        load("1 MiB indirect, persistent", 256, true, persistent),
    ];
    println!(
        "{:<12} {:<34} {:>10} {:>8} {:>9} {:>9} {:>7}",
        "", "reads", "requests/s", "GB/s", "notify/rq", "notify/rs", "merged%"
    );
    for load in &loads {
        row("one core", load, &one_core(*load, time)?);
    }
    for load in &loads {
        row("two threads", load, &two_threads(*load, time)?);
    }
    println!(
        "notify/rq, notify/rs: notifications of the back end and of the front end per request; \
         merged: requests that went to the medium with the one before"
    );
    Ok(())
}
