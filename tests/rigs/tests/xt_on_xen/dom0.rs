//! A dom0 with `xl` and `xt`, and what the tests do in it.

use std::path::Path;
use std::time::Duration;

use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{Output, RigSpec, RigX, difference, live, xenner};

/// For anything in dom0, under emulation and with the host busy.
const DOM0: Duration = Duration::from_secs(400);
/// For whatever dom0 waits for, in seconds.
const PATIENCE: u32 = 300;

/// Says the supervisor's process id, if one runs.
pub const SUPERVISOR: &str = "sh /share/supervisor";
const FIND_SUPERVISOR: &str = "ps | awk '/[-]-host xen supervise/ { print $1 }'\n";

/// The UUID of domain `g`.
pub const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// A domain that stays, and costs next to nothing, but has a disk and a card.
const SMALL: &str = r#"name = "g"
kernel = "/guest/obey"
extra = "stay"
memory = 16
vcpus = 1
uuid = "01234567-89ab-cdef-0123-456789abcdef"
disk = ["format=raw,vdev=xvda,access=rw,backendtype=phy,script=block-image,target=/disks/a.img"]
vif = ["mac=00:16:3e:00:00:01,script=vif-plain"]
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

/// What there is of domains. `xl mem-set` notes dom0's own memory, whosever domain it is for.
const STATE: &str = r#"
xl info | grep -E 'free_memory|outstanding'
xl list | awk '{ print $1, $2, $3, $4 }'
xenstore-ls -fp | grep -v ^/local/domain/0/memory
ls /var/lib/xen /sys/class/net; ls /run/xt/journal | grep -v lock
losetup -a
"#;

pub struct Dom0 {
    pub rig: RigX,
    /// How often the Linux guest has started.
    starts: u32,
    /// How many commands it has been given.
    commands: u32,
}

impl Dom0 {
    /// A dom0 with `xt`, Linux and the small guest in `/guest`, and these files in `/share`.
    pub fn boot(files: &[(&str, &str)]) -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        let modules = ["xen-blkfront", "xen-netfront"];
        let mut fs = live::initramfs(&cache, &kernel, &modules).expect("initial file system");
        for word in ["poweroff", "reboot"] {
            // busybox' own want its own init.
            let script = format!("#!/bin/sh\nexec busybox {word} -f\n");
            fs.file(&format!("/sbin/{word}"), 0o755, script.as_str());
        }
        fs.write(&initrd).expect("initial file system");
        let spec = RigSpec::default()
            .program(xenner::build_xt().expect("xt"), "/usr/bin/xt")
            .file(xenner::build_guest("obey").expect("a guest"), "/guest/obey")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(Path::new(&initrd), "/guest/initrd");
        let rig = RigX::boot(&spec).expect("rig X");
        let mut dom0 = Self {
            rig,
            starts: 0,
            commands: 0,
        };
        let own = [
            ("small.cfg", SMALL),
            ("state", STATE),
            ("supervisor", FIND_SUPERVISOR),
        ];
        for (name, text) in own {
            dom0.write(name, text);
        }
        for (name, text) in files {
            dom0.write(name, text);
        }
        for (name, text) in [("block-image", BLOCK), ("vif-plain", VIF)] {
            let written = dom0.rig.shell.write(name, text.as_bytes(), 0o755);
            written.expect("a script for dom0");
        }
        dom0.must(
            "cp /share/block-image /share/vif-plain /etc/xen/scripts/ && mkdir -p /disks /run/xt/journal && \
             dd if=/dev/zero of=/disks/a.img bs=1M count=1 2>/dev/null && cp /disks/a.img /disks/b.img",
        );
        dom0
    }

    /// A file in `/share`.
    pub fn write(&mut self, name: &str, text: &str) {
        let written = self.rig.shell.write(name, text.as_bytes(), 0o644);
        written.expect("a file for dom0");
    }

    pub fn run(&mut self, command: &str) -> Output {
        self.rig.run(command, DOM0).expect("dom0 answers")
    }

    /// A command that must succeed; what it says.
    #[track_caller]
    pub fn must(&mut self, command: &str) -> String {
        let output = self.run(command);
        if output.status == 0 {
            return output.text;
        }
        let more = self.run(
            "cat /run/xt/supervise.log; xl list; tail -n 30 /var/log/xen/console/*; xl dmesg | tail -n 15",
        );
        panic!("{command}: {}\n-- dom0 --\n{}", output.text, more.text);
    }

    /// What a command must say, without blanks around it.
    #[track_caller]
    pub fn says(&mut self, command: &str) -> String {
        self.must(command).trim().to_owned()
    }

    /// Waits in dom0 for what happens there.
    #[track_caller]
    pub fn until(&mut self, condition: &str) {
        self.must(&format!(
            "timeout {PATIENCE} sh -c 'until {condition}; do usleep 100000; done'"
        ));
    }

    /// Waits until the Linux guest has started once more.
    #[track_caller]
    pub fn started(&mut self) {
        self.starts += 1;
        let (ready, starts) = (live::READY, self.starts);
        self.until(&format!(
            "[ $(cat /var/log/xen/console/guest-g*.log | grep -c {ready}) -ge {starts} ]"
        ));
    }

    /// Waits until no supervisor runs.
    #[track_caller]
    pub fn unsupervised(&mut self) {
        self.until(&format!("[ -z \"$({SUPERVISOR})\" ]"));
    }

    /// Types a line at a guest's console.
    #[track_caller]
    pub fn type_to(&mut self, domain: &str, line: &str) {
        self.must(&format!(
            "printf '%s\\n' '{line}' >$(xenstore-read /local/domain/$(xl domid {domain})/console/tty)"
        ));
    }

    /// Has the Linux guest `g` run a command, and tells what it printed.
    #[track_caller]
    pub fn guest(&mut self, command: &str) -> String {
        self.commands += 1;
        let (number, log) = (self.commands, "/var/log/xen/console/guest-g.log");
        self.type_to(
            "g",
            &format!("echo begin-{number}; {command}; echo end-{number}"),
        );
        self.until(&format!("grep -q ^end-{number} {log}"));
        let text = self.must(&format!("sed -n /^begin-{number}/,/^end-{number}/p {log}"));
        let lines = text.lines().skip(1);
        let lines: Vec<_> = lines.take_while(|line| !line.starts_with("end-")).collect();
        lines.join("\n").trim().to_owned()
    }

    /// Waits until a device of domain `g` and its back end are connected.
    #[track_caller]
    pub fn connected(&mut self, device: &str) {
        let domid = self.says("xl domid g");
        self.until(&format!(
            "[ x$(xenstore-read /local/domain/{domid}/device/{device}/state) = x4 ]"
        ));
    }

    /// What there is of domains.
    pub fn state(&mut self) -> String {
        self.run("sh /share/state >/share/now 2>&1");
        let now = self.rig.shell.read("now").expect("what dom0 wrote");
        String::from_utf8_lossy(&now).into_owned()
    }

    /// What there is, when all that goes has gone, is what there was `before`.
    #[track_caller]
    pub fn settled(&mut self, before: &str, when: &str) {
        let same = "sh /share/state >/tmp/state 2>&1; cmp -s /tmp/state /share/before";
        self.write("before", before);
        let wait = format!("timeout 100 sh -c 'until {same}; do usleep 200000; done'");
        if self.run(&wait).status != 0 {
            let now = self.state();
            panic!("{when}:\n{}", difference(["before", "now"], before, &now));
        }
    }
}
