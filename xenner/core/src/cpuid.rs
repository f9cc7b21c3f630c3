//! The CPUID policy: what a PV kernel sees behind the forced-emulation prefix.
//!
//! The host gives KVM a table for the domain; this filter hides what a PV
//! kernel cannot use, as Xen's PV policy does, and adds Xen's own leaves
//! (`arch-x86/cpuid.h`). What user processes read with the plain instruction
//! is KVM's table.

use xen_sys::arch_x86::{
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_FIRST_LEAF, XEN_CPUID_MAX_NUM_LEAVES,
    XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
};

use crate::{Domain, Machine, Vcpu};

/// CR4 bits a PV kernel may change: TSD, DE, and those its CPUID offers.
pub const CR4_ALLOWED: u64 = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18;

const LEAF1_ECX_HIDDEN: u32 = bits(&[2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 17, 18, 21, 24]);
const LEAF1_EDX_HIDDEN: u32 = bits(&[1, 3, 12, 13, 17, 21, 22, 27, 29, 31]);
const LEAF7_EBX_HIDDEN: u32 = bits(&[1, 2, 6, 7, 10, 12, 13, 14, 15, 20, 22, 25]);
const LEAF7_ECX_HIDDEN: u32 = bits(&[2, 3, 4, 5, 7, 13, 16, 23, 24, 29, 30, 31]);
/// Speculation controls among them: they are registers of the host's.
const LEAF7_EDX_HIDDEN: u32 = bits(&[5, 10, 11, 13, 16, 18, 19, 20, 24, 26, 27, 28, 29, 30, 31]);
/// AVX-VNNI, AVX512-BF16, fast short REP, AVX-IFMA.
const LEAF7_1_EAX_SHOWN: u32 = bits(&[4, 5, 10, 11, 12, 23]);
/// CLZERO, XSAVEERPTR, WBNOINVD.
const EXT8_EBX_SHOWN: u32 = bits(&[0, 2, 9]);
const EXT1_ECX_HIDDEN: u32 = bits(&[2, 3, 9, 10, 12, 13, 15, 19, 22, 23, 24, 27, 28, 29, 30]);
const EXT1_EDX_HIDDEN: u32 = bits(&[1, 3, 7, 12, 13, 17, 26]);
const HYPERVISOR: u32 = 1 << 31;
/// EBX of leaf 0: "Auth".
const AUTHENTIC_AMD: u32 = 0x6874_7541;

const fn bits(list: &[u32]) -> u32 {
    let mut mask = 0;
    let mut index = 0;
    while index < list.len() {
        mask |= 1 << list[index];
        index += 1;
    }
    mask
}

/// One leaf: eax, ebx, ecx, edx.
pub fn policy<M: Machine>(m: &M, d: &Domain, v: &Vcpu, leaf: u32, subleaf: u32) -> [u32; 4] {
    const XEN_LAST_LEAF: u32 = XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES;
    if (XEN_CPUID_FIRST_LEAF..XEN_CPUID_FIRST_LEAF + 0x100).contains(&leaf) {
        return if leaf <= XEN_LAST_LEAF {
            xen_leaf(d, leaf, subleaf)
        } else {
            [0; 4]
        };
    }
    let [mut a, mut b, mut c, mut x] = m.cpuid(leaf, subleaf);
    match leaf {
        1 => {
            c = c & !LEAF1_ECX_HIDDEN | HYPERVISOR;
            x &= !LEAF1_EDX_HIDDEN;
            // SYSENTER does not work in long mode there.
            if m.cpuid(0, 0)[1] == AUTHENTIC_AMD {
                x &= !(1 << 11);
            }
            // A kernel that asks Xen sees Xen's own OSXSAVE before it has set
            // its CR4: Linux takes it for the leave to use XSAVE.
            let xsave = c >> 26 & 1 != 0 && (v.in_kernel || v.cr4 >> 18 & 1 != 0);
            c = c & !(1 << 27) | u32::from(xsave) << 27;
            b = b & 0x00ff_ffff | (v.id as u32) << 25;
        }
        // No deterministic monitor, thermal, performance monitoring.
        5 | 6 | 10 | 14..=30 | 32..=0x3fff_ffff => (a, b, c, x) = (0, 0, 0, 0),
        7 if subleaf == 0 => {
            b &= !LEAF7_EBX_HIDDEN;
            c &= !LEAF7_ECX_HIDDEN;
            x &= !LEAF7_EDX_HIDDEN;
        }
        7 => {
            (a, b, c, x) = if subleaf == 1 {
                (a & LEAF7_1_EAX_SHOWN, 0, 0, 0)
            } else {
                (0, 0, 0, 0)
            }
        }
        // Topology: every virtual CPU is a package of its own.
        11 | 31 => (a, b, c, x) = (0, 0, subleaf & 0xff, (v.id as u32) * 2),
        13 if subleaf == 1 => {
            // XSAVES is the hypervisor's own, and so are the states it saves.
            a &= !(1 << 3);
            (b, c, x) = (compacted_size(m), 0, 0);
        }
        13 if subleaf > 1 && !user_state(m, subleaf) => (a, b, c, x) = (0, 0, 0, 0),
        0x8000_0001 => {
            c &= !EXT1_ECX_HIDDEN;
            x &= !EXT1_EDX_HIDDEN;
        }
        0x8000_0008 => b &= EXT8_EBX_SHOWN,
        0x8000_000a | 0x8000_001b..=0x8000_00ff => (a, b, c, x) = (0, 0, 0, 0),
        _ => {}
    }
    [a, b, c, x]
}

/// Whether a state component may be in XCR0.
fn user_state<M: Machine>(m: &M, component: u32) -> bool {
    component < 32 && m.cpuid(13, 0)[0] >> component & 1 != 0
}

/// Bytes of a compacted XSAVE area with all states of XCR0 (processor manuals,
/// "Compacted format").
fn compacted_size<M: Machine>(m: &M) -> u32 {
    const LEGACY_AND_HEADER: u32 = 576;
    let mut size = LEGACY_AND_HEADER;
    for component in (2..32).filter(|n| user_state(m, *n)) {
        let [bytes, _, flags, _] = m.cpuid(13, component);
        if flags & 2 != 0 {
            size = size.next_multiple_of(64);
        }
        size = size.saturating_add(bytes);
    }
    size
}

/// Xen's leaves, for a PV domain.
fn xen_leaf(d: &Domain, leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf - XEN_CPUID_FIRST_LEAF {
        0 => [
            XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES,
            XEN_CPUID_SIGNATURE_EBX,
            XEN_CPUID_SIGNATURE_ECX,
            XEN_CPUID_SIGNATURE_EDX,
        ],
        1 => [crate::version::XEN_VERSION, 0, 0, 0],
        2 => [1, 0x4000_0000, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0],
        3 => match subleaf {
            0 => [0, 0, d.config.tsc_khz, 0],
            1 => [0, 0, d.config.tsc_to_system_mul, d.config.tsc_shift as u32],
            2 => [d.config.tsc_khz, 0, 0, 0],
            _ => [0; 4],
        },
        // Bits of the highest machine address.
        5 => [0, 12 + d.config.m2p_entries.max(1).ilog2() + 1, 0, 0],
        _ => [0; 4],
    }
}
