//! Rig X: real Xen on an emulated machine, with a dom0 of busybox and Xen's own
//! tools: the reference the rest is compared with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::initramfs::Initramfs;
use crate::packages::{Cache, Kernel, Package, run};
use crate::qemu::shell_quote;
use crate::rig::{Output, Prepared, RigSpec, Shell, base_initramfs, init_script};

/// Every flag matters: with SMAP dom0 crashes at its first callback (QEMU 7.2),
/// with MONITOR Xen's idle loop faults when instructions are counted, with
/// RDTSCP PVH and HVM guests die (QEMU's SVM gives no next RIP there), and with
/// XSAVE, which QEMU 7.2 executes without regard to CR0.TS, vCPUs that take
/// turns on a CPU get each other's vector registers.
const CPU: &str = "EPYC,+svm,+npt,-smap,-monitor,-rdtscp,-xsave";

/// The release Debian 12 ships; its tools and its hypervisor go together.
const XEN: &str = "4.17";

const DOM0_MODULES: [&str; 14] = [
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xenfs",
    "xen-blkback",
    "xen-netback",
    "xen-pciback",
    "loop",
    "bridge",
    "tun",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
];

/// A running rig X.
#[derive(Debug)]
pub struct RigX {
    /// Dom0's shell.
    pub shell: Shell,
}

/// A domain to create with `xl`.
#[derive(Debug, Clone)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// The kernel image's path in dom0; empty: none.
    pub kernel: String,
    /// The initial file system's path in dom0.
    pub ramdisk: Option<String>,
    /// The kernel's command line.
    pub command_line: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Further lines of the configuration.
    pub extra: String,
}

impl Domain {
    /// A PV domain with 256 MiB and one vCPU.
    pub fn pv(name: &str, kernel: &str, ramdisk: &str, command_line: &str) -> Self {
        Self {
            name: name.into(),
            kernel: kernel.into(),
            ramdisk: Some(ramdisk.into()),
            command_line: command_line.into(),
            memory_mib: 256,
            vcpus: 1,
            extra: String::new(),
        }
    }

    /// The configuration in `xl.cfg`'s form. Whatever ends the domain destroys
    /// it, so that its end can be waited for.
    pub fn to_config(&self) -> String {
        let ramdisk = self.ramdisk.as_ref().map(|r| format!("ramdisk = {r:?}\n"));
        let kernel = match self.kernel.as_str() {
            "" => String::new(),
            path => format!("kernel = {path:?}\nextra = {:?}\n", self.command_line),
        };
        format!(
            "name = {:?}\n{kernel}{}memory = {}\nvcpus = {}\n\
             on_poweroff = \"destroy\"\non_reboot = \"destroy\"\non_crash = \"destroy\"\n{}\n",
            self.name,
            ramdisk.unwrap_or_default(),
            self.memory_mib,
            self.vcpus,
            self.extra
        )
    }
}

/// How a domain ended: the reason code of `SCHEDOP_shutdown` (`sched.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `SHUTDOWN_poweroff` 0, `SHUTDOWN_reboot` 1, `SHUTDOWN_crash` 3; `None`
    /// when `xl` could not start it.
    pub reason: Option<u32>,
    /// All the domain wrote to its console.
    pub console: String,
    /// What `xl` said.
    pub xl: String,
}

impl RigX {
    /// Boots Xen and its dom0 with Xen's tools ready.
    pub fn boot(spec: &RigSpec) -> Result<Self> {
        let shell = Shell::boot(prepare(spec, "")?)?;
        Ok(Self { shell })
    }

    /// Runs a shell command in dom0.
    pub fn run(&mut self, command: &str, deadline: Duration) -> Result<Output> {
        self.shell.run(command, deadline)
    }

    /// Creates a domain with `xl` and waits for its end. A domain that outlives
    /// `deadline` is destroyed and has no reason.
    pub fn run_domain(&mut self, domain: &Domain, deadline: Duration) -> Result<Ended> {
        let Domain { name, .. } = domain;
        let quoted = shell_quote(name);
        let config = domain.to_config();
        let script = format!(
            "rm -f /var/log/xen/console/guest-{name}.log\n\
             printf %s {} >/run/{name}.cfg\n\
             timeout {} xl create -F /run/{name}.cfg; s=$?\n\
             [ $s = 0 ] || xl destroy {quoted}\nexit $s",
            shell_quote(&config),
            deadline.as_secs(),
        );
        let xl = self.run(&script, deadline + Duration::from_secs(60))?;
        let log = format!("cat /var/log/xen/console/guest-{name}.log");
        let console = self.run(&log, Duration::from_secs(60))?;
        Ok(Ended {
            reason: (xl.status == 0)
                .then(|| shutdown_reason(&xl.text))
                .flatten(),
            console: console.text,
            xl: xl.text,
        })
    }
}

/// From `xl`'s "Domain 1 has shut down, reason code 3 0x3".
fn shutdown_reason(xl: &str) -> Option<u32> {
    let (_, rest) = xl.split_once("has shut down, reason code ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Makes all files and the command line; `words` go to dom0's command line.
pub fn prepare(spec: &RigSpec, words: &str) -> Result<Prepared> {
    let cache = Cache::open()?;
    let kernel = cache.kernel(Kernel::STANDARD)?;
    let mut prepared = Prepared::new(spec, CPU)?;

    let hypervisor = cache.package(&format!("xen-hypervisor-{XEN}-amd64"))?;
    let xen = prepared.path("xen");
    unpack_gzip(&hypervisor.path(&format!("boot/xen-{XEN}-amd64.gz")), &xen)?;

    let mut fs = base_initramfs(&cache)?;
    let mut packages = tool_packages(&cache)?;
    xen_tools(&mut fs, &packages)?;
    if spec.device_model {
        let own = cache.packages(&DEVICE_MODEL)?;
        packages.extend(own);
        device_model(&mut fs, &packages)?;
    }
    fs.modules(&kernel, &[&DOM0_MODULES, spec.modules.as_slice()].concat())?;
    fs.file("/init", 0o755, init_script("hvc0", DOM0_INIT));
    spec.fill(&mut fs, &packages)?;
    let initrd = prepared.path("initramfs");
    fs.write(&initrd)?;

    let dom0 = format!("console=hvc0 quiet {words}");
    prepared.qemu.kernel = xen;
    prepared.qemu.append = format!(
        "console=com1 com1=115200,8n1 dom0_mem=1024M spec-ctrl=no guest_loglvl=all {}",
        spec.hypervisor
    );
    prepared.qemu.initrd = format!(
        "{} {},{}",
        kernel.image.display(),
        dom0.trim_end(),
        initrd.display()
    );
    Ok(prepared)
}

const DOM0_INIT: &str = r"
mount -t xenfs xenfs /proc/xen
mkdir -p /var/lock /var/lib/xen /var/log/xen/console /run/xen /run/xenstored /run/lock
ln -s /run /var/run
xenstored --pid-file /run/xenstored.pid
xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid
";

/// Xen's tools, and those of their libraries that are not on every machine.
fn tool_packages(cache: &Cache) -> Result<Vec<Package>> {
    let own = format!("xen-utils-{XEN}");
    let misc = format!("libxenmisc{XEN}");
    cache.packages(&[
        &own,
        &misc,
        "xen-utils-common",
        "xenstore-utils",
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxenhypfs1",
        "libxenstore4",
        "libxentoolcore1",
        "libxentoollog1",
        "libyajl2",
        "libnl-3-200",
        "libnl-route-3-200",
        "libfdt1",
        "libuuid1",
        "libncurses6",
        "libtinfo6",
        "libgcc-s1",
        "zlib1g",
        "strace",
        "libunwind8",
        "liblzma5",
    ])
}

fn xen_tools(fs: &mut Initramfs, packages: &[Package]) -> Result<()> {
    let dir = format!("usr/lib/xen-{XEN}/bin");
    let programs = [
        "xl",
        "xenstored",
        "xenconsoled",
        "xenconsole",
        "xen-init-dom0",
        "libxl-save-helper",
        "xenctx",
        "xentrace",
        "lsevtchn",
        "xen-diag",
        "xentop",
    ];
    for program in programs {
        let path = format!("{dir}/{program}");
        fs.program(&find(packages, &path)?, &format!("/{path}"), packages)?;
        fs.symlink(&format!("/usr/sbin/{program}"), &format!("/{path}"));
    }
    for program in [
        "ls", "read", "write", "rm", "list", "watch", "exists", "chmod",
    ] {
        let path = format!("usr/bin/xenstore-{program}");
        fs.program(&find(packages, &path)?, &format!("/{path}"), packages)?;
    }
    // For tests that kill a program at a system call.
    let strace = find(packages, "usr/bin/strace")?;
    fs.program(&strace, "/usr/bin/strace", packages)?;
    // pthread_cancel loads it at run time: no DT_NEEDED says so.
    let libgcc = find(packages, "lib/x86_64-linux-gnu/libgcc_s.so.1")
        .or_else(|_| find(packages, "usr/lib/x86_64-linux-gnu/libgcc_s.so.1"))?;
    fs.copy(&libgcc, "/lib/x86_64-linux-gnu/libgcc_s.so.1")?;
    fs.copy_tree(&find_dir(packages, "etc/xen/scripts")?, "/etc/xen/scripts")?;
    fs.file("/etc/xen/xl.conf", 0o644, "");
    fs.dir("/var/lib/xen");
    Ok(())
}

/// What QEMU for HVM domains consists of, and the firmware files it reads.
const DEVICE_MODEL: [&str; 5] = [
    "qemu-system-xen",
    "qemu-system-data",
    "seabios",
    "ovmf",
    "ipxe-qemu",
];

fn device_model(fs: &mut Initramfs, packages: &[Package]) -> Result<()> {
    let qemu = "usr/libexec/xen-qemu-system-i386";
    fs.program(&find(packages, qemu)?, &format!("/{qemu}"), packages)?;
    let hvmloader = format!("usr/lib/xen-{XEN}/boot/hvmloader");
    fs.copy(&find(packages, &hvmloader)?, &format!("/{hvmloader}"))?;
    for file in [
        "share/seabios/bios-256k.bin",
        "share/seabios/vgabios-stdvga.bin",
        "share/seabios/vgabios-cirrus.bin",
        "share/qemu/keymaps/en-us",
        "share/qemu/linuxboot.bin",
        "share/qemu/linuxboot_dma.bin",
        "share/qemu/kvmvapic.bin",
        "lib/ipxe/qemu/efi-e1000.rom",
        "lib/ipxe/qemu/efi-rtl8139.rom",
        "share/ovmf/OVMF.fd",
    ] {
        let path = format!("usr/{file}");
        fs.copy(&find(packages, &path)?, &format!("/{path}"))?;
    }
    Ok(())
}

fn find(packages: &[Package], path: &str) -> Result<std::path::PathBuf> {
    find_dir(packages, path)
}

fn find_dir(packages: &[Package], path: &str) -> Result<std::path::PathBuf> {
    packages
        .iter()
        .map(|package| package.path(path))
        .find(|candidate| candidate.exists())
        .ok_or_else(|| Error::Malformed {
            path: Path::new("/").join(path),
            reason: "none of Xen's packages has it".into(),
        })
}

/// QEMU's multiboot loader takes no compressed image.
fn unpack_gzip(from: &Path, to: &Path) -> Result<()> {
    let data = run(std::process::Command::new("gzip").arg("-dc").arg(from))?;
    fs::write(to, data).map_err(Error::io("write", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shutdown_reason_is_read() {
        let said = "Parsing config\nWaiting for domain g (domid 1) to die [pid 9]\n\
                    Domain 1 has shut down, reason code 3 0x3\nAction for shutdown reason code 3 is destroy\n";
        assert_eq!(shutdown_reason(said), Some(3));
        assert_eq!(shutdown_reason("error: no such file"), None);
    }

    #[test]
    fn configurations_are_quoted() {
        let config = Domain::pv("g", "/k", "/r", r#"a="b""#).to_config();
        assert!(config.contains(r#"extra = "a=\"b\"""#), "{config}");
    }
}
