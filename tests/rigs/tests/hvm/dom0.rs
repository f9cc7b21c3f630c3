//! Rig X with a device model, this project's firmware and toolstack, and a guest's files.

use std::time::Duration;

use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::rig_x::Domain;
use xenner_rigs::{Output, RigSpec, RigX, guest, xenner};

/// Two emulations, one in the other, on a host that may be busy.
pub const LIMIT: Duration = Duration::from_secs(1800);

/// The guest goes as far as user space. What else its checks would do there has nothing to do with how it
/// got there, and QEMU dies of some of it (docs/differences.md, watchpoints).
pub const ENDS: &str = "console=hvc0 panic=-1 xenner.test=poweroff";

pub struct Dom0 {
    pub rig: RigX,
}

impl Dom0 {
    /// Boots it. `/share` has `vmlinuz`, `initrd` and `hvmloader`; `xt` is where it belongs.
    pub fn boot(spec: RigSpec) -> Self {
        let cache = Cache::open().expect("cache");
        let spec = spec
            .with_device_model()
            .program(xenner::build_xt().expect("xt"), "/usr/bin/xt");
        let rig = RigX::boot(&spec).expect("rig X");
        let kernel = cache.kernel(Kernel::STANDARD).expect("kernel");
        rig.shell.put(&kernel.image, "vmlinuz").expect("put");
        let initrd = rig.shell.share().join("initrd");
        guest::initramfs()
            .and_then(|fs| fs.write(&initrd))
            .expect("initial file system");
        rig.shell
            .write("hvmloader", hvmloader_image::IMAGE, 0o644)
            .expect("put");
        Self { rig }
    }

    pub fn run(&mut self, command: &str) -> Output {
        self.rig.run(command, LIMIT).expect("dom0 answers")
    }

    /// A command that must succeed; what it says.
    #[track_caller]
    pub fn must(&mut self, command: &str) -> String {
        let output = self.run(command);
        if output.status == 0 {
            return output.text;
        }
        let more = self.run("tail /var/log/xen/qemu-dm-*.log /run/xt/supervise.log; xl list");
        panic!("{command}: {}\n-- dom0 --\n{}", output.text, more.text);
    }

    pub fn configure(&mut self, domain: &Domain) {
        let file = format!("{}.cfg", domain.name);
        self.rig
            .shell
            .write(&file, domain.to_config().as_bytes(), 0o644)
            .expect("a configuration");
    }

    /// Creates a domain with `xt` and waits for its end; all that it wrote to its console.
    #[track_caller]
    pub fn run_with_xt(&mut self, domain: &Domain) -> String {
        self.configure(domain);
        let name = &domain.name;
        let log = format!("/var/log/xen/console/guest-{name}.log");
        self.must(&format!("rm -f {log}; xt create -q -F /share/{name}.cfg"));
        self.must(&format!("cat {log}"))
    }

    /// All that domains leave, should they leave anything.
    pub fn left(&mut self) -> String {
        self.must(
            "xenstore-ls -f | grep -v '^/local/domain/0/control'; ls /var/lib/xen /run/xen; \
             ls /sys/class/net; ps w | grep '[x]en-qemu' || :",
        )
    }
}

/// Whether all processors came up, and user space.
pub fn is_sound(console: &str, vcpus: u32) -> bool {
    let plural = if vcpus == 1 { "" } else { "s" };
    let processors = format!("Brought up 1 node, {vcpus} CPU{plural}");
    let wanted = [processors.as_str(), "init: up", "reboot: Power down"];
    wanted.iter().all(|line| console.contains(line))
}

/// An HVM domain without a display, whose text SeaBIOS and the kernel would have to draw.
pub fn domain(name: &str, vcpus: u32, more: &str) -> Domain {
    let mut domain = Domain::pv(name, "/share/vmlinuz", "/share/initrd", ENDS);
    domain.vcpus = vcpus;
    domain.extra = format!("type = \"hvm\"\nvnc = 0\nvga = \"none\"\n{more}\n");
    domain
}
