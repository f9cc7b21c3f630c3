//! What the ring-0 image may not contain: floating point and vector registers,
//! which belong to the guest and which no entry saves, and whatever not every
//! processor has.

use std::collections::BTreeSet;

use goblin::elf::{Elf, program_header::PT_LOAD};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic};

/// Only reached when the processor has it ([`Mnemonic::Rdgsbase`] and so on).
const CHECKED_AT_START: [CpuidFeature; 1] = [CpuidFeature::FSGSBASE];

const EVERYWHERE: [CpuidFeature; 17] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL8086_ONLY,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::CX8,
    CpuidFeature::MSR,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::SYSCALL,
    CpuidFeature::TSC,
    CpuidFeature::FXSR,
    CpuidFeature::UDBG,
];

fn image() -> Vec<u8> {
    std::fs::read(env!("XENNER_EMU")).expect("the image was built")
}

/// The executable segments: address and bytes.
fn code(image: &[u8]) -> Vec<(u64, &[u8])> {
    let elf = Elf::parse(image).expect("an ELF file");
    let loaded = elf.program_headers.iter().filter(|s| s.p_type == PT_LOAD);
    loaded
        .filter(|segment| segment.is_executable())
        .map(|segment| (segment.p_vaddr, &image[segment.file_range()]))
        .collect()
}

/// Whether the linker or the compiler put this there to fill a gap.
fn padding(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Int3 | Mnemonic::Nop | Mnemonic::Ud2
    )
}

/// TZCNT is REP BSF, and without BMI1 works as BSF: the same but for an operand
/// of zero, which the compiler has excluded where it emits it.
fn bit_scan(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Tzcnt
}

fn allowed(instruction: &Instruction) -> bool {
    let fine = |feature| EVERYWHERE.contains(feature) || CHECKED_AT_START.contains(feature);
    padding(instruction)
        || bit_scan(instruction)
        || !instruction.is_invalid() && instruction.cpuid_features().iter().all(fine)
}

fn offenders(address: u64, bytes: &[u8]) -> BTreeSet<String> {
    Decoder::with_ip(64, bytes, address, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| !allowed(instruction))
        .map(|i| format!("{:#x}: {i} ({:?})", i.ip(), i.cpuid_features()))
        .collect()
}

#[test]
fn the_image_holds_plain_integer_code_only() {
    let image = image();
    let segments = code(&image);
    assert!(!segments.is_empty(), "the image has no code");
    for (address, bytes) in segments {
        let found = offenders(address, bytes);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn vector_code_is_found() {
    // movaps xmm0, xmm1; fld1; popcnt rax, rax; cmpxchg16b [rdi]; vzeroupper; stac
    for bytes in [
        &[0x0f, 0x28, 0xc1][..],
        &[0xd9, 0xe8],
        &[0xf3, 0x48, 0x0f, 0xb8, 0xc0],
        &[0x48, 0x0f, 0xc7, 0x0f],
        &[0xc5, 0xf8, 0x77],
        &[0x0f, 0x01, 0xcb],
    ] {
        assert_eq!(offenders(0, bytes).len(), 1, "{bytes:x?}");
    }
    // mov rax, [rdi]; wrgsbase rax; sysretq
    let plain = [
        0x48, 0x8b, 0x07, 0xf3, 0x48, 0x0f, 0xae, 0xd8, 0x48, 0x0f, 0x07,
    ];
    assert!(offenders(0, &plain).is_empty());
}
