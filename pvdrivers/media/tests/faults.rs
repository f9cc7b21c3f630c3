//! Hosts that fail: no room, a file that shrinks below an image, a process that is killed.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Random, folder, have_qemu_img, open, path, qemu_img};
use pv_media::{Blocking, Format, MediumSpec, Memory, Operation, Request};

const MIB: u64 = 1 << 20;

/// Runs a test of this file in another process. Those are `#[ignore]`d for everybody else.
fn child(name: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env("PV_MEDIA_CHILD", "1")
        .envs(environment.iter().copied());
    command
}

#[test]
fn no_room_on_the_host() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let me = child(
        "no_room_child",
        &[("PV_MEDIA_FOLDER", folder.path().to_str().unwrap())],
    );
    let quoted: Vec<_> = me.get_args().map(|arg| arg.to_str().unwrap()).collect();
    let script = format!(
        "mount -t tmpfs -o size=6m none \"$PV_MEDIA_FOLDER\" || exit 77; exec \"{}\" {}",
        me.get_program().to_str().unwrap(),
        quoted.join(" ")
    );
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("PV_MEDIA_CHILD", "1")
        .env("PV_MEDIA_FOLDER", folder.path())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) if !matches!(status.code(), Some(1 | 77)) => panic!("{status}"),
        _ => eprintln!("skipped: no small file system can be mounted here"),
    }
}

#[test]
#[ignore = "runs in a process of its own, on a file system of 6 MiB"]
fn no_room_child() {
    if !common::is_child() {
        return;
    }
    let folder = PathBuf::from(std::env::var("PV_MEDIA_FOLDER").unwrap());
    for format in [Format::Raw, Format::Qcow2] {
        let image = folder.join("disk");
        match format {
            Format::Raw => File::create(&image).unwrap().set_len(16 * MIB).unwrap(),
            _ => drop(qemu_img(&folder, &["create", "-qfqcow2", "disk", "16M"])),
        }
        let disk = open(&MediumSpec::new(format, &image));
        let mut io = Blocking::new(&disk).unwrap();
        let mut written = Vec::new();
        let mut refused = 0;
        for i in 0..32u64 {
            match io.write(i << 19, &vec![i as u8 + 1; 1 << 19]) {
                Ok(()) => written.push(i),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{format:?}");
                    refused += 1;
                }
            }
        }
        assert!(
            written.len() > 8 && refused > 10,
            "{format:?}: {} written",
            written.len()
        );
        // The flush of an image may need room itself, and then it says so; it works again when
        // there is some.
        let _ = io.flush();
        io.discard(written[0] << 19, 1 << 19).unwrap();
        let gone = written.remove(0);
        if format == Format::Qcow2 {
            io.discard(written[0] << 19, 1 << 19).unwrap();
            written.remove(0);
            fs::remove_file(folder.join("ballast")).ok();
        }
        (0..3).for_each(|_| drop(io.flush()));
        io.flush().unwrap();
        io.write(gone << 19, &vec![99; 1 << 18]).unwrap();
        io.flush().unwrap();
        for i in &written {
            assert!(
                io.read(i << 19, 1 << 19).unwrap() == vec![*i as u8 + 1; 1 << 19],
                "{format:?} {i}"
            );
        }
        assert!(io.read(gone << 19, 1 << 18).unwrap() == vec![99; 1 << 18]);
        drop((io, disk));
        if format == Format::Qcow2 {
            let said = qemu_img(&folder, &["check", "-fqcow2", "disk"]);
            assert!(said.contains("No errors were found"), "{said}");
        }
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn an_image_whose_file_is_truncated() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    qemu_img(folder.path(), &["create", "-qfqcow2", "disk", "16M"]);
    let disk = open(&MediumSpec::new(Format::Qcow2, path(&folder, "disk")));
    let mut io = Blocking::new(&disk).unwrap();
    io.write(0, &vec![5; 8 << 20]).unwrap();
    io.flush().unwrap();
    let file = File::options()
        .write(true)
        .open(path(&folder, "disk"))
        .unwrap();
    file.set_len(2 * MIB).unwrap();
    assert_eq!(io.read(0, 4096).unwrap(), [5; 4096]);
    let error = io.read(7 * MIB, 4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}

/// What the killed process does: writes of a known sequence, and a line before and after each
/// flush.
const SECTORS: u64 = 8192;

struct Write1 {
    at: u64,
    sectors: u64,
}

fn sequence(seed: u64) -> impl Iterator<Item = Option<Write1>> {
    let mut random = Random(seed);
    std::iter::from_fn(move || {
        let at = random.below(SECTORS - 64);
        let sectors = 1 + random.below(64);
        Some((random.below(6) != 0).then_some(Write1 { at, sectors }))
    })
}

fn sector(value: u64, at: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes.as_chunks_mut::<16>().0.iter_mut().for_each(|chunk| {
        chunk[..8].copy_from_slice(&value.to_le_bytes());
        chunk[8..].copy_from_slice(&at.to_le_bytes());
    });
    bytes
}

#[test]
#[ignore = "runs in a process of its own, which is killed"]
fn killed_child() {
    if !common::is_child() {
        return;
    }
    let text = |name| std::env::var(name).unwrap();
    let format = if text("PV_MEDIA_FORMAT") == "raw" {
        Format::Raw
    } else {
        Format::Qcow2
    };
    let spec = MediumSpec::new(format, text("PV_MEDIA_IMAGE"));
    let disk = open(&MediumSpec {
        direct_io: text("PV_MEDIA_DIRECT") == "1",
        ..spec
    });
    let mut queue = disk.queue::<Memory>(8).unwrap();
    let (mut done, mut out) = (Vec::new(), std::io::stdout());
    let mut in_flight = 0;
    let mut finish =
        |queue: &mut Box<dyn pv_media::Queue<Memory>>, in_flight: &mut usize, most: usize| {
            queue.kick();
            while *in_flight > most {
                queue.completed(&mut done);
                done.drain(..).for_each(|done| {
                    done.result.unwrap();
                    *in_flight -= 1;
                });
            }
        };
    for (i, step) in sequence(text("PV_MEDIA_SEED").parse().unwrap()).enumerate() {
        let value = i as u64 + 1;
        let request = |operation, offset, len, buffers| Request {
            tag: value,
            operation,
            offset,
            len,
            buffers,
        };
        match step {
            Some(Write1 { at, sectors }) => {
                // Overlapping requests have no order: the one before has to be done.
                finish(&mut queue, &mut in_flight, 0);
                writeln!(out, "write {value}").unwrap();
                let bytes: Vec<u8> = (at..at + sectors).flat_map(|s| sector(value, s)).collect();
                let offset = at * 512;
                queue.submit(request(
                    Operation::Write,
                    offset,
                    sectors * 512,
                    Memory::of(&bytes),
                ));
            }
            None => {
                finish(&mut queue, &mut in_flight, 0);
                queue.submit(request(Operation::Flush, 0, 0, Memory::zeroed(0)));
                in_flight += 1;
                finish(&mut queue, &mut in_flight, 0);
                writeln!(out, "flushed {value}").unwrap();
                continue;
            }
        }
        in_flight += 1;
        queue.kick();
    }
}

/// Kills the process somewhere and compares. Returns how many writes it had done.
fn kill_once(folder: &Path, format: &str, direct: bool, seed: u64, random: &mut Random) -> u64 {
    let image = folder.join("disk");
    let _ = fs::remove_file(&image);
    match format {
        "raw" => File::create(&image)
            .unwrap()
            .set_len(SECTORS * 512)
            .unwrap(),
        _ => drop(qemu_img(
            folder,
            &[
                "create",
                "-qfqcow2",
                "-ocluster_size=4096",
                "disk",
                &(SECTORS * 512).to_string(),
            ],
        )),
    }
    let environment = [
        ("PV_MEDIA_IMAGE", image.to_str().unwrap()),
        ("PV_MEDIA_FORMAT", format),
        ("PV_MEDIA_DIRECT", if direct { "1" } else { "0" }),
        ("PV_MEDIA_SEED", &seed.to_string()),
    ];
    let mut process = child("killed_child", &environment)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let (mut begun, mut flushed) = (0, 0);
    let mut take = |line: &str| {
        if let Some(n) = line
            .strip_prefix("write ")
            .and_then(|n| n.trim().parse().ok())
        {
            begun = n;
        }
        if let Some(n) = line
            .strip_prefix("flushed ")
            .and_then(|n| n.trim().parse().ok())
        {
            flushed = n;
        }
    };
    // Somewhere in the work: after that many lines, and then at whatever it is doing.
    let mut line = String::new();
    for _ in 0..3 + random.below(200) {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended by itself"
        );
        take(&line);
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    rest.lines().for_each(&mut take);

    if format == "qcow2" {
        let out = Command::new("qemu-img")
            .args(["check", "-q", "-fqcow2"])
            .arg(&image)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(matches!(out.status.code(), Some(0 | 3)), "{said}");
    }
    let format = if format == "raw" {
        Format::Raw
    } else {
        Format::Qcow2
    };
    let disk = open(&MediumSpec::new(format, &image));
    let bytes = Blocking::new(&disk)
        .unwrap()
        .read(0, SECTORS as usize * 512)
        .unwrap();
    // Of each sector: what was flushed last, and what was written since.
    let mut promised = vec![0u64; SECTORS as usize];
    let mut since = vec![Vec::new(); SECTORS as usize];
    for (i, step) in sequence(seed).take(begun.max(flushed) as usize).enumerate() {
        let value = i as u64 + 1;
        if let Some(Write1 { at, sectors }) = step {
            for s in at as usize..(at + sectors) as usize {
                match value < flushed {
                    true => promised[s] = value,
                    false => since[s].push(value),
                }
            }
        }
    }
    for s in 0..SECTORS {
        let have = &bytes[s as usize * 512..][..512];
        let is = |value: &u64| match value {
            0 => have.iter().all(|byte| *byte == 0),
            value => have == sector(*value, s),
        };
        let fits = is(&promised[s as usize]) || since[s as usize].iter().any(is);
        assert!(
            fits,
            "seed {seed}: sector {s} was promised {}, then {:?}",
            promised[s as usize], since[s as usize]
        );
    }
    begun
}

fn kill_often(times: u64) {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let mut random = Random(times);
    let mut writes = 0;
    for i in 0..times {
        let (format, direct) = [
            ("raw", false),
            ("raw", true),
            ("qcow2", false),
            ("qcow2", true),
        ][(i % 4) as usize];
        writes += kill_once(folder.path(), format, direct, i, &mut random);
    }
    eprintln!("{times} processes killed after {writes} writes");
}

#[test]
fn a_killed_process_loses_nothing_that_was_flushed() {
    kill_often(24);
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn hundreds_of_killed_processes_lose_nothing_that_was_flushed() {
    kill_often(400);
}
