//! `xt` on a real Xen host, beside `xl`: the same words, and a life cycle that outlives its supervisor.

use std::path::Path;
use std::time::Duration;

use regex::Regex;
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{Output, RigSpec, RigX, live, xenner};

/// For anything in dom0, under emulation and with the host busy.
const DOM0: Duration = Duration::from_secs(300);

/// Tells of the supervisor, its process id first, if one runs.
const SUPERVISOR: &str = "ps | grep '[h]ost xen supervise'";

const CONFIG: &str = "name = 'g'\nkernel = '/guest/vmlinuz'\nramdisk = '/guest/initrd'\n\
    extra = 'console=hvc0 panic=-1 quiet'\nmemory = 192\nmaxmem = 256\nvcpus = 1\nmaxvcpus = 2\n\
    uuid = '01234567-89ab-cdef-0123-456789abcdef'\non_crash = 'rename-restart'\n";

struct Dom0 {
    rig: RigX,
    /// How often the guest has started.
    starts: u32,
}

impl Dom0 {
    fn boot() -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        let mut fs = live::initramfs(&cache, &kernel, &[]).expect("initial file system");
        for word in ["poweroff", "reboot"] {
            // busybox' own want its own init.
            let script = format!("#!/bin/sh\nexec busybox {word} -f\n");
            fs.file(&format!("/sbin/{word}"), 0o755, script.as_str());
        }
        fs.write(&initrd).expect("initial file system");
        let spec = RigSpec::default()
            .program(xenner::build_xt().expect("xt"), "/usr/bin/xt")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(Path::new(&initrd), "/guest/initrd");
        let rig = RigX::boot(&spec).expect("rig X");
        rig.shell
            .write("g.cfg", CONFIG.as_bytes(), 0o644)
            .expect("a configuration");
        Self { rig, starts: 0 }
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
        let more = self.run("cat /run/xt/supervise.log; xl list; tail /var/log/xen/console/*");
        panic!("{command}: {}\n-- dom0 --\n{}", output.text, more.text);
    }

    /// Waits in dom0: what a guest does on its own is told by its console's log alone.
    fn until(&mut self, condition: &str) {
        self.must(&format!("until {condition}; do usleep 100000; done"));
    }

    /// Waits until the guest has started once more.
    fn started(&mut self) {
        self.starts += 1;
        let (ready, starts) = (live::READY, self.starts);
        self.until(&format!(
            "[ \"$(cat /var/log/xen/console/guest-g*.log | grep -c {ready})\" -ge {starts} ]"
        ));
    }

    /// What `xl` and `xt` say to the same, with their statuses, times masked.
    fn compare(&mut self, command: &str) {
        let [xl, xt] = ["xl", "xt"].map(|program| {
            let output = self.run(&format!("{program} {command} 2>/dev/null"));
            (output.status, masked(&output.text))
        });
        assert_eq!(xl, xt, "{command}");
    }
}

/// The text without what changes from moment to moment: times, states, processors run on.
fn masked(text: &str) -> String {
    let times = Regex::new(r" +\d+(\.\d|:\d\d(:\d\d)?)\b").expect("a pattern");
    let states = Regex::new(r" +(\d+ +)?[r-][b-]-(---)? ").expect("a pattern");
    let text = states.replace_all(text, " STATE ");
    times.replace_all(&text, " TIME").into_owned()
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn xl_and_xt_say_the_same() {
    let mut dom0 = Dom0::boot();
    dom0.must("xt create -q /share/g.cfg");
    dom0.started();
    dom0.must("xt pause g");
    for command in [
        "list",
        "list g",
        "list -v",
        "list -c",
        "list -Z",
        "list -n",
        "vm-list",
        "uptime",
        "uptime g",
        "domid g",
        "domname 1",
        "domname 0",
        "vcpu-list",
        "vcpu-list g",
        "info -n",
        "sched-credit2",
        "sched-credit2 -d g",
        "sched-credit2 -s",
        "block-list g",
        "network-list g",
        "channel-list g",
        // What is refused, and with which status.
        "list nosuch",
        "domid nosuch",
        "domname 99",
        "destroy nosuch",
        "pause nosuch",
        "console nosuch",
        "uptime nosuch",
        "shutdown nosuch",
        "mem-set nosuch 1",
        "vcpu-set g 9",
        "mem-set g xyz",
        "mem-set g 9999",
        "rename g Domain-0",
        "rename nosuch x",
        "destroy 0",
        "block-detach g xvdx",
        "network-detach g 7",
        "vcpu-pin g 0 9",
        "vcpu-pin g x 1",
        "sched-credit2 -d g -w 0",
        "create /nosuch.cfg",
        "create",
        "nosuch",
        "s",
        "vcpu",
        // What changes something, done twice.
        "vcpu-pin g 0 1",
        "vcpu-list g",
        "vcpu-pin g all all",
        "sched-credit2 -d g -w 512",
        "sched-credit2 -d g",
        "mem-set g 100",
        "unpause g",
        "pause g",
        "mem-max g 220",
        "vcpu-set g 2",
        "trigger g nmi",
        "sysrq g h",
        "debug-keys h",
    ] {
        dom0.compare(command);
    }
    dom0.must("xl destroy g");
    dom0.compare("list");
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_domain_is_looked_after() {
    let mut dom0 = Dom0::boot();
    let before = dom0.must("xenstore-ls -f; ls /var/lib/xen");
    dom0.must("xt create -q /share/g.cfg");
    dom0.started();
    assert_eq!(dom0.must("xt domid g").trim(), "1");

    // A reboot is a new domain; so it is when the supervisor was killed before.
    dom0.must("xt reboot g");
    dom0.started();
    assert_eq!(dom0.must("xt domid g").trim(), "2");
    dom0.must(&format!(
        "kill -9 $({SUPERVISOR} | awk '{{print $1}}') && xt reboot g"
    ));
    dom0.until("xl list | grep -q -- ---s--");
    dom0.must("xt supervise --detach");
    dom0.started();
    assert_eq!(dom0.must("xt domid g").trim(), "3");
    let second = dom0.run("xt supervise");
    assert!(
        second.status == 1 && second.text.contains("already"),
        "{second:?}"
    );

    // A crash: the old one is kept under another name, a new one starts.
    // The console of a domain that is kept stays open.
    dom0.run("(sleep 1; echo 'echo c > /proc/sysrq-trigger'; sleep 9) | timeout 10 xt console g");
    dom0.started();
    let list = dom0.must("xt list");
    assert!(list.contains("g-") && list.contains("----c-"), "{list}");
    assert_eq!(dom0.must("xt domid g").trim(), "4");
    dom0.must("xt destroy 3");

    // The end: nothing is left, neither the supervisor.
    dom0.must("xt shutdown -w g");
    dom0.until("! xl list g 2>/dev/null");
    dom0.until(&format!("! {SUPERVISOR}"));
    assert_eq!(dom0.must("xenstore-ls -f; ls /var/lib/xen"), before);

    // Without one it stays as it ended.
    dom0.must("xt create -q -e /share/g.cfg");
    dom0.started();
    dom0.must("xt shutdown -w g");
    assert!(dom0.must("xt list g").contains("---s--"));
    dom0.must("xt destroy g");
    assert_eq!(dom0.must("xenstore-ls -f; ls /var/lib/xen"), before);
}
