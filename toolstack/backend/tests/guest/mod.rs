//! A PV guest under `xl` that does what it is told by its console.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xenner_rigs::packages::{self, Cache, Kernel};
use xenner_rigs::{Domain, Output, RigSpec, RigX, dom0};

/// For what a guest is told to do.
const GUEST: Duration = Duration::from_secs(600);

/// Dom0 with `xt-backend` and what guests are made of.
pub struct Rig(RigX);

/// Runs each line of the console, and says how it ended.
const SCRIPT: &str = "\
stty -echo
echo 'guest: mark 0 0'
while read -r line; do eval \"$line\" </dev/null; done
";

impl Rig {
    /// Boots Xen and puts everything in dom0.
    pub fn boot() -> Self {
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        let initrd = dir.path().join("initrd");
        let mut fs = dom0::guest_initramfs(&cache, &kernel, SCRIPT).expect("initial file system");
        fs.write(&initrd).expect("initial file system");
        // With the program, and what it needs of the kernel.
        let storage = dir.path().join("storage");
        fs.modules(&kernel, &["xen-gntdev", "xen-evtchn"])
            .expect("modules");
        fs.program(
            Path::new(env!("CARGO_BIN_EXE_xt-backend")),
            "/usr/bin/xt-backend",
            &[],
        )
        .expect("xt-backend");
        fs.write(&storage).expect("initial file system");
        let spec = RigSpec::default()
            .program(env!("CARGO_BIN_EXE_xt-backend"), "/usr/bin/xt-backend")
            .file(&kernel.image, "/guest/vmlinuz")
            .file(&initrd, "/guest/initrd")
            .file(&storage, "/guest/storage")
            .file(image(dir.path()), "/guest/image.qcow2")
            .file(dir.path().join("base.raw"), "/guest/base.raw");
        let mut rig = Self(RigX::boot(&spec).expect("rig X"));
        dom0::put_scripts(&mut rig.0.shell).expect("scripts");
        rig.must("mkdir -p /disks", GUEST);
        rig
    }

    /// Runs a command in dom0.
    pub fn run(&mut self, command: &str, deadline: Duration) -> Output {
        self.0.run(command, deadline).expect("dom0 answers")
    }

    /// One that must succeed; what it says.
    #[track_caller]
    pub fn must(&mut self, command: &str, deadline: Duration) -> String {
        let output = self.run(command, deadline);
        assert_eq!(output.status, 0, "{command}: {}", output.text);
        output.text
    }

    /// Creates a guest with further lines of configuration, and waits for it to be up.
    #[track_caller]
    pub fn create(&mut self, name: &str, extra: &str) -> Guest<'_> {
        self.create_from(name, "/guest/initrd", extra)
    }

    /// The same with another initial file system.
    #[track_caller]
    pub fn create_from(&mut self, name: &str, initrd: &str, extra: &str) -> Guest<'_> {
        let mut domain = Domain::pv(name, "/guest/vmlinuz", initrd, "console=hvc0 quiet");
        domain.extra = extra.into();
        self.0
            .shell
            .write("config", domain.to_config().as_bytes(), 0o644)
            .expect("config");
        let created = self.run(
            &format!(
                "xl create /share/config || {{ cat /var/log/xen/qemu-dm-{name}.log; false; }}"
            ),
            GUEST,
        );
        assert_eq!(created.status, 0, "{}", created.text);
        let domid = self.must(&format!("xl domid {name}"), GUEST);
        let mut guest = Guest {
            domid: domid.trim().into(),
            name: name.into(),
            marks: 0,
            rig: self,
        };
        guest.finish();
        guest
    }
}

/// A qcow2 image of 8 MiB over a raw file beside it.
fn image(dir: &Path) -> PathBuf {
    packages::install(&["qemu-utils"]).expect("qemu-img");
    let lines = (0..200_000).map(|n| format!("line {n}\n"));
    let mut base = lines.collect::<String>().into_bytes();
    base.resize(8 << 20, 0);
    std::fs::write(dir.join("base.raw"), base).expect("a backing file");
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-u", "-F", "raw"])
        .args(["-b", "/guest/base.raw", "image.qcow2", "8M"])
        .current_dir(dir)
        .status();
    assert!(status.expect("qemu-img").success());
    dir.join("image.qcow2")
}

impl Rig {
    /// A guest that was left to itself.
    pub fn again(&mut self, left: Left) -> Guest<'_> {
        let Left { domid, name, marks } = left;
        Guest {
            rig: self,
            domid,
            name,
            marks,
        }
    }
}

/// A guest that runs on while others are talked to.
pub struct Left {
    domid: String,
    name: String,
    marks: u32,
}

/// A running guest.
pub struct Guest<'a> {
    rig: &'a mut Rig,
    pub domid: String,
    name: String,
    /// Commands given so far.
    marks: u32,
}

impl Guest<'_> {
    /// Runs a command in dom0 that must succeed.
    #[track_caller]
    pub fn dom0(&mut self, command: &str) -> String {
        self.rig.must(command, GUEST)
    }

    /// Has the guest run a command that must succeed; what it says.
    #[track_caller]
    pub fn must(&mut self, command: &str) -> String {
        self.start(command);
        self.finish()
    }

    /// Has the guest begin a command.
    #[track_caller]
    pub fn start(&mut self, command: &str) {
        self.marks += 1;
        let line = format!("( {command} ); echo \"guest: mark {} $?\"\n", self.marks);
        self.rig
            .0
            .shell
            .write("line", line.as_bytes(), 0o644)
            .expect("line");
        let tty = format!("xenstore-read /local/domain/{}/console/tty", self.domid);
        self.dom0(&format!("cat /share/line >$({tty})"));
    }

    /// Whether what it was told last has ended.
    #[track_caller]
    pub fn is_done(&mut self) -> bool {
        let log = format!("/var/log/xen/console/guest-{}.log", self.name);
        let look = format!("grep -q 'guest: mark {} [0-9]' {log}", self.marks);
        self.rig.run(&look, GUEST).status == 0
    }

    /// Waits for it to end well; what it said.
    #[track_caller]
    pub fn finish(&mut self) -> String {
        let log = format!("/var/log/xen/console/guest-{}.log", self.name);
        let mark = self.marks;
        let wait = format!(
            "timeout {} sh -c 'until grep -q \"guest: mark {mark} [0-9]\" {log}; do sleep 0.1; done'; cat {log}",
            GUEST.as_secs() - 30,
        );
        let text = self.rig.must(&wait, GUEST).replace('\r', "");
        let begin = format!("guest: mark {} ", mark.saturating_sub(1));
        let said = match text.split_once(&begin) {
            Some((_, said)) if mark > 0 => said.split_once('\n').map_or("", |(_, said)| said),
            _ => text.as_str(),
        };
        let Some((said, status)) = said.split_once(&format!("guest: mark {mark} ")) else {
            let more = self.rig.run(
                &format!("tail -n 40 /var/log/xen/qemu-dm-{}.log; xenstore-ls /local/domain/0/backend; xenstore-ls /local/domain/{}/device; xt-backend stats", self.name, self.domid),
                GUEST,
            );
            panic!(
                "The guest has not done what it was told: {text}\n-- dom0 --\n{}",
                more.text
            );
        };
        assert!(
            status.starts_with('0'),
            "it went wrong in the guest: {said}{status}"
        );
        said.to_owned()
    }

    /// Leaves it to itself for a while.
    pub fn leave(self) -> Left {
        let Self {
            domid, name, marks, ..
        } = self;
        Left { domid, name, marks }
    }

    /// Ends it.
    #[track_caller]
    pub fn destroy(mut self) {
        let name = self.name.clone();
        self.dom0(&format!("xl destroy {name}"));
    }
}
