//! On a file, through the host's kernel: io_uring where it has it.

mod common;

use std::io::{Read, Seek, SeekFrom, Write};

use common::host;
use pv_block::back::{Buffers, Medium, Settings};
use pv_block::front::{Command, IndirectPage, LentPage, Segments};
use pv_block::loopback::{LoopbackVbd, Shape};
use pv_media::{Disk, Format, MediumSpec, Paths};
use pv_ring::{Access, SharedPage};

#[test]
fn a_file_is_written_and_read_without_a_copy_of_ours() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4 << 20).unwrap();
    let path = file.path().to_owned();
    let open = move |_: &_| Some(Disk::open(&MediumSpec::new(Format::Raw, &path), &Paths).unwrap());
    for persistent in [false, true] {
        let open = open.clone();
        let mut device = LoopbackVbd::open(host(), Settings::default(), open).unwrap();
        device.make_queues(Shape {
            persistent,
            ..Shape::default()
        });
        device.connect().unwrap();
        assert_eq!(device.info().sectors, 8192);
        let pages: Vec<_> = (0..64).map(|_| device.lend(Access::ReadWrite)).collect();
        for (at, page) in (1..).zip(&pages) {
            page.page().write(0, &[at; 4096]);
        }
        let segments: Vec<_> = pages
            .iter()
            .map(|page| common::segment(page, 0, 7))
            .collect();
        let table = device.lend(Access::ReadWrite);
        let tables = [IndirectPage {
            page: table.page(),
            gref: table.gref(),
        }];
        let mut ask = |command: &Command<'_>| {
            let queue = &mut device.queues[0];
            queue.submit(command, 0).unwrap();
            queue.publish().unwrap();
            queue.wait().unwrap().result
        };
        let write = Command::Write(80, Segments::Indirect(&segments, &tables));
        assert_eq!(ask(&write), Ok(()));
        assert_eq!(ask(&Command::Flush), Ok(()));
        let mut bytes = vec![0; 64 * 4096];
        file.seek(SeekFrom::Start(80 * 512)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        assert!(
            bytes
                .chunks(4096)
                .zip(1..)
                .all(|(page, at)| page == [at; 4096])
        );
        file.seek(SeekFrom::Start(81 * 512)).unwrap();
        file.write_all(&[0xee; 512]).unwrap();
        let back = [segments[63]];
        assert_eq!(ask(&Command::Read(80, Segments::Direct(&back))), Ok(()));
        let mut page = [0; 4096];
        LentPage::page(&pages[63]).read(0, &mut page);
        assert!(page[..512] == [1; 512] && page[512..1024] == [0xee; 512]);
        assert_eq!(page[1024..], [1; 3072]);
        // It grows outside; the next look finds it.
        file.as_file().set_len(5 << 20).unwrap();
        assert!(device.changed().unwrap());
        assert_eq!(device.info().sectors, 10240);
        file.as_file().set_len(4 << 20).unwrap();
        drop(device);
    }
}

/// The medium is what the trait says.
#[test]
fn a_disk_is_a_medium() {
    fn takes(medium: &impl Medium) -> u64 {
        type Page = pv_backend::loopback::MappedPage;
        let queue = medium.queue::<Buffers<Page>>(4);
        assert!(queue.is_ok());
        medium.info().sectors
    }
    assert_eq!(takes(&Disk::null(16)), 16);
}
