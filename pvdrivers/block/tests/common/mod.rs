//! A disk in memory with both ends connected, and requests that wait for their answer.
#![allow(dead_code)] // each test binary uses its part

use pv_backend::loopback::{LoopbackChannel, LoopbackHost, LoopbackPage};
use pv_block::back::{DiscardInfo, MediumInfo};
use pv_block::front::{Command, Failure, IndirectPage, LentPage, Segments};
use pv_block::loopback::{LoopbackVbd, Pages, RamDisk, Shape};
use pv_ring::{Access, EventChannel, FrontRing, PageRun, SharedPage, WaitChannel};
use xen_sys::io::blkif::{BlkifRequest, BlkifRequestSegment, BlkifResponse};

pub const SECTORS: u64 = 2048;

pub const INFO: MediumInfo = MediumInfo {
    sectors: SECTORS,
    sector_size: 512,
    physical_sector_size: 4096,
    readonly: false,
    discard: Some(DiscardInfo {
        granularity: 4096,
        alignment: 0,
        secure: false,
    }),
    flush: true,
};

pub type Device = LoopbackVbd<RamDisk>;
pub type Lent = LentPage<LoopbackHost>;

pub fn host() -> LoopbackHost {
    LoopbackHost::new(2048)
}

pub fn connected(info: MediumInfo, shape: Shape) -> (RamDisk, Device) {
    let disk = RamDisk::new(info);
    let device = Device::connected(host(), disk.clone(), shape).unwrap();
    (disk, device)
}

/// A segment of a page.
pub fn segment(page: &Lent, first_sect: u8, last_sect: u8) -> BlkifRequestSegment {
    BlkifRequestSegment {
        gref: page.gref(),
        first_sect,
        last_sect,
        ..Default::default()
    }
}

/// Sends one request and waits for its answer.
pub fn ask(device: &mut Device, queue: usize, command: &Command<'_>) -> Result<(), Failure> {
    let queue = &mut device.queues[queue];
    queue.submit(command, 77).unwrap();
    queue.publish().unwrap();
    let answer = queue.wait().unwrap();
    assert_eq!(answer.tag, 77);
    answer.result
}

/// Writes a page full of `byte` at a sector.
pub fn write(device: &mut Device, sector: u64, byte: u8) -> Result<(), Failure> {
    let page = device.lend(Access::Read);
    page.page().write(0, &[byte; 4096]);
    write_page(device, sector, &page)
}

/// Writes a page at a sector.
pub fn write_page(device: &mut Device, sector: u64, page: &Lent) -> Result<(), Failure> {
    let segments = [segment(page, 0, 7)];
    let command = Command::Write(sector, Segments::Direct(&segments));
    ask(device, 0, &command)
}

/// Reads to a page.
pub fn read_page(device: &mut Device, sector: u64, page: &Lent) -> Result<(), Failure> {
    let segments = [segment(page, 0, 7)];
    let command = Command::Read(sector, Segments::Direct(&segments));
    ask(device, 0, &command)
}

/// Reads a page at a sector.
pub fn read(device: &mut Device, sector: u64) -> Result<Vec<u8>, Failure> {
    let page = device.lend(Access::ReadWrite);
    read_page(device, sector, &page)?;
    let mut bytes = vec![0; 4096];
    page.page().read(0, &mut bytes);
    Ok(bytes)
}

/// An indirect request of whole pages.
pub fn ask_indirect(
    device: &mut Device,
    write: bool,
    sector: u64,
    pages: &[Lent],
) -> Result<(), Failure> {
    let segments: Vec<_> = pages.iter().map(|page| segment(page, 0, 7)).collect();
    let table = device.lend(Access::ReadWrite);
    let tables = [IndirectPage {
        page: table.page(),
        gref: table.gref(),
    }];
    let segments = Segments::Indirect(&segments, &tables);
    let command = match write {
        true => Command::Write(sector, segments),
        false => Command::Read(sector, segments),
    };
    ask(device, 0, &command)
}

/// A front end that writes to the ring whatever it likes.
pub struct Raw {
    pub device: Device,
    pub ring: FrontRing<Pages, BlkifRequest, BlkifResponse>,
}

impl Raw {
    pub fn new(shape: Shape) -> Self {
        let device = connected(INFO, shape).1;
        let pages: Vec<LoopbackPage> = device.rings.iter().map(|p| p.page().clone()).collect();
        let ring = FrontRing::init(PageRun::new(pages).unwrap()).unwrap();
        Self { device, ring }
    }

    pub fn channel(&self) -> &LoopbackChannel {
        self.device.queues[0].channel()
    }

    /// The status of the answer to a request.
    pub fn ask(&mut self, request: &BlkifRequest) -> i16 {
        self.ring.push(request).unwrap();
        if self.ring.publish() {
            self.channel().notify().unwrap();
        }
        loop {
            if let Some(answer) = self.ring.pop().unwrap() {
                assert_eq!(answer.id, request.id);
                return answer.status;
            }
            if !self.ring.final_check().unwrap() {
                self.channel().wait().unwrap();
            }
        }
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.device.stats(0).counters[name]
    }
}
