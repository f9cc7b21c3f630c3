//! The ACPI tables of a PVH domain: enough to find its processors.
//!
//! ACPI 6.3, tables of revision 2 and later, 64-bit addresses only; hardware-reduced, as there is
//! nothing behind fixed registers. They lie where Xen's own toolstack puts them, so that a kernel finds
//! nothing new.

use acpi_tables::aml::{BufferData, Device, Name, Path, Scope};
use acpi_tables::{Aml, AmlSink};

/// Where the tables begin; the root pointer is in the last page.
pub(crate) const BASE: u64 = 0xfc00_0000;
/// Where the root pointer is.
pub(crate) const RSDP: u64 = BASE + (PAGES - 1) * PAGE;
/// Pages of all tables.
pub(crate) const PAGES: u64 = 8;

const PAGE: u64 = 4096;
const LAPIC: u32 = 0xfee0_0000;
/// Local APICs whose identifiers fit into a byte.
const MOST: u32 = 128;

/// FADT: no fixed hardware (`HW_REDUCED_ACPI`).
const HW_REDUCED: u32 = 1 << 20;
/// FADT: the processor's WBINVD works (`WBINVD`).
const WBINVD: u32 = 1;
/// FADT, boot flags: no VGA and no real-time clock.
const NO_VGA: u16 = 1 << 2;
const NO_RTC: u16 = 1 << 5;

/// Offset and contents of each piece, from [`BASE`] on.
pub(crate) fn tables(vcpus: u32, online: u32) -> Vec<(u64, Vec<u8>)> {
    let dsdt = table(b"DSDT", 2, &processors(vcpus));
    let dsdt_at = 0x40u64;
    let fadt = table(b"FACP", 5, &fadt(BASE + dsdt_at));
    let fadt_at = (dsdt_at + dsdt.len() as u64).next_multiple_of(64);
    let madt = table(b"APIC", 4, &madt(vcpus, online));
    let madt_at = (fadt_at + fadt.len() as u64).next_multiple_of(64);
    let mut entries = Vec::new();
    for at in [fadt_at, madt_at] {
        entries.extend_from_slice(&(BASE + at).to_le_bytes());
    }
    let xsdt = table(b"XSDT", 1, &entries);
    let xsdt_at = (madt_at + madt.len() as u64).next_multiple_of(64);
    vec![
        (dsdt_at, dsdt),
        (fadt_at, fadt),
        (madt_at, madt),
        (xsdt_at, xsdt),
        (RSDP - BASE, rsdp(BASE + xsdt_at)),
    ]
}

/// "Root System Description Pointer", 36 bytes with two checksums.
fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0Xen   \x02".to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&36u32.to_le_bytes());
    bytes.extend_from_slice(&xsdt.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes[8] = checksum(&bytes[..20]);
    bytes[32] = checksum(&bytes);
    bytes
}

/// A table: 36 bytes of head, and what it says.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend_from_slice(&(36 + body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[revision, 0]);
    bytes.extend_from_slice(b"Xen\0\0\0HVM\0\0\0\0\0");
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(b"HVML");
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes[9] = checksum(&bytes);
    bytes
}

/// What makes the sum of all bytes 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

/// "Fixed ACPI Description Table" of ACPI 5, 268 bytes: all of its registers are absent.
fn fadt(dsdt: u64) -> Vec<u8> {
    let mut body = vec![0; 268 - 36];
    let mut put =
        |at: usize, bytes: &[u8]| body[at - 36..at - 36 + bytes.len()].copy_from_slice(bytes);
    put(40, &(dsdt as u32).to_le_bytes());
    // Neither C2 nor C3.
    put(96, &0x0fffu16.to_le_bytes());
    put(98, &0x0fffu16.to_le_bytes());
    put(109, &(NO_VGA | NO_RTC).to_le_bytes());
    put(112, &(HW_REDUCED | WBINVD).to_le_bytes());
    put(140, &dsdt.to_le_bytes());
    body
}

/// A device for each vCPU (ACPI 6.3, 8.4). Linux takes from it the APIC identifier of one that is offline
/// at the start; without, `vcpu-set` could not bring it online. Which ones are there is xenstore's to tell:
/// they are all said to be enabled here, as it comes about with libxl's tables, too.
fn processors(vcpus: u32) -> Vec<u8> {
    let mut aml = Vec::new();
    for vcpu in 0..vcpus.min(MOST) {
        let path: Path = format!("C{vcpu:03X}").as_str().into();
        let hid = Name::new("_HID".into(), &"ACPI0007");
        let uid = Name::new("_UID".into(), &vcpu);
        let sta = Name::new("_STA".into(), &0xfu8);
        let mat = Name::new("_MAT".into(), &BufferData::new(lapic(vcpu, true).to_vec()));
        let device = Device::new(path, vec![&hid, &uid, &sta, &mat]);
        Scope::new("\\_SB_".into(), vec![&device]).to_aml_bytes(&mut Sink(&mut aml));
    }
    aml
}

/// AML, put together.
struct Sink<'a>(&'a mut Vec<u8>);

impl AmlSink for Sink<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

/// "Processor Local APIC Structure".
fn lapic(vcpu: u32, enabled: bool) -> [u8; 8] {
    [0, 8, vcpu as u8, (vcpu * 2) as u8, enabled.into(), 0, 0, 0]
}

/// "Multiple APIC Description Table": a local APIC for each vCPU, whose identifiers are even.
fn madt(vcpus: u32, online: u32) -> Vec<u8> {
    let mut body = LAPIC.to_le_bytes().to_vec();
    body.extend_from_slice(&0u32.to_le_bytes());
    for vcpu in 0..vcpus.min(MOST) {
        body.extend_from_slice(&lapic(vcpu, vcpu < online));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tables: &[(u64, Vec<u8>)], address: u64) -> &[u8] {
        let found = tables.iter().find(|(at, _)| BASE + at == address);
        &found.expect("a table").1
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn every_table_is_found_and_sums_to_zero() {
        let tables = tables(3, 2);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
        assert!(tables.iter().all(|(_, bytes)| sum(bytes) == 0));
        let rsdp = at(&tables, RSDP);
        assert_eq!((rsdp.len(), sum(&rsdp[..20])), (36, 0));
        let xsdt = at(&tables, word(rsdp, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        let fadt = at(&tables, word(xsdt, 36));
        assert_eq!((&fadt[..4], fadt.len()), (&b"FACP"[..], 268));
        let dsdt = at(&tables, word(fadt, 140));
        assert_eq!(&dsdt[..4], b"DSDT");
        let last = b"_MAT\x11\x0b\x0a\x08\0\x08\x02\x04\x01\0\0\0";
        assert!(dsdt.ends_with(last), "{dsdt:x?}");
        let madt = at(&tables, word(xsdt, 44));
        assert_eq!(madt.len(), 44 + 3 * 8);
        assert_eq!(&madt[44 + 8..44 + 16], &[0, 8, 1, 2, 1, 0, 0, 0]);
        assert_eq!(&madt[44 + 16..], &[0, 8, 2, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn tables_do_not_overlap_and_fit() {
        let tables = tables(128, 128);
        let mut end = 0;
        for (at, bytes) in &tables {
            assert!(*at >= end, "{at:#x} {end:#x}");
            end = at + bytes.len() as u64;
        }
        assert!(end <= PAGES * PAGE);
    }
}
