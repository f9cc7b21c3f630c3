//! A block back end whose front end writes whatever it likes into the ring, its requests and their
//! pages of segments, while requests are under way.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pv_backend::Host;
use pv_backend::loopback::{LoopbackHost, LoopbackPage};
use pv_block::back::{
    BlockQueue, DiscardInfo, Geometry, Medium, MediumInfo, QueueCounters, QueueParts,
};
use pv_block::loopback::RamDisk;
use pv_block::wire::Abi;
use pv_ring::{Access, GrantAccess, GrantMap, SharedPage};
use xen_sys::GrantRef;
use xen_sys::io::blkif::{BlkifRequest, BlkifRequestSegment};
use zerocopy::{FromZeros, IntoBytes};

const SECTORS: u64 = 64;

#[derive(Arbitrary, Debug)]
struct Input {
    narrow: bool,
    persistent: bool,
    flush: bool,
    large_sectors: bool,
    start: u32,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// A request that may make sense, in the next slot.
    Request {
        operation: u8,
        count: u8,
        sector: u8,
        segments: [(u8, u8, u8); 4],
        raw: Option<(u8, u32)>,
    },
    /// Segments in a page.
    Table {
        page: u8,
        at: u8,
        segment: (u8, u8, u8),
    },
    /// One of the ring's indices, near where it is.
    Index {
        word: u8,
        by: i8,
    },
    /// Any word of the ring or of a page.
    Word {
        page: u8,
        word: u16,
        value: u32,
    },
    Process,
    FinalCheck,
    Hold,
    Release,
    Break(u8),
    Resize(u8),
    Eject,
    Insert,
}

struct Front {
    ring: LoopbackPage,
    pages: Vec<LoopbackPage>,
    grefs: Vec<GrantRef>,
    slot: usize,
    req_prod: u32,
}

impl Front {
    fn segment(&self, (gref, first_sect, last_sect): (u8, u8, u8)) -> BlkifRequestSegment {
        let gref = self.grefs.get(usize::from(gref % 10));
        BlkifRequestSegment {
            gref: gref.copied().unwrap_or(GrantRef(first_sect.into())),
            first_sect: first_sect % 10,
            last_sect: last_sect % 10,
            ..Default::default()
        }
    }

    fn push(&mut self, mut request: BlkifRequest, raw: Option<(u8, u32)>, narrow: bool) {
        if let Some((at, value)) = raw {
            let at = usize::from(at) % (size_of::<BlkifRequest>() / 4) * 4;
            request.as_mut_bytes()[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let at = 64 + self.req_prod as usize % 32 * self.slot;
        let bytes = request.as_bytes();
        if narrow {
            self.ring.write(at, &bytes[..4]);
            self.ring.write(at + 4, &bytes[8..]);
        } else {
            self.ring.write(at, bytes);
        }
        self.req_prod = self.req_prod.wrapping_add(1);
        self.ring.store_u32(0, self.req_prod);
    }
}

fuzz_target!(|input: Input| {
    let host = LoopbackHost::new(16);
    let info = MediumInfo {
        sectors: SECTORS,
        sector_size: if input.large_sectors { 4096 } else { 512 },
        physical_sector_size: 4096,
        readonly: false,
        discard: Some(DiscardInfo {
            granularity: 512,
            alignment: 0,
            secure: false,
        }),
        flush: input.flush,
    };
    let disk = RamDisk::new(info);
    let counters = Arc::<QueueCounters>::default();
    let ring = host.alloc();
    ring.store_u32(0, input.start);
    ring.store_u32(8, input.start);
    let pages: Vec<_> = (0..8).map(|_| host.alloc()).collect();
    let grant = |page: &LoopbackPage, access| host.grant(page, access).expect("room");
    let mut grefs: Vec<_> = pages[1..]
        .iter()
        .map(|page| grant(page, Access::ReadWrite))
        .collect();
    grefs.push(grant(&pages[0], Access::Read));
    let ring_gref = grant(&ring, Access::ReadWrite);
    let (port, _guest) = host.alloc_port().expect("descriptors");
    let grants = host.grants(LoopbackHost::GUEST).expect("the guest");
    let Ok(mut back) = BlockQueue::<LoopbackHost>::new(QueueParts {
        ring: vec![grants.map(ring_gref, Access::ReadWrite).expect("granted")],
        abi: if input.narrow {
            Abi::X86_32
        } else {
            Abi::X86_64
        },
        channel: host.bind(LoopbackHost::GUEST, port).expect("unbound"),
        grants,
        persistent_grants: if input.persistent { 4 } else { 0 },
        counters: counters.clone(),
    }) else {
        return;
    };
    let geometry = |sectors| Geometry {
        medium: Some(MediumInfo { sectors, ..info }),
        max_indirect_segments: 600,
    };
    let none = Geometry {
        medium: None,
        max_indirect_segments: 600,
    };
    back.set_medium(
        Some(disk.queue(32).expect("descriptors")),
        geometry(SECTORS),
    );
    let mut inserted = true;
    let mut front = Front {
        ring,
        pages,
        grefs,
        slot: if input.narrow { 108 } else { 112 },
        req_prod: input.start,
    };
    assert_eq!(back.depth(), 32);
    for step in input.steps {
        match step {
            Step::Request {
                operation,
                count,
                sector,
                segments,
                raw,
            } => {
                let mut request = BlkifRequest::new_zeroed();
                request.operation = operation % 8;
                request.nr_segments = count % 13;
                request.id = front.req_prod.into();
                request.sector_number = sector.into();
                for (to, segment) in request.seg.iter_mut().zip(segments.iter().cycle()) {
                    *to = front.segment(*segment);
                }
                front.push(request, raw, input.narrow);
            }
            Step::Table { page, at, segment } => {
                let segment = front.segment(segment);
                let page = &front.pages[usize::from(page % 8)];
                page.write(usize::from(at) * 8, segment.as_bytes());
            }
            Step::Index { word, by } => {
                let at = usize::from(word % 4) * 4;
                let near = front.ring.load_u32(at).wrapping_add_signed(by.into());
                front.ring.store_u32(at, near);
            }
            Step::Word { page, word, value } => {
                let page = front
                    .pages
                    .get(usize::from(page % 9))
                    .unwrap_or(&front.ring);
                page.store_u32(usize::from(word % 1024) * 4, value);
            }
            Step::Process => {
                // A broken ring ends the device.
                while matches!(back.process(), Ok(true)) {}
            }
            Step::FinalCheck => drop(back.final_check()),
            Step::Hold => disk.hold(),
            Step::Release => disk.release(),
            Step::Break(sector) => disk.break_sector(sector.into()),
            Step::Resize(sectors) if inserted => {
                disk.resize(sectors.into());
                back.set_geometry(geometry(sectors.into()));
            }
            Step::Resize(_) => {}
            Step::Eject => {
                back.set_medium(None, none);
                inserted = false;
            }
            Step::Insert => {
                let sectors = disk.info().sectors;
                back.set_medium(
                    Some(disk.queue(32).expect("descriptors")),
                    geometry(sectors),
                );
                inserted = true;
            }
        }
        assert!(back.submitted() <= back.depth());
    }
    disk.release();
    while back.drain().expect("the channel lives") {}
    let kept = counters.persistent_grants.get();
    assert!(kept <= 4);
    drop(back);
    assert_eq!(host.mappings(), 0, "everything is unmapped");
});
