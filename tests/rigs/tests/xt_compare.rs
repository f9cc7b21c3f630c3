//! `xt` beside `xl` on one real Xen host: the same words and statuses on the same domains, made by
//! either; and nothing left behind, by many domains nor by commands that are killed.
//!
//! What may differ is in a table of `docs/coming-from-xl.md`, which this test holds to: a difference
//! that is not there fails, and so does one that is there and does not occur.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use regex::Regex;
use serde_json::Value;
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{Output, RigSpec, RigX, live, xenner};

/// For anything in dom0, under emulation and with the host busy.
const DOM0: Duration = Duration::from_secs(300);
/// For whatever dom0 waits for, in seconds.
const PATIENCE: u32 = 280;

/// The table of differences follows this heading.
const HEADING: &str = "## Command by command";
const PAGE: &str = include_str!("../../../docs/coming-from-xl.md");

/// How many domains come and go.
const DOMAINS: u32 = 20;

/// The domain both programs are tried on.
const CONFIG: &str = r#"name = "g"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/initrd"
extra = "console=hvc0 panic=-1 quiet"
memory = 160
maxmem = 192
vcpus = 1
maxvcpus = 2
uuid = "01234567-89ab-cdef-0123-456789abcdef"
disk = ["format=raw,vdev=xvda,access=rw,backendtype=phy,script=block-image,target=/disks/a.img"]
vif = ["mac=00:16:3e:00:00:01,script=vif-plain"]
"#;

/// A configuration of both kinds of things: for `create -n` alone.
const PVH: &str = r#"name = "h"
type = "pvh"
kernel = "/guest/vmlinuz"
memory = 128
vcpus = 2
cpus = "0-1"
uuid = "01234567-89ab-cdef-0123-456789abcdee"
on_crash = "preserve"
disk = ["/disks/a.img,raw,xvda,w", "/disks/b.img,raw,xvdb,r"]
vif = ["mac=00:16:3e:00:00:02,bridge=br0"]
"#;

/// Xen's script for files is written in bash. This one takes a loop device and gives it back.
const BLOCK: &str = r#"#!/bin/sh
case $1 in
add)
    image=$(xenstore-read "$XENBUS_PATH/params")
    loop=$(losetup -f) && losetup "$loop" "$image" || exit
    xenstore-write "$XENBUS_PATH/node" "$loop" \
        "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$loop")" "$XENBUS_PATH/hotplug-status" connected;;
remove)
    loop=$(xenstore-read "$XENBUS_PATH/node") && losetup -d "$loop";;
esac
"#;

const VIF: &str = r#"#!/bin/sh
[ "$1" = online ] || exit 0
ip link set "$vif" up && xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

/// What there is of domains.
const STATE: &str = r#"
xl info | grep -E 'free_memory|outstanding'
xl list | awk '{ print $1, $2, $3, $4 }'
xenstore-ls -fp
ls /var/lib/xen /sys/class/net; ls /run/xt/journal | grep -v lock
losetup -a
"#;

/// What Xen and xenstore know of the domain $1.
const DOMAIN: &str = r#"
xl list $1; xl vcpu-list $1; xl sched-credit2 -d $1
xl list -l $1 | grep memkb
xenstore-ls -p /local/domain/$1
xenstore-ls -p /libxl/$1
"#;

struct Dom0 {
    rig: RigX,
    /// Exit statuses of `xl` and `xt` that may be, by command line.
    named: BTreeMap<&'static str, (i32, i32)>,
    /// Command lines that differed so.
    occurred: Vec<&'static str>,
    /// What is wrong.
    wrong: Vec<String>,
}

/// What the page says may differ: `` | `COMMAND` | STATUS | STATUS | why | ``.
fn named_differences() -> BTreeMap<&'static str, (i32, i32)> {
    let (_, section) = PAGE.split_once(HEADING).expect("the page has the table");
    let section = section.split("\n## ").next().unwrap_or(section);
    let row = Regex::new(r"(?m)^\| `([^`]+)` \| (\d+) \| (\d+) \| \S.* \|$").expect("a pattern");
    let number = |text: &str| text.parse().expect("a status");
    let rows: BTreeMap<_, _> = row
        .captures_iter(section)
        .map(|row| row.extract())
        .map(|(_, [command, xl, xt])| (command, (number(xl), number(xt))))
        .collect();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(lines.count(), rows.len(), "{HEADING}: a row is malformed");
    rows
}

/// The text without what changes from moment to moment: times, processors run on, whether a domain
/// runs just now. That one is paused stays.
fn masked(text: &str) -> String {
    let states = Regex::new(r" +(\d+ +)?[r-][b-]-(---)? ").expect("a pattern");
    let times = Regex::new(r" +\d+(\.\d|:\d\d(:\d\d)?)\b").expect("a pattern");
    let text = states.replace_all(text, " STATE ");
    times.replace_all(&text, " TIME").into_owned()
}

/// JSON with the blanks as they come, but its content comparable.
fn json(text: &str) -> String {
    let value: Result<Value, _> = serde_json::from_str(text.trim());
    match value {
        Ok(value) => format!("{value:#}"),
        Err(error) => format!("{error} in {text}"),
    }
}

/// The lines that only one has.
fn difference(xl: &str, xt: &str) -> String {
    let of = |sign: &str, lines: &str, other: &str| {
        let others: Vec<_> = other.lines().collect();
        let alone = lines.lines().filter(|line| !others.contains(line));
        alone
            .map(|line| format!("  {sign} {line:?}\n"))
            .collect::<String>()
    };
    of("xl", xl, xt) + &of("xt", xt, xl)
}

impl Dom0 {
    fn boot() -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        let modules = ["xen-blkfront", "xen-netfront"];
        let fs = live::initramfs(&cache, &kernel, &modules).expect("initial file system");
        fs.write(&initrd).expect("initial file system");
        let spec = RigSpec::default()
            .program(xenner::build_xt().expect("xt"), "/usr/bin/xt")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(Path::new(&initrd), "/guest/initrd");
        let rig = RigX::boot(&spec).expect("rig X");
        let files = [
            ("g.cfg", CONFIG, 0o644),
            ("h.cfg", PVH, 0o644),
            (
                "bad.cfg",
                "name = \"bad\"\nmemory = \"x\"\nkernel = 7\n",
                0o644,
            ),
            ("block-image", BLOCK, 0o755),
            ("vif-plain", VIF, 0o755),
            ("state", STATE, 0o755),
            ("domain", DOMAIN, 0o755),
        ];
        for (name, text, mode) in files {
            let written = rig.shell.write(name, text.as_bytes(), mode);
            written.expect("a file for dom0");
        }
        let mut dom0 = Self {
            rig,
            named: named_differences(),
            occurred: Vec::new(),
            wrong: Vec::new(),
        };
        dom0.must(
            "cp /share/block-image /share/vif-plain /etc/xen/scripts/ && mkdir -p /disks /run/xt/journal && \
             dd if=/dev/zero of=/disks/a.img bs=1M count=1 2>/dev/null && cp /disks/a.img /disks/b.img",
        );
        dom0
    }

    fn run(&mut self, command: &str) -> Output {
        self.rig.run(command, DOM0).expect("dom0 answers")
    }

    /// A command that must succeed; what it says.
    #[track_caller]
    fn must(&mut self, command: &str) -> String {
        let output = self.run(command);
        if output.status == 0 {
            return output.text;
        }
        let more =
            self.run("cat /run/xt/supervise.log; xl list; tail -n 30 /var/log/xen/console/*");
        panic!("{command}: {}\n-- dom0 --\n{}", output.text, more.text);
    }

    /// Waits in dom0 for what happens there.
    #[track_caller]
    fn until(&mut self, condition: &str) {
        self.must(&format!(
            "timeout {PATIENCE} sh -c 'until {condition}; do usleep 100000; done'"
        ));
    }

    /// What both say to the same, with their statuses.
    fn compare(&mut self, command: &'static str) {
        self.compare_as(command, &masked);
    }

    fn compare_as(&mut self, command: &'static str, normal: &dyn Fn(&str) -> String) {
        let [xl, xt] = ["xl", "xt"].map(|program| {
            let output = self.run(&format!("{program} {command} 2>/dev/null"));
            (output.status, normal(&output.text))
        });
        self.judge(command, &xl, &xt);
    }

    /// What both make of the same domain, as Xen's own tools see it; `back` undoes it.
    fn effect(&mut self, command: &'static str, back: &str) {
        let [xl, xt] = ["xl", "xt"].map(|program| {
            let script = format!(
                "id=$(xl domid g); {program} {command} >/dev/null 2>&1; s=$?; sh /share/domain $id; {back}; exit $s"
            );
            let output = self.run(&script);
            (output.status, masked(&output.text))
        });
        self.judge(command, &xl, &xt);
    }

    fn judge(&mut self, command: &'static str, xl: &(i32, String), xt: &(i32, String)) {
        if xl == xt {
            return;
        }
        if self.named.get(command) == Some(&(xl.0, xt.0)) {
            self.occurred.push(command);
            return;
        }
        let wrong = format!(
            "{command}: xl's status is {}, xt's {}\n{}",
            xl.0,
            xt.0,
            difference(&xl.1, &xt.1)
        );
        eprintln!("{wrong}");
        self.wrong.push(wrong);
    }

    /// Creates the domain with `program` and waits until its devices work.
    fn create(&mut self, program: &str) {
        self.must("rm -f /var/log/xen/console/guest-g.log");
        self.must(&format!("{program} create -q /share/g.cfg"));
        let ready = live::READY;
        self.until(&format!("grep -q {ready} /var/log/xen/console/guest-g.log"));
        let id = self.must("xl domid g").trim().to_owned();
        for device in ["vbd/51712", "vif/0"] {
            self.until(&format!(
                "[ x$(xenstore-read /local/domain/{id}/device/{device}/state) = x4 ]"
            ));
        }
        self.must("xl pause g");
    }

    /// What there is, when all that goes has gone.
    fn settled(&mut self, before: &str, when: &str) {
        let same = "sh /share/state >/tmp/state 2>&1; cmp -s /tmp/state /share/before";
        self.rig
            .shell
            .write("before", before.as_bytes(), 0o644)
            .expect("a file for dom0");
        let wait = format!("timeout 60 sh -c 'until {same}; do usleep 200000; done'");
        if self.run(&wait).status != 0 {
            let now = self.state();
            let lost = difference(before, &now).replace("  xl ", "  before: ");
            panic!("{when}:\n{}", lost.replace("  xt ", "  now: "));
        }
    }

    fn state(&mut self) -> String {
        self.run("sh /share/state >/share/now 2>&1");
        let now = self.rig.shell.read("now").expect("what dom0 wrote");
        String::from_utf8_lossy(&now).into_owned()
    }
}

/// Commands that only tell, and those that are refused.
const TELLING: [&str; 60] = [
    "list",
    "list g",
    "list -v",
    "list -v g",
    "list -c",
    "list -Z",
    "list -n",
    "info",
    "info -n",
    "domid g",
    "domid Domain-0",
    "domname 0",
    "vm-list",
    "uptime",
    "uptime g",
    "uptime -s g",
    "vcpu-list",
    "vcpu-list g",
    "sched-credit2",
    "sched-credit2 -d g",
    "sched-credit2 -s",
    "block-list g",
    "network-list g",
    "channel-list g",
    "dmesg",
    // Whom there is not.
    "list nosuch",
    "list -l nosuch",
    "domid nosuch",
    "domname 99",
    "domname x",
    "uptime nosuch",
    "vcpu-list nosuch",
    "block-list nosuch",
    "network-list nosuch",
    "channel-list nosuch",
    "destroy nosuch",
    "pause nosuch",
    "unpause nosuch",
    "shutdown nosuch",
    "reboot nosuch",
    "sysrq nosuch h",
    "rename nosuch x",
    "mem-set nosuch 1",
    "mem-max nosuch 1",
    "vcpu-set nosuch 1",
    "vcpu-pin nosuch 0 1",
    "sched-credit2 -d nosuch",
    // What is refused.
    "rename g Domain-0",
    "destroy 0",
    "vcpu-set g 9",
    "vcpu-pin g 0 9",
    "mem-set g xyz",
    "sched-credit2 -d g -w 0",
    "sysrq g hh",
    "create /nosuch.cfg",
    "create /share/bad.cfg",
    "shutdown",
    "nosuch",
    "s",
    "list --nosuch",
];

/// Commands that change something, and how to undo it.
const CHANGING: [(&str, &str); 12] = [
    ("vcpu-pin g 0 1", "xl vcpu-pin g 0 all"),
    ("vcpu-pin g all 0 1", "xl vcpu-pin g all all all"),
    ("vcpu-set g 2", "xl vcpu-set g 1"),
    ("mem-set g 120", "xl mem-set g 160"),
    ("mem-set g 9999", "xl mem-set g 160"),
    ("mem-max g 170", "xl mem-max g 192"),
    (
        "sched-credit2 -d g -w 512 -c 50",
        "xl sched-credit2 -d g -w 256 -c 0",
    ),
    (
        "sysrq g h",
        "xenstore-write /local/domain/$id/control/sysrq ''",
    ),
    ("rename g h", "xl rename h g"),
    ("unpause g", "xl pause g"),
    ("trigger g nmi", "true"),
    ("debug-keys h", "true"),
];

/// Everything on the domain that is there.
fn both_say_the_same(dom0: &mut Dom0) {
    for command in TELLING {
        dom0.compare(command);
    }
    dom0.compare_as("list -l g", &json);
    dom0.compare_as("list -l", &json);
    for (command, back) in CHANGING {
        dom0.effect(command, back);
    }
}

/// Domains come and go: memory, nodes, files, loop devices and the supervisor's files are as before.
fn many_domains(dom0: &mut Dom0, before: &str) {
    let files = "ls /proc/$(ps | grep [h]ost.xen.supervise | awk \"{print \\$1}\")/fd | wc -l";
    let many = |count| {
        format!(
            "for n in $(seq {count}); do \
             xt create -q -p /share/g.cfg && xt destroy g || exit; done"
        )
    };
    dom0.must(&many(1));
    let open = dom0.must(files);
    dom0.must(&many(DOMAINS));
    dom0.settled(before, "after many domains");
    dom0.until(&format!("[ $({files}) = {} ]", open.trim()));
}

/// How many commands are killed.
fn kills() -> u32 {
    match std::env::var_os("XENNER_MATRIX").is_some_and(|matrix| matrix == "full") {
        true => 50,
        false => 8,
    }
}

/// A command is killed at a random moment: the next one, whatever it is, leaves no half of a domain.
fn commands_are_killed(dom0: &mut Dom0, before: &str) {
    let clock = "cut -d' ' -f1 /proc/uptime | tr -d .";
    let timed = format!(
        "a=$({clock}); xt create -q /share/g.cfg >&2 || exit; b=$({clock}); \
         xt destroy g >&2 || exit; c=$({clock}); echo $((b-a)) $((c-b))"
    );
    let timed = dom0.must(&timed);
    // In hundredths of a second.
    let lasts: Vec<u64> = timed.split_whitespace().flat_map(str::parse).collect();
    assert_eq!(lasts.len(), 2, "{timed}");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let mut random = now.as_nanos() as u64;
    println!("create and destroy last {lasts:?} hundredths of a second; moments from {random}");
    for number in 0..kills() {
        // Knuth's generator; its high bits are the good ones.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let destroy = number % 2 == 1;
        let us = (random >> 33) % (lasts[usize::from(destroy)] * 10_000 + 1);
        let command = match destroy {
            false => "xt create -q /share/g.cfg",
            true => "xt destroy g",
        };
        let when = format!("{command} killed after {us} us");
        if destroy {
            dom0.must("xt create -q /share/g.cfg");
        }
        let killed = dom0.run(&format!(
            "{command} >/dev/null 2>&1 & p=$!; usleep {us}; kill -9 $p; wait $p"
        ));
        dom0.must("xt list");
        // What is still there is whole: it runs, and is looked after.
        let left = dom0.run("xl list g >/dev/null 2>&1 && xl list g").text;
        println!("{when}: status {}, left: {}", killed.status, left.trim());
        if left.contains("\ng ") {
            assert!(!left.contains("--p"), "{when}: {left}");
            dom0.must("ls /var/lib/xen/userdata-d.*.01234567-89ab-cdef-0123-456789abcdef.xt");
            dom0.must("xt destroy g");
        }
        dom0.settled(before, &when);
    }
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn xt_is_what_xl_is() {
    let mut dom0 = Dom0::boot();
    dom0.compare_as("-N create /share/g.cfg", &json);
    dom0.compare_as("create -n /share/h.cfg", &json);

    // What one made is the other's to handle.
    dom0.create("xl");
    both_say_the_same(&mut dom0);
    dom0.must("xt destroy g");
    dom0.until("! xl list g >/dev/null 2>&1");
    let before = dom0.state();
    dom0.create("xt");
    both_say_the_same(&mut dom0);
    dom0.must("xl destroy g");
    dom0.settled(&before, "after a domain of xt's");
    dom0.until("! ps | grep -q [h]ost.xen.supervise");

    // Somebody to be looked after all the time, so that the supervisor stays.
    dom0.must(
        "sed -e 's/\"g\"/\"keeper\"/' -e /^uuid/d -e /^disk/d -e /^vif/d \
         /share/g.cfg >/run/keeper.cfg && xt create -q -p /run/keeper.cfg memory=96 maxmem=96",
    );
    let with_keeper = dom0.state();
    many_domains(&mut dom0, &with_keeper);
    commands_are_killed(&mut dom0, &with_keeper);
    dom0.must("xt destroy keeper");
    dom0.settled(&before, "at the end");

    let unseen = dom0
        .named
        .keys()
        .filter(|named| !dom0.occurred.contains(named));
    let unseen: Vec<_> = unseen
        .map(|named| format!("{named}: named, but does not occur"))
        .collect();
    dom0.wrong.extend(unseen);
    assert!(dom0.wrong.is_empty(), "{}", dom0.wrong.join("\n"));
}
