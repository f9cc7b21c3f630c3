//! What each role may and may not do, each attempt in a process of its own.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Output};

use nix::libc;
use nix::sys::signal::Signal;
use xenner::sandbox::{self, Files, Mode, Role};

pub const TESTS: &[(&str, fn())] = &[
    ("every_role_may_do_its_work", every_role_may_do_its_work),
    (
        "forbidden_calls_end_the_process",
        forbidden_calls_end_the_process,
    ),
    (
        "opening_files_fails_for_all_but_the_supervisor",
        opening_files_fails,
    ),
    ("the_sandbox_can_be_off", the_sandbox_can_be_off),
    (
        "only_given_files_are_reachable",
        only_given_files_are_reachable,
    ),
];

/// The first argument that makes this binary attempt something in a sandbox.
pub const PROBE: &str = "--sandbox-probe";

const ROLES: [(&str, Role); 8] = [
    ("supervisor", Role::Supervisor),
    ("vcpu", Role::Vcpu),
    ("xenstore", Role::Xenstore),
    ("control", Role::Control),
    ("console", Role::Console),
    ("devices", Role::Devices),
    ("block", Role::Block),
    ("net", Role::Net),
];

/// A name, and what returns whether it succeeded.
type Attempt = (&'static str, fn() -> bool);

/// What can be attempted.
const ATTEMPTS: &[Attempt] = &[
    ("nothing", || true),
    ("memory", || {
        vec![1u8; 64 << 20].iter().all(|&byte| byte == 1)
    }),
    ("clock", || {
        std::time::Instant::now().elapsed().as_secs() == 0
    }),
    ("open", || std::fs::File::open("/proc/self/status").is_ok()),
    ("thread", || std::thread::spawn(|| true).join().is_ok()),
    ("network", || {
        std::net::UdpSocket::bind("127.0.0.1:0").is_ok()
    }),
    ("execute", || {
        nix::unistd::execv(c"/bin/true", &[c"true"]).is_ok()
    }),
    ("chmod", || {
        std::fs::set_permissions("/nonexistent", PermissionsExt::from_mode(0o600)).is_ok()
    }),
    ("chdir", || std::env::set_current_dir("/").is_ok()),
    ("kill", || {
        nix::sys::signal::kill(nix::unistd::Pid::this(), None).is_ok()
    }),
    ("remove", || std::fs::remove_file("/nonexistent").is_ok()),
    ("executable memory", executable_memory),
    ("pair", || std::os::unix::net::UnixStream::pair().is_ok()),
    ("let go of a ring's files", || uring_register(3)),
    ("give a ring files", || uring_register(2)),
    ("make a ring", || {
        let nowhere = std::ptr::null::<u8>();
        // SAFETY: without parameters nothing is made.
        let rc = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, nowhere) };
        rc == -1
    }),
    ("confined", confined),
];

/// On no ring: true if it got as far as to be told so.
fn uring_register(operation: libc::c_uint) -> bool {
    let nowhere = std::ptr::null::<u8>();
    // SAFETY: without a ring nothing happens.
    let rc = unsafe { libc::syscall(libc::SYS_io_uring_register, -1, operation, nowhere, 0) };
    rc == -1
}

fn executable_memory() -> bool {
    let length = std::num::NonZeroUsize::MIN;
    let flags = nix::sys::mman::MapFlags::MAP_PRIVATE;
    let protection = nix::sys::mman::ProtFlags::PROT_EXEC;
    // SAFETY: A new private mapping of one page at an address the kernel chooses touches nothing.
    unsafe { nix::sys::mman::mmap_anonymous(None, length, protection, flags) }.is_ok()
}

/// Confines itself to one folder, given in the environment, and sees what it can reach.
fn confined() -> bool {
    let dir = std::path::PathBuf::from(std::env::var_os("PROBE_DIR").unwrap());
    let files = Files {
        write: vec![dir.join("own")],
        read: vec![dir.join("read")],
        devices: vec![],
    };
    let enforced = sandbox::confine_files(&files).unwrap();
    assert_eq!(enforced, sandbox::has_landlock());
    let read = |path: &str| std::fs::read(dir.join(path)).is_ok();
    let write = |path: &str| std::fs::write(dir.join(path), "").is_ok();
    let own =
        write("own/new") && read("own/new") && std::fs::remove_file(dir.join("own/new")).is_ok();
    let others = [read("other"), write("other"), write("read"), write("new")];
    own && read("read") && others == [!enforced; 4]
}

/// The program of a probe: role, mode and attempt are its arguments.
pub fn probe() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(2).collect();
    let [role, mode, attempt] = arguments.try_into().unwrap();
    sandbox::choose(mode.parse().unwrap()).unwrap();
    let role = ROLES.into_iter().find(|(name, _)| *name == role);
    let (_, attempt) = ATTEMPTS.iter().find(|(name, _)| *name == attempt).unwrap();
    let thread = std::thread::spawn(move || {
        if let Some((_, role)) = role {
            sandbox::enter(role);
        }
        attempt()
    });
    if thread.join().unwrap() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    }
}

fn attempt(role: &str, mode: Mode, what: &str) -> Output {
    let mode = match mode {
        Mode::On => "on",
        Mode::Log => "log",
        Mode::Off => "off",
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([PROBE, role, mode, what]).output().unwrap()
}

#[track_caller]
fn succeeds(role: &str, what: &str) {
    let output = attempt(role, Mode::On, what);
    assert!(output.status.success(), "{role}: {what}: {output:?}");
}

#[track_caller]
fn ends(role: &str, what: &str) {
    let output = attempt(role, Mode::On, what);
    assert_eq!(output.status.code(), Some(1), "{role}: {what}: {output:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.contains("The sandbox refused system call"),
        "{role}: {what}: {err}"
    );
}

fn every_role_may_do_its_work() {
    for (role, _) in ROLES {
        for what in ["nothing", "memory", "clock"] {
            succeeds(role, what);
        }
    }
    for role in ["supervisor", "control", "console", "devices"] {
        succeeds(role, "thread");
    }
    succeeds("xenstore", "pair");
    succeeds("devices", "make a ring");
    succeeds("block", "let go of a ring's files");
}

fn forbidden_calls_end_the_process() {
    for (role, _) in ROLES {
        for what in [
            "network",
            "execute",
            "chmod",
            "chdir",
            "kill",
            "executable memory",
        ] {
            ends(role, what);
        }
    }
    for role in ["vcpu", "xenstore", "block", "net"] {
        // The C library blocks signals while it starts a thread, so the bare signal kills.
        let status = attempt(role, Mode::On, "thread").status;
        assert_eq!(
            status.signal(),
            Some(Signal::SIGSYS as i32),
            "{role}: {status}"
        );
    }
    let confined = ROLES.iter().filter(|(role, _)| *role != "supervisor");
    for (role, _) in confined {
        ends(role, "remove");
    }
    for role in ["xenstore", "block", "net", "vcpu"] {
        ends(role, "make a ring");
        ends(role, "give a ring files");
    }
    for role in ["vcpu", "block", "net"] {
        ends(role, "pair");
    }
}

fn opening_files_fails() {
    succeeds("supervisor", "open");
    let confined = ROLES.iter().filter(|(role, _)| *role != "supervisor");
    for (role, _) in confined {
        assert_eq!(
            attempt(role, Mode::On, "open").status.code(),
            Some(2),
            "{role}"
        );
    }
}

fn the_sandbox_can_be_off() {
    for mode in [Mode::Off, Mode::Log] {
        assert!(attempt("vcpu", mode, "network").status.success());
    }
}

fn only_given_files_are_reachable() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("own")).unwrap();
    for file in ["read", "other"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([PROBE, "none", "on", "confined"])
        .env("PROBE_DIR", dir.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
