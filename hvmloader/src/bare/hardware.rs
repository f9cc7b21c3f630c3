//! The real [`Machine`]: ports, physical memory, model specific registers.
//!
//! Invariant of every access to memory: the first 4 GiB are mapped one to one
//! (`entry.rs`), and nothing outside the image is ever a Rust object, so a
//! volatile copy to or from there aliases nothing. The image itself is out of
//! bounds.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use hvmloader::acpi::numa::{MAX_NODES, MAX_RANGES, Numa};
use hvmloader::apic;
use hvmloader::info::MAX_VCPUS;
use hvmloader::layout::{self, FOUR_GIB};
use hvmloader::machine::Machine;
use hvmloader::mtrr::Mtrrs;
use hvmloader::version::Version;
use xen_sys::addr::{Gfn, GuestHandle, PAGE_SIZE, Paddr};
use xen_sys::arch_x86::XEN_HVM_DEBUGCONS_IOPORT;
use xen_sys::errno::Errno;
use xen_sys::hvm::{HVMOP_get_param, HVMOP_set_param, XenHvmParam};
use xen_sys::hypercall::{
    __HYPERVISOR_hvm_op, __HYPERVISOR_memory_op, __HYPERVISOR_sched_op, __HYPERVISOR_xen_version,
};
use xen_sys::memory::{
    E820Entry, XENMAPSPACE_gmfn, XENMEM_add_to_physmap, XENMEM_get_vnumainfo, XENMEM_memory_map,
    XENMEM_populate_physmap, XENMEM_remove_from_physmap, XenAddToPhysmap, XenMemoryMap,
    XenMemoryReservation, XenRemoveFromPhysmap, XenVnumaTopologyInfo,
};
use xen_sys::sched::SCHEDOP_yield;
use xen_sys::version::{XENVER_extraversion, XENVER_guest_handle, XENVER_version};
use xen_sys::xen::DOMID_SELF;

use super::hypercall::{call, handle};

unsafe extern "C" {
    static _image: [u8; 0];
    static _image_end: [u8; 0];
}

/// The machine this program runs on. There is one; it has no state of its own.
#[derive(Debug)]
pub struct Hardware;

/// Where the image with its data ends.
pub fn image_end() -> Paddr {
    Paddr((&raw const _image_end).addr() as u64)
}

/// A pointer to `len` bytes of memory outside the image.
fn physical(at: Paddr, len: usize) -> *mut u8 {
    let (start, end) = (at.0, at.0.saturating_add(len as u64));
    let image = (&raw const _image).addr() as u64..image_end().0;
    assert!(
        start != 0 && end <= FOUR_GIB,
        "physical {start:#x} to {end:#x}"
    );
    assert!(
        end <= image.start || start >= image.end,
        "{start:#x} to {end:#x} is in the image"
    );
    core::ptr::with_exposed_provenance_mut(start as usize)
}

/// Writes a model specific register.
///
/// # Safety
/// What the register does must not break this program's memory or control flow.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller's.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) };
}

macro_rules! ports {
    ($($input:ident $output:ident $ty:ty, $register:tt);*) => {
        $(
            fn $input(&mut self, port: u16) -> $ty {
                let value;
                // SAFETY: no device here writes to this program's memory by
                // being read.
                unsafe { asm!(concat!("in ", $register, ", dx"), out($register) value, in("dx") port, options(nostack)) };
                value
            }
            fn $output(&mut self, port: u16, value: $ty) {
                // SAFETY: as for reading; nobody sets up DMA.
                unsafe { asm!(concat!("out dx, ", $register), in($register) value, in("dx") port, options(nostack)) };
            }
        )*
    };
}

impl Machine for Hardware {
    ports!(in8 out8 u8, "al"; in16 out16 u16, "ax"; in32 out32 u32, "eax");

    fn read(&mut self, from: Paddr, to: &mut [u8]) {
        let at = physical(from, to.len());
        // SAFETY: the invariant of this module; `to` is in the image.
        unsafe { core::ptr::copy_nonoverlapping(at, to.as_mut_ptr(), to.len()) };
    }

    fn write(&mut self, to: Paddr, from: &[u8]) {
        let at = physical(to, from.len());
        // SAFETY: as for `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), at, from.len()) };
    }

    fn copy(&mut self, from: Paddr, to: Paddr, len: u32) {
        let (from, to) = (physical(from, len as usize), physical(to, len as usize));
        // SAFETY: the invariant of this module.
        unsafe { core::ptr::copy(from, to, len as usize) };
    }

    fn read32(&mut self, at: Paddr) -> u32 {
        assert!(at.0.is_multiple_of(4), "{at:?} is not aligned");
        // SAFETY: the invariant of this module; aligned.
        unsafe { physical(at, 4).cast::<u32>().read_volatile() }
    }

    fn write32(&mut self, at: Paddr, value: u32) {
        assert!(at.0.is_multiple_of(4), "{at:?} is not aligned");
        // SAFETY: the invariant of this module; aligned.
        unsafe { physical(at, 4).cast::<u32>().write_volatile(value) };
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let id = __cpuid_count(leaf, subleaf);
        [id.eax, id.ebx, id.ecx, id.edx]
    }

    fn wrmsr(&mut self, msr: u32, value: u64) {
        // SAFETY: the library writes memory type registers only: they change
        // how memory is cached, not what is in it.
        unsafe { wrmsr(msr, value) };
    }

    fn rdmsr(&mut self, msr: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reading has no effect; a register that is not there ends in
        // an exception with a message.
        unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
        u64::from(high) << 32 | u64::from(low)
    }

    fn wake(&mut self, apic_id: u8, mtrrs: &Mtrrs) -> bool {
        AWAKE.store(false, Ordering::Relaxed);
        MTRRS.store(core::ptr::from_ref(mtrrs).cast_mut(), Ordering::Release);
        apic::start(self, apic_id, layout::LOW_CODE);
        // A processor that exists always comes, but Xen may run it late: let
        // it have this processor's time, too.
        for _ in 0..1_000_000 {
            if AWAKE.load(Ordering::Acquire) {
                return true;
            }
            let _ = call(__HYPERVISOR_sched_op, u64::from(SCHEDOP_yield), 0);
        }
        false
    }

    fn memory_map(&mut self, to: &mut [E820Entry]) -> Result<usize, Errno> {
        let mut map = XenMemoryMap {
            nr_entries: u32::try_from(to.len()).unwrap_or(u32::MAX),
            buffer: handle(to),
            ..XenMemoryMap::default()
        };
        memory_op(XENMEM_memory_map, &mut map)?;
        Ok((map.nr_entries as usize).min(to.len()))
    }

    fn populate(&mut self, frame: Gfn) -> Result<(), Errno> {
        let mut frame = frame.0;
        let mut reservation = XenMemoryReservation {
            extent_start: handle(&mut frame),
            nr_extents: 1,
            domid: DOMID_SELF,
            ..XenMemoryReservation::default()
        };
        match memory_op(XENMEM_populate_physmap, &mut reservation)? {
            1 => Ok(()),
            _ => Err(Errno::ENOMEM),
        }
    }

    fn move_frame(&mut self, from: Gfn, to: Gfn) -> Result<(), Errno> {
        add_to_physmap(XENMAPSPACE_gmfn, from.0, to)
    }

    fn param(&mut self, index: u32) -> Result<u64, Errno> {
        let mut param = own_param(index, 0);
        call(
            __HYPERVISOR_hvm_op,
            u64::from(HVMOP_get_param),
            handle(&mut param).0,
        )?;
        Ok(param.value)
    }

    fn set_param(&mut self, index: u32, value: u64) -> Result<(), Errno> {
        let mut param = own_param(index, value);
        let argument = handle(&mut param).0;
        call(__HYPERVISOR_hvm_op, u64::from(HVMOP_set_param), argument).map(drop)
    }

    fn numa(&mut self) -> Option<Numa> {
        let mut it = Numa::new();
        let mut request = XenVnumaTopologyInfo {
            domid: DOMID_SELF,
            pad: 0,
            nr_vnodes: MAX_NODES as u32,
            nr_vcpus: MAX_VCPUS,
            nr_vmemranges: MAX_RANGES as u32,
            vdistance: handle(&mut it.distances),
            vcpu_to_vnode: handle(&mut it.node_of),
            vmemrange: handle(&mut it.ranges),
        };
        memory_op(XENMEM_get_vnumainfo, &mut request).ok()?;
        it.nodes = (request.nr_vnodes as usize).min(MAX_NODES);
        it.range_count = (request.nr_vmemranges as usize).min(MAX_RANGES);
        (it.nodes > 0).then_some(it)
    }

    fn version(&mut self) -> Version {
        let mut it = Version::default();
        let ask = |command, to: u64| call(__HYPERVISOR_xen_version, u64::from(command), to);
        // Neither can fail; zeros would say so.
        let number = ask(XENVER_version, 0).unwrap_or(0);
        let _ = ask(XENVER_extraversion, handle(&mut it.extra).0);
        let _ = ask(XENVER_guest_handle, handle(&mut it.uuid).0);
        it.major = (number >> 16) as u16;
        it.minor = number as u16;
        it
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        // Writing to the port cannot fail.
        let _ = writeln!(DebugPort, "{line}");
    }
}

fn own_param(index: u32, value: u64) -> XenHvmParam {
    XenHvmParam {
        domid: DOMID_SELF,
        pad: 0,
        index,
        value,
    }
}

fn memory_op<T>(operation: u32, argument: &mut T) -> Result<u64, Errno> {
    let GuestHandle(argument) = handle(argument);
    call(__HYPERVISOR_memory_op, u64::from(operation), argument)
}

/// Puts a page of one of Xen's spaces into this domain.
///
/// # Errors
/// Xen's.
pub fn add_to_physmap(space: u32, index: u64, frame: Gfn) -> Result<(), Errno> {
    let mut request = XenAddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space,
        idx: index,
        gpfn: frame.0,
    };
    memory_op(XENMEM_add_to_physmap, &mut request).map(drop)
}

/// Takes a page out of this domain.
///
/// # Errors
/// Xen's.
pub fn remove_from_physmap(frame: Gfn) -> Result<(), Errno> {
    let mut request = XenRemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn: frame.0,
        ..XenRemoveFromPhysmap::default()
    };
    memory_op(XENMEM_remove_from_physmap, &mut request).map(drop)
}

/// Memory of one frame, for those who share it with others.
pub fn frame(frame: Gfn) -> *mut u8 {
    physical(Paddr(frame.0 << 12), PAGE_SIZE)
}

/// The log of Xen.
struct DebugPort;

impl Write for DebugPort {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            Hardware.out8(XEN_HVM_DEBUGCONS_IOPORT, byte);
        }
        Ok(())
    }
}

/// What the processor being woken is to load: `wake`'s argument, valid until
/// the processor says that it is `AWAKE`.
static MTRRS: AtomicPtr<Mtrrs> = AtomicPtr::new(core::ptr::null_mut());
static AWAKE: AtomicBool = AtomicBool::new(false);

/// What a processor other than the first does: memory types, then sleep until
/// an operating system wakes it.
#[unsafe(no_mangle)]
extern "C" fn enter_ap(_: u64) -> ! {
    // SAFETY: `wake` stored a reference's address before it woke this processor,
    // and waits with that reference for `AWAKE`.
    if let Some(mtrrs) = unsafe { MTRRS.load(Ordering::Acquire).as_ref() } {
        mtrrs.load(&mut Hardware);
    }
    AWAKE.store(true, Ordering::Release);
    loop {
        // SAFETY: interrupts are off: only INIT or NMI ends this.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
