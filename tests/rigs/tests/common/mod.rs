//! The guests that tests boot, wherever they boot them: a kernel, a size, an
//! end, and what must come of it.
//!
//! A few combinations always run; with `XENNER_MATRIX=full` all of them do.

use std::time::Duration;

use xenner_rigs::Shell;
use xenner_rigs::guest::{self, Verdict};
use xenner_rigs::packages::{Cache, Kernel};

/// For one guest, under emulation and with the host busy.
pub const LIMIT: Duration = Duration::from_secs(600);

/// How a guest is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Poweroff,
    Reboot,
    Crash,
}

impl End {
    /// The word for `xenner.test=`.
    fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Crash => "crash",
        }
    }
}

/// A guest to boot.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub kernel: Kernel,
    pub vcpus: u32,
    pub memory_mib: u32,
    pub end: End,
}

const fn case(series: &'static str, cloud: bool, vcpus: u32, memory_mib: u32, end: End) -> Case {
    Case {
        kernel: Kernel::new(series, cloud),
        vcpus,
        memory_mib,
        end,
    }
}

const ALWAYS: [Case; 3] = [
    case("6.1", true, 1, 128, End::Poweroff),
    case("6.12", true, 2, 256, End::Reboot),
    case("6.1", false, 4, 512, End::Crash),
];

/// What to boot in this run, nothing larger than `largest_mib`.
pub fn cases(largest_mib: u32) -> Vec<Case> {
    if std::env::var_os("XENNER_MATRIX").is_none_or(|v| v != "full") {
        return ALWAYS.to_vec();
    }
    let mut all = Vec::new();
    for kernel in Kernel::TESTED {
        for vcpus in [1, 4] {
            // Not less than 128: the smallest image with its BSS ends past 64 MiB.
            for memory_mib in [128, 256, 4096] {
                if kernel.cloud || memory_mib > 128 {
                    let end = [End::Poweroff, End::Reboot, End::Crash][all.len() % 3];
                    let memory_mib = memory_mib.min(largest_mib);
                    all.push(Case {
                        kernel,
                        vcpus,
                        memory_mib,
                        end,
                    });
                }
            }
        }
    }
    all
}

impl Case {
    /// The kernel's command line.
    pub fn append(&self) -> String {
        format!(
            "console=hvc0 quiet panic=-1 xenner.test=checks,{}",
            self.end.word()
        )
    }

    /// Puts the kernel and the initial file system into a rig, as
    /// `/share/vmlinuz` and `/share/initrd`.
    pub fn provide(&self, shell: &Shell, cache: &Cache) {
        let files = cache.kernel(self.kernel).expect("kernel");
        shell.put(&files.image, "vmlinuz").expect("put");
        let initrd = shell.share().join("initrd");
        guest::initramfs()
            .and_then(|fs| fs.write(&initrd))
            .expect("initial file system");
    }

    /// What is wrong with what the guest said, and with how it ended. Checks
    /// named in `limits` may fail: the place it ran cannot do better.
    pub fn judge(
        &self,
        console: &str,
        ended: Option<i32>,
        wanted: i32,
        limits: &[&str],
    ) -> Option<String> {
        let verdict = Verdict::read(console);
        let passed = verdict
            .as_ref()
            .is_some_and(|v| v.failed_beyond(limits).is_empty());
        let sound = passed && ended == Some(wanted);
        let word = if sound { "sound" } else { "WRONG" };
        let summary =
            format!("{word}: {self:?}: {verdict:?}, ended with {ended:?}, wanted {wanted}");
        println!("{summary}");
        (!sound).then(|| format!("{summary}\n{}\n", console.trim_end()))
    }
}

/// Fails with all that went wrong, if anything did.
pub fn assert_sound(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} guests went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
