//! A Debian system on a disk, built from this machine's own apt sources: its
//! kernel and its initrd are the ones its packages make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::packages::{self, Cache};

/// What is in it beyond what every Debian has.
const CONTENT: &str = "systemd-sysv,udev,dbus,iproute2,iputils-ping,initramfs-tools,zstd,\
                       linux-image-cloud-amd64";

/// A system that boots from a disk to a login prompt; root has no password, and
/// every network card asks for an address by DHCP.
#[derive(Debug, Clone)]
pub struct System {
    /// Its kernel, which also lies on the disk.
    pub kernel: PathBuf,
    /// Its initrd, which also lies on the disk.
    pub initrd: PathBuf,
    /// The disk: an ext4 file system without partitions, 2 GiB, mostly holes. It
    /// is the cache's; work on a [copy](System::copy_disk).
    pub disk: PathBuf,
}

impl System {
    /// The system of this machine's Debian release; built once, in a minute.
    pub fn of_this_release(cache: &Cache) -> Result<Self> {
        packages::install(&["mmdebstrap", "e2fsprogs"])?;
        let suite = suite()?;
        let dir = cache.dir().join("systems").join(&suite);
        let _lock = cache.lock()?;
        if !dir.is_dir() {
            build(&suite, &dir)?;
        }
        Ok(Self {
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd"),
            disk: dir.join("root.ext4"),
        })
    }

    /// A disk to write to; holes stay holes.
    pub fn copy_disk(&self, to: &Path) -> Result<()> {
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]);
        packages::run(copy.arg(&self.disk).arg(to)).map(drop)
    }
}

fn build(suite: &str, dir: &Path) -> Result<()> {
    eprintln!("Building a Debian {suite} system, once");
    let above = dir.parent().unwrap_or(dir);
    fs::create_dir_all(above).map_err(Error::io("create", above))?;
    let staging = tempfile::Builder::new()
        .prefix(".build")
        .tempdir_in(above)
        .map_err(Error::io("create a directory in", above))?;
    let script = staging.path().join("finish.sh");
    fs::write(&script, include_str!("debian/finish.sh")).map_err(Error::io("write", &script))?;
    let out = staging.path().join("out");
    fs::create_dir(&out).map_err(Error::io("create", &out))?;
    let finish = format!("sh {} \"$1\" {}", script.display(), out.display());
    packages::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--format=null", "--variant=minbase"])
            .arg(format!("--include={CONTENT}"))
            .arg(format!("--customize-hook={finish}"))
            .args([suite, "-"])
            .args(sources()),
    )?;
    fs::rename(&out, dir).map_err(Error::io("create", dir))
}

/// The release this machine runs, by name.
fn suite() -> Result<String> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| Error::Malformed {
            path: path.into(),
            reason: "it names no release (VERSION_CODENAME)".into(),
        })
}

/// The files of this machine's apt that say where packages come from.
fn sources() -> Vec<PathBuf> {
    let listed = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let listed = listed.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "list" || extension == "sources")
    };
    let mut all: Vec<_> = listed.filter(named).collect();
    all.push("/etc/apt/sources.list".into());
    all.retain(|path| path.metadata().is_ok_and(|file| file.len() > 0));
    all.sort();
    all
}
