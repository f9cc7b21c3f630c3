//! Rig K: Linux with KVM on an emulated AMD machine with nested paging, so
//! that what runs in it meets hardware semantics.

use std::time::Duration;

use crate::error::Result;
use crate::packages::{Cache, Kernel};
use crate::qemu::Clock;
use crate::rig::{Output, Prepared, RigSpec, SHARE_MODULES, Shell, base_initramfs, init_script};

/// With SMAP QEMU 7.2 faults in guests' user accesses; see also `rig_x`.
const CPU: &str = "EPYC,+svm,+npt,-smap";

/// A running rig K.
#[derive(Debug)]
pub struct RigK {
    /// Its shell.
    pub shell: Shell,
}

impl RigK {
    /// Boots it.
    pub fn boot(spec: &RigSpec) -> Result<Self> {
        let shell = Shell::boot(prepare(spec, "")?)?;
        Ok(Self { shell })
    }

    /// Runs a shell command in it.
    pub fn run(&mut self, command: &str, deadline: Duration) -> Result<Output> {
        self.shell.run(command, deadline)
    }
}

/// Makes all files and the command line; `words` go to the kernel's command line.
pub fn prepare(spec: &RigSpec, words: &str) -> Result<Prepared> {
    let cache = Cache::open()?;
    let kernel = cache.kernel(Kernel::STANDARD)?;
    let mut prepared = Prepared::new(spec, CPU)?;

    let mut fs = base_initramfs(&cache)?;
    let modules: Vec<&str> = ["kvm_amd", "tun"]
        .into_iter()
        .chain(SHARE_MODULES)
        .chain(spec.modules.iter().copied())
        .collect();
    fs.modules(&kernel, &modules)?;
    fs.file("/init", 0o755, init_script("ttyS0", ""));
    spec.fill(&mut fs, &[])?;
    let initrd = prepared.path("initramfs");
    fs.write(&initrd)?;

    // Under instruction counting the TSC is the one clock that fits.
    let clock = match spec.clock {
        Clock::Real => "tsc=reliable",
        Clock::Instructions => "tsc=reliable clocksource=tsc",
    };
    prepared.qemu.kernel = kernel.image;
    prepared.qemu.initrd = initrd.to_string_lossy().into_owned();
    prepared.qemu.append =
        format!("console=ttyS0 panic=-1 no_timer_check {clock} mitigations=off quiet {words}")
            .trim_end()
            .into();
    Ok(prepared)
}
