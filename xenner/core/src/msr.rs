//! Model-specific registers as a PV kernel sees them (Xen's `guest_rdmsr`,
//! `guest_wrmsr` and `emul-priv-op.c` are the reference for what is visible).

use xen_sys::addr::Vaddr;

use crate::machine::Base;
use crate::{Domain, Machine, Vcpu};

const IA32_TSC: u32 = 0x10;
const IA32_PLATFORM_ID: u32 = 0x17;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_UCODE_REV: u32 = 0x8b;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
/// The first of Xen's own, which fills a hypercall page when written by other
/// guests than PV ones.
const XEN_MSR: u32 = 0x4000_0000;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Xen's fixed page attribute table (`XEN_MSR_PAT`).
pub const XEN_PAT: u64 = 0x0000_0501_0007_0406;

/// Reads a register; `None` means a general protection fault.
pub fn read<M: Machine>(m: &M, _d: &Domain, v: &Vcpu, msr: u32) -> Option<u64> {
    match msr {
        IA32_TSC => Some(m.tsc()),
        FS_BASE => Some(m.base(Base::Fs)),
        GS_BASE => Some(m.base(Base::Gs)),
        KERNEL_GS_BASE => Some(v.gs_base_user),
        // Long mode, system calls and no-execute are on and stay so.
        EFER => Some(0xd01),
        PAT => Some(XEN_PAT),
        XEN_MSR => Some(0),
        IA32_APIC_BASE => Some(0xfee0_0800 | if v.id == 0 { 0x100 } else { 0 }),
        IA32_PLATFORM_ID | IA32_UCODE_REV | MCG_CAP | MCG_STATUS | MISC_ENABLE => Some(0),
        _ => None,
    }
}

/// Writes a register; `None` means a general protection fault.
pub fn write<M: Machine>(m: &mut M, _d: &Domain, v: &mut Vcpu, msr: u32, value: u64) -> Option<()> {
    match msr {
        FS_BASE | GS_BASE | KERNEL_GS_BASE => {
            if !Vaddr(value).is_canonical() {
                return None;
            }
            match msr {
                FS_BASE => m.set_base(Base::Fs, value),
                GS_BASE => m.set_base(Base::Gs, value),
                _ => v.gs_base_user = value,
            }
            Some(())
        }
        EFER => (value & !0x500 == 0x801).then_some(()),
        PAT => (value == XEN_PAT).then_some(()),
        MISC_ENABLE => {
            if read(m, _d, v, msr) == Some(value) {
                Some(())
            } else {
                None
            }
        }
        IA32_UCODE_REV => Some(()),
        _ => None,
    }
}
