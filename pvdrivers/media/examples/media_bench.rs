//! Measures media: `cargo run --release -p pv-media --example media_bench [FOLDER] [SECONDS]`.
//!
//! Each line is one medium: 4-KiB random reads and writes per second with 32 requests on their way, and
//! 1-MiB sequential reads and writes in megabytes per second with 8. "plain" is one thread that
//! calls `preadv` and `pwritev`, one at a time, for comparison. The files are new, in FOLDER, and 512 MiB
//! large; "cached" means that the page cache holds them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::uio::{preadv, pwritev};
use pv_media::{Disk, Format, MediumSpec, Memory, Operation, Paths, Queue, Request};

const SIZE: u64 = 512 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "target".into());
    let seconds: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let folder = tempfile::tempdir_in(folder)?;
    let raw = folder.path().join("raw");
    let mut file = File::create(&raw)?;
    for i in 0..SIZE >> 20 {
        file.write_all(&vec![i as u8 | 1; 1 << 20])?;
    }
    file.sync_all()?;
    println!(
        "{:<26} {:>11} {:>11} {:>9} {:>9}",
        "medium", "4K read/s", "4K write/s", "read MB/s", "write MB/s"
    );
    row("plain preadv, cached", |operation, block, _| {
        plain(&raw, operation, block, time)
    })?;
    let media = [
        ("null", None),
        ("raw, cached", Some((Format::Raw, false))),
        ("raw, direct", Some((Format::Raw, true))),
        ("qcow2, cached", Some((Format::Qcow2, false))),
        ("qcow2, direct", Some((Format::Qcow2, true))),
    ];
    for (name, medium) in media {
        let disk = match medium {
            None => Disk::null(SIZE / 512),
            Some((Format::Raw, direct)) => open(&raw, Format::Raw, direct)?,
            Some((format, direct)) => {
                let image = folder.path().join("qcow2");
                let convert = ["convert", "-fraw", "-Oqcow2"];
                let made = Command::new("qemu-img")
                    .args(convert)
                    .args([&raw, &image])
                    .status();
                if !made.is_ok_and(|status| status.success()) {
                    println!("{name:<26} skipped: qemu-img is not installed");
                    continue;
                }
                open(&image, format, direct)?
            }
        };
        row(name, |operation, block, depth| {
            run(disk.queue(depth)?, operation, block, depth, time)
        })?;
        if matches!(medium, Some((_, false))) {
            row(&format!("{name}, threads"), |operation, block, depth| {
                run(
                    disk.queue_without_uring(depth)?,
                    operation,
                    block,
                    depth,
                    time,
                )
            })?;
        }
    }
    Ok(())
}

fn open(path: &Path, format: Format, direct_io: bool) -> Result<Disk, Box<dyn std::error::Error>> {
    let spec = MediumSpec {
        direct_io,
        ..MediumSpec::new(format, path)
    };
    Ok(Disk::open(&spec, &Paths)?)
}

/// Prints one line. `measure` returns requests per second.
fn row(name: &str, measure: impl Fn(Operation, u64, usize) -> io::Result<f64>) -> io::Result<()> {
    print!("{name:<26}");
    for operation in [Operation::Read, Operation::Write] {
        print!(" {:>11.0}", measure(operation, 4096, 32)?);
        io::stdout().flush()?;
    }
    for operation in [Operation::Read, Operation::Write] {
        print!(
            " {:>9.0}",
            measure(operation, 1 << 20, 8)? * f64::from(1 << 20) / 1e6
        );
        io::stdout().flush()?;
    }
    println!();
    Ok(())
}

/// Where the next request goes: anywhere for small ones, on for large ones.
struct Offsets(u64);

impl Offsets {
    fn next(&mut self, block: u64) -> u64 {
        if block > 4096 {
            self.0 += 1;
            return self.0 * block % SIZE;
        }
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % (SIZE / block) * block
    }
}

fn run(
    mut queue: Box<dyn Queue<Memory>>,
    operation: Operation,
    len: u64,
    depth: usize,
    time: Duration,
) -> io::Result<f64> {
    let mut offsets = Offsets(1);
    let mut free: Vec<_> = (0..depth)
        .map(|_| Memory::of(&vec![0x5a; len as usize]))
        .collect();
    let mut done = Vec::with_capacity(depth);
    let (begin, mut count) = (Instant::now(), 0u64);
    while begin.elapsed() < time {
        for buffers in free.drain(..) {
            let offset = offsets.next(len);
            queue.submit(Request {
                tag: 0,
                operation,
                offset,
                len,
                buffers,
            });
        }
        queue.kick();
        wait(&mut *queue)?;
        queue.completed(&mut done);
        count += done.len() as u64;
        for answer in done.drain(..) {
            answer.result?;
            free.push(answer.buffers);
        }
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Waits as a back end's thread does.
fn wait(queue: &mut dyn Queue<Memory>) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(
        &mut [PollFd::new(queue.event(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )?;
    queue.clear();
    Ok(())
}

fn plain(path: &Path, operation: Operation, len: u64, time: Duration) -> io::Result<f64> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut memory = Memory::of(&vec![0x5a; len as usize]);
    let mut offsets = Offsets(1);
    let (begin, mut count) = (Instant::now(), 0u64);
    while begin.elapsed() < time {
        let offset = offsets.next(len) as i64;
        match operation {
            Operation::Read => preadv(
                &file,
                &mut [io::IoSliceMut::new(memory.bytes_mut())],
                offset,
            )?,
            _ => pwritev(&file, &[io::IoSlice::new(memory.bytes())], offset)?,
        };
        count += 1;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
