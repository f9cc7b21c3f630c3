//! What the process of a domain may still do once it runs, should a guest ever take it over.
//!
//! Every thread gets a seccomp filter for its role; threads it starts inherit it. A system call
//! outside the list ends the process with a line naming the call. Landlock, where the kernel has it,
//! confines the file system to what the domain was given.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sys;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Builds the machine, waits for its end, cleans up. Starts all other threads, so its filter
    /// allows what any of them needs.
    Supervisor,
    /// Runs a vCPU.
    Vcpu,
    /// Serves xenstore.
    Xenstore,
    /// Serves the control socket.
    Control,
    /// Moves console bytes.
    Console,
    /// Takes devices through their handshakes. Starts the threads of their queues, so its filter
    /// allows what those need.
    Devices,
    /// Serves a queue of a disk.
    Block,
    /// Serves a queue of a network card.
    Net,
}

/// How strict to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// End the process at a forbidden call.
    #[default]
    On,
    /// Let it pass, with a line in the kernel log.
    Log,
    /// No sandbox.
    Off,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "on" => Ok(Mode::On),
            "log" => Ok(Mode::Log),
            "off" => Ok(Mode::Off),
            _ => Err(format!("\"{text}\" is no sandbox mode; use on, log or off")),
        }
    }
}

/// The sandbox can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refused the filter.
    #[error("Cannot install the seccomp filter: {0}; --sandbox off runs without")]
    Seccomp(String),
    /// The kernel refused the rules.
    #[error("Cannot confine the process with Landlock: {0}; --sandbox off runs without")]
    Landlock(String),
}

static MODE: OnceLock<Mode> = OnceLock::new();
/// Whether files are refused to what is asked for through io_uring.
static LANDLOCK: OnceLock<bool> = OnceLock::new();

/// Decides for the whole process, before the first [`enter`]. Until then, and in a program that
/// never calls it, [`enter`] does nothing.
pub fn choose(mode: Mode) -> Result<(), SandboxError> {
    if mode == Mode::On {
        sys::report_refused_syscalls().map_err(|errno| SandboxError::Seccomp(errno.to_string()))?;
    }
    // Before the first filter, which would not let it ask.
    LANDLOCK.get_or_init(has_landlock);
    // A second choice would weaken the first.
    let _ = MODE.set(mode);
    Ok(())
}

/// Confines the calling thread to what its role needs.
///
/// # Panics
/// If the kernel refuses the filter: a thread that deals with the guest must not run without.
pub fn enter(role: Role) {
    if let Err(error) = try_enter(role) {
        panic!("{error}");
    }
}

/// As [`enter`], for the thread that can report the failure.
pub fn try_enter(role: Role) -> Result<(), SandboxError> {
    let action = match MODE.get() {
        None | Some(Mode::Off) => return Ok(()),
        Some(Mode::Log) => SeccompAction::Log,
        Some(Mode::On) => SeccompAction::Trap,
    };
    for program in programs(role, action)? {
        seccompiler::apply_filter(&program).map_err(seccomp)?;
    }
    Ok(())
}

fn seccomp(error: impl std::fmt::Display) -> SandboxError {
    SandboxError::Seccomp(error.to_string())
}

/// The filters of a role, in the order of their installation. The stricter verdict counts.
fn programs(role: Role, action: SeccompAction) -> Result<Vec<BpfProgram>, SandboxError> {
    let list = allow_list(role, action.clone()).map_err(seccomp)?;
    if role == Role::Supervisor || action == SeccompAction::Log {
        return Ok(vec![list]);
    }
    Ok(vec![refuse_files(role).map_err(seccomp)?, list])
}

/// Makes opening a file fail, and making a ring by which to do that, where Landlock does not see to
/// it: threads then do what rings would. It does not end the process, because the C library tries it at odd
/// moments (to count processors, say) and can do without.
fn refuse_files(role: Role) -> Result<BpfProgram, seccompiler::BackendError> {
    let rings = role == Role::Devices && LANDLOCK.get() != Some(&true);
    let rings: &[libc::c_long] = match rings {
        true => &[libc::SYS_io_uring_setup],
        false => &[],
    };
    let refused = OPEN.iter().chain(rings);
    let rules = refused.map(|&call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EACCES as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?.try_into()
}

fn allow_list(role: Role, action: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    let lists: &[&[libc::c_long]] = match role {
        Role::Vcpu => &[COMMON, OPEN],
        Role::Console => &[COMMON, OPEN, SOCKET, THREADS],
        Role::Xenstore => &[COMMON, OPEN, SOCKET, XENSTORE],
        Role::Control => &[COMMON, OPEN, SOCKET, THREADS, FILE_IO, RENAME],
        Role::Devices => &[
            COMMON,
            OPEN,
            SOCKET,
            THREADS,
            FILE_IO,
            URING,
            URING_SETUP,
            CONFINE,
        ],
        Role::Block => &[COMMON, OPEN, FILE_IO, URING],
        Role::Net => &[COMMON, OPEN, SOCKET],
        Role::Supervisor => &[
            COMMON,
            OPEN,
            SOCKET,
            THREADS,
            FILE_IO,
            FILES,
            URING,
            URING_SETUP,
            CONFINE,
            SETUP,
        ],
    };
    for &call in lists.iter().copied().flatten() {
        rules.insert(call, Vec::new());
    }
    // New code would be a way out of the filter's spirit, if not of its letter.
    rules.insert(
        libc::SYS_mmap,
        vec![without_bits(2, libc::PROT_EXEC as u64)?],
    );
    rules.insert(
        libc::SYS_mprotect,
        vec![without_bits(2, libc::PROT_EXEC as u64)?],
    );
    rules.insert(libc::SYS_ioctl, ioctls(role)?);
    if role != Role::Supervisor {
        // Of what is open already, not by path.
        const EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;
        let flag = SeccompCmpOp::MaskedEq(EMPTY_PATH);
        let flag = condition(2, SeccompCmpArgLen::Dword, flag, EMPTY_PATH)?;
        rules.insert(libc::SYS_statx, vec![SeccompRule::new(vec![flag])?]);
    }
    if role == Role::Block {
        // A queue that ends gives its files back. It can neither add files nor change anything else.
        const UNREGISTER_FILES: u64 = 3;
        let only = SeccompCmpOp::Eq;
        let only = condition(1, SeccompCmpArgLen::Dword, only, UNREGISTER_FILES)?;
        let only = vec![SeccompRule::new(vec![only])?];
        rules.insert(libc::SYS_io_uring_register, only);
    }
    if matches!(
        role,
        Role::Supervisor | Role::Devices | Role::Block | Role::Net
    ) {
        // Between the two policies of ordinary threads.
        let policies = [libc::SCHED_OTHER, libc::SCHED_BATCH].map(|policy| {
            let equal = SeccompCmpOp::Eq;
            let equal = condition(1, SeccompCmpArgLen::Dword, equal, policy as u64)?;
            SeccompRule::new(vec![equal])
        });
        let policies = policies.into_iter().collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_sched_setscheduler, policies);
    }
    if role == Role::Supervisor {
        let unix = SeccompCmpOp::Eq;
        let domain = condition(0, SeccompCmpArgLen::Dword, unix, libc::AF_UNIX as u64)?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![domain])?]);
    }
    SeccompFilter::new(rules, action, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// KVM's ioctls, all of type 0xae, for those who touch the machine, and a few harmless ones.
fn ioctls(role: Role) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const KVMIO: u64 = 0xae;
    const TYPE: u64 = 0xff00;
    let mut rules = Vec::new();
    // The others reach the machine by eventfds alone.
    if matches!(role, Role::Supervisor | Role::Vcpu | Role::Control) {
        let kvm = SeccompCmpOp::MaskedEq(TYPE);
        let kvm = condition(1, SeccompCmpArgLen::Dword, kvm, KVMIO << 8)?;
        rules.push(SeccompRule::new(vec![kvm])?);
    }
    let harmless = [libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::TCGETS];
    let more: &[&[libc::Ioctl]] = match role {
        Role::Supervisor => &[BLOCK_IOCTLS, NET_IOCTLS],
        Role::Devices => &[DEVICES_IOCTLS, BLOCK_IOCTLS, NET_IOCTLS],
        Role::Control => &[BLOCK_IOCTLS],
        Role::Block => &[DEVICES_IOCTLS, BLOCK_IOCTLS],
        Role::Net => &[DEVICES_IOCTLS, NET_IOCTLS],
        // Their port's doorbell goes with them.
        Role::Xenstore | Role::Console => &[DEVICES_IOCTLS],
        Role::Vcpu => &[],
    };
    for &request in harmless.iter().chain(more.iter().copied().flatten()) {
        let equal = condition(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?;
        rules.push(SeccompRule::new(vec![equal])?);
    }
    Ok(rules)
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, length, operator, value)
}

fn without_bits(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(bits);
    SeccompRule::new(vec![condition(
        argument,
        SeccompCmpArgLen::Qword,
        operator,
        0,
    )?])
}

/// Computing, waiting and ending.
const COMMON: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Sockets that exist already, and their clients.
const SOCKET: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Admitting xenstore's clients: by whom they are, and those of this process by a pair of sockets.
const XENSTORE: &[libc::c_long] = &[libc::SYS_geteuid, libc::SYS_socketpair];

/// Starting threads. `clone3` passes its flags in memory, where no filter sees them; `fork` in that
/// disguise gains nothing, since a child inherits the filter.
const THREADS: &[libc::c_long] = &[libc::SYS_clone, libc::SYS_clone3];

/// A domain that gets another name: Landlock leaves nothing but run directories to be renamed.
const RENAME: &[libc::c_long] = &[libc::SYS_rename];

/// Files that are open already.
const FILE_IO: &[libc::c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
];

/// Using a ring that is there. No filter sees what is asked for through one: pv-media restricts its
/// rings to transfers on the files they were made for.
const URING: &[libc::c_long] = &[libc::SYS_io_uring_enter];

/// Making one. Its maker, which no queue's thread is, could leave out the restrictions and open files
/// by it: that is for Landlock to refuse. Without Landlock there are no rings ([`refuse_files`]).
const URING_SETUP: &[libc::c_long] = &[libc::SYS_io_uring_setup, libc::SYS_io_uring_register];

/// Confining threads further.
const CONFINE: &[libc::c_long] = &[libc::SYS_seccomp];

/// `KVM_IOEVENTFD`, by which the guest's events become the back ends' and cease to be.
const DEVICES_IOCTLS: &[libc::Ioctl] = &[0x4040_ae79];

/// Size and sectors of a block device, and discarding (`linux/fs.h`): `BLKROGET`, `BLKSSZGET`,
/// `BLKGETSIZE64`, `BLKDISCARD`, `BLKIOMIN`, `BLKIOOPT`, `BLKPBSZGET`, `BLKSECDISCARD`, `BLKZEROOUT`.
const BLOCK_IOCTLS: &[libc::Ioctl] = &[
    0x125e,
    0x1268,
    0x8008_1272,
    0x1277,
    0x1278,
    0x1279,
    0x127b,
    0x127d,
    0x127f,
];

/// `TUNSETOFFLOAD` and `TUNSETQUEUE` of a tap device (`linux/if_tun.h`).
const NET_IOCTLS: &[libc::Ioctl] = &[0x4004_54d0, 0x4004_54d9];

/// Opening files, which only the supervisor may do; the others get an error.
const OPEN: &[libc::c_long] = &[libc::SYS_open, libc::SYS_openat];

/// Making and removing files, for a restart and for cleaning up.
const FILES: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_flock,
    libc::SYS_getdents64,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_newfstatat,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
];

/// Building a machine again.
const SETUP: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_listen,
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_sysinfo,
    libc::SYS_wait4,
];

/// What of the file system a domain keeps.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Files and folders it may read.
    pub read: Vec<PathBuf>,
    /// Folders it may make, write and remove files in.
    pub write: Vec<PathBuf>,
    /// Devices it may open.
    pub devices: Vec<PathBuf>,
}

/// Confines the calling thread, and all it starts, to `files`. True if the kernel enforces it;
/// false if it can't, or the sandbox is off.
pub fn confine_files(files: &Files) -> Result<bool, SandboxError> {
    if MODE.get() != Some(&Mode::On) {
        return Ok(false);
    }
    restrict(files).map_err(|error| SandboxError::Landlock(error.to_string()))
}

/// Whether this kernel can confine files.
pub fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

fn restrict(files: &Files) -> Result<bool, landlock::RulesetError> {
    let abi = ABI::V5;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let write = AccessFs::from_all(abi) & !(AccessFs::Execute | AccessFs::Refer);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?;
    for (paths, access) in [
        (&files.read, read),
        (&files.write, write),
        (&files.devices, device),
    ] {
        for path in paths {
            // A path that does not exist needs no permission.
            let Ok(fd) = PathFd::new(path) else { continue };
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(abi)
            };
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}
