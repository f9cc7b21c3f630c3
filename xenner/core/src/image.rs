//! What the emulator image and the host process know of each other.
//!
//! Everything here lies in memory the guest could scribble over: the host
//! reads it as hostile data, and a guest that changes it hurts itself only.

use core::sync::atomic::AtomicU64;

use crate::{Config, MAX_VCPUS};

/// Where guest-physical address 0 appears in the emulator's address space: the
/// start of Xen's hole, PML4 slot 256.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Where each virtual CPU's descriptor tables appear, [`TABLES_SIZE`] apart:
/// 16 pages of global, 16 pages of local descriptors.
pub const TABLES: u64 = 0xffff_8078_0000_0000;
/// See [`TABLES`].
pub const TABLES_SIZE: u64 = 32 * 4096;
/// Where guests find the machine-to-physical table: slot 257, since ring 3
/// cannot use slot 256 on a pagetable-based KVM.
pub const M2P: u64 = 0xffff_8080_0000_0000;
/// Guest-physical address of the emulator's image.
pub const IMAGE_BASE: u64 = 0x10_0000;
/// End of the room for the image.
pub const IMAGE_LIMIT: u64 = 0x200_0000;
/// Guest-physical address of the hypervisor's heap.
pub const HEAP_BASE: u64 = 0x200_0000;
/// Guest-physical address of the machine-to-physical table.
pub const M2P_BASE: u64 = 0x4000_0000;
/// Guest-physical address of the domain's memory: above 4 GiB there is no
/// hole in it, and no machine frame number is a valid pseudo-physical one.
pub const RAM_BASE: u64 = 0x1_0000_0000;

/// `Header::magic`.
pub const MAGIC: u64 = 0x656d_752d_7265_6e78;

/// The host's vector: a bit in [`Doorbells::to_guest`] is set.
pub const VECTOR_HOST: u8 = 0xf3;
/// Another virtual CPU's kick.
pub const VECTOR_KICK: u8 = 0xf1;
/// A request to flush translations.
pub const VECTOR_FLUSH: u8 = 0xf2;
/// The local timer.
pub const VECTOR_TIMER: u8 = 0xf0;

/// Port of the doorbell towards the host: EAX holds the event channel port. No
/// exit to the process, an eventfd.
pub const PORT_DOORBELL: u16 = 0x510;
/// Port of synchronous calls to the host: RAX holds a `CALL_*`, RDI and RSI
/// its arguments.
pub const PORT_CALL: u16 = 0x511;

/// The domain ended its run; RDI is the `SHUTDOWN_*` reason.
pub const CALL_SHUTDOWN: u64 = 1;
/// The emulator ended the domain; [`Epitaph`] says why.
pub const CALL_CRASH: u64 = 2;
/// Write RSI bytes at direct-map address RDI to the hypervisor's console.
pub const CALL_CONSOLE: u64 = 3;
/// RSI frames from RDI on hold nothing any more.
pub const CALL_RELEASE: u64 = 4;
/// Watchdog RDI fires at system time RSI, never when 0; RDX holds the
/// nanoseconds until then in its upper 48 bits.
pub const CALL_WATCHDOG: u64 = 5;

/// Stands at [`IMAGE_BASE`] in the image; addresses are direct-map ones.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Where a virtual CPU starts, its number in RDI, interrupts off.
    pub entry: u64,
    /// Address of [`Boot`].
    pub boot: u64,
    /// Address of [`Doorbells`].
    pub doorbells: u64,
    /// Address of [`Epitaph`].
    pub epitaph: u64,
    /// Address of the first virtual CPU's state.
    pub cpus: u64,
    /// Bytes from one virtual CPU's state to the next.
    pub cpu_size: u64,
    /// Offset of the end of the stack in it: the guest's registers
    /// ([`crate::Regs`]) end there while the emulator runs.
    pub cpu_stack_end: u64,
    /// Address of the page tables of [`TABLES`], one page each.
    pub tables: u64,
    /// Address of the hypercall counters (64 words).
    pub hypercalls: u64,
    /// Address of the event channel ports, a word each: what
    /// [`crate::evtchn::waits_for_host`] reads.
    pub ports: u64,
    /// Address of the first virtual CPU's runstate (32 bits).
    pub runstates: u64,
    /// Bytes from one virtual CPU's runstate to the next.
    pub runstate_step: u64,
    /// Address of the frames owned beyond those owned at start (64 bits, signed).
    pub balance: u64,
}

/// What the host fills in before the first virtual CPU starts.
#[repr(C)]
pub struct Boot {
    /// The domain's constants.
    pub config: Config,
    /// The 16 entries of Xen's hole in every top-level table.
    pub hole: [u64; 16],
    /// The first virtual CPU's context.
    pub context: xen_sys::arch_x86::VcpuGuestContext,
}

/// Notifications, one bit a port.
#[repr(C)]
pub struct Doorbells {
    /// The host has bound the port's other end.
    pub bound: [AtomicU64; 64],
    /// The host notified the guest.
    pub to_guest: [AtomicU64; 64],
}

/// Why the emulator ended the domain.
#[repr(C)]
pub struct Epitaph {
    /// Bytes of `text` in use.
    pub length: u64,
    /// What happened.
    pub text: [u8; 120],
    /// The number that goes with it.
    pub detail: u64,
    /// The virtual CPU.
    pub vcpu: u64,
}

/// Pages of page tables for [`TABLES`].
pub const TABLES_PAGES: usize = MAX_VCPUS * 32 / 512;
