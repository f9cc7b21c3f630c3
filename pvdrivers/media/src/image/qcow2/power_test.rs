//! Power cuts: everything that was done to the image's file is recorded, and at many points it is
//! asked what a disk might hold then. What was synced is there; of the rest any part may be, down to
//! single sectors. The image must be sound, and hold all that a flush had promised.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::super::{Image, ImageQueue, Layer};
use super::{Qcow2, header::Header};
use crate::engine::EngineKind;
use crate::file::record::{Change, Event, Record};
use crate::file::{MediaFile, Mode};
use crate::{Blocking, Disk, Format, MediumSpec, Paths};

const SECTOR: u64 = 512;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// What each sector may hold: what was last promised, and what was written since. Zero is a sector
/// never written to; `None` in the list stands for a discard, after which it may be anything.
#[derive(Clone, Default)]
struct Sector {
    promised: u64,
    since: Vec<Option<u64>>,
}

/// A test's history: which value each mark of the record stands for.
enum Step {
    Write { at: u64, sectors: u64, value: u64 },
    Discard { at: u64, sectors: u64 },
    Flushed,
}

/// Its exit status, and what it said.
fn qemu_img(args: &[&str]) -> Option<(i32, String)> {
    let out = Command::new("qemu-img")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    Some((out.status.code()?, text))
}

fn content(value: u64, sector: u64) -> Vec<u8> {
    [value, sector]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .cycle()
        .take(SECTOR as usize)
        .collect()
}

fn recorded(path: &Path, backing: Option<&Path>) -> (Arc<Image>, Record) {
    let mode = |write| Mode {
        write,
        direct: false,
        direct_devices: false,
        lock: true,
    };
    let mut file = MediaFile::open(path, mode(true), &Paths).unwrap();
    let record = Record::default();
    file.record = Some(record.clone());
    let header = Header::read(&file).unwrap();
    let top = Qcow2::open(&file, 0, header, backing.is_some()).unwrap();
    let mut files = vec![file];
    let mut layers = vec![Layer::Qcow2(Box::new(top))];
    if let Some(path) = backing {
        let file = MediaFile::open(path, mode(false), &Paths).unwrap();
        layers.push(Layer::Plain {
            file: 1,
            size: file.size().unwrap(),
        });
        files.push(file);
    }
    (
        Arc::new(Image::new(files.into(), layers, 512, true)),
        record,
    )
}

/// Writes, discards and flushes; returns what was done. Marks tell when which step was answered.
fn run(
    image: Arc<Image>,
    record: &Record,
    sectors: u64,
    steps: usize,
    random: &mut Random,
) -> Vec<Step> {
    let queue = ImageQueue::new(image, 4, EngineKind::Threads).unwrap();
    let mut io = Blocking::on(Box::new(queue));
    let mut history = Vec::new();
    for value in 1..=steps as u64 {
        let at = random.below(sectors);
        let longest = if random.below(8) == 0 { 600 } else { 20 };
        let len = 1 + random.below(longest).min(sectors - at - 1);
        match random.below(10) {
            0 | 1 => {
                io.flush().unwrap();
                history.push(Step::Flushed);
            }
            2 => {
                history.push(Step::Discard { at, sectors: len });
                record.mark(history.len() as u64);
                io.discard(at * SECTOR, len * SECTOR).unwrap();
                continue;
            }
            _ => {
                history.push(Step::Write {
                    at,
                    sectors: len,
                    value,
                });
                // Before it begins: from then on its data may be there.
                record.mark(history.len() as u64);
                let bytes: Vec<u8> = (at..at + len).flat_map(|s| content(value, s)).collect();
                io.write(at * SECTOR, &bytes).unwrap();
                continue;
            }
        }
        record.mark(history.len() as u64);
    }
    history
}

/// What the steps up to a mark leave possible.
fn possible(history: &[Step], sectors: u64) -> Vec<Sector> {
    let mut all = vec![Sector::default(); sectors as usize];
    for step in history {
        match step {
            Step::Write { at, sectors, value } => {
                all[*at as usize..(at + sectors) as usize]
                    .iter_mut()
                    .for_each(|s| s.since.push(Some(*value)));
            }
            Step::Discard { at, sectors } => {
                all[*at as usize..(at + sectors) as usize]
                    .iter_mut()
                    .for_each(|s| s.since.push(None));
            }
            Step::Flushed => {
                for sector in &mut all {
                    match sector.since.pop() {
                        Some(Some(value)) => {
                            *sector = Sector {
                                promised: value,
                                since: vec![],
                            }
                        }
                        Some(None) => {
                            *sector = Sector {
                                promised: sector.promised,
                                since: vec![None],
                            }
                        }
                        None => {}
                    }
                }
            }
        }
    }
    all
}

/// The file as it may be after a cut before event `cut`.
fn file_after(before: &[u8], log: &[Event], cut: usize, random: &mut Random) -> Vec<u8> {
    // Changes that were done before the beginning of a sync that was done before the cut.
    let mut done_at = HashMap::new();
    let mut durable_until = 0;
    for (i, event) in log[..cut].iter().enumerate() {
        if let Event::Done(begun) = event {
            done_at.insert(*begun, i);
            if matches!(log[*begun], Event::Begun(Change::Sync)) {
                durable_until = durable_until.max(*begun);
            }
        }
    }
    let mut file = before.to_vec();
    // How much of what is not durable is there, this time.
    let share = [0, 10, 50, 90, 100][random.below(5) as usize];
    for (i, event) in log[..cut].iter().enumerate() {
        let Event::Begun(change) = event else {
            continue;
        };
        let durable = done_at.get(&i).is_some_and(|done| *done < durable_until);
        let mut lucky = || durable || random.below(100) < share;
        match change {
            Change::Sync => {}
            Change::Size(size) => {
                if lucky() {
                    file.resize((*size as usize).max(file.len()), 0);
                }
            }
            Change::Punch(at, len) => {
                let end = ((at + len) as usize).min(file.len());
                if lucky() && (*at as usize) < end {
                    file[*at as usize..end].fill(0);
                }
            }
            Change::Write(at, bytes) => {
                let mut at = *at as usize;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let n = (512 - at % 512).min(rest.len());
                    if lucky() {
                        file.resize(file.len().max(at + n), 0);
                        file[at..at + n].copy_from_slice(&rest[..n]);
                    }
                    (at, rest) = (at + n, &rest[n..]);
                }
            }
        }
    }
    file
}

/// Opens what is left and compares it with what may be there.
fn verify(path: &Path, history: &[Step], sectors: u64, base: &dyn Fn(u64) -> Vec<u8>, what: &str) {
    let disk = Disk::open(&MediumSpec::new(Format::Qcow2, path), &Paths)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut io = Blocking::new(&disk).unwrap();
    let bytes = io
        .read(0, (sectors * SECTOR) as usize)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    for (i, sector) in possible(history, sectors).into_iter().enumerate() {
        if sector.since.contains(&None) {
            continue;
        }
        let have = &bytes[i * 512..][..512];
        let is = |value: u64| match value {
            0 => have == base(i as u64),
            value => have == content(value, i as u64),
        };
        let fits = is(sector.promised) || sector.since.iter().flatten().any(|value| is(*value));
        assert!(
            fits,
            "{what}: sector {i} was promised {} and then written {:?}, but is {:x?}",
            sector.promised,
            sector.since,
            &have[..16]
        );
    }
}

fn cut_power(options: &str, backing: bool, cuts: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (image, base) = (path("disk"), path("base"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let sectors = 4096;
    let mut args = vec![
        "create".into(),
        "-qfqcow2".into(),
        "-o".into(),
        options.into(),
    ];
    if backing {
        let bytes: Vec<u8> = (0..sectors).flat_map(|s| content(u64::MAX, s)).collect();
        fs::write(&base, bytes).unwrap();
        args.extend(["-b".into(), text(&base), "-F".into(), "raw".into()]);
    }
    args.extend([text(&image), (sectors * SECTOR).to_string()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((0, _)) = qemu_img(&args) else {
        eprintln!("skipped: qemu-img is not installed (package qemu-utils)");
        return;
    };
    let before = fs::read(&image).unwrap();
    let mut random = Random(seed);
    let (opened, record) = recorded(&image, backing.then_some(&*base));
    // What opening did counts as done.
    let history = run(opened, &record, sectors, 150, &mut random);
    let log = record.0.lock().unwrap().clone();
    let under = |s: u64| {
        if backing {
            content(u64::MAX, s)
        } else {
            vec![0; 512]
        }
    };
    for i in 0..cuts {
        let cut = random.below(log.len() as u64 + 1) as usize;
        let steps = log[..cut].iter().rev().find_map(|event| match event {
            Event::Mark(n) => Some(*n as usize),
            _ => None,
        });
        let left = path("left");
        fs::write(&left, file_after(&before, &log, cut, &mut random)).unwrap();
        let what = format!("{options}, cut {i} before event {cut} of {}", log.len());
        let (status, said) = qemu_img(&["check", "-q", "-f", "qcow2", &text(&left)]).unwrap();
        // Leaks are allowed, and told by a status of their own.
        assert!(matches!(status, 0 | 3), "{what}: {said}");
        verify(
            &left,
            &history[..steps.unwrap_or(0)],
            sectors,
            &under,
            &what,
        );
        // And what was opened and closed is without leaks.
        let (status, said) = qemu_img(&["check", "-f", "qcow2", &text(&left)]).unwrap();
        assert!(status == 0, "{what}, after it was opened: {said}");
    }
}

const LAYOUTS: [(&str, bool); 4] = [
    ("cluster_size=65536", false),
    ("cluster_size=512", false),
    ("cluster_size=4096", true),
    ("cluster_size=4096,compat=0.10", false),
];

#[test]
fn nothing_promised_is_lost_by_a_power_cut() {
    for (i, (options, backing)) in LAYOUTS.into_iter().enumerate() {
        cut_power(options, backing, 12, 1000 + i as u64);
    }
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn nothing_promised_is_lost_by_hundreds_of_power_cuts() {
    for seed in 0..5 {
        for (options, backing) in LAYOUTS {
            cut_power(options, backing, 60, seed);
        }
    }
}
