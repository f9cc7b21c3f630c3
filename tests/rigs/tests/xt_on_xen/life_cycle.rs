//! What follows the end of a domain, and who looks after it.

use crate::dom0::{Dom0, SUPERVISOR};

/// Linux, whose crashes are kept.
const LINUX: &str = r#"name = "g"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/initrd"
extra = "console=hvc0 panic=-1 quiet"
memory = 160
on_crash = "rename-restart"
"#;

/// What there is of domains with files.
const KEPT: &str = "xenstore-ls -f; ls /var/lib/xen";

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_domain_is_looked_after() {
    let mut dom0 = Dom0::boot(&[("g.cfg", LINUX)]);
    dom0.must("xt create -q -p /share/small.cfg && xt destroy g");
    dom0.unsupervised();
    let before = dom0.must(KEPT);
    dom0.must("xt create -q /share/g.cfg");
    dom0.started();
    let first: u32 = dom0.says("xt domid g").parse().expect("a number");

    // A reboot is a new domain; so it is when the supervisor was killed before.
    dom0.must("xt reboot g");
    dom0.started();
    assert_eq!(dom0.says("xt domid g"), (first + 1).to_string());
    dom0.must(&format!("kill -9 $({SUPERVISOR}) && xt reboot g"));
    dom0.until("xl list g | grep -q -- ---sr-");
    dom0.must("xt supervise --detach");
    dom0.started();
    assert_eq!(dom0.says("xt domid g"), (first + 2).to_string());
    let second = dom0.run("xt supervise");
    assert!(
        second.status == 1 && second.text.contains("already"),
        "{second:?}"
    );

    // From inside, too.
    dom0.type_to("g", "reboot -f");
    dom0.started();
    assert_eq!(dom0.says("xt domid g"), (first + 3).to_string());

    // A crash: the old one is kept under another name, a new one starts.
    dom0.type_to("g", "echo c >/proc/sysrq-trigger");
    dom0.started();
    let list = dom0.must("xt list");
    assert!(list.contains("g-") && list.contains("---sc-"), "{list}");
    assert_eq!(dom0.says("xt domid g"), (first + 4).to_string());
    dom0.must(&format!("xt destroy {}", first + 3));

    // The end: nothing is left, neither the supervisor.
    dom0.must("xt shutdown -w g");
    dom0.until("! xl list g 2>/dev/null");
    dom0.unsupervised();
    assert_eq!(dom0.must(KEPT), before);

    // Without one it stays as it ended.
    dom0.must("xt create -q -e /share/g.cfg");
    dom0.started();
    dom0.type_to("g", "poweroff -f");
    dom0.until("xl list g | grep -q -- ---s--");
    assert!(dom0.must("xt list g").contains("---s--"));
    dom0.must("xt destroy g");
    assert_eq!(dom0.must(KEPT), before);
}

/// How a domain ends: the small guest's word for it, the key for it, and its state in lists.
const ENDS: [(&str, &str, &str); 4] = [
    ("poweroff", "on_poweroff", "---s--"),
    ("reboot", "on_reboot", "---sr-"),
    ("crash", "on_crash", "---sc-"),
    ("watchdog", "on_watchdog", "---sw-"),
];

/// Each action, and whether a core file, the old domain and a new one are there afterwards.
const ACTIONS: [(&str, bool, bool, bool); 6] = [
    ("destroy", false, false, false),
    ("restart", false, false, true),
    ("rename-restart", false, true, true),
    ("preserve", false, true, false),
    ("coredump-destroy", true, false, false),
    ("coredump-restart", true, false, true),
];

#[test]
#[ignore = "minutes; for the nightly run"]
fn every_end_has_its_action() {
    let mut dom0 = Dom0::boot(&[]);
    dom0.must("xt create -q -p /share/small.cfg && xt destroy g");
    dom0.unsupervised();
    let before = dom0.state();
    for (word, key, ended) in ENDS {
        for (action, core, old, new) in ACTIONS {
            let when = format!("{key}={action}");
            dom0.must(&format!(
                "rm -rf /var/lib/xen/dump; \
                 xt create -q -p /share/small.cfg 'extra=\"{word}\"' '{key}=\"{action}\"' && xl domid g >/run/old && \
                 xt config-update g /share/small.cfg '{key}=\"{action}\"' && xt unpause g"
            ));
            let domid = dom0.says("cat /run/old");
            // It has ended, and what follows has been done: then nothing is done any more.
            let running =
                "xl list g 2>/dev/null | awk \"NR == 2 && \\$5 !~ /[psc]/ { print \\$2 }\"";
            match (old, new) {
                (_, true) => dom0.until(&format!("[ \"$({running})\" -gt {domid} ]")),
                (true, false) => dom0.until("xl list g | grep -q -- ---s"),
                (false, false) => dom0.until("! xl list g >/dev/null 2>&1"),
            }
            let list = dom0.must("xl list");
            let of_old = list
                .lines()
                .find(|line| line.split_whitespace().nth(1) == Some(&domid));
            assert_eq!(of_old.is_some(), old, "{when}: {list}");
            if let Some(of_old) = of_old {
                let state = of_old.split_whitespace().nth(4).unwrap_or_default();
                assert_eq!(state, ended, "{when}: {list}");
                assert_eq!(of_old.starts_with("g-"), new, "{when}: {list}");
            }
            let cores = dom0.run("ls /var/lib/xen/dump 2>/dev/null").text;
            assert_eq!(cores.lines().count(), usize::from(core), "{when}: {cores}");
            dom0.must(&format!(
                "rm -rf /var/lib/xen/dump; ! xl list {domid} >/dev/null 2>&1 || xt destroy {domid}; \
                 ! xl list g >/dev/null 2>&1 || xt destroy g"
            ));
            dom0.settled(&before, &when);
        }
    }
}
