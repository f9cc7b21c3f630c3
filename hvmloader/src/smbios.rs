//! SMBIOS: the machine's description of itself (DMTF DSP0134 2.8; the structures
//! keep to 2.4, as Xen's do). Strings can be set by the toolstack, in
//! `bios-strings/` (`hvm/hvm_xs_strings.h`).

use pv_xenbus::Text;

use crate::bytes::{Bytes, Full, checksum};
use crate::layout::FOUR_GIB;
use crate::machine::{Machine, Store, flag, text};
use crate::pass::Passed;
use crate::ram::Ram;
use crate::version::Version;

/// Bytes of the entry point.
pub const ENTRY_POINT: usize = 31;

/// When this firmware was last changed in what the guest sees.
const RELEASE_DATE: &str = "11/23/2026";

const MIB: u64 = 1 << 20;
/// No memory device is larger: more than that becomes several.
const LARGEST_DEVICE: u64 = 16 << 30;

/// What the structures tell of.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Whose firmware this is.
    pub version: &'a Version,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub ram: &'a Ram,
    /// Structures of the toolstack's own, which replace those made here.
    pub passed: &'a Passed,
}

/// Where the structures end and how they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Structures.
    pub structures: u16,
    /// Bytes of the largest.
    pub largest: u16,
}

/// The entry point (5.2.1) for `length` bytes of structures at `at`.
pub fn entry_point(at: u32, length: u16, counts: Counts) -> [u8; ENTRY_POINT] {
    let mut entry = [0; ENTRY_POINT];
    entry[..4].copy_from_slice(b"_SM_");
    entry[5] = ENTRY_POINT as u8;
    entry[6..8].copy_from_slice(&[2, 8]);
    entry[8..10].copy_from_slice(&counts.largest.to_le_bytes());
    entry[16..21].copy_from_slice(b"_DMI_");
    entry[22..24].copy_from_slice(&length.to_le_bytes());
    entry[24..28].copy_from_slice(&at.to_le_bytes());
    entry[28..30].copy_from_slice(&counts.structures.to_le_bytes());
    entry[30] = 0x28;
    entry[21] = checksum(&entry[16..]);
    entry[4] = checksum(&entry);
    entry
}

/// Writes all structures.
///
/// # Errors
/// [`Full`] when they do not fit.
pub fn build<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    subject: &Subject<'_>,
    out: &mut Bytes<'_>,
) -> Result<Counts, Full> {
    let mut list = List {
        out,
        counts: Counts::default(),
    };
    list.passed_or(machine, subject.passed, 0, |list| {
        bios(list, store, subject)
    })?;
    list.passed_or(machine, subject.passed, 1, |list| {
        system(list, store, subject)
    })?;
    list.passed_or(machine, subject.passed, 2, |list| base_board(list, store))?;
    list.passed_or(machine, subject.passed, 3, |list| enclosure(list, store))?;
    let signature = machine.cpuid(1, 0);
    let vendor = machine.cpuid(0, 0);
    for cpu in 0..subject.vcpus {
        processor(&mut list, cpu, signature, vendor)?;
    }
    list.passed_or(machine, subject.passed, 11, |list| oem_strings(list, store))?;
    memory(&mut list, subject.ram)?;
    list.passed_or(machine, subject.passed, 22, |list| battery(list, store))?;
    list.begin(32, 0x2000, 20)?.end(&[])?;
    for kind in (7..=9).chain(26..=28).chain([39]).chain(128..=255) {
        list.passed_or(machine, subject.passed, kind, |_| Ok(()))?;
    }
    list.begin(127, 0x7f00, 4)?.end(&[])?;
    Ok(list.counts)
}

/// The structures in the making.
struct List<'a, 'b> {
    out: &'a mut Bytes<'b>,
    counts: Counts,
}

/// A structure whose strings are still to come.
struct Open<'l, 'a, 'b> {
    list: &'l mut List<'a, 'b>,
    start: usize,
    formatted: u8,
}

impl<'a, 'b> List<'a, 'b> {
    /// Begins a structure with a formatted area of `length` bytes, zero so far.
    fn begin(&mut self, kind: u8, handle: u16, length: u8) -> Result<Open<'_, 'a, 'b>, Full> {
        let start = self.out.len();
        self.out.put(&[kind, length])?;
        self.out.u16(handle)?;
        self.out.zeros(usize::from(length) - 4)?;
        Ok(Open {
            list: self,
            start,
            formatted: length,
        })
    }

    fn count(&mut self, start: usize) {
        let length = (self.out.len() - start) as u16;
        self.counts.structures += 1;
        self.counts.largest = self.counts.largest.max(length);
    }

    /// The toolstack's structures of a type, or if there are none, ours.
    fn passed_or<M: Machine>(
        &mut self,
        machine: &mut M,
        passed: &Passed,
        kind: u8,
        ours: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut any = false;
        let mut from = 0;
        let mut buffer = [0; 1024];
        let wanted = u16::from(kind)..u16::from(kind) + 1;
        while let Some((len, next)) = passed.smbios(machine, wanted.clone(), from, &mut buffer) {
            let start = self.out.len();
            self.out.put(&buffer[..len])?;
            self.count(start);
            any = true;
            from = next;
        }
        if any { Ok(()) } else { ours(self) }
    }
}

impl Open<'_, '_, '_> {
    /// Sets bytes of the formatted area.
    fn set(self, at: usize, bytes: &[u8]) -> Self {
        debug_assert!(at + bytes.len() <= usize::from(self.formatted));
        self.list.out.set(self.start + at, bytes);
        self
    }

    /// Appends the strings, which are numbered from 1; then the structure is
    /// complete. Empty ones must not be among them.
    fn end(self, strings: &[&str]) -> Result<(), Full> {
        for string in strings {
            self.list.out.put(string.as_bytes())?;
            self.list.out.u8(0)?;
        }
        // Where none were written before either, an empty one stands for them.
        if self.list.out.len() == self.start + usize::from(self.formatted) {
            self.list.out.u8(0)?;
        }
        self.list.out.u8(0)?;
        self.list.count(self.start);
        Ok(())
    }
}

/// A string the toolstack may have set. Bytes that no terminal should see are
/// left out; at most 64 remain, as the specification advises.
struct Setting {
    bytes: [u8; 64],
    len: usize,
}

impl Setting {
    fn read<S: Store>(store: &mut S, path: &str, default: &str) -> Self {
        let mut buffer = [0; 96];
        let value = text(store, path, &mut buffer).unwrap_or("");
        let value = if value.is_empty() { default } else { value };
        let mut it = Self {
            bytes: [0; 64],
            len: 0,
        };
        let printable = value.bytes().filter(|b| (0x20..0x7f).contains(b));
        for (free, byte) in it.bytes.iter_mut().zip(printable) {
            *free = byte;
            it.len += 1;
        }
        it
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

/// The number of a string in its structure, and the list it is added to: an
/// absent one has the number 0.
struct Strings<'s> {
    list: [&'s str; 8],
    count: usize,
}

impl<'s> Strings<'s> {
    fn new() -> Self {
        Self {
            list: [""; 8],
            count: 0,
        }
    }

    fn add(&mut self, string: &'s str) -> u8 {
        match self.list.get_mut(self.count) {
            Some(free) if !string.is_empty() => {
                *free = string;
                self.count += 1;
                self.count as u8
            }
            _ => 0,
        }
    }

    fn all(&self) -> &[&'s str] {
        &self.list[..self.count]
    }
}

/// Type 0: the firmware.
fn bios<S: Store>(
    list: &mut List<'_, '_>,
    store: &mut S,
    subject: &Subject<'_>,
) -> Result<(), Full> {
    let version = version_text(subject.version);
    let vendor = Setting::read(store, "bios-strings/bios-vendor", "Xen");
    let version = Setting::read(store, "bios-strings/bios-version", version.as_str());
    let Version { major, minor, .. } = *subject.version;
    let mut strings = Strings::new();
    let (vendor, version) = (strings.add(vendor.as_str()), strings.add(version.as_str()));
    list.begin(0, 0x0000, 24)?
        .set(4, &[vendor, version])
        .set(6, &0xe800u16.to_le_bytes())
        .set(8, &[strings.add(RELEASE_DATE)])
        // Characteristics are not supported, but for "targeted content distribution".
        .set(10, &8u64.to_le_bytes())
        .set(19, &[4])
        .set(20, &[major as u8, minor as u8, 0xff, 0xff])
        .end(strings.all())
}

/// Type 1: the machine.
fn system<S: Store>(
    list: &mut List<'_, '_>,
    store: &mut S,
    subject: &Subject<'_>,
) -> Result<(), Full> {
    let version = version_text(subject.version);
    let name = uuid_text(&subject.version.uuid);
    let maker = Setting::read(store, "bios-strings/system-manufacturer", "Xen");
    let product = Setting::read(store, "bios-strings/system-product-name", "HVM domU");
    let version = Setting::read(store, "bios-strings/system-version", version.as_str());
    let serial = Setting::read(store, "bios-strings/system-serial-number", name.as_str());
    let mut strings = Strings::new();
    let names = [&maker, &product, &version, &serial].map(|s| strings.add(s.as_str()));
    list.begin(1, 0x0100, 27)?
        .set(4, &names)
        .set(8, &uuid_field(subject.version.uuid))
        .set(24, &[6]) // woken by the power switch
        .end(strings.all())
}

/// Type 2: the base board, which is there only if it has been named.
fn base_board<S: Store>(list: &mut List<'_, '_>, store: &mut S) -> Result<(), Full> {
    let mut read = |name| Setting::read(store, name, "");
    let names = [
        read("bios-strings/baseboard-manufacturer"),
        read("bios-strings/baseboard-product-name"),
        read("bios-strings/baseboard-version"),
        read("bios-strings/baseboard-serial-number"),
        read("bios-strings/baseboard-asset-tag"),
        read("bios-strings/baseboard-location-in-chassis"),
    ];
    if names.iter().all(|name| name.len == 0) {
        return Ok(());
    }
    let mut strings = Strings::new();
    let [maker, product, version, serial, asset, location] =
        names.each_ref().map(|name| strings.add(name.as_str()));
    list.begin(2, 0x0200, 15)?
        .set(4, &[maker, product, version, serial, asset])
        .set(9, &[0x09]) // hosts others, replaceable
        .set(10, &[location])
        .set(11, &0x0300u16.to_le_bytes())
        .set(13, &[0x0a]) // a motherboard
        .end(strings.all())
}

/// Type 3: the enclosure.
fn enclosure<S: Store>(list: &mut List<'_, '_>, store: &mut S) -> Result<(), Full> {
    let maker = Setting::read(store, "bios-strings/enclosure-manufacturer", "Xen");
    let serial = Setting::read(store, "bios-strings/enclosure-serial-number", "");
    let asset = Setting::read(store, "bios-strings/enclosure-asset-tag", "");
    let mut strings = Strings::new();
    let maker = strings.add(maker.as_str());
    let (serial, asset) = (strings.add(serial.as_str()), strings.add(asset.as_str()));
    list.begin(3, 0x0300, 21)?
        .set(4, &[maker, 1, 0, serial, asset]) // kind: other
        .set(9, &[3, 3, 3, 3]) // states: safe; security: none
        .end(strings.all())
}

/// Type 4: one for each virtual CPU.
fn processor(
    list: &mut List<'_, '_>,
    cpu: u32,
    signature: [u32; 4],
    vendor: [u32; 4],
) -> Result<(), Full> {
    let socket = short(format_args!("CPU {}", cpu + 1));
    let [_, first, third, second] = vendor;
    let bytes = [first, second, third].map(u32::to_le_bytes);
    let vendor = core::str::from_utf8(bytes.as_flattened()).unwrap_or("");
    let mut strings = Strings::new();
    let (socket, vendor) = (strings.add(socket.as_str()), strings.add(vendor));
    list.begin(4, 0x0400 + cpu as u16, 35)?
        .set(4, &[socket, 3, 1, vendor]) // a central processor, family: other
        .set(8, &signature[0].to_le_bytes())
        .set(12, &signature[3].to_le_bytes())
        .set(20, &0u16.to_le_bytes())
        .set(24, &[0x41, 1]) // socketed and enabled; upgrade: other
        .set(26, &[0xff; 6]) // no cache structures
        .end(strings.all())
}

/// Type 11: strings for whoever looks for them.
fn oem_strings<S: Store>(list: &mut List<'_, '_>, store: &mut S) -> Result<(), Full> {
    let open = list.begin(11, 0x0b00, 5)?;
    let mut count = 0u8;
    for number in 1..=99u32 {
        let path = short(format_args!("bios-strings/oem-{number}"));
        let default = if number == 1 { "Xen" } else { "" };
        let string = Setting::read(store, path.as_str(), default);
        if string.len == 0 {
            break;
        }
        open.list.out.put(string.as_str().as_bytes())?;
        open.list.out.u8(0)?;
        count += 1;
    }
    open.set(4, &[count]).end(&[])
}

/// Types 16, 17, 19 and 20: an array of devices, and where each is mapped.
fn memory(list: &mut List<'_, '_>, ram: &Ram) -> Result<(), Full> {
    let low = ram.low_end.div_ceil(MIB) * MIB;
    let total = low + (ram.high_end - FOUR_GIB);
    let devices = total.div_ceil(LARGEST_DEVICE).max(1) as u16;
    list.begin(16, 0x1000, 15)?
        .set(4, &[1, 3, 6]) // other location, system memory, multi-bit ECC
        .set(7, &((total >> 10) as u32).to_le_bytes())
        .set(11, &0xfffeu16.to_le_bytes())
        .set(13, &devices.to_le_bytes())
        .end(&[])?;
    for device in 0..devices {
        let name = short(format_args!("DIMM {device}"));
        let size = (total - u64::from(device) * LARGEST_DEVICE).min(LARGEST_DEVICE);
        list.begin(17, 0x1100 + device, 27)?
            .set(4, &0x1000u16.to_le_bytes())
            .set(6, &0xfffeu16.to_le_bytes())
            .set(8, &64u16.to_le_bytes())
            .set(10, &64u16.to_le_bytes())
            .set(12, &((size / MIB) as u16).to_le_bytes())
            .set(14, &[9, 0, 1, 0, 7]) // a DIMM of RAM
            .end(&[name.as_str()])?;
    }
    // Each range of memory, and which part of which device it is.
    let ranges = [(0, low), (FOUR_GIB, ram.high_end)];
    let ranges = || ranges.iter().filter(|(start, end)| start < end);
    for (number, (start, end)) in (0u16..).zip(ranges()) {
        list.begin(19, 0x1300 + number, 15)?
            .set(4, &((start >> 10) as u32).to_le_bytes())
            .set(8, &(((end - 1) >> 10) as u32).to_le_bytes())
            .set(12, &0x1000u16.to_le_bytes())
            .set(14, &[1])
            .end(&[])?;
    }
    let mut handle = 0x1400;
    let mut before = 0;
    for (number, (start, end)) in (0u16..).zip(ranges()) {
        let mut at = *start;
        while at < *end {
            let offset = before + (at - start);
            let device = (offset / LARGEST_DEVICE) as u16;
            let stop = (*end).min(at + LARGEST_DEVICE - offset % LARGEST_DEVICE);
            list.begin(20, handle, 19)?
                .set(4, &((at >> 10) as u32).to_le_bytes())
                .set(8, &(((stop - 1) >> 10) as u32).to_le_bytes())
                .set(12, &(0x1100 + device).to_le_bytes())
                .set(14, &(0x1300 + number).to_le_bytes())
                .set(16, &[1, 0, 0])
                .end(&[])?;
            handle += 1;
            at = stop;
        }
        before += end - start;
    }
    Ok(())
}

/// Type 22: a battery, which is there only if it has been asked for.
fn battery<S: Store>(list: &mut List<'_, '_>, store: &mut S) -> Result<(), Full> {
    if !flag(store, "hvmloader/smbios/default_battery", false) {
        return Ok(());
    }
    let maker = Setting::read(store, "bios-strings/battery-manufacturer", "Xen");
    let name = Setting::read(store, "bios-strings/battery-device-name", "XEN-VBAT");
    let mut strings = Strings::new();
    let place = strings.add("Primary");
    let (maker, name) = (strings.add(maker.as_str()), strings.add(name.as_str()));
    list.begin(22, 0x1600, 26)?
        .set(4, &[place, maker, 0, 0, name, 2]) // chemistry: unknown
        .end(strings.all())
}

/// A short text; none where it does not fit.
fn short(text: core::fmt::Arguments<'_>) -> Text<40> {
    Text::format(text).unwrap_or_else(|_| Text::empty())
}

fn version_text(version: &Version) -> Text<40> {
    let Version { major, minor, .. } = version;
    short(format_args!("{major}.{minor}{}", version.extra()))
}

/// The UUID as people write it.
fn uuid_text(uuid: &[u8; 16]) -> Text<40> {
    let number = |range: core::ops::Range<usize>| {
        uuid[range]
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    short(format_args!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number(0..4),
        number(4..6),
        number(6..8),
        number(8..10),
        number(10..16)
    ))
}

/// The UUID as SMBIOS 2.6 writes it: its first three numbers lowest byte first.
fn uuid_field(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;
    use crate::fake::{Fake, FakeStore};
    use crate::info::HvmInfo;

    /// The structures: type, formatted area, strings.
    fn structures(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let formatted = usize::from(bytes[1]);
            let rest = &bytes[formatted..];
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let text = core::str::from_utf8(&rest[..end]).unwrap();
            let strings = text.split('\0').filter(|s| !s.is_empty());
            let strings = strings.map(ToString::to_string).collect();
            found.push((bytes[0], bytes[..formatted].to_vec(), strings));
            bytes = &rest[end + 2..];
        }
        found
    }

    fn made(vcpus: u32, store: &mut FakeStore, fake: &mut Fake) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let info = HvmInfo::read(fake).unwrap();
        let mut buffer = [0; 32 << 10];
        let mut out = Bytes::new(&mut buffer);
        let subject = Subject {
            version: &fake.version(),
            vcpus,
            ram: &Ram::new(&info),
            passed: &Passed::read(store),
        };
        let counts = build(fake, store, &subject, &mut out).unwrap();
        let found = structures(out.all());
        assert_eq!(found.len(), usize::from(counts.structures));
        let entry = entry_point(0x1000, out.len() as u16, counts);
        assert_eq!((checksum(&entry), checksum(&entry[16..])), (0, 0));
        found
    }

    fn fake(vcpus: u32) -> Fake {
        Fake::new(vcpus, 0xf000_0000, FOUR_GIB + (20 << 30))
    }

    #[test]
    fn all_that_a_machine_needs_is_there() {
        let found = made(2, &mut FakeStore::default(), &mut fake(2));
        let kinds: Vec<_> = found.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(
            kinds,
            [0, 1, 3, 4, 4, 11, 16, 17, 17, 19, 19, 20, 20, 20, 32, 127]
        );
        assert_eq!(found[0].2, ["Xen", "4.17.7", RELEASE_DATE]);
        let uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        assert_eq!(found[1].2, ["Xen", "HVM domU", "4.17.7", uuid]);
        assert_eq!(found[1].1[8..16], [3, 2, 1, 0, 5, 4, 7, 6]);
        assert_eq!(found[3].2, ["CPU 1", "AuthenticAMD"]);
        // 23.75 GiB: an array, two devices, two ranges.
        assert_eq!(found[6].1[7..11], (0x17c_0000u32).to_le_bytes());
        assert_eq!(found[7].1[12..14], 16384u16.to_le_bytes());
        assert_eq!(found[8].1[12..14], 7936u16.to_le_bytes());
    }

    #[test]
    fn the_toolstack_names_things() {
        let mut store = FakeStore::default()
            .with("bios-strings/system-manufacturer", " Acme\n")
            .with("bios-strings/baseboard-version", "2")
            .with("bios-strings/oem-1", "one\u{7}")
            .with("bios-strings/oem-2", &"long ".repeat(100))
            .with("hvmloader/smbios/default_battery", "1");
        let found = made(1, &mut store, &mut fake(1));
        let of = |kind| found.iter().find(|(found, ..)| *found == kind).unwrap();
        assert_eq!(of(1).2[0], "Acme");
        assert_eq!((of(2).1[6], &of(2).2[..]), (1, &["2".to_string()][..]));
        assert_eq!(
            (of(11).1[4], of(11).2[0].as_str(), of(11).2[1].len()),
            (2, "one", 64)
        );
        assert_eq!(of(22).2[2], "XEN-VBAT");
    }

    #[test]
    fn structures_of_the_toolstack_take_the_place_of_ours() {
        let mut fake = fake(1);
        let mut block = Vec::new();
        let structure = |block: &mut Vec<u8>, bytes: &[u8]| {
            block.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            block.extend_from_slice(bytes);
        };
        structure(&mut block, b"\x03\x05\x00\x03\x01Theirs\0\0");
        structure(&mut block, b"\xde\x04\x00\xde\0\0");
        let whole = block.len();
        // One that announces more than there is ends the search.
        structure(&mut block, b"\x00\xff\x00\x00\0\0");
        fake.write(xen_sys::addr::Paddr(0x40_0000), &block);
        for len in [whole, block.len()] {
            let mut store = FakeStore::default()
                .with("hvmloader/smbios/address", "0x400000")
                .with("hvmloader/smbios/length", &len.to_string());
            let found = made(1, &mut store, &mut fake);
            let of = |kind| found.iter().filter(|(found, ..)| *found == kind).count();
            assert_eq!((of(3), of(0xde), of(0)), (1, 1, 1));
            let enclosure = found.iter().find(|(kind, ..)| *kind == 3).unwrap();
            assert_eq!(enclosure.2, ["Theirs"]);
        }
    }
}
