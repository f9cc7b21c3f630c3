//! The main path: from what the toolstack left in memory to a BIOS that can be
//! started.

use core::fmt;

use xen_sys::addr::{Gfn, Paddr};
use xen_sys::errno::Errno;
use xen_sys::hvm::{HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_VM86_TSS_SIZED};
use xen_sys::memory::E820Entry;

use crate::bios::{Bios, MAX_E820, MAX_TABLES};
use crate::bytes::{Bytes, Full};
use crate::info::{self, HvmInfo, Module};
use crate::machine::{Machine, Store, flag, number, text};
use crate::mtrr::{self, Mtrrs};
use crate::pass::Passed;
use crate::pci::{self, Bus, Plan};
use crate::ram::{Map, Ram};
use crate::{acpi, apic, cmos, generation, layout, mp, pir, smbios};

/// Why there is no BIOS to start. Each ends the domain with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// `hvm_info_table` cannot be right; what of it.
    HvmInfo(&'static str),
    /// `hvm_start_info` cannot be right; what of it.
    StartInfo(&'static str),
    /// The BIOS cannot be started; why.
    Bios(&'static str),
    /// Xen refused to.
    Xen(&'static str, Errno),
    /// A virtual CPU did not start.
    Processor(u32),
    /// The area for tables is full.
    NoRoom,
    /// A table does not fit its buffer.
    TableTooLarge,
}

impl From<Full> for Error {
    fn from(_: Full) -> Self {
        Self::TableTooLarge
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HvmInfo(what) => write!(f, "the toolstack's hvm_info_table is wrong: {what}"),
            Self::StartInfo(what) => write!(f, "the toolstack's start info is wrong: {what}"),
            Self::Bios(why) => write!(f, "there is no BIOS to start: {why}"),
            Self::Xen(what, errno) => write!(f, "Xen did not {what}: {errno}"),
            Self::Processor(vcpu) => write!(f, "vCPU {vcpu} does not start"),
            Self::NoRoom => write!(f, "the tables do not fit the reserved memory"),
            Self::TableTooLarge => write!(f, "a table does not fit its buffer"),
        }
    }
}

/// The BIOS is in place: it can be started at F000:FFF0.
#[derive(Debug)]
pub struct Loaded;

/// Sets the machine up and puts the BIOS and its tables in place.
///
/// `low_code` is what the caller needs at [`layout::LOW_CODE`] to wake processors
/// and to leave.
///
/// # Errors
/// [`Error`], with the reason.
pub fn load<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    start_info: Paddr,
    low_code: &[u8],
) -> Result<Loaded, Error> {
    let info = HvmInfo::read(machine)?;
    let (bios, module) = find_bios(machine, store, start_info)?;
    machine.log(format_args!(
        "hvmloader: {bios:?}, {} vCPUs, memory to {:#x} and {:#x}",
        info.vcpus, info.low_end, info.high_end
    ));
    machine.write(layout::LOW_CODE, low_code);

    let mut ram = Ram::new(&info);
    // The power management ports where QEMU has them (hvm/params.h).
    machine
        .set_param(HVM_PARAM_ACPI_IOPORTS_LOCATION, 1)
        .map_err(|error| Error::Xen("place the ACPI ports", error))?;
    let bus = set_up_pci(machine, store, &mut ram)?;
    let mtrrs = Mtrrs::new(
        bus.window.start,
        bus.high_range(),
        mtrr::physical_bits(machine),
    );
    mtrrs.load(machine);
    if info.apic {
        apic::init(machine);
        wake_all(machine, &info, &mtrrs)?;
    }
    place(machine, &mut ram, bios, &module)?;

    cmos::write_memory_sizes(machine, &ram);
    set_vm86_tss(machine, &mut ram)?;
    let tables = make_tables(machine, store, &info, &mut ram, &bus, bios)?;

    let mut toolstack = [NO_ENTRY; MAX_E820];
    let count = machine.memory_map(&mut toolstack).unwrap_or(0);
    let map = Map::new(&ram, &toolstack[..count]);
    bios.tell(machine, tables.all(), map.entries());
    Ok(Loaded)
}

const NO_ENTRY: E820Entry = E820Entry {
    addr: 0,
    size: 0,
    kind: 0,
};

/// The tables the BIOS is told of.
#[derive(Default)]
struct Tables {
    at: [Paddr; MAX_TABLES],
    count: usize,
}

impl Tables {
    fn add(&mut self, table: Paddr) {
        if let Some(free) = self.at.get_mut(self.count) {
            *free = table;
            self.count += 1;
        }
    }

    /// Writes a table to `at`, or to the reserved area.
    fn put<M: Machine>(
        &mut self,
        machine: &mut M,
        ram: &mut Ram,
        at: Option<Paddr>,
        table: &[u8],
    ) -> Result<(), Error> {
        let at = match at {
            Some(at) => at,
            None => ram.reserve(machine, table.len(), 16)?,
        };
        machine.write(at, table);
        self.add(at);
        Ok(())
    }

    fn all(&self) -> &[Paddr] {
        &self.at[..self.count]
    }
}

/// Which BIOS the toolstack wants, and the file it has loaded for that.
fn find_bios<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    start_info: Paddr,
) -> Result<(Bios, Module), Error> {
    let mut buffer = [0; 32];
    let name = text(store, "hvmloader/bios", &mut buffer);
    let bios = Bios::from_name(name.ok_or(Error::Bios("hvmloader/bios is not set"))?)?;
    let module = info::module(machine, start_info, "firmware")?;
    let module = module.ok_or(Error::Bios("the toolstack has loaded none"))?;
    Ok((bios, module))
}

/// Finds the devices, makes room for them and places them.
fn set_up_pci<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    ram: &mut Ram,
) -> Result<Bus, Error> {
    let mut bus = Bus::scan(machine);
    let plan = Plan {
        low_end: ram.low_end,
        high_end: ram.high_end,
        may_move: flag(store, "hvmloader/allow-memory-relocate", true),
        hole: number(store, "platform/mmio_hole_size"),
    };
    let window = bus.window(&plan);
    ram.make_room(machine, window.moved)?;
    bus.assign(machine, window);
    pci::chipset::init(machine, &bus);
    Ok(bus)
}

/// Starts every other processor once, so that all have the same memory types.
fn wake_all(machine: &mut impl Machine, info: &HvmInfo, mtrrs: &Mtrrs) -> Result<(), Error> {
    let own = apic::own_id(machine);
    for vcpu in 0..info.vcpus {
        let id = apic::id_of(vcpu);
        if info.online >> vcpu & 1 != 0 && id != own && !machine.wake(id, mtrrs) {
            return Err(Error::Processor(vcpu));
        }
    }
    Ok(())
}

/// Writes every table; the list of those the BIOS is told of.
fn make_tables<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    info: &HvmInfo,
    ram: &mut Ram,
    bus: &Bus,
    bios: Bios,
) -> Result<Tables, Error> {
    let mut list = Tables::default();
    let passed = Passed::read(store);
    if flag(store, "platform/acpi", true) {
        let generation = generation::publish(machine, store, ram)?;
        let subject = acpi::Subject {
            vcpus: info.vcpus,
            online: info.online,
            apic: info.apic,
            window: bus.window.start,
            high: bus.high_range(),
            generation,
            passed: &passed,
        };
        let pointer = acpi::build(machine, store, ram, &subject)?;
        list.put(machine, ram, bios.root_pointer(), &pointer)?;
    }
    make_smbios(machine, store, info, ram, bios, &passed, &mut list)?;
    if bios.wants_legacy_tables() {
        if info.apic {
            make_mp(machine, info, ram, &mut list)?;
        }
        list.put(machine, ram, None, &pir::build())?;
    }
    Ok(list)
}

fn make_smbios<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    info: &HvmInfo,
    ram: &mut Ram,
    bios: Bios,
    passed: &Passed,
    list: &mut Tables,
) -> Result<(), Error> {
    let version = machine.version();
    let mut buffer = [0; TABLE_BUFFER];
    let mut out = Bytes::new(&mut buffer);
    let subject = smbios::Subject {
        version: &version,
        vcpus: info.vcpus,
        ram,
        passed,
    };
    let counts = smbios::build(machine, store, &subject, &mut out)?;
    let at = ram.reserve(machine, out.len(), 16)?;
    machine.write(at, out.all());
    let entry = smbios::entry_point(at.0 as u32, out.len() as u16, counts);
    list.put(machine, ram, bios.smbios_entry(), &entry)
}

fn make_mp<M: Machine>(
    machine: &mut M,
    info: &HvmInfo,
    ram: &mut Ram,
    list: &mut Tables,
) -> Result<(), Error> {
    let [signature, _, _, features] = machine.cpuid(1, 0);
    let processors = mp::Processors {
        count: info.vcpus,
        online: info.online,
        signature,
        features,
        apic_version: apic::local_version(machine),
        io_apic_version: apic::io_apic_version(machine),
    };
    let mut buffer = [0; TABLE_BUFFER];
    let mut out = Bytes::new(&mut buffer);
    mp::build(processors, &mut out)?;
    // SeaBIOS copies pointer and table in one piece: one behind the other.
    let at = ram.reserve(machine, mp::POINTER + out.len(), 16)?;
    let table = Paddr(at.0 + mp::POINTER as u64);
    machine.write(at, &mp::pointer(table.0 as u32));
    machine.write(table, out.all());
    list.add(at);
    Ok(())
}

/// Gives Xen the memory in which an Intel processor without "unrestricted guest"
/// keeps the task state of real mode (`HVM_PARAM_VM86_TSS_SIZED`): the state,
/// interrupt redirection, and a bit a port.
fn set_vm86_tss<M: Machine>(machine: &mut M, ram: &mut Ram) -> Result<(), Error> {
    const SIZE: usize = 104 + 32 + 0x1_0000 / 8 + 1;
    // The area's first words are the ACPI tables': those of `acpi::build`.
    let at = ram.reserve_last(machine, SIZE)?;
    machine
        .set_param(HVM_PARAM_VM86_TSS_SIZED, (SIZE as u64) << 32 | at.0)
        .map_err(|error| Error::Xen("take the task state of real mode", error))
}

/// Room for the structures of 128 processors.
const TABLE_BUFFER: usize = 24 << 10;

/// Copies the BIOS to where it runs.
fn place(
    machine: &mut impl Machine,
    ram: &mut Ram,
    bios: Bios,
    module: &Module,
) -> Result<(), Error> {
    let size = module.range.end - module.range.start;
    let to = bios.place(size)?;
    if to.start >= layout::LEGACY_END {
        for frame in to.start >> 12..to.end >> 12 {
            ram.populate(machine, Gfn(frame))?;
        }
    }
    // At most 16 MiB, by `Bios::place`.
    let len = size as u32;
    machine.copy(Paddr(module.range.start), Paddr(to.start), len);
    if to.start >= layout::LEGACY_END {
        // The first instruction after a reset is fetched from here in real mode.
        machine.copy(
            Paddr(to.end - 0x1_0000),
            Paddr(layout::LEGACY_END - 0x1_0000),
            0x1_0000,
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "loader_test.rs"]
mod tests;
