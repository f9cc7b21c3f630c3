//! Debian packages as a source of kernels, of Xen and of tools.
//!
//! Nothing is installed: `apt-get download` fetches a package by the machine's
//! own configuration and `dpkg -x` unpacks it into a cache, one directory per
//! version, where it stays. What is in the cache is used without asking any
//! network; what the archive has replaced meanwhile is used when nothing newer
//! can be had.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// Where unpacked packages are kept.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    offline: bool,
}

/// An unpacked package.
#[derive(Debug, Clone)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// The directory its files are under, as they would be under `/`.
    pub root: PathBuf,
}

impl Package {
    /// The host's path of the package's file `path` (with or without leading `/`).
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// One of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// The series, "6.1" for one; `None` is what the release ships.
    pub series: Option<&'static str>,
    /// The small kernel for cloud instances rather than the one for all machines.
    pub cloud: bool,
}

impl Kernel {
    /// The cloud kernel of this Debian release.
    pub const CLOUD: Self = Self {
        series: None,
        cloud: true,
    };
    /// The kernel for all machines of this Debian release.
    pub const STANDARD: Self = Self {
        series: None,
        cloud: false,
    };
    /// The four kernels the tests know: 6.1 and 6.12, standard and cloud.
    pub const TESTED: [Self; 4] = [
        Self::new("6.1", true),
        Self::new("6.1", false),
        Self::new("6.12", true),
        Self::new("6.12", false),
    ];

    /// A kernel of the named series.
    pub const fn new(series: &'static str, cloud: bool) -> Self {
        Self {
            series: Some(series),
            cloud,
        }
    }

    fn suffix(self) -> &'static str {
        if self.cloud { "-cloud-amd64" } else { "-amd64" }
    }

    /// The metapackages that may depend on this kernel, likelier first.
    fn metapackages(self) -> Vec<String> {
        let suffix = self.suffix();
        let series = self.series.map(|s| format!("linux-image-{s}{suffix}"));
        let release = format!("linux-image{suffix}");
        series.into_iter().chain([release]).collect()
    }

    fn matches(self, package: &str) -> bool {
        let Some(abi) = package.strip_prefix("linux-image-") else {
            return false;
        };
        let in_series = self.series.is_none_or(|series| {
            abi.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(['.', '-', '+']))
        });
        in_series
            && abi.ends_with(self.suffix())
            && abi.ends_with("-cloud-amd64") == self.cloud
            && abi.starts_with(|c: char| c.is_ascii_digit())
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let series = self.series.unwrap_or("release");
        write!(
            f,
            "{series}-{}",
            if self.cloud { "cloud" } else { "standard" }
        )
    }
}

/// A kernel's files.
#[derive(Debug, Clone)]
pub struct KernelFiles {
    /// The version with its ABI name, "6.1.0-56-cloud-amd64" for one.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The directory with `kernel/` and `modules.builtin`.
    pub modules: PathBuf,
}

impl Cache {
    /// Opens the cache: `$XENNER_CACHE`, else `xenner` under the XDG cache
    /// directory. With `XENNER_OFFLINE=1` set no network is asked.
    pub fn open() -> Result<Self> {
        let dir = cache_dir().ok_or_else(|| Error::Package {
            name: "cache".into(),
            reason: "none of XENNER_CACHE, XDG_CACHE_HOME and HOME is set; set one".into(),
        })?;
        fs::create_dir_all(dir.join("packages")).map_err(Error::io("create", &dir))?;
        let offline = std::env::var_os("XENNER_OFFLINE").is_some_and(|v| v == "1");
        Ok(Self { dir, offline })
    }

    /// The cache's directory, for other things worth keeping.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A kernel, fetched if it is not there.
    pub fn kernel(&self, kernel: Kernel) -> Result<KernelFiles> {
        let name = self.kernel_package(kernel)?;
        let package = self.package(&name)?;
        let release = name.trim_start_matches("linux-image-").to_owned();
        let image = package.path(&format!("boot/vmlinuz-{release}"));
        let mut modules = package.path(&format!("lib/modules/{release}"));
        if !modules.is_dir() {
            modules = package.path(&format!("usr/lib/modules/{release}"));
        }
        if !image.is_file() {
            return Err(Error::Malformed {
                path: image,
                reason: format!("not in package {name}"),
            });
        }
        Ok(KernelFiles {
            release,
            image,
            modules,
        })
    }

    /// The newest ABI name of a kernel: through its metapackage, because the
    /// archive drops the older ones.
    fn kernel_package(&self, kernel: Kernel) -> Result<String> {
        let from_archive = || {
            kernel
                .metapackages()
                .iter()
                .flat_map(|meta| apt_depends(meta))
                .find(|name| kernel.matches(name))
        };
        if let Some(name) = from_archive() {
            return Ok(name);
        }
        if !self.offline
            && update_lists()
            && let Some(name) = from_archive()
        {
            return Ok(name);
        }
        self.cached(|name| kernel.matches(name))
            .map(|package| package.name)
            .ok_or_else(|| Error::Package {
                name: kernel.metapackages().remove(0),
                reason: format!(
                    "neither this machine's apt nor the cache {} has a {kernel} kernel. \
                     Run `apt-get update` with a network, or name the kernel yourself",
                    self.dir.display()
                ),
            })
    }

    /// A package by its exact name, fetched if its newest version is not there.
    pub fn package(&self, name: &str) -> Result<Package> {
        self.package_of(name, apt_version(name))
    }

    /// The same, where apt has been asked for its version.
    fn package_of(&self, name: &str, mut version: Option<String>) -> Result<Package> {
        let _lock = self.lock()?;
        if version.is_none() && !self.offline && update_lists() {
            version = apt_version(name);
        }
        let mut reason = "this machine's apt does not know it. Run `apt-get update`".to_owned();
        if let Some(version) = &version {
            if let Some(package) = self.unpacked(name, version) {
                return Ok(package);
            }
            if self.offline {
                reason = "it is not in the cache, and XENNER_OFFLINE is set".into();
            } else {
                match self.fetch(name, version) {
                    Ok(package) => return Ok(package),
                    Err(error) => reason = error.to_string(),
                }
            }
        }
        self.cached(|cached| cached == name)
            .ok_or_else(|| Error::Package {
                name: name.into(),
                reason,
            })
    }

    /// Several packages by their exact names. apt, which reads its whole lists each time, is asked once.
    pub fn packages(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut versions = apt_versions(names);
        names
            .iter()
            .map(|name| self.package_of(name, versions.remove(*name)))
            .collect()
    }

    fn unpacked(&self, name: &str, version: &str) -> Option<Package> {
        let root = self.package_dir(name, version);
        root.is_dir().then(|| Package {
            name: name.into(),
            root,
        })
    }

    fn package_dir(&self, name: &str, version: &str) -> PathBuf {
        // An epoch's colon would end a path early in lists such as PATH.
        let version = version.replace(':', "%3a");
        self.dir.join("packages").join(format!("{name}_{version}"))
    }

    /// The most lately unpacked package whose name satisfies `wanted`.
    fn cached(&self, wanted: impl Fn(&str) -> bool) -> Option<Package> {
        let entries = fs::read_dir(self.dir.join("packages")).ok()?;
        let newest = entries
            .flatten()
            .filter_map(|entry| {
                let file_name = entry.file_name().into_string().ok()?;
                let (name, _version) = file_name.split_once('_')?;
                let unpacked = entry.metadata().ok()?.modified().ok()?;
                wanted(name).then(|| (unpacked, name.to_owned(), entry.path()))
            })
            .max()?;
        Some(Package {
            name: newest.1,
            root: newest.2,
        })
    }

    fn fetch(&self, name: &str, version: &str) -> Result<Package> {
        let staging = tempfile::Builder::new()
            .prefix(".fetch")
            .tempdir_in(self.dir.join("packages"))
            .map_err(Error::io("create a directory in", &self.dir))?;
        if let Err(error) = download(name, staging.path()) {
            // Lists older than the archive name files it no longer has.
            if !update_lists() {
                return Err(error);
            }
            download(name, staging.path())?;
        }
        let deb = sole_file(staging.path(), "deb")?;
        let tree = staging.path().join("tree");
        run(Command::new("dpkg").arg("-x").arg(&deb).arg(&tree))?;
        let version = apt_version(name).unwrap_or_else(|| version.to_owned());
        let root = self.package_dir(name, &version);
        fs::rename(&tree, &root).map_err(Error::io("create", &root))?;
        // `dpkg -x` keeps the packager's dates; `cached` wants ours.
        let now = fs::File::open(&root).and_then(|d| d.set_modified(std::time::SystemTime::now()));
        now.map_err(Error::io("date", &root))?;
        Ok(Package {
            name: name.into(),
            root,
        })
    }

    /// One process at a time fetches; the others then find what it left.
    pub(crate) fn lock(&self) -> Result<Flock<fs::File>> {
        let path = self.dir.join("lock");
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::io("lock", &path)(errno.into()))
    }
}

fn cache_dir() -> Option<PathBuf> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    var("XENNER_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("xenner")))
        .or_else(|| var("HOME").map(|d| d.join(".cache/xenner")))
}

/// Installs packages on this machine when the user is root; else the error
/// names them and the command. Packages already installed cost nothing.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Package {
            name: list.clone(),
            reason: format!(
                "not installed. Run: sudo apt-get install --no-install-recommends {list}"
            ),
        });
    }
    if missing.iter().any(|p| apt_version(p).is_none()) {
        update_lists();
    }
    let install = || {
        run(apt_get()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing))
    };
    eprintln!("Installing {list}");
    install().or_else(|error| {
        if update_lists() {
            install()
        } else {
            Err(error)
        }
    })?;
    Ok(())
}

fn installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output();
    status.is_ok_and(|o| o.status.success() && o.stdout == b"installed")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Refreshes apt's lists, once per process and only as root; whether it did.
fn update_lists() -> bool {
    static DONE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let mut first = false;
    let ok = *DONE.get_or_init(|| {
        first = true;
        nix::unistd::geteuid().is_root() && run(apt_get().args(["update", "-qq"])).is_ok()
    });
    ok && first
}

fn apt_cache(verb: &str, packages: &[&str]) -> Option<String> {
    let mut command = Command::new("apt-cache");
    command.env("LC_ALL", "C").arg(verb);
    if verb == "show" {
        command.arg("--no-all-versions");
    }
    let output = command.args(packages).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version apt would install.
fn apt_version(package: &str) -> Option<String> {
    apt_versions(&[package]).remove(package)
}

/// The same of several, by name.
fn apt_versions(packages: &[&str]) -> BTreeMap<String, String> {
    versions(&apt_cache("show", packages).unwrap_or_default())
}

/// Of each paragraph `Package:` and `Version:`.
fn versions(text: &str) -> BTreeMap<String, String> {
    let paragraphs = text.split("\n\n").filter_map(|paragraph| {
        let field = |name| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        Some((field("Package: ")?, field("Version: ")?))
    });
    paragraphs.collect()
}

fn apt_depends(package: &str) -> Vec<String> {
    apt_cache("depends", &[package])
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

/// `apt-get download` into `dir`, with a progress bar on a terminal.
fn download(package: &str, dir: &Path) -> Result<()> {
    let bar = progress_bar(package);
    let mut command = apt_get();
    command
        .args([
            "-qq",
            "-o",
            "APT::Status-Fd=1",
            "-o",
            "APT::Sandbox::User=",
            "download",
        ])
        .arg(package)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| Error::Start {
        program: "apt-get".into(),
        source,
        advice: "Packages come through apt, so this needs Debian or a relative".into(),
    })?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout)
            .lines()
            .map_while(std::io::Result::ok)
        {
            if let Some(percent) = download_percent(&line) {
                bar.set_position(percent);
            }
        }
    }
    let output = child
        .wait_with_output()
        .map_err(Error::io("wait for apt-get in", dir))?;
    bar.finish_and_clear();
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: format!("apt-get download {package}"),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Reads a line of apt's status channel: `dlstatus:item:percent:description`.
fn download_percent(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    percent.split('.').next()?.parse().ok()
}

fn progress_bar(package: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("Fetching {package}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}%") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(format!("Fetching {package}"));
    bar
}

fn sole_file(dir: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new(extension)))
        .ok_or_else(|| Error::Malformed {
            path: dir.into(),
            reason: format!("apt-get left no .{extension} file there"),
        })
}

/// Runs a program of the host to its end.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>> {
    let program = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start {
            program: program.clone(),
            source,
            advice: "Is it installed?".into(),
        })?;
    if !output.status.success() {
        return Err(Error::Program {
            program,
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_name() {
        let text = "Package: a\nInstalled-Size: 1\nVersion: 1.0-1\n\nPackage: b\nVersion: 2:3\nDescription: x\n\n";
        let versions = versions(text);
        let wanted = [("a", "1.0-1"), ("b", "2:3")];
        assert!(versions.iter().map(|(name, v)| (&**name, &**v)).eq(wanted));
    }

    #[test]
    fn kernel_names_are_told_apart() {
        let cloud61 = Kernel::new("6.1", true);
        assert!(cloud61.matches("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!cloud61.matches("linux-image-6.1.0-56-amd64"));
        assert!(!cloud61.matches("linux-image-6.12.117+deb12-cloud-amd64"));
        assert!(!Kernel::new("6.1", false).matches("linux-image-6.1.0-56-cloud-amd64"));
        assert!(Kernel::new("6.12", false).matches("linux-image-6.12.117+deb12-amd64"));
        assert!(Kernel::STANDARD.matches("linux-image-6.1.0-56-amd64"));
        assert!(!Kernel::STANDARD.matches("linux-image-amd64"));
    }

    #[test]
    fn apt_status_lines_are_read() {
        assert_eq!(
            download_percent("dlstatus:1:42.8817:Retrieving file 1 of 1"),
            Some(42)
        );
        assert_eq!(download_percent("pmstatus:dpkg:10:Installing"), None);
        assert_eq!(download_percent("dlstatus:1"), None);
    }

    #[test]
    fn the_newest_cached_package_is_used_offline() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache {
            dir: dir.path().into(),
            offline: true,
        };
        for (version, age) in [("1.0", 100), ("%3a0.9", 10)] {
            let path = dir
                .path()
                .join(format!("packages/no-such-package_{version}"));
            fs::create_dir_all(&path).expect("create");
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(&path)
                .and_then(|f| f.set_modified(then))
                .expect("date");
        }
        let found = cache.package("no-such-package").expect("cached");
        assert!(found.root.ends_with("no-such-package_%3a0.9"));
        let error = cache
            .package("no-such-package-either")
            .expect_err("not cached");
        assert!(
            error.to_string().contains("no-such-package-either"),
            "{error}"
        );
    }
}
