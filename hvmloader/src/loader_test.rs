//! The whole of [`super::load`] on a machine of arrays.

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::acpi::numa::Numa;
use crate::fake::{Device, Fake, FakeStore};
use crate::layout::{BIOS_INFO, FOUR_GIB, PCI_START, RESERVED};

const LOW_END: u64 = 0x1000_0000;

fn store() -> FakeStore {
    FakeStore::default().with("hvmloader/bios", "seabios")
}

fn machine(vcpus: u32) -> Fake {
    Fake::new(vcpus, LOW_END, FOUR_GIB)
        .with_usual_devices()
        .with_firmware(&[0xea; 256 << 10])
}

fn run(machine: &mut Fake, store: &mut FakeStore) -> Result<(), Error> {
    load(machine, store, Fake::START_INFO, b"low code").map(drop)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// The tables SeaBIOS is told of, by the first bytes of each.
fn told(machine: &mut Fake) -> Vec<(String, u64)> {
    let info = machine.bytes(BIOS_INFO.0, 32);
    let list = machine.bytes(u64::from(word(&info, 16)), 4 * word(&info, 20) as usize);
    let tables = list.chunks(4).map(|at| u64::from(word(at, 0)));
    let mut name = |at| String::from_utf8_lossy(&machine.bytes(at, 4)).to_string();
    tables.map(|at| (name(at), at)).collect()
}

/// The ACPI tables by signature, checksums checked.
fn acpi_tables(machine: &mut Fake) -> Vec<(String, Vec<u8>)> {
    let root = told(machine)[0].clone();
    assert_eq!(root.0, "RSD ");
    let pointer = machine.bytes(root.1, 36);
    assert_eq!((sum(&pointer[..20]), sum(&pointer)), (0, 0));
    let table = |machine: &mut Fake, at: u64| {
        let length = word(&machine.bytes(at, 8), 4) as usize;
        machine.bytes(at, length)
    };
    let xsdt = table(machine, u64::from(word(&pointer, 24)));
    let rsdt = table(machine, u64::from(word(&pointer, 16)));
    assert_eq!((sum(&xsdt), sum(&rsdt)), (0, 0));
    assert_eq!((xsdt.len() - 36) / 8, (rsdt.len() - 36) / 4);
    let mut found = Vec::new();
    for at in xsdt[36..].chunks(8) {
        let bytes = table(machine, u64::from(word(at, 0)));
        assert_eq!(sum(&bytes), 0, "{:?}", &bytes[..4]);
        found.push((String::from_utf8_lossy(&bytes[..4]).to_string(), bytes));
    }
    let fadt = found[0].1.clone();
    assert_eq!((fadt.len(), &fadt[..4]), (244, &b"FACP"[..]));
    let dsdt = table(machine, u64::from(word(&fadt, 40)));
    assert_eq!(sum(&dsdt), 0);
    found.push(("DSDT".into(), dsdt));
    found
}

#[test]
fn a_usual_domain_gets_a_bios_and_its_tables() {
    let (mut machine, mut store) = (machine(2), store());
    run(&mut machine, &mut store).unwrap();
    let info = machine.bytes(BIOS_INFO.0, 32);
    assert_eq!(&info[..14], b"XenHVMSeaBIOS\0");
    assert_eq!((info[14], sum(&info)), (32, 0));
    let names: Vec<_> = told(&mut machine)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["RSD ", "_SM_", "_MP_", "$PIR"]);
    assert_eq!(machine.bytes(0xc_0000, 4), [0xea; 4]);
    assert_eq!(machine.bytes(0xf_fff0, 4), [0xea; 4]);
    assert_eq!(machine.woken, [2]);
    let names: Vec<_> = acpi_tables(&mut machine)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "FACP", "APIC", "HPET", "WAET", "SSDT", "SSDT", "SSDT", "DSDT"
        ]
    );
}

#[test]
fn devices_get_what_they_need_largest_first() {
    let mut machine = machine(1);
    run(&mut machine, &mut store()).unwrap();
    let register = |devfn, register| machine.devices[&devfn].word(register);
    assert_eq!(register(0x18, 0x10), 0xf000_0008);
    assert_eq!(register(0x10, 0x14), 0xf200_0008);
    assert_eq!(register(0x18, 0x14), 0xf300_0000);
    assert_eq!(register(0x10, 0x10), 0xc001);
    assert_eq!(register(0x09, 0x20), 0xc101);
    // Interrupts: link (device + pin) mod 4, routed to 5, 10, 11, 5.
    assert_eq!(register(0x08, 0x60), 0x050b_0a05);
    assert_eq!(machine.devices[&0x0b].config[0x3c], 10);
    assert_eq!(machine.devices[&0x10].config[0x3c], 11);
    assert_eq!(register(0x0b, 0x40), 0xb001);
}

#[test]
fn ram_makes_room_for_devices_and_the_map_says_so() {
    let mut machine = Fake::new(1, PCI_START, FOUR_GIB)
        .with_usual_devices()
        .with_firmware(&[0; 128 << 10]);
    let large = Device::new(0x1234, 0x0380, 1).bar(0x10, 256 << 20, 0);
    machine.devices.insert(0x20, large);
    let mut store = store().with("hvmloader/allow-memory-relocate", "1");
    run(&mut machine, &mut store).unwrap();
    assert_eq!(machine.devices[&0x20].word(0x10), 0xe000_0000);
    assert_eq!(machine.moved.len(), 0x1000_0000 >> 12);
    let info = machine.bytes(BIOS_INFO.0, 32);
    let map = machine.bytes(u64::from(word(&info, 24)), 20 * word(&info, 28) as usize);
    let entry = |at: &[u8]| {
        let long = |at: &[u8]| u64::from_le_bytes(at.try_into().unwrap());
        (long(&at[..8]), long(&at[8..16]), word(at, 16))
    };
    let map: Vec<_> = map.chunks(20).map(entry).collect();
    assert!(
        map.contains(&(0x10_0000, 0xe000_0000 - 0x10_0000, 1)),
        "{map:x?}"
    );
    assert!(map.contains(&(FOUR_GIB, 0x1000_0000, 1)), "{map:x?}");
    assert!(map.is_sorted(), "{map:x?}");
}

#[test]
fn a_wide_register_goes_above_ram_that_must_stay() {
    let mut machine = Fake::new(1, PCI_START, FOUR_GIB + (1 << 30))
        .with_usual_devices()
        .with_firmware(&[0; 128 << 10]);
    let large = Device::new(0x1234, 0x0380, 1).bar(0x10, 1 << 30, 0xc);
    machine.devices.insert(0x20, large);
    let mut store = store().with("hvmloader/allow-memory-relocate", "0");
    run(&mut machine, &mut store).unwrap();
    assert!(machine.moved.is_empty());
    assert_eq!(machine.devices[&0x20].word(0x10), 0x4000_000c);
    assert_eq!(machine.devices[&0x20].word(0x14), 1);
}

#[test]
fn tables_take_ram_when_the_domain_may_have_no_more_memory() {
    let mut machine = machine(1);
    machine.spare = 3;
    run(&mut machine, &mut store()).unwrap();
    assert!(!machine.moved.is_empty());
    assert_eq!(machine.moved[0].0, (LOW_END >> 12) - 1);
    let highest = machine.moved.iter().map(|(_, to)| *to).max().unwrap();
    assert!(highest >= RESERVED.0 >> 12);
}

#[test]
fn the_most_processors_fit() {
    let mut machine = machine(128);
    run(&mut machine, &mut store()).unwrap();
    assert_eq!(machine.woken.len(), 127);
    let madt = acpi_tables(&mut machine).swap_remove(1).1;
    assert_eq!(madt[madt.len() - 8..], [0, 8, 127, 254, 1, 0, 0, 0]);
}

#[test]
fn nodes_are_told_of() {
    let mut machine = machine(2);
    let mut numa = Numa::new();
    numa.nodes = 2;
    numa.distances[..4].copy_from_slice(&[10, 21, 300, 10]);
    numa.node_of[1] = 1;
    numa.range_count = 1;
    numa.ranges[0].end = 0x800_0000;
    machine.numa = Some(numa);
    run(&mut machine, &mut store()).unwrap();
    let tables = acpi_tables(&mut machine);
    let find = |name| &tables.iter().find(|(found, _)| found == name).unwrap().1;
    let srat = find("SRAT");
    assert_eq!(srat.len(), 36 + 12 + 2 * 16 + 40);
    assert_eq!(srat[64..72], [0, 16, 1, 2, 1, 0, 0, 0]);
    assert_eq!(find("SLIT")[44..], [10, 21, 255, 10]);
}

#[test]
fn what_cannot_be_a_bios_is_refused_with_the_reason() {
    let refuse = |mut machine: Fake, mut store: FakeStore| {
        run(&mut machine, &mut store).unwrap_err().to_string()
    };
    let text = refuse(machine(1), FakeStore::default());
    assert!(text.contains("hvmloader/bios is not set"), "{text}");
    let text = refuse(
        machine(1),
        FakeStore::default().with("hvmloader/bios", "rombios"),
    );
    assert!(text.contains("names none"), "{text}");
    for (size, why) in [
        (0, "smaller"),
        (4096, "smaller"),
        (512 << 10, "too large"),
        (65537, "pages"),
    ] {
        let machine = Fake::new(1, LOW_END, FOUR_GIB).with_firmware(&std::vec![0; size]);
        let text = refuse(machine, store());
        assert!(text.contains(why), "{size}: {text}");
    }
    let text = refuse(Fake::new(1, LOW_END, FOUR_GIB), store());
    assert!(text.contains("start info"), "{text}");
}

/// Values no toolstack writes: they change nothing but what they name.
#[test]
fn hostile_values_do_no_harm() {
    let nodes = [
        "hvmloader/allow-memory-relocate",
        "platform/mmio_hole_size",
        "platform/acpi_s3",
        "platform/generation-id",
        "hvmloader/acpi/address",
        "hvmloader/acpi/length",
        "hvmloader/smbios/address",
        "hvmloader/smbios/length",
        "bios-strings/bios-vendor",
        "bios-strings/oem-1",
        "bios-strings/system-serial-number",
    ];
    let long = "A".repeat(4096);
    for value in [
        "",
        "\0",
        "-1",
        "0",
        "1",
        "18446744073709551615",
        "0xffffffffffffffff",
        "33554432",
        &long,
    ] {
        let mut store = store();
        for node in nodes {
            store = store.with(node, value);
        }
        let mut machine = machine(1);
        run(&mut machine, &mut store).unwrap();
        assert_eq!(told(&mut machine).len(), 4, "{value:?}");
        acpi_tables(&mut machine);
    }
}
