//! Which system calls disks need, for the filters of a sandboxed process.
//!
//! [`Disk::open`](crate::Disk::open) is meant to be called before the sandbox closes, or with a
//! [`FileMap`](crate::FileMap). What Rust's run time needs anywhere (memory, signals, the end of a
//! thread) is in the lists as far as a queue's threads use it. One call may be refused, but with an
//! error: glibc tries to `openat` `/sys/devices/system/cpu/online` when a thread first allocates
//! memory, and does without.

use libc::c_long;

/// To make a queue: its ring, its event and its threads. To give it up: [`SERVE`] and these.
pub const QUEUE: &[c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_eventfd2,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_prctl,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
];

/// To serve requests: what the caller's thread and the queue's own threads do.
pub const SERVE: &[c_long] = &[
    // Transfers.
    libc::SYS_io_uring_enter,
    // When a queue goes away.
    libc::SYS_io_uring_register,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    // Discard on block devices, their size, and whose answers can be believed.
    libc::SYS_ioctl,
    libc::SYS_uname,
    // Tables of images, size of files.
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_statx,
    // Network block devices.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    // Locks of files, descriptors.
    libc::SYS_fcntl,
    libc::SYS_close,
    // Events, and threads that wait for each other.
    libc::SYS_write,
    libc::SYS_futex,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // The end of a thread.
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
];
