//! Any sequence of requests, many at a time, against a model: an array of bytes.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use pv_block::front::{Command, IndirectPage, Segments};
use pv_block::loopback::{RamDisk, Shape};
use pv_block::wire::Abi;
use pv_ring::{Access, SharedPage};
use xen_sys::io::blkif::BlkifRequestSegment;

/// A disk small enough that requests meet.
const SMALL: u64 = 256;

#[derive(Clone, Debug)]
enum Op {
    /// Reads to, or writes from, these sectors of pages.
    Transfer {
        write: bool,
        barrier: bool,
        sector: u64,
        parts: Vec<(u8, u8)>,
        fill: u8,
    },
    Discard(u64, u64),
    Flush,
}

#[derive(Clone, Debug)]
struct Step {
    queue: usize,
    op: Op,
}

fn parts() -> impl Strategy<Value = Vec<(u8, u8)>> {
    let part = (0u8..8, 0u8..8).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![4 => vec(part.clone(), 1..4), 1 => vec(part, 12..30)]
}

fn op() -> impl Strategy<Value = Op> {
    let transfer = (any::<bool>(), 0..20, 0..SMALL, parts(), any::<u8>()).prop_map(
        |(write, barrier, sector, parts, fill)| Op::Transfer {
            write,
            barrier: write && barrier == 0 && parts.len() <= 11,
            sector,
            parts,
            fill,
        },
    );
    prop_oneof![
        20 => transfer,
        1 => (0..SMALL, 1..40u64).prop_map(|(sector, sectors)| Op::Discard(sector, sectors)),
        2 => Just(Op::Flush),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (1..4usize, 0..3u32, any::<bool>(), any::<bool>()).prop_map(
        |(queues, ring_page_order, narrow, persistent)| Shape {
            queues,
            ring_page_order,
            abi: if narrow { Abi::X86_32 } else { Abi::X86_64 },
            persistent,
        },
    )
}

/// First sector and the one behind the last; `None` for what touches none.
fn extent(op: &Op) -> Option<(u64, u64)> {
    match op {
        Op::Transfer { sector, parts, .. } => {
            let sectors: u64 = parts.iter().map(|(a, b)| u64::from(b - a) + 1).sum();
            Some((*sector, sector + sectors))
        }
        Op::Discard(sector, sectors) => Some((*sector, sector + sectors)),
        Op::Flush => None,
    }
}

/// A byte of a sector that tells which write and which sector it was.
fn content(fill: u8, nth: u64) -> u8 {
    fill.wrapping_add((nth as u8).wrapping_mul(31))
}

struct Run {
    device: Device,
    disk: RamDisk,
    model: Vec<u8>,
    pages: Vec<Lent>,
    tables: Vec<Lent>,
    used: usize,
}

impl Run {
    /// Requests that do not meet each other, all at once; the answers are compared with the model.
    fn batch(&mut self, steps: &[Step]) {
        let mut sent = BTreeMap::new();
        self.used = 0;
        for (tag, step) in steps.iter().enumerate() {
            let segments = self.submit(step, tag as u64);
            sent.insert(tag as u64, segments);
        }
        for queue in &mut self.device.queues {
            queue.publish().unwrap();
        }
        let before = self.model.clone();
        for queue in 0..self.device.queues.len() {
            let count = steps.iter().filter(|step| step.queue == queue).count();
            for _ in 0..count {
                let answer = self.device.queues[queue].wait().unwrap();
                let pages = sent.remove(&answer.tag).expect("answered once");
                let op = &steps[answer.tag as usize].op;
                let fits = extent(op).is_none_or(|(_, end)| end <= SMALL);
                assert_eq!(answer.result.is_ok(), fits, "{op:?}");
                if fits {
                    self.apply(op, pages);
                }
            }
        }
        assert_eq!(self.disk.data(), self.model);
        if steps.iter().any(|step| matches!(step.op, Op::Flush)) {
            // Whatever was answered before the batch; what is in it may be or not.
            let durable = self.disk.durable();
            for (at, byte) in durable.iter().enumerate() {
                assert!(*byte == before[at] || *byte == self.model[at], "byte {at}");
            }
        }
    }

    /// Sends a request; the index of its first page.
    fn submit(&mut self, step: &Step, tag: u64) -> usize {
        let first = self.used;
        let queue = &mut self.device.queues[step.queue];
        let (sector, parts, write, barrier, fill) = match &step.op {
            Op::Flush => {
                queue.submit(&Command::Flush, tag).unwrap();
                return first;
            }
            Op::Discard(sector, sectors) => {
                let command = Command::Discard {
                    sector: *sector,
                    sectors: *sectors,
                    secure: false,
                };
                queue.submit(&command, tag).unwrap();
                return first;
            }
            Op::Transfer {
                write,
                barrier,
                sector,
                parts,
                fill,
            } => (*sector, parts, *write, *barrier, *fill),
        };
        self.used += parts.len();
        let mut nth = 0;
        let mut segments: Vec<BlkifRequestSegment> = Vec::new();
        for (page, (a, b)) in self.pages[first..].iter().zip(parts) {
            for sector in *a..=*b {
                let byte = if write { content(fill, nth) } else { !0 };
                page.page().write(usize::from(sector) * 512, &[byte; 512]);
                nth += 1;
            }
            segments.push(segment(page, *a, *b));
        }
        let table = &self.tables[tag as usize];
        let tables = [IndirectPage {
            page: table.page(),
            gref: table.gref(),
        }];
        let place = match segments.len() {
            ..=11 => Segments::Direct(&segments),
            _ => Segments::Indirect(&segments, &tables),
        };
        let command = match (barrier, write) {
            (true, _) => Command::Barrier(sector, &segments),
            (_, true) => Command::Write(sector, place),
            _ => Command::Read(sector, place),
        };
        queue.submit(&command, tag).unwrap();
        first
    }

    /// What a request that was answered with success has done.
    fn apply(&mut self, op: &Op, first: usize) {
        let Some((begin, end)) = extent(op) else {
            return;
        };
        let bytes = |sector: u64| (sector * 512) as usize..(sector * 512 + 512) as usize;
        match op {
            Op::Transfer {
                write: true, fill, ..
            } => {
                for sector in begin..end {
                    self.model[bytes(sector)].fill(content(*fill, sector - begin));
                }
            }
            Op::Transfer { parts, .. } => {
                let mut sector = begin;
                for (page, (a, b)) in self.pages[first..].iter().zip(parts) {
                    for at in *a..=*b {
                        let mut read = [0; 512];
                        page.page().read(usize::from(at) * 512, &mut read);
                        assert_eq!(read, self.model[bytes(sector)], "sector {sector}");
                        sector += 1;
                    }
                }
            }
            _ => self.model[bytes(begin).start..bytes(end).start].fill(0),
        }
    }
}

/// Cuts the steps into batches whose requests do not meet.
fn batches(steps: &[Step], queues: usize) -> Vec<Vec<Step>> {
    let mut batches: Vec<Vec<Step>> = vec![Vec::new()];
    for step in steps {
        let mut step = step.clone();
        step.queue %= queues;
        let meets = |other: &Step| match (extent(&step.op), extent(&other.op)) {
            (Some(one), Some(two)) => one.0 < two.1 && two.0 < one.1,
            _ => false,
        };
        let last = batches.last_mut().expect("never empty");
        if last.iter().any(meets) || last.len() == 32 {
            batches.push(vec![step]);
        } else {
            last.push(step);
        }
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_behaves_as_an_array(
        shape in shape(),
        steps in vec((0..4usize, op()).prop_map(|(queue, op)| Step { queue, op }), 1..120),
    ) {
        let info = pv_block::back::MediumInfo { sectors: SMALL, ..INFO };
        let (disk, device) = connected(info, shape);
        let lend = |count: usize| -> Vec<_> {
            (0..count).map(|_| device.lend(Access::ReadWrite)).collect()
        };
        let mut run = Run {
            model: disk.data(),
            pages: lend(32 * 30),
            tables: lend(32),
            disk,
            used: 0,
            device,
        };
        for batch in batches(&steps, shape.queues) {
            run.batch(&batch);
        }
        pv_backend::Driver::disconnect(&mut run.device.back);
        prop_assert_eq!(run.device.host.mappings(), 0);
        prop_assert!(run.device.failures.try_recv().is_err());
    }
}
