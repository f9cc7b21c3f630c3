//! What a domain sees of the processor: the hypervisor's default for its type, with the changes that
//! the user asks for.

use xen_sys::DomId;
use xen_sys::arch_x86::{XEN_CPUID_NO_SUBLEAF, XenCpuidLeaf};
use xen_sys::sysctl::XEN_SYSCTL_cpu_policy_host;
use xt_config::DomainSpec;
use xt_config::cpuid::{CpuidSpec, MsrChanges};
use xt_host::{HostError, Result};
use xt_host_xen::Control;
use xt_host_xen::domctl::CpuPolicy;

use crate::failed;

/// Sets a new domain's policy.
pub(crate) fn set_policy(control: &Control, domid: DomId, spec: &DomainSpec) -> Result<()> {
    if spec.cpuid.leaves.is_empty() && spec.cpuid.msrs.is_empty() {
        // The default is what Xen gives by itself.
        return Ok(());
    }
    let unread = "Cannot read the CPU policy";
    let mut policy = control.cpu_policy(domid).map_err(failed(unread))?;
    let host = control
        .host_cpu_policy(XEN_SYSCTL_cpu_policy_host)
        .map_err(failed(unread))?;
    change(&mut policy, &host, &spec.cpuid)?;
    control
        .set_cpu_policy(domid, &policy)
        .map_err(|error| HostError::Config(format!("cpuid: {error}: {}", error.source)))
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
