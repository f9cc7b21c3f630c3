use zerocopy::FromBytes;

use super::*;
use crate::memory::OwnMemory;

/// A firmware of 4 bytes at 1 MiB, 0x1800 bytes in memory.
fn firmware() -> Vec<u8> {
    let mut file = vec![0; 0x100];
    file[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    let halves = [(18, 3u16), (42, 32), (44, 1)];
    for (at, value) in halves {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    // Entry, program headers; then type, offset, physical address, sizes in file and memory.
    let words = [
        (24, 0x10_0002u32),
        (28, 52),
        (52, 1),
        (56, 0x80),
        (64, 0x10_0000),
        (68, 4),
        (72, 0x1800),
    ];
    for (at, value) in words {
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    file[0x80..0x84].copy_from_slice(b"code");
    file
}

fn spec<'a>(memmap: &'a [HvmMemmapTableEntry]) -> HvmSpec<'a> {
    HvmSpec {
        bios: &[7; 5000],
        acpi: Some(&[8; 10]),
        smbios: None,
        memmap,
        max_vcpus: 4,
        vcpus: 3,
        apic: true,
        low_end: Pfn(0x200),
        high_end: Pfn(0x10_0100),
        reserved: Pfn(0xf_eff0),
    }
}

#[test]
fn what_the_firmware_finds() {
    let file = firmware();
    let loader = HvmLoader::new(&file).unwrap();
    let memmap = [HvmMemmapTableEntry {
        addr: 0x10_0000,
        size: 1 << 20,
        kind: 1,
        reserved: 0,
    }];
    // Firmware may find anything there: the hypervisor hands out what others have used.
    let mut memory = OwnMemory::new(0x200);
    memory.write(Pfn(0), 0, &vec![0xff; 2 << 20]).unwrap();
    let built = loader.build(&mut memory, &spec(&memmap)).unwrap();
    assert_eq!(built.start.entry, 0x10_0002);
    assert_eq!(built.acpi, Some((0x10_4000, 10)));
    assert_eq!(built.start.start_info, 0x10_5000);
    assert_eq!(built.start.end, Pfn(0x106));
    let at = |at: u64| &memory.bytes()[at as usize..];
    assert!(at(0x10_0000).starts_with(b"code\0\0\0\0"));
    assert_eq!(at(0x10_17ff)[..2], [0, 0xff], "cleared, and no more");
    let (info, _) = HvmStartInfo::read_from_prefix(at(0x10_5000)).unwrap();
    assert_eq!((info.version, info.nr_modules), (1, 1));
    let (module, _) = HvmModlistEntry::read_from_prefix(at(info.modlist_paddr)).unwrap();
    assert_eq!((module.paddr, module.size), (0x10_2000, 5000));
    assert!(at(module.cmdline_paddr).starts_with(b"firmware\0"));
    assert!(at(module.paddr).starts_with(&[7; 5000]));
    let (map, _) = HvmMemmapTableEntry::read_from_prefix(at(info.memmap_paddr)).unwrap();
    assert_eq!((info.memmap_entries, map), (1, memmap[0]));
    let table = &at(INFO_PADDR)[..INFO_SIZE];
    assert!(table.starts_with(b"HVM INFO"));
    assert_eq!(table.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)), 0);
    assert_eq!((table[13], table[16], table[32]), (1, 4, 0b111));
    assert_eq!(word(table, 20), Some(0x200));
    assert_eq!(word(table, 24), Some(0xf_eff0));
    assert_eq!(word(table, 28), Some(0x10_0100));
}

#[test]
fn what_is_no_firmware_is_refused() {
    let told = |file: &[u8]| HvmLoader::new(file).unwrap_err().to_string();
    assert!(told(b"#!/bin/sh").contains("no 32-bit ELF file"));
    assert!(told(&[]).contains("no 32-bit ELF file"));
    let file = firmware();
    for len in 7..0x84 {
        assert!(HvmLoader::new(&file[..len]).is_err(), "{len:#x}");
    }
    let with = |at: usize, value: u32| {
        let mut file = firmware();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        told(&file)
    };
    assert!(with(24, 0x20_0000).contains("entry is outside"));
    assert!(with(28, u32::MAX).contains("cut off"));
    assert!(with(56, u32::MAX).contains("cut off"));
    assert!(with(64, 0xa_0000).contains("outside of 1 MiB"));
    assert!(with(64, u32::MAX).contains("outside of 1 MiB"));
    assert!(with(68, 0x2000).contains("cut off"));
    assert!(with(72, u32::MAX).contains("outside of 1 MiB"));
}

#[test]
fn what_does_not_fit_is_said() {
    let file = firmware();
    let loader = HvmLoader::new(&file).unwrap();
    let error = loader
        .build(&mut OwnMemory::new(0x105), &spec(&[]))
        .unwrap_err();
    assert!(error.to_string().starts_with("The firmware"), "{error}");
}

#[test]
fn all_vcpus_can_be_online() {
    let online = |vcpus| {
        let table = info_table(&HvmSpec { vcpus, ..spec(&[]) });
        u128::from_le_bytes(table[32..].try_into().unwrap())
    };
    assert_eq!((online(1), online(128), online(0)), (1, u128::MAX, 0));
}
