//! The strings with a syntax of their own: disks, network interfaces, CPUID.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xt_config::SpecError;
use xt_config::cpuid::{BitChanges, CpuidSpec};
use xt_config::disk::DiskSpec;
use xt_config::vif::VifSpec;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match kind % 4 {
        0 => match text.parse::<DiskSpec>() {
            Ok(disk) => {
                assert!(disk.target.is_some() || disk.cdrom);
                assert!(disk.readonly || !disk.cdrom);
            }
            Err(error) => placed(text, &error),
        },
        1 => match text.parse::<VifSpec>() {
            Ok(vif) => assert!(
                vif.rate
                    .is_none_or(|r| r.bytes_per_interval > 0 && r.interval_us > 0)
            ),
            Err(error) => placed(text, &error),
        },
        2 => match CpuidSpec::parse_libxl(text) {
            Ok(spec) => checked(&spec),
            Err(error) => placed(text, &error),
        },
        _ => {
            let mut spec = CpuidSpec::default();
            for line in text.lines() {
                if let Err(error) = spec.add_xend(line) {
                    placed(line, &error);
                }
            }
            checked(&spec);
        }
    }
});

/// The place of an error is a part of the text.
fn placed(text: &str, error: &SpecError) {
    assert!(
        text.get(error.range.clone()).is_some(),
        "{text:?}: {error:?}"
    );
    assert!(!error.message.is_empty());
}

/// No bit is to be two things, and none is beyond its register.
fn checked(spec: &CpuidSpec) {
    let disjoint = |bits: &BitChanges| {
        assert_eq!(
            bits.one & bits.zero | bits.one & bits.host | bits.zero & bits.host,
            0
        );
        bits.one | bits.zero | bits.host
    };
    for leaf in &spec.leaves {
        for register in [&leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx] {
            assert!(disjoint(register) <= u64::from(u32::MAX));
        }
    }
    for msr in &spec.msrs {
        disjoint(&msr.bits);
    }
}
