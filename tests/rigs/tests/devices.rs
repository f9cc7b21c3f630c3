//! Debian's kernel with disks and network cards of `xenner`, on this machine's KVM and on one with
//! hardware semantics.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use xenner_rigs::live::{self, Live, SOON};
use xenner_rigs::packages::{self, Cache, Kernel};
use xenner_rigs::{RigK, RigSpec, rig_l, xenner};

const MIB: u64 = 1 << 20;

/// What every test here boots; `None`, with a word why, where there is no KVM.
struct Bench {
    program: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    dir: TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        if let Err(skipped) = rig_l::detect() {
            println!("{skipped}");
            return None;
        }
        packages::install(&["e2fsprogs", "passt"]).expect("the host's programs");
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        live::initramfs(&cache, &kernel, &["xen_blkfront", "xen_netfront"])
            .and_then(|fs| fs.write(&initrd))
            .expect("initial file system");
        Some(Self {
            program: xenner::build().expect("xenner"),
            kernel: kernel.image,
            initrd,
            dir,
        })
    }

    fn boot(&self, more: &[&str]) -> Live {
        Live::boot(&self.program, &self.kernel, &self.initrd, more).expect("the guest boots")
    }

    /// A file of random bytes, then a hole up to `size`.
    fn image(&self, name: &str, random: u64, size: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut file = File::create(&path).expect("an image");
        let mut source = File::open("/dev/urandom")
            .expect("random bytes")
            .take(random);
        std::io::copy(&mut source, &mut file).expect("bytes");
        file.set_len(size).expect("its size");
        path
    }
}

/// A command in the guest that must succeed; what it printed.
fn guest(live: &mut Live, command: &str) -> String {
    let (status, text) = live.run(command).expect("the guest answers");
    assert_eq!(status, 0, "{command}: {text}");
    text
}

/// `xenner` with these arguments must succeed; what it printed.
fn xenner(live: &Live, arguments: &[&str]) -> String {
    let output = live.xenner(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn host(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {all}");
    all
}

fn sha256(path: &Path) -> String {
    let text = host("sha256sum", &[&path.to_string_lossy()]);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Waits in the guest: the event comes by xenstore, and busybox has nothing to await it with.
fn until(live: &mut Live, condition: &str) {
    guest(live, &format!("until {condition}; do usleep 20000; done"));
}

fn counter(stats: &str, name: &str) -> u64 {
    let line = stats
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{stats}"));
    let value = line.split_whitespace().nth(1).unwrap_or_default();
    value.parse().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn disks_are_read_written_exchanged_and_kept() {
    let Some(bench) = Bench::new() else { return };
    let root = bench.image("root.img", 0, 64 * MIB);
    let root_text = root.to_string_lossy().into_owned();
    host("mkfs.ext4", &["-q", "-F", &root_text]);
    let mut live = bench.boot(&["--disk", &root_text, "--disk", ",,xvdc,cdrom"]);

    // A file system: written, and still there after a restart.
    guest(&mut live, "mount /dev/xvda /mnt");
    guest(
        &mut live,
        "dd if=/dev/urandom of=/mnt/file bs=64k count=128 && sync",
    );
    let sum = guest(&mut live, "sha256sum < /mnt/file; umount /mnt");

    // One that comes later.
    let data = bench.image("data.img", 16 * MIB, 32 * MIB);
    let data_text = data.to_string_lossy().into_owned();
    xenner(&live, &["block-attach", "guest", &data_text]);
    until(&mut live, "[ -b /dev/xvdb ]");
    assert_eq!(
        guest(&mut live, "sha256sum < /dev/xvdb").split(' ').next(),
        Some(&*sha256(&data))
    );
    guest(&mut live, "dd if=/dev/urandom of=/tmp/block bs=1M count=4");
    guest(
        &mut live,
        "dd if=/tmp/block of=/dev/xvdb bs=1M seek=20 conv=fsync",
    );
    let written = guest(&mut live, "sha256sum < /tmp/block");
    let mut block = vec![0; 4 << 20];
    let file = File::open(&data).expect("the image");
    file.read_exact_at(&mut block, 20 * MIB).expect("its bytes");
    let copy = bench.dir.path().join("block");
    fs::write(&copy, &block).expect("a copy");
    assert_eq!(written.split(' ').next(), Some(&*sha256(&copy)));

    // Nobody else may write to it.
    let again = live.xenner(&["block-attach", "guest", &format!("{data_text},raw,xvdf")]);
    let complaint = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(3), "{complaint}");
    assert!(complaint.contains("in use"), "{complaint}");

    // Space goes back to the host.
    let before = file.metadata().expect("metadata").blocks();
    guest(&mut live, "blkdiscard -o 4194304 -l 8388608 /dev/xvdb");
    let after = file.metadata().expect("metadata").blocks();
    assert!(
        after + 8 * MIB / 512 <= before,
        "{before} blocks before, {after} after"
    );

    // It grows.
    xenner(&live, &["block-resize", "guest", "xvdb", "48M"]);
    until(&mut live, "[ $(cat /sys/block/xvdb/size) = 98304 ]");

    // Media come and go.
    let cd = bench.image("cd.iso", MIB, MIB);
    xenner(
        &live,
        &["cd-insert", "guest", "xvdc", &cd.to_string_lossy()],
    );
    until(&mut live, "[ $(cat /sys/block/xvdc/size) = 2048 ]");
    assert_eq!(
        guest(&mut live, "sha256sum < /dev/xvdc").split(' ').next(),
        Some(&*sha256(&cd))
    );
    xenner(&live, &["cd-eject", "guest", "xvdc"]);
    until(&mut live, "[ $(cat /sys/block/xvdc/size) = 0 ]");

    let stats = xenner(&live, &["stats", "guest"]);
    assert!(counter(&stats, "vbd.xvda.queue0.write_bytes") >= 8 * MIB);
    assert!(counter(&stats, "vbd.xvda.queue0.flush_requests") > 0);
    assert!(counter(&stats, "vbd.xvda.queue0.write_latency_ns.p99") > 0);
    assert!(counter(&stats, "vbd.xvdb.queue0.discard_requests") > 0);

    xenner(&live, &["block-detach", "guest", "xvdb"]);
    until(&mut live, "[ ! -b /dev/xvdb ]");
    let list = xenner(&live, &["block-list", "guest"]);
    assert!(list.contains("xvda") && !list.contains("xvdb"), "{list}");

    // The guest starts again with what it has.
    live.start("reboot -f").expect("the console");
    live.ready().expect("the guest starts again");
    guest(&mut live, "mount /dev/xvda /mnt");
    assert_eq!(guest(&mut live, "sha256sum < /mnt/file; umount /mnt"), sum);
    drop(live);
    host("fsck.ext4", &["-f", "-n", &root_text]);
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}

#[test]
fn a_network_without_root_carries_both_ways() {
    let Some(bench) = Bench::new() else { return };
    let port = free_port();
    let nic = format!("user,hostaccess,hostfwd=tcp:{port}:5000");
    let mut live = bench.boot(&["--nic", &nic]);
    guest(
        &mut live,
        "ip link set eth0 up && udhcpc -i eth0 -n -q -s /etc/udhcpc.sh && [ -s /tmp/router ]",
    );

    // In.
    let sent = bench.image("sent", 8 * MIB, 8 * MIB);
    // With an input that lasts, for busybox' nc gives up with it.
    let listens = "( sleep 60 | nc -l -p 5000 > /tmp/in )";
    guest(
        &mut live,
        &format!("{listens} & until netstat -ltn | grep -q :5000; do usleep 20000; done"),
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the forwarded port");
    let bytes = fs::read(&sent).expect("bytes");
    stream.write_all(&bytes).expect("the guest takes them");
    stream.shutdown(std::net::Shutdown::Write).expect("an end");
    // How passt ends the connection is its business; what counts is what came.
    let _ = stream.read_to_end(&mut Vec::new());
    let all = 8 * MIB;
    until(&mut live, &format!("[ $(stat -c %s /tmp/in) = {all} ]"));
    let got = guest(&mut live, "sha256sum < /tmp/in");
    assert_eq!(got.split(' ').next(), Some(&*sha256(&sent)));

    // Out.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its port").port();
    live.start(&format!("nc $(cat /tmp/router) {port} < /tmp/in"))
        .expect("the console");
    let (mut stream, _) = listener.accept().expect("the guest connects");
    let received = bench.dir.path().join("received");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&received);
    let file = file.as_mut().expect("a file");
    let count = std::io::copy(&mut stream, file).expect("bytes");
    drop(stream);
    assert_eq!(live.finish(SOON).expect("the guest ends").0, 0);
    assert_eq!((count, sha256(&received)), (8 * MIB, sha256(&sent)));

    // Another one, for a while.
    xenner(&live, &["network-attach", "guest"]);
    until(&mut live, "[ -d /sys/class/net/eth1 ]");
    xenner(&live, &["network-detach", "guest", "1"]);
    until(&mut live, "[ ! -d /sys/class/net/eth1 ]");
    let stats = xenner(&live, &["stats", "guest"]);
    assert!(stats.contains("vif."), "{stats}");
}

/// The guest's whole life there: it writes to its disk, says what is on it, and ends.
const INIT_K: &str = "#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t devtmpfs dev /dev
sh /modules/load
until [ -b /dev/xvda ]; do usleep 20000; done
dd if=/dev/urandom of=/dev/xvda bs=256k count=4 seek=1 conv=fsync
echo 3 > /proc/sys/vm/drop_caches
echo \"disk: $(sha256sum < /dev/xvda)\"
poweroff -f
";

#[test]
fn a_disk_works_where_the_guest_answers_itself() {
    let cache = Cache::open().expect("cache");
    let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
    let spec = RigSpec::default().program(xenner::build().expect("xenner"), "/usr/bin/xenner");
    let mut rig = RigK::boot(&spec).expect("rig K");
    rig.shell.put(&kernel.image, "vmlinuz").expect("put");
    let mut fs = live::initramfs(&cache, &kernel, &["xen_blkfront"]).expect("files");
    fs.file("/init", 0o755, INIT_K);
    fs.write(&rig.shell.share().join("initrd"))
        .expect("initial file system");
    let command = "cp /share/vmlinuz /share/initrd /tmp; truncate -s 4M /tmp/disk; \
        timeout 300 xenner run --kernel /tmp/vmlinuz --initrd /tmp/initrd --memory 128M \
        --append 'console=hvc0 quiet panic=-1' --disk /tmp/disk < /dev/null; \
        echo \"file: $(sha256sum < /tmp/disk)\"";
    let output = rig.run(command, 6 * SOON).expect("the rig answers");
    let sum = |word: &str| {
        let line = output.text.lines().find_map(|line| line.split_once(word));
        line.unwrap_or_else(|| panic!("no {word} in\n{}", output.text))
            .1
            .trim()
            .to_owned()
    };
    assert_eq!(sum("disk: "), sum("file: "), "{}", output.text);
    // Not the sum of nothing.
    let zeroes = output
        .text
        .contains("bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8");
    assert!(!zeroes, "{}", output.text);
}
