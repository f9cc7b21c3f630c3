//! `pmu.h`: performance counters (`HYPERVISOR_xenpmu_op`), numbers and the argument only.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major version of the interface.
pub const XENPMU_VER_MAJ: u32 = 0;
/// Minor version of the interface.
pub const XENPMU_VER_MIN: u32 = 1;
/// Read the mode.
pub const XENPMU_mode_get: u32 = 0;
/// Set the mode.
pub const XENPMU_mode_set: u32 = 1;
/// Read the features.
pub const XENPMU_feature_get: u32 = 2;
/// Set the features.
pub const XENPMU_feature_set: u32 = 3;
/// Start on a vCPU.
pub const XENPMU_init: u32 = 4;
/// Stop on a vCPU.
pub const XENPMU_finish: u32 = 5;
/// Write the APIC's LVTPC.
pub const XENPMU_lvtpc_set: u32 = 6;
/// Load the guest's counters.
pub const XENPMU_flush: u32 = 7;
/// No counters.
pub const XENPMU_MODE_OFF: u64 = 0;
/// Guests count themselves.
pub const XENPMU_MODE_SELF: u64 = 1;
/// dom0 counts the hypervisor too.
pub const XENPMU_MODE_HV: u64 = 2;
/// dom0 counts everything.
pub const XENPMU_MODE_ALL: u64 = 4;

/// Argument of `HYPERVISOR_xenpmu_op`.
///
/// `struct xen_pmu_params`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenPmuParams {
    /// Interface version (`version.maj`).
    pub version_maj: u32,
    /// Interface version (`version.min`).
    pub version_min: u32,
    /// Value in or out.
    pub val: u64,
    /// vCPU.
    pub vcpu: u32,
    /// Zero.
    pub pad: u32,
}
const _: () = assert!(size_of::<XenPmuParams>() == 24);
