//! Domains on a real Xen that our own toolstack makes, beside Xen's tools: what one makes, the other
//! sees, and nothing is left of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{Output, RigSpec, RigX, dom0};

/// For anything in dom0, under emulation and with the host busy.
const DOM0: Duration = Duration::from_secs(300);

/// The guest: reads its disk, and powers off when it is asked to.
const SCRIPT: &str = "\
until [ -b /dev/xvda ]; do sleep 0.1; done
echo \"guest: disk $(head -c 5 /dev/xvda)\"
echo \"guest: card $(cat /sys/class/net/eth0/address)\"
echo \"guest: cpus $(cat /sys/devices/system/cpu/online)\"
echo \"guest: type $(cat /sys/hypervisor/guest_type)\"
echo 'guest: up'
while :; do sleep 1; done
";

/// What our toolstack is driven by.
fn program() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "-p", "xt-xen", "--example", "domain"])
        .status()
        .expect("cargo starts");
    assert!(built.success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = target.unwrap_or_else(|| top.join("target"));
    target.join("debug/examples/domain")
}

struct Dom0(RigX);

impl Dom0 {
    fn boot() -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        dom0::guest_initramfs(&cache, &kernel, SCRIPT)
            .and_then(|fs| fs.write(&initrd))
            .expect("initial file system");
        let spec = RigSpec::default()
            .program(program(), "/usr/bin/domain")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(&initrd, "/guest/initrd");
        let mut dom0 = Self(RigX::boot(&spec).expect("rig X"));
        dom0::put_scripts(&mut dom0.0.shell).expect("scripts");
        dom0.must(
            "mkdir /disks; echo hello >/disks/a.img; \
             dd if=/dev/zero bs=1M count=1 >>/disks/a.img 2>/dev/null; \
             losetup /dev/loop0 /disks/a.img",
        );
        dom0
    }

    fn run(&mut self, command: &str) -> Output {
        self.0.run(command, DOM0).expect("dom0 answers")
    }

    /// A command that must succeed; what it says.
    #[track_caller]
    fn must(&mut self, command: &str) -> String {
        let output = self.run(command);
        if output.status == 0 {
            return output.text;
        }
        let more = self.run("xl dmesg | tail -n 30; cat /var/log/xen/console/*; xenstore-ls -f");
        panic!("{command}: {}\n-- dom0 --\n{}", output.text, more.text);
    }

    /// What must be the same before a domain comes and after it has gone.
    fn state(&mut self) -> String {
        // The kernel takes its end of a card away when it has heard of the nodes' end.
        self.must("timeout 100 sh -c 'while ls /sys/class/net | grep -q ^vif; do sleep 0.1; done'");
        self.must("xl info | grep -E 'free_memory|outstanding'; xenstore-ls -fp; ls /var/lib/xen; losetup -a; ls /sys/class/net")
    }

    fn create(&mut self, kind: &str) -> String {
        let config = format!(
            "name = \"g{kind}\"\ntype = \"{kind}\"\nkernel = \"/guest/vmlinuz\"\n\
             ramdisk = \"/guest/initrd\"\nextra = \"console=hvc0 quiet\"\nmemory = 128\n\
             maxmem = 160\nvcpus = 2\n\
             disk = [\"format=raw,vdev=xvda,access=rw,backendtype=phy,script=block-plain,target=/dev/loop0\"]\n\
             vif = [\"mac=00:16:3e:00:00:01,script=vif-plain\"]\n"
        );
        let written = self.0.shell.write("config", config.as_bytes(), 0o644);
        written.expect("config");
        let log = format!("/var/log/xen/console/guest-g{kind}.log");
        self.must(&format!("rm -f {log}"));
        let domid = self.must("domain create /share/config").trim().to_owned();
        let up = format!(
            "timeout 280 sh -c 'until grep -q \"guest: up\" {log}; do sleep 0.2; done'; cat {log}"
        );
        let console = self.must(&up).replace('\r', "");
        let wanted = [
            "guest: disk hello",
            "guest: card 00:16:3e:00:00:01",
            "guest: cpus 0-1",
            if kind == "pv" {
                "guest: type PV"
            } else {
                "guest: type PVH"
            },
        ];
        for line in wanted {
            assert!(console.contains(line), "no {line:?} in {console}");
        }
        domid
    }
}

#[test]
fn domains_of_both_types_come_and_go() {
    let mut dom0 = Dom0::boot();
    // The first domain of all makes directories that stay.
    dom0.create("pv");
    dom0.must("xl destroy gpv");
    let before = dom0.state();
    println!("{before}");
    for kind in ["pv", "pvh"] {
        let domid = dom0.create(kind);

        let listed = dom0.must(&format!("xl list -l g{kind}"));
        for part in [
            format!("\"type\": \"{kind}\""),
            "\"max_memkb\": 163840".into(),
            "\"target_memkb\": 131072".into(),
            "\"pdev_path\": \"/dev/loop0\"".into(),
            "\"mac\": \"00:16:3e:00:00:01\"".into(),
        ] {
            assert!(listed.contains(&part), "no {part} in {listed}");
        }
        println!("{}", dom0.must("xl list -v; xl vcpu-list; xl uptime"));
        let ours = dom0.must(&format!("domain info {domid}"));
        assert!(ours.contains(&format!("name: \"g{kind}\"")), "{ours}");

        dom0.must(&format!("domain destroy {domid}"));
        assert_eq!(dom0.state(), before, "after {kind}");
    }
    commands_are_killed(&mut dom0, &before);
}

/// At whatever moment: the next command ends what is left, here one that finds no such domain.
fn commands_are_killed(dom0: &mut Dom0, before: &str) {
    for ms in [50, 400, 1200, 2500, 5000] {
        dom0.run(&format!(
            "domain create /share/config & p=$!; usleep {ms}000; kill -9 $p; wait $p"
        ));
        // One that was complete by then is no half domain.
        dom0.run("domid=$(xl domid gpvh) && domain destroy $domid");
        let cleaned = dom0.run("domain destroy 32000");
        assert!(
            cleaned.text.contains("no domain \"32000\""),
            "{}",
            cleaned.text
        );
        assert_eq!(dom0.state(), before, "killed after {ms} ms");
    }
}
