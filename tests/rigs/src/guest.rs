//! The guest every test boots: a Debian kernel with `xenner-workload` as init.

use std::path::Path;

use regex::Regex;

use crate::error::Result;
use crate::initramfs::Initramfs;
use crate::packages::{Cache, KernelFiles};

/// The static program `xenner-workload`: checks, benchmark and init in one.
pub fn workload() -> &'static Path {
    Path::new(env!("XENNER_WORKLOAD"))
}

/// An initial file system with the workload as init and nothing else.
pub fn initramfs() -> Result<Initramfs> {
    let mut fs = Initramfs::new();
    fs.copy(workload(), "/init")?;
    Ok(fs)
}

/// The same with the drivers of disks and network cards, Xen's and virtio's.
pub fn devices_initramfs(kernel: &KernelFiles) -> Result<Initramfs> {
    let mut fs = initramfs()?;
    let drivers = [
        "xen-blkfront",
        "xen-netfront",
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
    ];
    fs.modules(kernel, &drivers)?;
    Ok(fs)
}

/// The workload with busybox, for `xenner.test=shell`.
pub fn shell_initramfs(cache: &Cache) -> Result<Initramfs> {
    let mut fs = initramfs()?;
    fs.busybox(&cache.package("busybox-static")?)?;
    Ok(fs)
}

/// The guest's own verdict, from its console: how many checks passed and which
/// failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that passed.
    pub passed: u32,
    /// Lines of those that did not.
    pub failed: Vec<String>,
}

impl Verdict {
    /// The failures but those of the named checks.
    pub fn failed_beyond(&self, limits: &[&str]) -> Vec<&str> {
        let name = |line: &str| {
            line.split_whitespace()
                .nth(3)
                .unwrap_or("")
                .trim_end_matches(':')
                .to_owned()
        };
        let unexpected = self
            .failed
            .iter()
            .filter(|line| !limits.contains(&name(line).as_str()));
        unexpected.map(String::as_str).collect()
    }

    /// Reads a console; `None` when the closing line is missing, so the guest
    /// did not get that far.
    pub fn read(console: &str) -> Option<Self> {
        let closing = Regex::new(r"workload: (\d+) passed, \d+ failed").ok()?;
        let passed = closing.captures(console)?[1].parse().ok()?;
        let failed = console
            .lines()
            .filter(|l| l.starts_with("not ok"))
            .map(|l| l.trim_end().to_owned());
        Some(Self {
            passed,
            failed: failed.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_read_from_the_console() {
        let console = "[ 1.0] x\r\nok 1 a (1 ms)\r\nnot ok 2 b: why\r\nworkload: 1 passed, 1 failed, 0 skipped\r\n";
        let verdict = Verdict::read(console).expect("a verdict");
        assert_eq!(
            (verdict.passed, verdict.failed.clone()),
            (1, vec!["not ok 2 b: why".to_owned()])
        );
        assert_eq!(Verdict::read("ok 1 a\npanic"), None);
        assert_eq!(verdict.failed_beyond(&["b"]), Vec::<&str>::new());
        assert_eq!(verdict.failed_beyond(&["a"]).len(), 1);
    }
}
