//! The same life on a KVM with hardware semantics: rig K.

use std::time::Duration;

use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{RigK, RigSpec, live, xenner};

use crate::host::OBEY;

/// For anything there, under emulation and with this host busy.
const LIMIT: Duration = Duration::from_secs(300);

/// A command in the guest, by its console: what it prints, and its status. Consoles of guests are
/// read into `/con` and written from `/in`.
const GUEST: &str = "#!/bin/sh
before=$(wc -c </con)
said() { tail -c +$((before + 1)) /con | tr -d '\\r'; }
echo \"{ $2; }; echo end-$1:\\$?\" >/in
until said | grep -q \"end-$1:\"; do usleep 50000; done
said | sed \"s/end-$1:.*//\"
said | grep -q \"end-$1:0\"
";

/// Its configuration.
const CONFIG: &str = "name = 'guest'
kernel = '/guest/vmlinuz'
ramdisk = '/guest/initrd'
extra = 'console=hvc0 quiet panic=-1'
memory = 192
maxmem = 256
vcpus = 2
on_crash = 'preserve'
";

struct Rig {
    rig: RigK,
    commands: u32,
}

impl Rig {
    fn boot() -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        live::initramfs(&cache, &kernel, &["xen_blkfront", "xen_netfront"])
            .and_then(|fs| fs.write(&initrd))
            .expect("initial file system");
        let spec = RigSpec::default()
            .program(xenner::build_xt().expect("xt"), "/usr/bin/xt")
            .program(xenner::build().expect("xenner"), "/usr/bin/xenner")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(&initrd, "/guest/initrd")
            .module("bridge");
        let rig = RigK::boot(&spec).expect("rig K");
        let mut rig = Self { rig, commands: 0 };
        for (name, text) in [("guest", GUEST), ("guest.cfg", CONFIG)] {
            let written = rig.rig.shell.write(name, text.as_bytes(), 0o755);
            written.expect("a file");
        }
        rig.must(
            "mkdir -p /run; mkfifo /in; sleep 1000000 >/in & \
             ip link add xenbr0 type bridge && ip link set xenbr0 up; \
             dd if=/dev/zero of=/disk.img bs=1M count=4 2>/dev/null",
        );
        rig
    }

    /// A command that must succeed; what it says.
    #[track_caller]
    fn must(&mut self, command: &str) -> String {
        let output = self.rig.run(command, LIMIT).expect("the rig answers");
        if output.status == 0 {
            return output.text;
        }
        let more = self.rig.run("tail -n 20 /con; dmesg | tail -n 20", LIMIT);
        panic!("{command}: {}\n{more:?}", output.text);
    }

    /// Waits for what nothing but asking again tells.
    #[track_caller]
    fn until(&mut self, condition: &str) {
        self.must(&format!("until {condition}; do usleep 100000; done"));
    }

    /// A command in the guest that must succeed; what it prints.
    #[track_caller]
    fn guest(&mut self, command: &str) -> String {
        self.commands += 1;
        let number = self.commands;
        let text = self.must(&format!("/share/guest {number} '{command}'"));
        text.trim().to_owned()
    }

    #[track_caller]
    fn listed(&mut self, wanted: &str) {
        self.until(&format!("xt list | grep -q '{wanted}'"));
    }

    fn create(&mut self) {
        self.must(
            "xt create -q /share/guest.cfg && { : >/con; xt console guest </in >>/con 2>&1 & }",
        );
        self.ready();
    }

    /// A guest that has started, and obeys `poweroff` and `reboot`.
    fn ready(&mut self) {
        self.until(&format!("grep -q {} /con", live::READY));
        let obey = OBEY.replace('\'', "\"");
        self.guest(&obey);
    }
}

#[test]
fn a_domain_lives_its_life_on_hardware() {
    let mut rig = Rig::boot();
    rig.create();
    assert_eq!(rig.guest("echo $((6 * 7))"), "42");

    rig.must("xt pause guest");
    rig.listed("guest .* --p---");
    rig.must("xt unpause guest && xt mem-set guest 128");
    rig.listed("guest *[0-9]*  *128 ");
    rig.must("xt mem-set guest 192 && xt vcpu-set guest 1");
    rig.guest("until [ $(cat /sys/devices/system/cpu/online) = 0 ]; do usleep 20000; done");
    rig.must("xt vcpu-set guest 2");
    rig.guest("until echo 1 >/sys/devices/system/cpu/cpu1/online; do usleep 20000; done");

    rig.must("xt block-attach guest /disk.img,raw,xvdb,rw");
    rig.guest("until [ -b /dev/xvdb ]; do usleep 20000; done");
    rig.guest("echo written | dd of=/dev/xvdb conv=fsync 2>/dev/null");
    rig.must("xt block-detach guest xvdb");
    rig.guest("until [ ! -b /dev/xvdb ]; do usleep 20000; done");
    assert_eq!(rig.must("head -n 1 /disk.img").trim(), "written");

    rig.must("xt network-attach guest mac=00:16:3e:01:02:03,bridge=xenbr0");
    rig.guest("until [ -d /sys/class/net/eth0 ]; do usleep 20000; done");
    let address = rig.guest("cat /sys/class/net/eth0/address");
    assert_eq!(address, "00:16:3e:01:02:03");
    rig.must("xt network-detach guest 0");
    rig.guest("until [ ! -d /sys/class/net/eth0 ]; do usleep 20000; done");

    // From outside, from inside; the same domain again.
    rig.must(": >/con; xt reboot guest");
    rig.ready();
    rig.must(": >/con; echo 'reboot -f' >/in");
    rig.ready();
    // Kept when it crashes.
    rig.must("echo 'echo c >/proc/sysrq-trigger' >/in");
    rig.listed("guest .* ---sc-");
    rig.must("xt destroy guest");
    rig.create();
    rig.must("xt shutdown -w guest");
    let left = rig.must(
        "xt list | tail -n +2; ls /run/xenner; ls /sys/class/net | grep -v -e lo -e xenbr0; \
         pidof xenner; true",
    );
    assert_eq!(left.trim(), "");
}
