//! What a domain sees of the processor: the hypervisor's default for its type, with the changes that
//! the user asks for.

use xen_sys::DomId;
use xen_sys::arch_x86::{XEN_CPUID_NO_SUBLEAF, XenCpuidLeaf};
use xen_sys::sysctl::XEN_SYSCTL_cpu_policy_host;
use xt_config::cpuid::{CpuidSpec, MsrChanges};
use xt_config::{DomainSpec, DomainType};
use xt_host::{HostError, Result};
use xt_host_xen::Control;
use xt_host_xen::domctl::CpuPolicy;

use crate::failed;

/// Sets a new domain's policy.
pub(crate) fn set_policy(control: &Control, domid: DomId, spec: &DomainSpec) -> Result<()> {
    let changed = !spec.cpuid.leaves.is_empty() || !spec.cpuid.msrs.is_empty();
    let translated = spec.domain_type != DomainType::Pv;
    if !changed && !translated {
        // The default is what Xen gives by itself.
        return Ok(());
    }
    let unread = "Cannot read the CPU policy";
    let mut policy = control.cpu_policy(domid).map_err(failed(unread))?;
    if translated {
        own_topology(&mut policy);
    }
    if changed {
        let host = control
            .host_cpu_policy(XEN_SYSCTL_cpu_policy_host)
            .map_err(failed(unread))?;
        change(&mut policy, &host, &spec.cpuid)?;
    }
    control
        .set_cpu_policy(domid, &policy)
        .map_err(|error| HostError::Config(format!("cpuid: {error}: {}", error.source)))
}

/// Leaf 1, EDX: there are several logical processors.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX: the legacy method of counting them.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0, EBX, of AMD's processors and Hygon's.
const AMD: [u32; 2] = [0x6874_7541, 0x6f67_7948];

/// Makes room for the identifiers that Xen gives local APICs, twice the vCPU's number: the host's
/// counts are doubled, as libxenguest does for each HVM and PVH domain.
fn own_topology(policy: &mut CpuPolicy) {
    let vendor = policy.leaves.iter().find(|leaf| leaf.leaf == 0);
    let is_amd = vendor.is_some_and(|leaf| AMD.contains(&leaf.b));
    for leaf in &mut policy.leaves {
        match leaf.leaf {
            1 => {
                leaf.d |= HTT;
                let count = leaf.b >> 16 & 0xff;
                if count < 0x80 {
                    leaf.b = leaf.b & !(0xff << 16) | (count * 2) << 16;
                }
            }
            4 if !is_amd && leaf.a & 0x1f != 0 => {
                let cores = leaf.a >> 26;
                leaf.a = leaf.a & 0x3fff | (cores << 1 | 1) << 26;
            }
            0x8000_0001 => leaf.c &= !CMP_LEGACY,
            0x8000_0008 if is_amd => {
                let (cores, size) = (leaf.c & 0xff, leaf.c >> 12 & 0xf);
                if cores < 0x7f {
                    let size = if matches!(size, 0 | 0xf) {
                        size
                    } else {
                        size + 1
                    };
                    leaf.c = leaf.c & !0xf0ff | size << 12 | cores << 1 | 1;
                }
            }
            _ => {}
        }
    }
}

/// Applies the user's changes.
fn change(policy: &mut CpuPolicy, host: &CpuPolicy, spec: &CpuidSpec) -> Result<()> {
    for change in &spec.leaves {
        let subleaf = change.subleaf.unwrap_or(XEN_CPUID_NO_SUBLEAF);
        let is_it = |leaf: &XenCpuidLeaf| {
            leaf.leaf == change.leaf
                && (leaf.subleaf == subleaf
                    || (change.subleaf.is_none() && leaf.subleaf == 0)
                    || (change.subleaf == Some(0) && leaf.subleaf == XEN_CPUID_NO_SUBLEAF))
        };
        let hosts = host.leaves.iter().copied().find(&is_it).unwrap_or_default();
        let Some(ours) = policy.leaves.iter_mut().find(|leaf| is_it(leaf)) else {
            return Err(HostError::Config(format!(
                "cpuid: this hypervisor's policy has no leaf {:#x} to change.",
                change.leaf
            )));
        };
        ours.a = change.eax.apply32(ours.a, hosts.a);
        ours.b = change.ebx.apply32(ours.b, hosts.b);
        ours.c = change.ecx.apply32(ours.c, hosts.c);
        ours.d = change.edx.apply32(ours.d, hosts.d);
    }
    for MsrChanges { index, bits } in &spec.msrs {
        let hosts = host.msrs.iter().find(|msr| msr.idx == *index);
        let hosts = hosts.map_or(0, |msr| msr.val);
        let Some(ours) = policy.msrs.iter_mut().find(|msr| msr.idx == *index) else {
            return Err(HostError::Config(format!(
                "cpuid: this hypervisor's policy has no MSR {index:#x} to change."
            )));
        };
        ours.val = bits.apply(ours.val, hosts);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_processors_are_doubled() {
        let leaf = |leaf, b, c| XenCpuidLeaf {
            leaf,
            subleaf: XEN_CPUID_NO_SUBLEAF,
            b,
            c,
            ..Default::default()
        };
        let mut policy = CpuPolicy {
            leaves: vec![
                leaf(0, AMD[0], 0),
                leaf(1, 0x0002_0800, 0),
                leaf(0x8000_0001, 0, 0x1f3),
                leaf(0x8000_0008, 0, 0x1001),
            ],
            msrs: Vec::new(),
        };
        own_topology(&mut policy);
        assert_eq!((policy.leaves[1].b, policy.leaves[1].d), (0x0004_0800, HTT));
        assert_eq!(policy.leaves[2].c, 0x1f1);
        assert_eq!(policy.leaves[3].c, 0x2003);
    }

    #[test]
    fn bits_are_forced_and_taken_from_the_host() {
        let leaf = |leaf, subleaf, b| XenCpuidLeaf {
            leaf,
            subleaf,
            b,
            ..Default::default()
        };
        let mut policy = CpuPolicy {
            leaves: vec![leaf(1, XEN_CPUID_NO_SUBLEAF, 0b1010), leaf(7, 0, 0b1010)],
            msrs: Vec::new(),
        };
        let host = CpuPolicy {
            leaves: vec![leaf(1, XEN_CPUID_NO_SUBLEAF, !0), leaf(7, 0, 0b0001)],
            msrs: Vec::new(),
        };
        let mut spec = CpuidSpec::default();
        spec.add_xend("7:ebx=xxxxxxxxxxxxxxxxxxxxxxxxxxxx01xk")
            .unwrap();
        change(&mut policy, &host, &spec).unwrap();
        assert_eq!(policy.leaves[0].b, 0b1010);
        assert_eq!(policy.leaves[1].b, 0b0111);
        let mut unknown = CpuidSpec::default();
        unknown
            .add_xend("0x55:eax=00000000000000000000000000000000")
            .unwrap();
        let error = change(&mut policy, &host, &unknown).unwrap_err();
        assert!(error.to_string().contains("no leaf 0x55"), "{error}");
    }
}
