//! Which host this is.

use std::path::{Path, PathBuf};

use xt_host::{Host, HostKind};

use crate::status::Failure;

/// What a Xen control domain's kernel says of itself.
const CAPABILITIES: &str = "/proc/xen/capabilities";
/// By what it makes hypercalls.
const PRIVCMD: [&str; 2] = ["/dev/xen/privcmd", "/proc/xen/privcmd"];

/// What can be seen of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// It says that it is a Xen control domain.
    pub control_domain: bool,
    /// Hypercalls can be made.
    pub privcmd: bool,
    /// KVM is there.
    pub kvm: bool,
}

impl Signs {
    /// Looks.
    pub fn look() -> Self {
        let capabilities = std::fs::read_to_string(CAPABILITIES).unwrap_or_default();
        Self {
            control_domain: capabilities
                .split(',')
                .any(|word| word.trim() == "control_d"),
            privcmd: PRIVCMD.iter().any(|path| Path::new(path).exists()),
            kvm: Path::new("/dev/kvm").exists(),
        }
    }

    /// The host they are of.
    ///
    /// # Errors
    /// None that is known.
    pub fn kind(self) -> Result<HostKind, Failure> {
        match self {
            Self {
                control_domain: true,
                ..
            } => Ok(HostKind::Xen),
            // xenfs need not be mounted, and a guest of Xen has no KVM.
            Self {
                privcmd: true,
                kvm: false,
                ..
            } => Ok(HostKind::Xen),
            Self { kvm: true, .. } => Ok(HostKind::Kvm),
            _ => Err(Failure::plain(
                "This machine can run no domains: it is no Xen control domain (mount xenfs on /proc/xen if it should be), \
                 and it has no /dev/kvm (load the module kvm_intel or kvm_amd)",
            )),
        }
    }
}

/// The host that is wanted, or that there is.
///
/// # Errors
/// There is none, or it cannot be driven.
pub fn open(wanted: Option<HostKind>, run_dir: Option<&Path>) -> Result<Box<dyn Host>, Failure> {
    match wanted.map_or_else(|| Signs::look().kind(), Ok)? {
        HostKind::Kvm => Ok(Box::new(xt_kvm::KvmHost::open(run_dir, xenner_program())?)),
        HostKind::Xen => {
            let host = xt_xen::XenHost::open()?;
            // Whatever comes after a command that was killed clears up behind it.
            if let Err(error) = host.clean_up() {
                eprintln!("xt: {}", Failure::from(error));
            }
            Ok(Box::new(host))
        }
    }
}

/// The program that runs a domain: `$XENNER`, or one beside this, or one in `PATH`.
fn xenner_program() -> PathBuf {
    if let Some(path) = std::env::var_os("XENNER") {
        return path.into();
    }
    let here = std::env::current_exe().ok();
    let beside = here.and_then(|here| Some(here.parent()?.join("xenner")));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| "xenner".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_domain_is_xen_whatever_else_is_there() {
        let signs = |control_domain, privcmd, kvm| {
            let signs = Signs {
                control_domain,
                privcmd,
                kvm,
            };
            signs.kind().ok()
        };
        assert_eq!(signs(true, true, true), Some(HostKind::Xen));
        assert_eq!(signs(false, true, false), Some(HostKind::Xen));
        assert_eq!(signs(false, true, true), Some(HostKind::Kvm));
        assert_eq!(signs(false, false, true), Some(HostKind::Kvm));
        assert_eq!(signs(false, false, false), None);
    }
}
