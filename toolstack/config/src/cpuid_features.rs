//! Names of single feature bits in `cpuid = "host,…"`.
//!
//! Facts: names and positions from the public header `arch-x86/cpufeatureset.h` (lower case, `_`
//! written `-`); the older names are those that `xl` 4.17 still takes.

use crate::cpuid::CpuidRegister::{Eax, Ebx, Ecx, Edx};

/// A register of a CPUID leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) leaf: u32,
    pub(crate) subleaf: Option<u32>,
    pub(crate) register: crate::cpuid::CpuidRegister,
}

/// Registers with the names of their bits, from bit 0; `-` has no name.
pub(crate) const FEATURES: &[(Register, &str)] = &[
    (
        Register {
            leaf: 0x1,
            subleaf: None,
            register: Edx,
        },
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 psn clfsh \
         - ds acpi mmx fxsr sse sse2 ss htt tm1 ia64 pbe",
    ),
    (
        Register {
            leaf: 0x1,
            subleaf: None,
            register: Ecx,
        },
        "sse3 pclmulqdq dtes64 monitor dscpl vmx smx eist tm2 ssse3 cntxid - fma cx16 xtpr \
         pdcm - pcid dca sse4-1 sse4-2 x2apic movbe popcnt tsc-deadline aesni xsave osxsave \
         avx f16c rdrand hypervisor",
    ),
    (
        Register {
            leaf: 0x6,
            subleaf: None,
            register: Eax,
        },
        "- - arat",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(0),
            register: Ebx,
        },
        "fsgsbase tsc-adjust sgx bmi1 hle avx2 fdp-excp-only smep bmi2 erms invpcid rtm pqm \
         no-fpu-sel mpx pqe avx512f avx512dq rdseed adx smap avx512-ifma - clflushopt clwb \
         proc-trace avx512pf avx512er avx512cd sha avx512bw avx512vl",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(0),
            register: Ecx,
        },
        "prefetchwt1 avx512-vbmi umip pku ospke - avx512-vbmi2 cet-ss gfni vaes vpclmulqdq \
         avx512-vnni avx512-bitalg - avx512-vpopcntdq - - - - - - - rdpid - - cldemote - \
         movdiri movdir64b enqcmd",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(0),
            register: Edx,
        },
        "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect srbds-ctrl md-clear \
         rtm-always-abort - tsx-force-abort serialize hybrid tsxldtrk - - - cet-ibt - - \
         avx512-fp16 - - ibrsb stibp l1d-flush arch-caps core-caps ssbd",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(1),
            register: Eax,
        },
        "- - - - avx-vnni avx512-bf16 - - - - fzrm fsrs fsrcs - - - - fred lkgs wrmsrns \
         nmi-src - - avx-ifma",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(1),
            register: Ebx,
        },
        "intel-ppin",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(1),
            register: Edx,
        },
        "- - - - avx-vnni-int8 avx-ne-convert - - - - avx-vnni-int16 - - - - - - - cet-sss",
    ),
    (
        Register {
            leaf: 0x7,
            subleaf: Some(2),
            register: Edx,
        },
        "intel-psfd ipred-ctrl rrsba-ctrl - bhi-ctrl mcdt-no",
    ),
    (
        Register {
            leaf: 0xd,
            subleaf: Some(1),
            register: Eax,
        },
        "xsaveopt xsavec xgetbv1 xsaves",
    ),
    (
        Register {
            leaf: 0x80000001,
            subleaf: None,
            register: Edx,
        },
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - ffxsr page1gb rdtscp - \
         lm 3dnowext 3dnow",
    ),
    (
        Register {
            leaf: 0x80000001,
            subleaf: None,
            register: Ecx,
        },
        "lahf-lm cmp-legacy svm extapic cr8-legacy abm sse4a misalignsse 3dnowprefetch osvw \
         ibs xop skinit wdt - lwp fma4 - - nodeid-msr - tbm topoext perfctr_core perfctr_nb - \
         dbext - - monitorx",
    ),
    (
        Register {
            leaf: 0x80000007,
            subleaf: None,
            register: Edx,
        },
        "- - - - - - - hw-pstate itsc cpb efro",
    ),
    (
        Register {
            leaf: 0x80000008,
            subleaf: None,
            register: Ebx,
        },
        "clzero - rstr-fp-err-ptrs - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp ibrs-always \
         stibp-always ibrs-fast ibrs-same-mode no-lmsl - - amd-ppin amd-ssbd virt-ssbd ssb-no \
         - psfd btc-no ibpb-ret",
    ),
    (
        Register {
            leaf: 0x8000000a,
            subleaf: None,
            register: Edx,
        },
        "svm_npt svm_lbrv - svm_nrips svm_tscrate svm_vmcbclean - svm_decode - - \
         svm_pausefilt",
    ),
    (
        Register {
            leaf: 0x80000021,
            subleaf: None,
            register: Eax,
        },
        "- - lfence-dispatch - - verw-clear nscb - auto-ibrs - - - - - - - - - - - - - - - - \
         - - sbpb ibpb-brtype srso-no srso-us-no srso-msr-fix",
    ),
    (
        Register {
            leaf: 0x80000021,
            subleaf: None,
            register: Ecx,
        },
        "- tsa-sq-no tsa-l1-no",
    ),
];

/// `MSR_ARCH_CAPABILITIES`, and the names of its bits.
pub(crate) const ARCH_CAPS: (u32, &str) = (
    0x10a,
    "rdcl-no eibrs rsba skip-l1dfl intel-ssb-no mds-no if-pschange-mc-no tsx-ctrl taa-no \
         mcu-ctrl misc-pkg-ctrl energy-filtering doitm sbdr-ssdp-no fbsdp-no psdp-no - \
         fb-clear fb-clear-ctrl rrsba bhi-no xapic-status - ovrclk-status pbrsb-no gds-ctrl \
         gds-no rfds-no rfds-clear - - - - - - - - - - - - - - - - - - - - - - - - - - - - - \
         - - - - its-no",
);

/// Older names, each before the name it stands for.
pub(crate) const ALIASES: &str = "aes=aesni altmovcr8=cr8-legacy cmplegacy=cmp-legacy cmpxchg16=cx16 cmpxchg8=cx8 cmt=pqm \
     est=eist invtsc=itsc lahfsahf=lahf-lm lfence+=lfence-dispatch nodeid=nodeid-msr \
     sse4.1=sse4-1 sse4.2=sse4-2 sse4_1=sse4-1 sse4_2=sse4-2 sysenter=sep tm=tm1 \
     tsc_adjust=tsc-adjust";
