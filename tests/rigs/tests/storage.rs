//! What disks keep: files that were said to be on them, through power cuts, and patterns that fio
//! writes and reads again; raw and qcow2.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tempfile::TempDir;
use xenner_rigs::foreground::Foreground;
use xenner_rigs::live::{self, READY};
use xenner_rigs::packages::{self, Cache, Kernel, KernelFiles};
use xenner_rigs::terminal::{BOOT, SOON};
use xenner_rigs::{guest, rig_l, xenner};

/// The host's programs; qemu-img is the second opinion about qcow2.
const PROGRAMS: &[&str] = &["e2fsprogs", "xfsprogs", "qemu-utils"];

/// The longest time from the first file to the power cut.
const LONGEST: Duration = Duration::from_millis(1500);

struct Bench {
    program: PathBuf,
    cache: Cache,
    kernel: KernelFiles,
    dir: TempDir,
}

impl Bench {
    /// `None`, with a word why, where there is no KVM.
    fn new() -> Option<Self> {
        if let Err(skipped) = rig_l::detect() {
            println!("{skipped}");
            return None;
        }
        packages::install(PROGRAMS).expect("the host's programs");
        let cache = Cache::open().expect("cache");
        Some(Self {
            program: xenner::build().expect("xenner"),
            kernel: cache.kernel(Kernel::new("6.1", true)).expect("kernel"),
            cache,
            dir: tempfile::tempdir().expect("temporary directory"),
        })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn initrd(&self, modules: &[&str], programs: &[(&Path, &str)]) {
        let mut fs = live::initramfs(&self.cache, &self.kernel, modules).expect("files");
        for (from, to) in programs {
            fs.program(from, to, &[]).expect("a program");
        }
        let path = self.dir.path().join("initrd");
        fs.write(&path).expect("initial file system");
    }

    /// A guest that obeys, with these disks.
    fn start(&self, disks: &[&str]) -> Foreground {
        let kernel = self.kernel.image.to_string_lossy();
        let initrd = self.path("initrd");
        let mut arguments = vec!["--memory=384M", "--append=console=hvc0 quiet panic=-1"];
        arguments.extend(["--kernel", &kernel, "--initrd", &initrd]);
        for disk in disks {
            arguments.extend(["--disk", disk]);
        }
        let mut guest = Foreground::start(&self.program, &arguments).expect("xenner starts");
        let ready = guest.terminal.expect(READY, BOOT);
        ready.unwrap_or_else(|error| panic!("{error}\n{}", guest.complaint()));
        guest
    }
}

/// A command in the guest that must succeed; what it printed.
fn run(guest: &mut Foreground, command: &str) -> String {
    let (status, text) = guest.terminal.run(command).expect("the guest answers");
    assert_eq!(status, 0, "{command}: {text}");
    text
}

fn power_off(mut guest: Foreground) {
    guest.terminal.line("poweroff -f").expect("the console");
    let status = guest.wait(SOON).expect("the guest ends");
    assert!(status.success(), "{status}: {}", guest.complaint());
}

/// A program of the host that must end with one of these statuses.
fn host(program: &str, arguments: &[&str], good: &[i32]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let code = output.status.code().unwrap_or(-1);
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8_lossy(&all);
    assert!(
        good.contains(&code),
        "{program} {arguments:?}: {code}: {all}"
    );
}

/// A disk that outlives the guests: between them it is raw.
struct Disk<'a> {
    bench: &'a Bench,
    file_system: &'a str,
    format: &'a str,
}

impl Disk<'_> {
    fn raw(&self) -> String {
        self.bench.path("disk.raw")
    }

    fn image(&self) -> String {
        self.bench.path(&format!("disk.{}", self.format))
    }

    fn make(&self) {
        let file = File::create(self.raw()).expect("an image");
        // The least xfs takes.
        file.set_len(320 << 20).expect("its size");
        let maker = format!("mkfs.{}", self.file_system);
        let force = if self.file_system == "xfs" {
            "-f"
        } else {
            "-F"
        };
        host(&maker, &["-q", force, &self.raw()], &[0]);
    }

    fn start(&self) -> Foreground {
        let disk = format!("format={},vdev=xvda,target={}", self.format, self.image());
        let mut guest = self.bench.start(&[&disk]);
        run(
            &mut guest,
            &format!("mount -t {} /dev/xvda /mnt", self.file_system),
        );
        guest
    }

    fn to_image(&self) {
        if self.format != "raw" {
            let all = [
                "convert",
                "-f",
                "raw",
                "-O",
                self.format,
                &self.raw(),
                &self.image(),
            ];
            host("qemu-img", &all, &[0]);
        }
    }

    fn to_raw(&self) {
        if self.format != "raw" {
            // Space that is nobody's (3) is what a crash may leave, damage (2) is not.
            host(
                "qemu-img",
                &["check", "-f", self.format, &self.image()],
                &[0, 3],
            );
            let all = [
                "convert",
                "-f",
                self.format,
                "-O",
                "raw",
                &self.image(),
                &self.raw(),
            ];
            host("qemu-img", &all, &[0]);
        }
    }

    /// A guest writes files until its power is cut; how many it was told are on the disk.
    fn write_and_cut(&self, round: u64) -> u64 {
        let mut guest = self.start();
        let write = format!("/workload durable write /mnt/{round} {round}");
        guest.terminal.start(&write).expect("the console");
        let first = guest.terminal.expect(r"durable: 1\n", SOON);
        first.unwrap_or_else(|error| panic!("{error}\n{}", guest.complaint()));
        let cut = Instant::now() + LONGEST.mul_f64(f64::from(random()) / 256.0);
        // Whatever else is said, no file has the number 0.
        let wait = cut.saturating_duration_since(Instant::now());
        let _ = guest.terminal.expect(r"durable: 0\n", wait);
        guest.kill().expect("killed");
        unlocked(Path::new(&self.image()));
        guest.terminal.ended(SOON).expect("the console's end");
        last_file(&guest.terminal.text())
    }

    /// The host's opinion of what a power cut left, once the journal is replayed.
    fn check(&self) {
        match self.file_system {
            "ext4" => {
                // 1: what it repairs without asking, which is the journal's and unused inodes.
                host("e2fsck", &["-f", "-p", &self.raw()], &[0, 1]);
                host("e2fsck", &["-f", "-n", &self.raw()], &[0]);
            }
            // A mount in the guest has replayed its log.
            "xfs" => host("xfs_repair", &["-n", &self.raw()], &[0]),
            other => panic!("{other}"),
        }
    }

    fn survives(&self, cuts: u64) {
        self.make();
        let mut all = 0;
        for round in 1..=cuts {
            self.to_image();
            let last = self.write_and_cut(round);
            self.to_raw();
            if self.file_system == "ext4" {
                self.check();
            }
            self.to_image();
            let mut guest = self.start();
            let check = format!("/workload durable check /mnt/{round} {round} {last}");
            run(&mut guest, &check);
            run(&mut guest, &format!("rm -r /mnt/{round}; umount /mnt"));
            power_off(guest);
            self.to_raw();
            self.check();
            all += last;
        }
        println!(
            "{} on {}: {cuts} power cuts, {all} files",
            self.file_system, self.format
        );
    }
}

/// Waits until nobody has a lock on an image. Who watches a domain hears that it is gone from the
/// first of its descriptors that is closed; those that hold the locks may be the last, and that for
/// transfers goes with the io_uring, which the kernel takes down later.
fn unlocked(image: &Path) {
    let file = File::options().read(true).write(true).open(image);
    let file = file.expect("the image");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let all = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let _ = tell.send(fcntl(&file, FcntlArg::F_OFD_SETLKW(&all)));
    });
    let locked = told.recv_timeout(SOON).expect("somebody keeps a lock");
    locked.expect("a lock");
}

fn random() -> u8 {
    let mut byte = [0];
    let mut source = File::open("/dev/urandom").expect("random bytes");
    source.read_exact(&mut byte).expect("a byte");
    byte[0]
}

/// The number of the last file a whole line speaks of.
fn last_file(console: &str) -> u64 {
    let whole = console.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let numbers = whole
        .lines()
        .filter_map(|l| l.trim().strip_prefix("durable: "));
    let last = numbers.filter_map(|number| number.parse().ok()).next_back();
    last.unwrap_or_else(|| panic!("no file in\n{console}"))
}

fn full() -> bool {
    std::env::var_os("XENNER_MATRIX").is_some_and(|matrix| matrix == "full")
}

#[test]
fn files_said_to_be_on_the_disk_survive_power_cuts() {
    let Some(bench) = Bench::new() else { return };
    bench.initrd(
        &["xen_blkfront", "xfs"],
        &[(guest::workload(), "/workload")],
    );
    let combinations = [
        ("ext4", "raw"),
        ("xfs", "qcow2"),
        ("ext4", "qcow2"),
        ("xfs", "raw"),
    ];
    let (count, cuts) = if full() { (4, 12) } else { (3, 1) };
    for (file_system, format) in &combinations[..count] {
        let disk = Disk {
            bench: &bench,
            file_system,
            format,
        };
        disk.survives(cuts);
    }
}

#[test]
fn fio_reads_what_it_wrote() {
    let Some(bench) = Bench::new() else { return };
    packages::install(&["fio"]).expect("fio");
    bench.initrd(
        &["xen_blkfront"],
        &[(Path::new("/usr/bin/fio"), "/bin/fio")],
    );
    let raw = bench.path("a.raw");
    File::create(&raw)
        .and_then(|f| f.set_len(64 << 20))
        .expect("an image");
    let qcow2 = bench.path("b.qcow2");
    host(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", &qcow2, "64M"],
        &[0],
    );
    let mut guest = bench.start(&[&raw, &qcow2]);
    let seconds = if full() { 60 } else { 4 };
    // The time is for mixed requests; what was written until then is read again in the end.
    let fio = format!(
        "fio --ioengine=libaio --direct=1 --iodepth=16 --rw=randrw --bsrange=4k-1m \
         --verify=crc32c --verify_fatal=1 --verify_backlog=64 --thread --time_based \
         --runtime={seconds} --name=raw --filename=/dev/xvda --name=qcow2 --filename=/dev/xvdb"
    );
    let report = run(&mut guest, &fio);
    for line in report.lines().filter(|line| line.contains("bw=")) {
        println!("{}", line.trim());
    }
    assert_eq!(report.matches("err= 0").count(), 2, "{report}");
    power_off(guest);
    host("qemu-img", &["check", "-f", "qcow2", &qcow2], &[0]);
}
