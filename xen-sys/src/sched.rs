//! `sched.h`: yielding, blocking, shutting down (`HYPERVISOR_sched_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, GuestHandle};

/// Let others run.
pub const SCHEDOP_yield: u32 = 0;
/// Unmask events and wait for one.
pub const SCHEDOP_block: u32 = 1;
/// End the domain, see [`SchedShutdown`].
pub const SCHEDOP_shutdown: u32 = 2;
/// Wait for given ports, masked or not, see [`SchedPoll`].
pub const SCHEDOP_poll: u32 = 3;
/// End another domain.
pub const SCHEDOP_remote_shutdown: u32 = 4;
/// Set the reason of a coming shutdown.
pub const SCHEDOP_shutdown_code: u32 = 5;
/// Watchdog timer, see [`SchedWatchdog`].
pub const SCHEDOP_watchdog: u32 = 6;
/// Pin the vCPU for a while; dom0.
pub const SCHEDOP_pin_override: u32 = 7;

/// `SCHEDOP_shutdown`.
///
/// `struct sched_shutdown`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedShutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
const _: () = assert!(size_of::<SchedShutdown>() == 4);

/// `SCHEDOP_poll`.
///
/// `struct sched_poll`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedPoll {
    /// Array of ports, 4 bytes each.
    pub ports: GuestHandle,
    /// Ports; at most 128.
    pub nr_ports: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// System time in nanoseconds at which to return; 0: never.
    pub timeout: u64,
}
const _: () = assert!(size_of::<SchedPoll>() == 24);

/// `SCHEDOP_remote_shutdown`.
///
/// `struct sched_remote_shutdown`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    /// Domain to end.
    pub domain_id: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
const _: () = assert!(size_of::<SchedRemoteShutdown>() == 8);

/// `SCHEDOP_watchdog`.
///
/// `struct sched_watchdog`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedWatchdog {
    /// 0 makes a watchdog, else the one to change; the call returns its number.
    pub id: u32,
    /// Seconds; 0 removes it.
    pub timeout: u32,
}
const _: () = assert!(size_of::<SchedWatchdog>() == 8);

/// `SCHEDOP_pin_override`.
///
/// `struct sched_pin_override`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SchedPinOverride {
    /// Physical CPU, negative to end the override.
    pub pcpu: i32,
}
const _: () = assert!(size_of::<SchedPinOverride>() == 4);

/// Clean power off.
pub const SHUTDOWN_poweroff: u32 = 0;
/// Clean reboot.
pub const SHUTDOWN_reboot: u32 = 1;
/// State is saved, wait for resume.
pub const SHUTDOWN_suspend: u32 = 2;
/// The guest crashed.
pub const SHUTDOWN_crash: u32 = 3;
/// The watchdog expired.
pub const SHUTDOWN_watchdog: u32 = 4;
/// Reset the Xen state, keep the memory (kexec).
pub const SHUTDOWN_soft_reset: u32 = 5;
/// Highest reason.
pub const SHUTDOWN_MAX: u32 = 5;
