//! `HYPERVISOR_xen_version`: this is Xen 4.17.

use xen_sys::addr::Vaddr;
use xen_sys::errno::Errno;
use xen_sys::features::*;
use xen_sys::version::*;

use crate::{Domain, Machine, Ret, Vcpu, guest};

/// `XENVER_version`: the release whose results and error codes these are.
pub const XEN_VERSION: u32 = 4 << 16 | 17;
/// `XENVER_extraversion`.
pub const EXTRAVERSION: &str = ".7-xenner";
/// `XENVER_capabilities`: 64-bit PV domains. Xen leaves the blank at the end.
pub const CAPABILITIES: &str = "xen-3.0-x86_64 ";
/// `XENVER_changeset`: Xen's own words for a build outside a repository.
pub const CHANGESET: &str = "unavailable";

/// `HYPERVISOR_VIRT_START` of `xen-x86_64.h`.
const VIRT_START: u64 = xen_sys::arch_x86::HYPERVISOR_VIRT_START;

/// Feature submap 0 as a PV domU sees it. `direct_mapped` is set for every PV
/// domain: its guest frame numbers are machine frame numbers.
const FEATURES: u32 = 1 << XENFEAT_memory_op_vnode_supported
    | 1 << XENFEAT_mmu_pt_update_preserve_ad
    | 1 << XENFEAT_highmem_assist
    | 1 << XENFEAT_gnttab_map_avail_bits
    | 1 << XENFEAT_direct_mapped;

/// `HYPERVISOR_xen_version` (`xen/include/public/version.h`).
///
/// # Errors
/// `EFAULT` when the answer cannot be copied, `EINVAL` for an unknown feature
/// submap, `EPERM` for what only dom0 may know, `ENOSYS` for an unknown
/// command.
pub fn xen_version<M: Machine>(m: &mut M, d: &Domain, _v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    match cmd as u32 {
        XENVER_version => Ok(u64::from(XEN_VERSION)),
        XENVER_extraversion => text::<XEN_EXTRAVERSION_LEN, M>(m, arg, EXTRAVERSION),
        XENVER_compile_info => {
            let info = XenCompileInfo {
                compiler: padded("rustc"),
                compile_by: padded(""),
                compile_domain: padded(""),
                compile_date: padded(""),
            };
            guest::put(m, arg, &info).map(|()| 0)
        }
        XENVER_capabilities => text::<XEN_CAPABILITIES_INFO_LEN, M>(m, arg, CAPABILITIES),
        XENVER_changeset => text::<XEN_CHANGESET_INFO_LEN, M>(m, arg, CHANGESET),
        XENVER_platform_parameters => {
            let parameters = XenPlatformParameters {
                virt_start: Vaddr(VIRT_START),
            };
            guest::put(m, arg, &parameters).map(|()| 0)
        }
        XENVER_get_features => {
            let mut info: XenFeatureInfo = guest::get(m, arg)?;
            if info.submap_idx >= XENFEAT_NR_SUBMAPS {
                return Err(Errno::EINVAL);
            }
            info.submap = FEATURES;
            if d.has_assist(xen_sys::xen::VMASST_TYPE_pae_extended_cr3) {
                info.submap |= 1 << XENFEAT_pae_pgdir_above_4gb;
            }
            guest::put(m, arg, &info).map(|()| 0)
        }
        XENVER_pagesize => Ok(xen_sys::addr::PAGE_SIZE as u64),
        XENVER_guest_handle => guest::put(m, arg, &d.config.handle).map(|()| 0),
        // Xen answers with these words and copies no more than them.
        XENVER_commandline => guest::put(m, arg, b"<denied>\0").map(|()| 0),
        XENVER_build_id => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

fn text<const N: usize, M: Machine>(m: &mut M, arg: Vaddr, text: &str) -> Ret {
    guest::put(m, arg, &padded::<N>(text)).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use xen_sys::addr::Vaddr;

    fn call(f: &mut Fake, cmd: u32) -> Ret {
        f.call(|m, d, v| xen_version(m, d, v, u64::from(cmd), Fake::ARG))
    }

    #[test]
    fn is_4_17() {
        assert_eq!(call(&mut Fake::new(), XENVER_version), Ok(0x0004_0011));
    }

    #[test]
    fn strings_fill_their_buffers() {
        let mut f = Fake::new();
        f.fill(Fake::ARG, 0xff, 1025);
        assert_eq!(call(&mut f, XENVER_capabilities), Ok(0));
        let bytes: [u8; 1025] = f.peek(Fake::ARG);
        assert_eq!(&bytes[..16], b"xen-3.0-x86_64 \0");
        assert_eq!((bytes[1023], bytes[1024]), (0, 0xff));
        assert_eq!(call(&mut f, XENVER_commandline), Ok(0));
        assert_eq!(&f.peek::<[u8; 9]>(Fake::ARG), b"<denied>\0");
    }

    #[test]
    fn features_of_a_pv_domain() {
        let mut f = Fake::new();
        f.poke(
            Fake::ARG,
            &XenFeatureInfo {
                submap_idx: 0,
                submap: 0,
            },
        );
        assert_eq!(call(&mut f, XENVER_get_features), Ok(0));
        assert_eq!(f.peek::<XenFeatureInfo>(Fake::ARG).submap, 0x220e0);
        f.poke(
            Fake::ARG,
            &XenFeatureInfo {
                submap_idx: 1,
                submap: 0,
            },
        );
        assert_eq!(call(&mut f, XENVER_get_features), Err(Errno::EINVAL));
    }

    #[test]
    fn refusals() {
        let mut f = Fake::new();
        assert_eq!(call(&mut f, XENVER_build_id), Err(Errno::EPERM));
        assert_eq!(call(&mut f, 11), Err(Errno::ENOSYS));
        let unmapped = Vaddr(0xdead_0000_0000);
        let r = f.call(|m, d, v| xen_version(m, d, v, u64::from(XENVER_changeset), unmapped));
        assert_eq!(r, Err(Errno::EFAULT));
    }
}
