//! A machine of maps and arrays, for tests.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

use core::fmt;

use xen_sys::addr::{Gfn, Paddr};
use xen_sys::errno::Errno;
use xen_sys::memory::E820Entry;

use crate::acpi::numa::Numa;
use crate::layout::{FOUR_GIB, HVM_INFO};
use crate::machine::{Machine, Store};
use crate::mtrr::Mtrrs;
use crate::version::Version;

/// A PCI function: its header and which bits of the registers are wired.
#[derive(Clone, Debug)]
pub struct Device {
    pub config: [u8; 256],
    pub wired: BTreeMap<u8, u32>,
}

impl Device {
    pub fn new(id: u32, class: u16, pin: u8) -> Self {
        let mut config = [0; 256];
        config[..4].copy_from_slice(&id.to_le_bytes());
        config[10..12].copy_from_slice(&class.to_le_bytes());
        config[0x3d] = pin;
        Self {
            config,
            wired: BTreeMap::new(),
        }
    }

    /// A register of so many bytes; `flags` are its lowest, constant bits.
    pub fn bar(mut self, register: u8, size: u64, flags: u32) -> Self {
        let mask = !(size - 1);
        self.wired.insert(register, mask as u32);
        if flags & 6 == 4 {
            self.wired.insert(register + 4, (mask >> 32) as u32);
        }
        self.config[usize::from(register)] = flags as u8;
        self
    }

    pub fn word(&self, register: u8) -> u32 {
        let at = usize::from(register & 0xfc);
        u32::from_le_bytes(self.config[at..at + 4].try_into().unwrap())
    }
}

/// What Xen gives a domain, as far as firmware sees it.
pub struct Fake {
    pages: BTreeMap<u64, Vec<u8>>,
    /// Functions of bus 0 by device and function number.
    pub devices: BTreeMap<u8, Device>,
    pub params: BTreeMap<u32, u64>,
    pub populated: Vec<u64>,
    pub moved: Vec<(u64, u64)>,
    pub woken: Vec<u8>,
    pub msrs: BTreeMap<u32, u64>,
    pub log: String,
    /// Frames Xen still gives.
    pub spare: usize,
    pub map: Vec<(u64, u64, u32)>,
    pub numa: Option<Numa>,
    address: u32,
}

impl Fake {
    /// A domain whose RAM ends at these addresses.
    pub fn new(vcpus: u32, low_end: u64, high_end: u64) -> Self {
        let mut fake = Self {
            pages: BTreeMap::new(),
            devices: BTreeMap::new(),
            params: BTreeMap::new(),
            populated: Vec::new(),
            moved: Vec::new(),
            woken: Vec::new(),
            msrs: BTreeMap::from([(0xfe, 0x508)]),
            log: String::new(),
            spare: usize::MAX,
            map: Vec::new(),
            numa: None,
            address: 0,
        };
        let mut info = Vec::from(*b"HVM INFO");
        let high = if high_end > FOUR_GIB {
            high_end >> 12
        } else {
            0
        };
        for word in [
            48,
            0x100,
            vcpus,
            (low_end >> 12) as u32,
            0xfeff8,
            high as u32,
        ] {
            info.extend_from_slice(&word.to_le_bytes());
        }
        info.extend_from_slice(&(u128::MAX >> (128 - vcpus)).to_le_bytes());
        info[12] = crate::bytes::checksum(&info);
        fake.write(HVM_INFO, &info);
        fake
    }

    /// The devices `xl` gives a domain by default.
    pub fn with_usual_devices(mut self) -> Self {
        for (devfn, device) in [
            (0x00, Device::new(0x1237_8086, 0x0600, 0)),
            (0x08, Device::new(0x7000_8086, 0x0601, 0)),
            (0x09, Device::new(0x7010_8086, 0x0101, 0).bar(0x20, 16, 1)),
            (0x0b, Device::new(0x7113_8086, 0x0680, 1)),
            (
                0x10,
                Device::new(0x0001_5853, 0xff80, 1)
                    .bar(0x10, 256, 1)
                    .bar(0x14, 16 << 20, 8),
            ),
            (
                0x18,
                Device::new(0x00b8_1013, 0x0300, 0)
                    .bar(0x10, 32 << 20, 8)
                    .bar(0x14, 4096, 0),
            ),
        ] {
            self.devices.insert(devfn, device);
        }
        self.devices.get_mut(&0x08).unwrap().config[0x0e] = 0x80;
        self
    }

    /// `hvm_start_info` at 1000000h with a firmware of this content.
    pub fn with_firmware(mut self, content: &[u8]) -> Self {
        let (info, list, name, at) = (0x100_0000u64, 0x100_1000u64, 0x100_2000u64, 0x200_0000u64);
        let mut bytes = Vec::new();
        for word in [0x336e_c578u32, 1, 0, 1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for word in [list, 0, 0, 0, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.write(Paddr(info), &bytes);
        let entry = [at, content.len() as u64, name, 0];
        self.write(Paddr(list), entry.map(u64::to_le_bytes).as_flattened());
        self.write(Paddr(name), b"firmware\0");
        self.write(Paddr(at), content);
        self
    }

    pub const START_INFO: Paddr = Paddr(0x100_0000);

    pub fn bytes(&mut self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; len];
        self.read(Paddr(at), &mut bytes);
        bytes
    }

    fn selected(&mut self) -> Option<&mut Device> {
        let devfn = (self.address >> 8) as u8;
        self.devices.get_mut(&devfn)
    }

    fn config(&mut self, port: u16, len: usize) -> u32 {
        let register = (self.address as u8 & 0xfc) + (port - 0xcfc) as u8;
        let mut value = [0xff; 4];
        if let Some(device) = self.selected() {
            let at = usize::from(register);
            value = [0; 4];
            value[..len].copy_from_slice(&device.config[at..at + len]);
        }
        u32::from_le_bytes(value)
    }

    fn set_config(&mut self, port: u16, value: u32, len: usize) {
        let register = (self.address as u8 & 0xfc) + (port - 0xcfc) as u8;
        let Some(device) = self.selected() else {
            return;
        };
        let at = usize::from(register);
        let mut bytes = value.to_le_bytes();
        if (0x10..0x28).contains(&register) || register == 0x30 {
            let wired = device.wired.get(&register).copied().unwrap_or(0);
            let keep = if wired == 0 {
                0
            } else {
                device.word(register) & 0xf & !wired
            };
            bytes = (value & wired | keep).to_le_bytes();
        }
        device.config[at..at + len].copy_from_slice(&bytes[..len]);
    }
}

impl Machine for Fake {
    fn in8(&mut self, port: u16) -> u8 {
        if (0xcfc..0xd00).contains(&port) {
            self.config(port, 1) as u8
        } else {
            0xff
        }
    }
    fn out8(&mut self, port: u16, value: u8) {
        if (0xcfc..0xd00).contains(&port) {
            self.set_config(port, value.into(), 1);
        }
    }
    fn in16(&mut self, port: u16) -> u16 {
        if (0xcfc..0xd00).contains(&port) {
            self.config(port, 2) as u16
        } else {
            0xffff
        }
    }
    fn out16(&mut self, port: u16, value: u16) {
        if (0xcfc..0xd00).contains(&port) {
            self.set_config(port, value.into(), 2);
        }
    }
    fn in32(&mut self, port: u16) -> u32 {
        if port == 0xcfc {
            self.config(port, 4)
        } else {
            u32::MAX
        }
    }
    fn out32(&mut self, port: u16, value: u32) {
        match port {
            0xcf8 => self.address = value,
            0xcfc => self.set_config(port, value, 4),
            _ => {}
        }
    }

    fn read(&mut self, from: Paddr, to: &mut [u8]) {
        assert!(from.0 + to.len() as u64 <= FOUR_GIB);
        for (at, part) in pieces(from.0, to.len()) {
            let to = &mut to[part];
            match self.pages.get(&(at >> 12)) {
                Some(page) => to.copy_from_slice(&page[at as usize & 0xfff..][..to.len()]),
                None => to.fill(0xff),
            }
        }
    }
    fn write(&mut self, to: Paddr, from: &[u8]) {
        assert!(to.0 + from.len() as u64 <= FOUR_GIB);
        for (at, part) in pieces(to.0, from.len()) {
            let page = self.pages.entry(at >> 12);
            let page = page.or_insert_with(|| std::vec![0; 4096]);
            let from = &from[part];
            page[at as usize & 0xfff..][..from.len()].copy_from_slice(from);
        }
    }
    fn copy(&mut self, from: Paddr, to: Paddr, len: u32) {
        let bytes = self.bytes(from.0, len as usize);
        self.write(to, &bytes);
    }
    fn read32(&mut self, at: Paddr) -> u32 {
        match at.0 {
            0xfed0_0000 => 0x8086_a201,
            0xfed0_0004 => 10_000_000,
            // Local and I/O APIC.
            _ => 0,
        }
    }
    fn write32(&mut self, _: Paddr, _: u32) {}
    fn cpuid(&mut self, leaf: u32, _: u32) -> [u32; 4] {
        match leaf {
            0 => [1, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
            1 => [0x80_0f12, 0, 0, 0x178b_fbff],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            _ => [40, 0, 0, 0],
        }
    }
    fn wrmsr(&mut self, msr: u32, value: u64) {
        self.msrs.insert(msr, value);
    }
    fn rdmsr(&mut self, msr: u32) -> u64 {
        self.msrs.get(&msr).copied().unwrap_or(0)
    }
    fn wake(&mut self, apic_id: u8, _: &Mtrrs) -> bool {
        self.woken.push(apic_id);
        true
    }
    fn memory_map(&mut self, to: &mut [E820Entry]) -> Result<usize, Errno> {
        for (entry, (addr, size, kind)) in to.iter_mut().zip(&self.map) {
            *entry = E820Entry {
                addr: *addr,
                size: *size,
                kind: *kind,
            };
        }
        Ok(self.map.len().min(to.len()))
    }
    fn populate(&mut self, frame: Gfn) -> Result<(), Errno> {
        self.spare = self.spare.checked_sub(1).ok_or(Errno::ENOMEM)?;
        self.populated.push(frame.0);
        Ok(())
    }
    fn move_frame(&mut self, from: Gfn, to: Gfn) -> Result<(), Errno> {
        self.moved.push((from.0, to.0));
        Ok(())
    }
    fn param(&mut self, index: u32) -> Result<u64, Errno> {
        Ok(self.params.get(&index).copied().unwrap_or(0))
    }
    fn set_param(&mut self, index: u32, value: u64) -> Result<(), Errno> {
        self.params.insert(index, value);
        Ok(())
    }
    fn numa(&mut self) -> Option<Numa> {
        self.numa.clone()
    }
    fn version(&mut self) -> Version {
        let mut extra = [0; 16];
        extra[..2].copy_from_slice(b".7");
        Version {
            major: 4,
            minor: 17,
            extra,
            uuid: core::array::from_fn(|n| n as u8),
        }
    }
    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.log += &std::format!("{line}\n");
    }
}

/// The parts of a range that lie in one page each: where, and which bytes.
fn pieces(start: u64, len: usize) -> Vec<(u64, core::ops::Range<usize>)> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < len {
        let at = start + done as u64;
        let part = (4096 - (at as usize & 0xfff)).min(len - done);
        pieces.push((at, done..done + part));
        done += part;
    }
    pieces
}

/// Configuration in a map.
#[derive(Default)]
pub struct FakeStore(pub BTreeMap<String, Vec<u8>>);

impl FakeStore {
    pub fn with(mut self, path: &str, value: &str) -> Self {
        self.0.insert(path.to_string(), value.as_bytes().to_vec());
        self
    }
}

impl Store for FakeStore {
    fn read(&mut self, path: &str, to: &mut [u8]) -> Option<usize> {
        let value = self.0.get(path)?;
        let len = value.len().min(to.len());
        to[..len].copy_from_slice(&value[..len]);
        Some(len)
    }
    fn write(&mut self, path: &str, value: &str) -> bool {
        self.0.insert(path.to_string(), value.as_bytes().to_vec());
        true
    }
}
