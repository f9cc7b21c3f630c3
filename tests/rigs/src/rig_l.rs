//! Rig L: this machine's own `/dev/kvm`, where there is one.

use std::fs;
use std::path::Path;

/// What this machine's KVM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kvm {
    /// Intel VMX.
    Vmx,
    /// AMD SVM.
    Svm,
    /// A KVM without hardware virtualisation: it runs ring 3 natively and
    /// emulates ring 0.
    Pagetable,
}

/// A test that did not run, and why. To be printed, not to be dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("skipped: {0}")]
pub struct Skipped(pub String);

/// Looks for a `/dev/kvm` this user can open.
pub fn detect() -> Result<Kvm, Skipped> {
    let device = Path::new("/dev/kvm");
    if let Err(error) = fs::File::options().read(true).write(true).open(device) {
        return Err(Skipped(format!("cannot open /dev/kvm: {error}")));
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Ok(kind(&cpuinfo))
}

fn kind(cpuinfo: &str) -> Kvm {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let has = |flag| flags.is_some_and(|line| line.split_whitespace().any(|f| f == flag));
    if has("vmx") {
        Kvm::Vmx
    } else if has("svm") {
        Kvm::Svm
    } else {
        Kvm::Pagetable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_comes_from_the_cpu_flags() {
        assert_eq!(kind("processor: 0\nflags\t\t: fpu vme svm npt\n"), Kvm::Svm);
        assert_eq!(kind("flags\t\t: fpu vmx\n"), Kvm::Vmx);
        assert_eq!(kind("flags\t\t: fpu vmmcall svme\n"), Kvm::Pagetable);
    }
}
