//! A network card of `xenner` on KVM with hardware semantics: an address by DHCP and a file each way,
//! by passt, in rig K; and what its counters say of that.

use std::time::Duration;

use xenner_rigs::packages::{self, Cache, Kernel};
use xenner_rigs::{RigK, RigSpec, live, xenner};

/// For all of it, under emulation and with the host busy.
const LIMIT: Duration = Duration::from_secs(900);

const SIZE: u64 = 2 << 20;

/// The guest's whole life: it takes a file, gives it back, and says what it sent and received.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
sh /modules/load
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -n -q -s /etc/udhcpc.sh
echo "guest: lease $(ip -4 -o addr show eth0)"
mkfifo /tmp/hold; exec 3<>/tmp/hold
nc -l -p 5000 <&3 >/tmp/file &
until netstat -ltn | grep -q :5000; do usleep 20000; done
echo 'guest: listens'
wait $!
echo "guest: got $(sha256sum </tmp/file)"
nc $(cat /tmp/router) 6000 </tmp/file
ip link set eth0 down
cd /sys/class/net/eth0/statistics
echo "guest: tx_packets $(cat tx_packets)"
echo "guest: tx_bytes $(cat tx_bytes)"
echo "guest: rx_packets $(cat rx_packets)"
echo 'guest: done'
while :; do sleep 100; done
"#;

/// passt makes a root directory of its own, which cannot be done from an initial file system: so
/// all of this runs on another one, as a system does that has booted.
const ROOT: &str = r"
set -e
mkdir /new; mount -t tmpfs -o size=1G tmpfs /new
cp -a /bin /sbin /usr /lib /lib64 /etc /new
mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp
mount -t proc proc /new/proc; mount -t sysfs sysfs /new/sys; mount -t devtmpfs dev /new/dev
cp /share/vmlinuz /share/initrd /share/script /new/tmp
cd /new; mount --move . /; exec chroot . sh /tmp/script
";

const SCRIPT: &str = r#"
set -e
echo 'nobody:x:65534:65534:nobody:/:/bin/false' >/etc/passwd
ip addr add 10.7.0.2/24 dev dummy0; ip link set dummy0 up; ip route add default via 10.7.0.1
dd if=/dev/urandom of=/tmp/file bs=64k count=32 2>/dev/null
mkfifo /tmp/hold; exec 3<>/tmp/hold
nc -l -p 6000 <&3 >/tmp/back &
back=$!
xenner run --detach --name card --kernel /tmp/vmlinuz --initrd /tmp/initrd --memory 128M \
    --append 'console=hvc0 quiet panic=-1' --console file:/tmp/console \
    --nic user,hostaccess,hostfwd=tcp:2222:5000
await() { timeout 300 sh -c "until $1; do usleep 50000; done" || { cat /tmp/console; exit 1; }; }
await "grep -q 'guest: listens' /tmp/console"
nc 127.0.0.1 2222 </tmp/file
wait $back
await "grep -q 'guest: done' /tmp/console"
cat /tmp/console
echo "rig: sent $(sha256sum </tmp/file)"
echo "rig: back $(sha256sum </tmp/back)"
sent=$(sed -n 's/.*guest: tx_packets \([0-9]*\).*/\1/p' /tmp/console)
await "xenner stats card | grep -q 'tx_packets  *$sent\$'"
xenner stats card | grep '^vif\.'
xenner destroy card
"#;

/// What follows `words` in a line, as a number or a word.
fn word<'a>(text: &'a str, words: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.split_once(words));
    let (_, rest) = found.unwrap_or_else(|| panic!("no {words:?} in\n{text}"));
    rest.split_whitespace().next().unwrap_or_default()
}

fn number(text: &str, words: &str) -> u64 {
    let word = word(text, words);
    word.parse().unwrap_or_else(|_| panic!("{words}: {word:?}"))
}

#[test]
fn a_card_works_where_the_guest_answers_itself() {
    packages::install(&["passt"]).expect("passt");
    let cache = Cache::open().expect("cache");
    let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
    let spec = RigSpec::default()
        .program(xenner::build().expect("xenner"), "/usr/bin/xenner")
        .program("/usr/bin/passt", "/usr/bin/passt")
        .module("dummy");
    let mut rig = RigK::boot(&spec).expect("rig K");
    rig.shell.put(&kernel.image, "vmlinuz").expect("put");
    let mut fs = live::initramfs(&cache, &kernel, &["xen_netfront"]).expect("files");
    fs.file("/init", 0o755, INIT);
    fs.write(&rig.shell.share().join("initrd"))
        .expect("initial file system");
    let script = rig.shell.write("script", SCRIPT.as_bytes(), 0o644);
    script.expect("script");
    let output = rig.run(ROOT, LIMIT).expect("the rig answers");
    let text = output.text;
    println!("{text}");
    assert_eq!(output.status, 0, "{text}");

    let sent = word(&text, "rig: sent ");
    assert_eq!(word(&text, "guest: got "), sent, "what the guest received");
    assert_eq!(word(&text, "rig: back "), sent, "what the guest sent");

    // Directions are the guest's.
    let counter = |name: &str| number(&text, &format!(".queue0.{name} "));
    assert_eq!(counter("tx_packets"), number(&text, "guest: tx_packets "));
    assert_eq!(counter("tx_bytes"), number(&text, "guest: tx_bytes "));
    assert!(counter("rx_packets") >= number(&text, "guest: rx_packets "));
    for bytes in ["rx_bytes", "tx_bytes"] {
        let most = SIZE + SIZE / 5;
        assert!((SIZE..most).contains(&counter(bytes)), "{bytes}: {text}");
    }
}
