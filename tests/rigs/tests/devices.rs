//! Debian's kernel with disks and network cards of `xenner`, on this machine's KVM and on one with
//! hardware semantics.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
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
        packages::install(&["e2fsprogs", "iproute2", "passt"]).expect("the host's programs");
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

/// The guest gets a file by a connection to its port 5000, as `/tmp/in`.
fn carry_in(live: &mut Live, file: &Path, to: impl ToSocketAddrs) {
    // With an input that lasts, for busybox' nc gives up with it.
    let listens = "( sleep 60 | nc -l -p 5000 > /tmp/in )";
    guest(
        live,
        &format!("{listens} & until netstat -ltn | grep -q :5000; do usleep 20000; done"),
    );
    let mut stream = TcpStream::connect(to).expect("the guest's port");
    let bytes = fs::read(file).expect("bytes");
    stream.write_all(&bytes).expect("the guest takes them");
    stream.shutdown(std::net::Shutdown::Write).expect("an end");
    // How passt ends the connection is its business; what counts is what came.
    let _ = stream.read_to_end(&mut Vec::new());
    let all = bytes.len();
    until(live, &format!("[ $(stat -c %s /tmp/in) = {all} ]"));
    let got = guest(live, "sha256sum < /tmp/in");
    assert_eq!(got.split(' ').next(), Some(&*sha256(file)));
}

/// The guest sends `/tmp/in`, which must be `file`, to a listener, by the address it has there.
fn carry_out(live: &mut Live, file: &Path, listener: &TcpListener, address: &str) {
    live.start(&format!("nc {address} < /tmp/in"))
        .expect("the console");
    let (mut stream, _) = listener.accept().expect("the guest connects");
    let mut received = tempfile::NamedTempFile::new().expect("a file");
    let count = std::io::copy(&mut stream, received.as_file_mut()).expect("bytes");
    drop(stream);
    assert_eq!(live.finish(SOON).expect("the guest ends").0, 0);
    let length = file.metadata().expect("metadata").len();
    assert_eq!((count, sha256(received.path())), (length, sha256(file)));
}

/// `xenner top`, as it goes on.
struct Top {
    process: Child,
    looks: Lines<BufReader<ChildStdout>>,
    /// When it looked last, in seconds.
    last: f64,
}

impl Top {
    /// Returns when it has looked.
    fn start(live: &Live) -> Self {
        let mut command = live.command(&["top", "--batch", "--json", "--delay", "0.2"]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("xenner");
        let out = process.stdout.take().expect("its output");
        let mut top = Self {
            process,
            looks: BufReader::new(out).lines(),
            last: 0.0,
        };
        top.look();
        top
    }

    /// Bytes received and sent since the look before.
    fn look(&mut self) -> (f64, f64) {
        let line = self.looks.next().expect("a look").expect("a line");
        let look: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let now = look["time"].as_f64().expect("a time");
        let elapsed = now - std::mem::replace(&mut self.last, now);
        let bytes = |name: &str| look["domains"][0][name].as_f64().unwrap_or(0.0) * elapsed;
        (bytes("net_rx_bytes"), bytes("net_tx_bytes"))
    }

    /// Looks until it has told of so many bytes each way. Rates are of the time between two looks,
    /// so they add up to what went by.
    fn until_seen(mut self, received: u64, sent: u64) {
        let mut seen = (0.0, 0.0);
        while seen.0 < received as f64 || seen.1 < sent as f64 {
            let (rx, tx) = self.look();
            seen = (seen.0 + rx, seen.1 + tx);
        }
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

/// The back end has counted what the guest's own card has, and `size` bytes each way among it.
fn traffic_is_counted(live: &mut Live, size: u64) {
    guest(live, "ip link set eth0 down");
    let mut own = |name: &str| -> u64 {
        let text = guest(live, &format!("cat /sys/class/net/eth0/statistics/{name}"));
        text.trim().parse().expect("a number")
    };
    let (packets, bytes, received) = (own("tx_packets"), own("tx_bytes"), own("rx_packets"));
    let late = std::time::Instant::now() + SOON;
    let counted = |name: &str| {
        let stats = xenner(live, &["stats", "guest"]);
        let name = format!(".queue0.{name}");
        let vif = |line: &&str| line.starts_with("vif.") && line.contains(&name);
        let line = stats.lines().find(vif).unwrap_or_default();
        let word = line.split_once(&*name).map_or("", |(_, rest)| rest);
        word.trim().parse::<u64>().expect("a number")
    };
    // The last of them may still be on their way out of the ring.
    while counted("tx_packets ") < packets {
        assert!(std::time::Instant::now() < late, "{packets}");
    }
    assert_eq!(counted("tx_packets "), packets);
    assert_eq!(counted("tx_bytes "), bytes);
    assert!(counted("rx_packets ") >= received);
    for name in ["rx_bytes ", "tx_bytes "] {
        let counted = counted(name);
        assert!(
            (size..size + size / 5).contains(&counted),
            "{name}{counted}"
        );
    }
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

    let sent = bench.image("sent", 8 * MIB, 8 * MIB);
    let top = Top::start(&live);
    carry_in(&mut live, &sent, ("127.0.0.1", port));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its port").port();
    carry_out(
        &mut live,
        &sent,
        &listener,
        &format!("$(cat /tmp/router) {port}"),
    );
    top.until_seen(7 * MIB, 7 * MIB);
    traffic_is_counted(&mut live, 8 * MIB);

    // Another one, for a while.
    xenner(&live, &["network-attach", "guest"]);
    until(&mut live, "[ -d /sys/class/net/eth1 ]");
    xenner(&live, &["network-detach", "guest", "1"]);
    until(&mut live, "[ ! -d /sys/class/net/eth1 ]");
    let stats = xenner(&live, &["stats", "guest"]);
    assert!(stats.contains("vif."), "{stats}");
}

/// Runs the test on a thread with a network of its own; says why where that can't be.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(Errno::EPERM) => println!("skipped: a network namespace needs root"),
        Err(errno) => panic!("unshare: {errno}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// How many fragments of IP packets have come to a machine with these counters (`/proc/net/snmp`,
/// `/proc/net/snmp6`).
fn fragments(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).expect("IP's counters");
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let v4 = pairs.find(|(name, _)| *name == "ReasmReqds").expect("v4").1;
    let v6 = snmp.lines().find_map(|l| l.strip_prefix("Ip6ReasmReqds"));
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    number(v4) + number(v6.expect("v6"))
}

#[test]
fn a_bridge_carries_large_frames_of_both_protocols() {
    let Some(bench) = Bench::new() else { return };
    in_namespace(move || {
        for words in [
            "link add br0 type bridge",
            "link set br0 mtu 9000 up",
            "addr add 10.9.0.1/24 dev br0",
            "addr add fd09::1/64 dev br0 nodad",
        ] {
            host("ip", &words.split(' ').collect::<Vec<_>>());
        }
        let mut live = bench.boot(&["--nic", "bridge=br0"]);
        guest(
            &mut live,
            "ip link set eth0 mtu 9000 up && ip addr add 10.9.0.2/24 dev eth0 \
             && echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad \
             && ip addr add fd09::2/64 dev eth0",
        );
        // The bridge may forward only when its port has come up.
        until(
            &mut live,
            "ping -c 1 -W 1 10.9.0.1 && ping -c 1 -W 1 fd09::1",
        );

        // With their headers both just fit; a packet that is larger comes in two.
        let count = "cat /proc/net/snmp /proc/net/snmp6";
        guest(&mut live, "ping -c 3 -s 8972 10.9.0.1");
        guest(&mut live, "ping -c 3 -s 8952 fd09::1");
        let seen = |live: &mut Live| {
            let there = fragments(&guest(live, count));
            (there, fragments(&host("sh", &["-c", count])))
        };
        assert_eq!(seen(&mut live), (0, 0));
        guest(&mut live, "ping -c 1 -s 8973 10.9.0.1");
        assert_eq!(seen(&mut live), (2, 2));

        let sent = bench.image("sent", 16 * MIB, 16 * MIB);
        carry_in(&mut live, &sent, ("10.9.0.2", 5000));
        let listener = TcpListener::bind("[fd09::1]:0").expect("a listener");
        let port = listener.local_addr().expect("its port").port();
        carry_out(&mut live, &sent, &listener, &format!("fd09::1 {port}"));
        carry_in(&mut live, &sent, ("fd09::2", 5000));
    });
}

/// How many there are, by a pattern of paths in the guest.
fn count(live: &mut Live, pattern: &str) -> usize {
    let text = guest(live, &format!("ls -d {pattern} | wc -l"));
    text.parse().unwrap_or_else(|_| panic!("{pattern}: {text}"))
}

#[test]
fn several_processors_share_a_disk_by_a_queue_each() {
    let Some(bench) = Bench::new() else { return };
    let disk = bench.image("disk.img", 16 * MIB, 32 * MIB);
    let disk_text = disk.to_string_lossy().into_owned();
    let mut live = bench.boot(&["--vcpus", "4", "--disk", &disk_text]);
    assert_eq!(count(&mut live, "/sys/block/xvda/mq/*"), 4);
    let writes = "for c in 0 1 2 3; do taskset $((1 << c)) dd if=/dev/urandom of=/dev/xvda \
        bs=256k count=16 seek=$((c * 16)) oflag=direct & done; wait";
    guest(&mut live, writes);
    let stats = xenner(&live, &["stats", "guest"]);
    let written = |queue| counter(&stats, &format!("vbd.xvda.queue{queue}.write_bytes"));
    assert_eq!((0..4).map(written).sum::<u64>(), 16 * MIB);
    assert!((0..4).all(|queue| written(queue) > 0), "{stats}");
    guest(&mut live, "echo 3 > /proc/sys/vm/drop_caches");
    let sum = guest(&mut live, "sha256sum < /dev/xvda");
    assert_eq!(sum.split(' ').next(), Some(&*sha256(&disk)));

    // One that comes and goes while they all run.
    let other = bench.image("other.img", MIB, MIB);
    xenner(&live, &["block-attach", "guest", &other.to_string_lossy()]);
    until(&mut live, "[ -b /dev/xvdb ]");
    let sum = guest(&mut live, "sha256sum < /dev/xvdb");
    assert_eq!(sum.split(' ').next(), Some(&*sha256(&other)));
    xenner(&live, &["block-detach", "guest", "xvdb"]);
    until(&mut live, "[ ! -b /dev/xvdb ]");

    // One in use is taken away all the same, and is free for others then.
    let image = other.to_string_lossy();
    xenner(&live, &["block-attach", "guest", &image]);
    until(&mut live, "[ -b /dev/xvdb ]");
    guest(&mut live, "sleep 600 < /dev/xvdb > /dev/null 2>&1 &");
    xenner(&live, &["block-detach", "--force", "guest", "xvdb"]);
    let list = xenner(&live, &["block-list", "guest"]);
    assert!(list.contains("xvda") && !list.contains("xvdb"), "{list}");
    xenner(
        &live,
        &["block-attach", "guest", &format!("{image},raw,xvdf")],
    );
    until(&mut live, "[ -b /dev/xvdf ]");
}

/// Names of the host's interfaces, in the thread's namespace.
fn interfaces() -> Vec<String> {
    let text = host("ip", &["-brief", "link"]);
    let names = text
        .lines()
        .filter_map(|line| line.split([' ', '@']).next());
    names.map(str::to_owned).collect()
}

fn taps() -> usize {
    let names = interfaces();
    names.iter().filter(|name| name.starts_with("vif")).count()
}

#[test]
fn a_bridge_carries_both_ways_and_goes_with_its_last_card() {
    let Some(bench) = Bench::new() else { return };
    in_namespace(move || bridged(&bench));
}

fn bridged(bench: &Bench) {
    let mut live = bench.boot(&["--vcpus", "2", "--nic", "bridge=rigbr0,create"]);
    host("ip", &["addr", "add", "192.0.2.1/24", "dev", "rigbr0"]);
    guest(
        &mut live,
        "ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up",
    );
    assert_eq!(count(&mut live, "/sys/class/net/eth0/queues/tx-*"), 2);

    let sent = bench.image("sent", 2 * MIB, 2 * MIB);
    carry_in(&mut live, &sent, "192.0.2.2:5000");
    let listener = TcpListener::bind("192.0.2.1:0").expect("a listener");
    let port = listener.local_addr().expect("its port").port();
    carry_out(&mut live, &sent, &listener, &format!("192.0.2.1 {port}"));

    // Another one, for a while.
    xenner(&live, &["network-attach", "guest", "bridge=rigbr0"]);
    until(&mut live, "[ -d /sys/class/net/eth1 ]");
    assert_eq!(taps(), 2);
    xenner(&live, &["network-detach", "guest", "1"]);
    until(&mut live, "[ ! -d /sys/class/net/eth1 ]");
    assert_eq!(taps(), 1);

    // All of it goes with the domain.
    drop(live);
    let late = std::time::Instant::now() + SOON;
    // The process that does it is nobody's child: there is nothing to await.
    while interfaces() != ["lo"] {
        assert!(std::time::Instant::now() < late, "{:?}", interfaces());
        thread::sleep(std::time::Duration::from_millis(20));
    }
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
