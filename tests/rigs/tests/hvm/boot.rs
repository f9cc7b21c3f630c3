//! The ways in which HVM domains boot, each to the user space of a guest that ends by itself.

use xenner_rigs::RigSpec;
use xenner_rigs::rig_x::Domain;

use crate::dom0::{Dom0, domain, is_sound};

#[track_caller]
fn sound(dom0: &mut Dom0, domain: &Domain) {
    let console = dom0.run_with_xt(domain);
    let sound = is_sound(&console, domain.vcpus);
    assert!(sound, "{}:\n{console}", domain.name);
}

/// Memory on both sides of the hole, and the smallest hole and the largest.
#[test]
#[ignore = "minutes; for the nightly run"]
fn memory_above_4_gib() {
    let spec = RigSpec {
        memory_mib: 8192,
        ..RigSpec::default()
    };
    let mut dom0 = Dom0::boot(spec);
    let mut large = domain("large", 1, "");
    large.memory_mib = 5120;
    sound(&mut dom0, &large);
    let mut hole = domain("hole", 4, "mmio_hole = 2048");
    hole.memory_mib = 5120;
    sound(&mut dom0, &hole);
}

/// UEFI finds the kernel, too.
#[test]
#[ignore = "minutes; for the nightly run"]
fn ovmf_boots_a_kernel() {
    let mut dom0 = Dom0::boot(RigSpec::default());
    let mut uefi = domain("uefi", 1, "bios = \"ovmf\"");
    uefi.memory_mib = 512;
    sound(&mut dom0, &uefi);
}
