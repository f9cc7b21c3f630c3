//! `xt` beside `xl`: the same words and statuses on the same domain, made by either.
//!
//! What may differ is in a table of `docs/coming-from-xl.md`, which this test holds to: a difference
//! that is not there fails, and so does one that is there and does not occur.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use xenner_rigs::difference;

use crate::dom0::Dom0;

/// The table of differences follows this heading.
const HEADING: &str = "## Command by command";
const PAGE: &str = include_str!("../../../../docs/coming-from-xl.md");

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

/// What Xen and xenstore know of the domain $1.
const DOMAIN: &str = r#"
xl list $1; xl vcpu-list $1; xl sched-credit2 -d $1
xl list -l $1 | grep memkb
xenstore-ls -p /local/domain/$1
xenstore-ls -p /libxl/$1
"#;

struct Both {
    dom0: Dom0,
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
    let paused = Regex::new(r" [r-][b-]p").expect("a pattern");
    let times = Regex::new(r" +\d+(\.\d|:\d\d(:\d\d)?)\b").expect("a pattern");
    let text = states.replace_all(text, " STATE ");
    let text = paused.replace_all(&text, " PAUSED");
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

impl Both {
    fn boot() -> Self {
        let bad = "name = \"bad\"\nmemory = \"x\"\nkernel = 7\n";
        let files = [
            ("g.cfg", CONFIG),
            ("h.cfg", PVH),
            ("bad.cfg", bad),
            ("domain", DOMAIN),
        ];
        Self {
            dom0: Dom0::boot(&files),
            named: named_differences(),
            occurred: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// What both say to the same, with their statuses.
    fn compare(&mut self, command: &'static str) {
        self.compare_as(command, &masked);
    }

    fn compare_as(&mut self, command: &'static str, normal: &dyn Fn(&str) -> String) {
        let [xl, xt] = ["xl", "xt"].map(|program| {
            let output = self.dom0.run(&format!("{program} {command} 2>/dev/null"));
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
            let output = self.dom0.run(&script);
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
            difference(["xl", "xt"], &xl.1, &xt.1)
        );
        eprintln!("{wrong}");
        self.wrong.push(wrong);
    }

    /// Creates the domain with `program` and waits until its devices work.
    fn create(&mut self, program: &str) {
        let dom0 = &mut self.dom0;
        dom0.must(&format!("{program} create -q /share/g.cfg"));
        dom0.started();
        for device in ["vbd/51712", "vif/0"] {
            dom0.connected(device);
        }
        dom0.must("xl pause g");
    }

    /// Everything on the domain that is there.
    fn all(&mut self) {
        for command in TELLING {
            self.compare(command);
        }
        self.compare_as("list -l g", &json);
        self.compare_as("list -l", &json);
        for (command, back) in CHANGING {
            self.effect(command, back);
        }
    }

    /// Nothing differed but what is named, and that did.
    fn judged(mut self) {
        let unseen = self
            .named
            .keys()
            .filter(|named| !self.occurred.contains(named));
        let unseen: Vec<_> = unseen
            .map(|named| format!("{named}: named, but does not occur"))
            .collect();
        self.wrong.extend(unseen);
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// Commands that only tell, and those that are refused.
const TELLING: [&str; 69] = [
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
    "console nosuch",
    "block-detach g xvdx",
    "network-detach g 7",
    // What is refused.
    "rename g Domain-0",
    "destroy 0",
    "vcpu-set g 9",
    "vcpu-pin g 0 9",
    "vcpu-pin g x 1",
    "vcpu",
    "create",
    "domid",
    "pause",
    "vcpu-set g",
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

#[test]
#[ignore = "minutes; for the nightly run"]
fn of_a_domain_of_xl() {
    let mut both = Both::boot();
    both.compare_as("-N create /share/g.cfg", &json);
    both.compare_as("create -n /share/h.cfg", &json);
    both.create("xl");
    both.all();
    both.dom0.must("xt destroy g");
    both.dom0.until("! xl list g >/dev/null 2>&1");
    both.judged();
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn of_a_domain_of_xt() {
    let mut both = Both::boot();
    let small = "create -q -p /share/small.cfg";
    both.dom0.must(&format!("xl {small} && xl destroy g"));
    let before = both.dom0.state();
    both.create("xt");
    both.all();
    both.dom0.must("xl destroy g");
    both.dom0.settled(&before, "after a domain of xt's");
    both.dom0.unsupervised();
    both.judged();
}
