//! `vcpu.h`: control of virtual CPUs (`HYPERVISOR_vcpu_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Set the initial state, a `vcpu_guest_context` for PV.
pub const VCPUOP_initialise: u32 = 0;
/// Let the vCPU run.
pub const VCPUOP_up: u32 = 1;
/// Stop the vCPU.
pub const VCPUOP_down: u32 = 2;
/// 1 if it runs.
pub const VCPUOP_is_up: u32 = 3;
/// Read its [`VcpuRunstateInfo`].
pub const VCPUOP_get_runstate_info: u32 = 4;
/// Keep a [`VcpuRunstateInfo`] up to date in guest memory.
pub const VCPUOP_register_runstate_memory_area: u32 = 5;
/// Start the periodic timer.
pub const VCPUOP_set_periodic_timer: u32 = 6;
/// Stop the periodic timer.
pub const VCPUOP_stop_periodic_timer: u32 = 7;
/// Start the one-shot timer.
pub const VCPUOP_set_singleshot_timer: u32 = 8;
/// Stop the one-shot timer.
pub const VCPUOP_stop_singleshot_timer: u32 = 9;
/// Move the vCPU's `vcpu_info`.
pub const VCPUOP_register_vcpu_info: u32 = 10;
/// Send an NMI.
pub const VCPUOP_send_nmi: u32 = 11;
/// Physical identifiers of a pinned vCPU.
pub const VCPUOP_get_physid: u32 = 12;
/// Keep a `vcpu_time_info` up to date in guest memory, for user space.
pub const VCPUOP_register_vcpu_time_memory_area: u32 = 13;

/// Where a vCPU's time went.
///
/// `struct vcpu_runstate_info`, 48 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuRunstateInfo {
    /// `RUNSTATE_*`.
    pub state: i32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// System time (ns) the state was entered; `XEN_RUNSTATE_UPDATE` while it changes.
    pub state_entry_time: u64,
    /// Nanoseconds in each state.
    pub time: [u64; 4],
}
const _: () = assert!(size_of::<VcpuRunstateInfo>() == 48);
/// The area is being updated.
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;
/// Running on a physical CPU.
pub const RUNSTATE_running: i32 = 0;
/// Could run, no physical CPU free.
pub const RUNSTATE_runnable: i32 = 1;
/// Waits for an event.
pub const RUNSTATE_blocked: i32 = 2;
/// Offline or paused.
pub const RUNSTATE_offline: i32 = 3;

/// `VCPUOP_register_runstate_memory_area`.
///
/// `struct vcpu_register_runstate_memory_area`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuRegisterRunstateMemoryArea {
    /// Virtual address of a [`VcpuRunstateInfo`].
    pub addr: GuestHandle,
}
const _: () = assert!(size_of::<VcpuRegisterRunstateMemoryArea>() == 8);

/// `VCPUOP_set_periodic_timer`.
///
/// `struct vcpu_set_periodic_timer`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuSetPeriodicTimer {
    /// Nanoseconds, at least a millisecond.
    pub period_ns: u64,
}
const _: () = assert!(size_of::<VcpuSetPeriodicTimer>() == 8);

/// `VCPUOP_set_singleshot_timer`.
///
/// `struct vcpu_set_singleshot_timer`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuSetSingleshotTimer {
    /// System time in nanoseconds.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_future` or 0.
    pub flags: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<VcpuSetSingleshotTimer>() == 16);
/// Fail with `-ETIME` when the time has passed.
pub const VCPU_SSHOTTMR_future: u32 = 1;

/// `VCPUOP_register_vcpu_info`.
///
/// `struct vcpu_register_vcpu_info`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    /// Frame (machine frame for PV).
    pub mfn: u64,
    /// Byte offset in it.
    pub offset: u32,
    /// Unused.
    pub rsvd: u32,
}
const _: () = assert!(size_of::<VcpuRegisterVcpuInfo>() == 16);

/// `VCPUOP_get_physid`.
///
/// `struct vcpu_get_physid`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuGetPhysid {
    /// Low half: APIC ID; high half: ACPI ID.
    pub phys_id: u64,
}
const _: () = assert!(size_of::<VcpuGetPhysid>() == 8);

/// `VCPUOP_register_vcpu_time_memory_area`.
///
/// `struct vcpu_register_time_memory_area`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuRegisterTimeMemoryArea {
    /// Virtual address of a `vcpu_time_info`.
    pub addr: GuestHandle,
}
const _: () = assert!(size_of::<VcpuRegisterTimeMemoryArea>() == 8);
