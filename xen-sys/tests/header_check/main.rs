//! Compares `xen_sys` with the C headers of Debian's `libxen-dev`: a C program prints the value of
//! each expression in `items.rs`, this test compares it with Rust's. A second test goes the other
//! way: a constant of the covered families that the headers define and `xen_sys` lacks fails it.
//!
//! The headers are taken from the compiler's own path, or else fetched with `apt-get download`
//! into the target directory. Without a C compiler or headers the tests say so and pass.

mod items;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One comparison.
pub struct Check {
    c: String,
    format: &'static str,
    rust: String,
}

impl Check {
    /// An integer: the C expression and Rust's value.
    pub fn number(c: &str, rust: i128) -> Self {
        // Both sides as 64-bit patterns, so that signedness of the C literal does not matter.
        Self {
            c: format!("(long long)({c})"),
            format: "%lld",
            rust: (rust as i64).to_string(),
        }
    }

    /// A string.
    pub fn text(c: &str, rust: &str) -> Self {
        Self {
            c: c.to_string(),
            format: "%s",
            rust: rust.to_string(),
        }
    }
}

/// A constant's value, whatever its type.
pub trait AbiValue {
    /// As a wide integer.
    fn number(self) -> i128;
}

macro_rules! abi_value {
    ($($ty:ty),*) => {
        $(impl AbiValue for $ty {
            fn number(self) -> i128 {
                self as i128
            }
        })*
    };
}

abi_value!(u8, i16, u16, i32, u32, u64, usize);

impl AbiValue for xen_sys::DomId {
    fn number(self) -> i128 {
        self.0.into()
    }
}

const INCLUDES: &str = r#"
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/callback.h>
#include <xen/domctl.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/pmu.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
"#;

/// Where the headers are and the scratch directory, or why not.
fn headers() -> &'static Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let installed = Path::new("/usr/include");
        if installed.join("xen/xen.h").exists() {
            return Ok(installed.to_path_buf());
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libxen-dev");
        let unpacked = dir.join("usr/include");
        if !unpacked.join("xen/xen.h").exists() {
            fetch(&dir)?;
        }
        Ok(unpacked)
    })
}

fn fetch(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    run(Command::new("apt-get")
        .args(["download", "-q", "libxen-dev"])
        .current_dir(dir))?;
    let package = std::fs::read_dir(dir)
        .map_err(|e| format!("cannot list {}: {e}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or("apt-get download left no package")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(dir)).map(drop)
}

/// Runs a command; its standard output, or what went wrong.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{command:?} failed: {stderr}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The include directory, unless the test has to be skipped; then the reason is printed past the
/// test harness' capture.
fn include_dir() -> Option<&'static Path> {
    let found = headers().as_ref().map_err(Clone::clone);
    let cc = run(Command::new("cc").arg("--version"));
    match found.and_then(|dir| cc.map(|_| dir)) {
        Ok(dir) => Some(dir),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            None
        }
    }
}

fn cc(include: &Path) -> Command {
    let mut cc = Command::new("cc");
    cc.arg("-w").arg("-I").arg(include);
    cc
}

fn program(checks: &[Check]) -> String {
    let mut c = String::from(INCLUDES);
    c.push_str("static const char *gnttab_messages[] = GNTTABOP_error_msgs;\nint main(void) {\n");
    for check in checks {
        c.push_str(&format!("printf(\"{}\\n\", {});\n", check.format, check.c));
    }
    c.push_str("return 0;\n}\n");
    c
}

#[test]
fn rust_agrees_with_the_headers() {
    let Some(include) = include_dir() else { return };
    let checks = items::all();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (dir.join("header_check.c"), dir.join("header_check"));
    std::fs::write(&source, program(&checks)).unwrap();
    run(cc(include).arg("-O0").arg("-o").arg(&binary).arg(&source)).unwrap();
    let output = run(&mut Command::new(&binary)).unwrap();

    let values: Vec<&str> = output.lines().collect();
    assert_eq!(
        values.len(),
        checks.len(),
        "the C program printed too little or too much"
    );
    assert!(checks.len() > 1000, "only {} comparisons", checks.len());
    let wrong: Vec<String> = checks
        .iter()
        .zip(values)
        .filter(|(check, c)| check.rust != *c)
        .map(|(check, c)| format!("{}: C {c}, Rust {}", check.c, check.rust))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        checks.len(),
        wrong.join("\n")
    );
}

/// Families of constants of which `xen_sys` has every member.
const FAMILIES: &[&str] = &[
    "__HYPERVISOR_",
    "VIRQ_",
    "MMU_",
    "MMUEXT_",
    "UVMF_",
    "CONSOLEIO_",
    "VMASST_",
    "DOMID_",
    "SIF_",
    "XEN_PVCLOCK_",
    "FLAT_",
    "SEGBASE_",
    "VGCF_",
    "XEN_CPUID_",
    "XEN_HVM_CPUID_",
    "EVTCHNOP_",
    "EVTCHNSTAT_",
    "EVTCHN_",
    "GTF_",
    "GNTTABOP_",
    "GNTMAP_",
    "GNTST_",
    "GNTCOPY_",
    "GNTTAB_",
    "XENMAPSPACE_",
    "SCHEDOP_",
    "SHUTDOWN_",
    "VCPUOP_",
    "VCPU_",
    "RUNSTATE_",
    "XENVER_",
    "XENFEAT_",
    "XEN_ELFNOTE_",
    "CALLBACKTYPE_",
    "CALLBACKF_",
    "CALLBACKOP_",
    "XENNMI_",
    "XEN_NMIREASON_",
    "XENIRQSTAT_",
    "MAP_PIRQ_",
    "XEN_HVM_MEMMAP_",
    "XENSTORE_",
    "BLKIF_",
    "VDISK_",
    "NETTXF_",
    "NETRXF_",
    "NETIF_RSP_",
    "XEN_NETIF_",
    "XEN_IO_PROTO_",
];

/// Members left out on purpose: macros with arguments, older spellings, addresses given under
/// their plain name.
const LEFT_OUT: &[&str] = &[
    "__HYPERVISOR_VIRT_START",
    "__HYPERVISOR_VIRT_END",
    "VGCF_I387_VALID",
    "VGCF_IN_KERNEL",
    "VGCF_IN_SYSCALL",
    "XEN_CPUID_LEAF",
    "GNTTABOP_error_msgs",
];

#[test]
fn headers_have_nothing_more() {
    let Some(include) = include_dir() else { return };
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header_names.c");
    std::fs::write(&source, INCLUDES).unwrap();
    let macros = run(cc(include).args(["-dM", "-E"]).arg(&source)).unwrap();

    let known: BTreeSet<String> = items::all()
        .into_iter()
        .map(|check| {
            check
                .c
                .trim_start_matches("(long long)(")
                .trim_end_matches(')')
                .to_string()
        })
        .collect();
    let missing: Vec<&str> = macros
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split([' ', '(']).next())
        .filter(|name| FAMILIES.iter().any(|family| name.starts_with(family)))
        .filter(|name| !known.contains(*name) && !LEFT_OUT.contains(name))
        .collect();
    assert!(missing.is_empty(), "xen_sys lacks: {missing:?}");
}
