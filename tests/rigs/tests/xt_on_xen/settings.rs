//! What configurations and commands set, read back with Xen's own tools and seen from inside.

use std::collections::BTreeMap;

use goblin::elf::{Elf, SectionHeader};
use serde_json::Value;

use xenner_rigs::difference;

use crate::dom0::Dom0;

/// What Xen's tools tell of domain `g`, but for its number.
const TOLD: &str = r#"
id=$(xl domid g)
xl vcpu-list g | awk '{ print $3, $7, $8, $9 }'
xl sched-credit2 -d g | awk '{ print $1, $3, $4 }'
xl debug-keys s
xl dmesg | grep -E "^\(XEN\) dom$id(\(hvm\))?: mode=" | tail -n 1 | sed -e 's/.*mode=\([0-9]*\).*/tsc mode \1/'
"#;

/// Settings, and words that must be among what is told then.
const SETTINGS: [(&str, &[&str]); 5] = [
    ("vcpus=2 'cpus=\"1\"'", &["1 / all"]),
    (
        "vcpus=2 'cpus=[\"0\", \"1\"]' 'cpus_soft=\"1\"'",
        &["0 / 1", "1 / 1"],
    ),
    ("cpu_weight=512 cap=50", &["512 50"]),
    ("'tsc_mode=\"native\"'", &["tsc mode 2"]),
    ("'tsc_mode=\"always_emulate\"'", &["tsc mode 1"]),
];

#[test]
#[ignore = "minutes; for the nightly run"]
fn keys_have_their_effect() {
    let mut dom0 = Dom0::boot(&[("told", TOLD)]);
    let mut wrong = Vec::new();
    for (settings, words) in SETTINGS {
        let [xl, xt] = ["xl", "xt"].map(|program| {
            dom0.must(&format!(
                "{program} create -q -p /share/small.cfg {settings}"
            ));
            let told = dom0.must("sh /share/told");
            let listed: Value = serde_json::from_str(&dom0.must("xl list -l g")).expect("JSON");
            dom0.must("xl destroy g");
            format!("{told}{:#}", listed[0]["config"])
        });
        if xl != xt || words.iter().any(|word| !xl.contains(word)) {
            wrong.push(format!(
                "{settings}\n{}{xl}",
                difference(["xl", "xt"], &xl, &xt)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const LINUX: &str = r#"name = "g"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/initrd"
extra = "console=hvc0 panic=-1 loglevel=0"
memory = 192
maxmem = 224
vcpus = 1
maxvcpus = 2
"#;

const DISK: &str =
    "format=raw,vdev=xvdb,access=rw,backendtype=phy,script=block-image,target=/disks/b.img";
const NIC: &str = "mac=00:16:3e:00:00:09 script=vif-plain";

/// Memory, virtual CPUs, disks and cards of a guest that runs.
fn changed_while_it_runs(kind: &str) {
    let mut dom0 = Dom0::boot(&[("g.cfg", LINUX)]);
    dom0.must("xt create -q -p /share/small.cfg && xt destroy g");
    dom0.unsupervised();
    let before = dom0.state();
    dom0.must(&format!("xt create -q /share/g.cfg 'type=\"{kind}\"'"));
    dom0.started();

    dom0.must("xt mem-set g 128");
    let balloon = "/sys/devices/system/xen_memory/xen_memory0/info/current_kb";
    let shrunk = dom0.guest(&format!(
        "until [ $(cat {balloon}) -le 131072 ]; do usleep 100000; done; cat {balloon}"
    ));
    println!("{kind}: {shrunk} KiB after mem-set 128");
    let listed = dom0.says("xl list g | awk 'NR == 2 { print $3 }'");
    assert!(listed == "128" || listed == "127", "{listed}");

    dom0.must("xt vcpu-set g 2");
    let online = dom0.guest(
        "cd /sys/devices/system/cpu; until [ -e cpu1/online ]; do usleep 100000; done; \
         [ $(cat cpu1/online) = 1 ] || echo 1 >cpu1/online; cat online; cd /",
    );
    assert_eq!(online, "0-1");
    dom0.until("[ $(xl vcpu-list g | grep -c -- --p) = 0 ]");
    let listed: Value = serde_json::from_str(&dom0.must("xt list -l g")).expect("JSON");
    let theirs: Value = serde_json::from_str(&dom0.must("xl list -l g")).expect("JSON");
    assert_eq!(listed, theirs, "what is told of it now");
    dom0.must("xt vcpu-set g 1");
    let online = dom0.guest(
        "until [ $(cat /sys/devices/system/cpu/online) = 0 ]; do usleep 100000; done; echo 0",
    );
    assert_eq!(online, "0");

    dom0.must(&format!("xt block-attach g {DISK}"));
    dom0.connected("vbd/51728");
    let read = dom0.guest(
        "until [ -b /dev/xvdb ]; do usleep 100000; done; echo written >/dev/xvdb; sync; head -c 7 /dev/xvdb; echo",
    );
    assert_eq!(read, "written");
    dom0.must(&format!("xt network-attach g {NIC}"));
    dom0.connected("vif/0");
    let mac = dom0.guest(
        "until [ -e /sys/class/net/eth0 ]; do usleep 100000; done; cat /sys/class/net/eth0/address",
    );
    assert_eq!(mac, "00:16:3e:00:00:09");
    dom0.must("xt block-detach g xvdb && xt network-detach g 0");
    let gone = dom0.guest("until ! [ -e /dev/xvdb ] && ! [ -e /sys/class/net/eth0 ]; do usleep 100000; done; echo gone");
    assert_eq!(gone, "gone");
    assert_eq!(dom0.says("losetup -a; xt block-list g | wc -l"), "1");

    dom0.must("xt destroy g");
    dom0.settled(&before, kind);
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_pv_domain_is_changed_while_it_runs() {
    changed_while_it_runs("pv");
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_pvh_domain_is_changed_while_it_runs() {
    changed_while_it_runs("pvh");
}

/// Whose the domain is makes no difference to who uses it; and a core file is a core file.
#[test]
#[ignore = "minutes; for the nightly run"]
fn each_uses_what_the_other_made() {
    let mut dom0 = Dom0::boot(&[("g.cfg", LINUX)]);
    dom0.must("xt create -q -p /share/small.cfg && xt destroy g");
    dom0.unsupervised();
    let before = dom0.state();
    dom0.must("mkfifo /run/typed");
    for (maker, user) in [("xl", "xt"), ("xt", "xl")] {
        dom0.must(&format!("{maker} create -q /share/g.cfg"));
        dom0.started();
        // A console that is left when the domain has gone. xl's does not read what is no terminal.
        let console = dom0.must(&format!(
            "exec 3<>/run/typed; {user} console g </run/typed >/run/console & \
             echo 'echo seen-$((6*7)); poweroff -f' >$(xenstore-read /local/domain/$(xl domid g)/console/tty); \
             wait $! && cat /run/console"
        ));
        assert!(
            console.contains("seen-42"),
            "{maker}'s on {user}'s console: {console}"
        );
        dom0.until("! xl list g >/dev/null 2>&1");
        dom0.settled(&before, &format!("{maker}'s, by {user}"));
    }
    // The same memory, at rest: by whoever dumps it.
    dom0.must("xl create -q /share/g.cfg");
    dom0.started();
    let [xl, xt] = ["xl", "xt"].map(|program| {
        dom0.must(&format!(
            "xl pause g; {program} dump-core g /run/core && cp /run/core /share/core && rm /run/core"
        ));
        let core = dom0.rig.shell.read("core").expect("a core file");
        sections(&core)
    });
    let names = |sections: &Sections| sections.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&xt), names(&xl));
    for (name, content) in &xl {
        assert!(xt[name] == *content, "the section {name} differs");
    }
    dom0.must("xt destroy g");
}

type Sections = BTreeMap<String, Vec<u8>>;

/// What is in the sections of an ELF file, but for their names.
fn sections(file: &[u8]) -> Sections {
    let elf = Elf::parse(file).expect("an ELF file");
    let named = |section: &SectionHeader| {
        let name = elf.shdr_strtab.get_at(section.sh_name)?;
        let content = file.get(section.file_range()?)?;
        Some((name.to_owned(), content.to_owned()))
    };
    let mut sections: Sections = elf.section_headers.iter().filter_map(named).collect();
    sections.remove(".shstrtab");
    sections
}

/// The line that systemd runs for a domain in `/etc/xen/auto`, and its end.
#[test]
#[ignore = "minutes; for the nightly run"]
fn a_domain_of_the_unit_starts_and_stops() {
    let unit = include_str!("../../../../toolstack/xt/systemd/xt-domain@.service");
    let line = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        line.expect("the unit has the line").replace("%i", "g")
    };
    let mut dom0 = Dom0::boot(&[("g.cfg", LINUX)]);
    dom0.must("mkdir -p /etc/xen/auto && sed -e s/^name.*// /share/g.cfg >/etc/xen/auto/g.cfg");
    dom0.must(&line("ExecStart="));
    dom0.started();
    dom0.must(&line("ExecStop="));
    dom0.until("! xl list g >/dev/null 2>&1");
}
