//! What all virtual CPUs of a domain share.

use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use xen_sys::addr::{DomId, Maddr, Mfn};
use xen_sys::arch_x86::VcpuGuestContext;
use xen_sys::xen::SharedInfo;

use crate::Machine;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::evtchn::EventChannels;
use crate::grant::GrantTable;
use crate::memory::Memory;

/// The most virtual CPUs a domain may have: `XEN_LEGACY_MAX_VCPUS`, the number
/// `shared_info` has room for.
pub const MAX_VCPUS: usize = 32;

/// What the host decides before the domain starts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// First frame of the domain's memory.
    pub ram_base: Mfn,
    /// Frames of memory from `ram_base` on, at least `max_pages`. What exceeds
    /// those is the hypervisor's stock for `XENMEM_exchange`, as Xen's heap is.
    pub ram_pages: u64,
    /// Frames the domain may own at a time (`maxmem`).
    pub max_pages: u64,
    /// Frames it owns at start, the first of them.
    pub nr_pages: u64,
    /// The console's frame, granted to domain 0 as entry 0.
    pub console: Mfn,
    /// Xenstore's frame, granted to domain 0 as entry 1.
    pub store: Mfn,
    /// The `shared_info` frame.
    pub shared_info: Mfn,
    /// First frame of the hypervisor's heap, for the bitmap of owned frames and
    /// the grant table. Filled in by [`crate::memory::init`] and
    /// [`crate::grant::init_reserved`].
    pub heap_base: Mfn,
    /// Frames of the heap, at least [`crate::memory::heap_pages`].
    pub heap_pages: u64,
    /// First frame of the record of page tables, a bit a frame of the domain's;
    /// the host marks those the builder made.
    pub tables: Mfn,
    /// Where the guest finds the machine-to-physical table.
    pub m2p: u64,
    /// Entries of that table.
    pub m2p_entries: u64,
    /// The time stamp at system time 0.
    pub tsc_base: u64,
    /// Wall clock at system time 0, nanoseconds since 1970.
    pub wallclock_ns: u64,
    /// The domain's UUID.
    pub handle: [u8; 16],
    /// Frequency of the time stamp counter, kHz.
    pub tsc_khz: u32,
    /// The multiplier and shift of `vcpu_time_info` for that frequency.
    pub tsc_to_system_mul: u32,
    /// See `tsc_to_system_mul`.
    pub tsc_shift: i32,
    /// Limit of grant table frames.
    pub max_grant_frames: u32,
    /// Highest event channel port plus one the domain may use.
    pub max_evtchn_port: u32,
    /// The code selector the CPU runs the guest's kernel with.
    pub kernel_cs: u16,
    /// The stack selector the CPU runs the guest's kernel with.
    pub kernel_ss: u16,
    /// The domain's own number.
    pub domid: u16,
    /// No meaning.
    pub _pad0: u16,
    /// Virtual CPUs that exist; those but the first start down.
    pub nr_vcpus: u32,
}

/// One domain.
pub struct Domain {
    /// What the host decided.
    pub config: Config,
    /// What virtual CPUs may ask of each other.
    pub vcpus: [VcpuShared; MAX_VCPUS],
    /// Event channels.
    pub evtchn: EventChannels,
    /// The grant table.
    pub grant: Mutex<GrantTable>,
    /// Who owns which frame.
    pub memory: Mutex<Memory>,
    /// Frames owned beyond those owned at start; changed with `memory` locked.
    pub balance: AtomicI64,
    /// `VMASST_TYPE_*` bits switched on.
    pub vm_assist: AtomicU64,
    /// The domain has ended its run.
    pub shut_down: AtomicBool,
    /// The reason `SCHEDOP_shutdown_code` left for a later shutdown.
    pub shutdown_code: AtomicU32,
    /// Contexts given to `VCPUOP_initialise` and not yet taken up.
    pub contexts: [Mutex<VcpuGuestContext>; MAX_VCPUS],
    /// Deadlines of `SCHEDOP_watchdog`, system time; 0 free.
    pub watchdogs: Mutex<[u64; 2]>,
    /// How often each hypercall was made.
    pub hypercalls: [AtomicU64; 64],
    /// Descriptors a page may hold; serialises `update_descriptor`.
    pub descriptors: Mutex<()>,
}

impl Domain {
    /// A domain before the host has decided anything.
    pub const fn new() -> Self {
        Self {
            config: Config {
                domid: 0,
                nr_vcpus: 0,
                ram_base: Mfn(0),
                ram_pages: 0,
                max_pages: 0,
                nr_pages: 0,
                console: Mfn(0),
                store: Mfn(0),
                shared_info: Mfn(0),
                heap_base: Mfn(0),
                heap_pages: 0,
                tables: Mfn(0),
                m2p: 0,
                m2p_entries: 0,
                tsc_khz: 0,
                tsc_to_system_mul: 0,
                tsc_shift: 0,
                tsc_base: 0,
                wallclock_ns: 0,
                handle: [0; 16],
                max_grant_frames: 0,
                max_evtchn_port: 0,
                kernel_cs: 0,
                kernel_ss: 0,
                _pad0: 0,
            },
            vcpus: [const { VcpuShared::new() }; MAX_VCPUS],
            evtchn: EventChannels::new(),
            grant: Mutex::new(GrantTable::new()),
            memory: Mutex::new(Memory::new()),
            balance: AtomicI64::new(0),
            vm_assist: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
            shutdown_code: AtomicU32::new(0),
            contexts: [const { Mutex::new(NO_CONTEXT) }; MAX_VCPUS],
            watchdogs: Mutex::new([0; 2]),
            hypercalls: [const { AtomicU64::new(0) }; 64],
            descriptors: Mutex::new(()),
        }
    }
}

/// Brings a domain to the state the toolstack leaves it in: memory owned,
/// `shared_info` filled, the ports of xenstore and the console allocated, the
/// first virtual CPU up. Runs once, before any guest code.
pub fn start<M: Machine>(m: &mut M, d: &Domain) {
    crate::memory::init(m, &d.config);
    crate::grant::init_reserved(m, &d.config, d.config.console, d.config.store);
    let time = crate::vcpu_op::time_info(d);
    for (id, vcpu) in d.vcpus.iter().enumerate() {
        let home = crate::vcpu_op::vcpu_info_home(d, id);
        vcpu.vcpu_info.store(home.0, Ordering::Release);
        vcpu.runstate
            .store(crate::vcpu_op::RUNSTATE_OFFLINE, Ordering::Relaxed);
        // Events are masked until the guest is ready for them.
        m.store8(home.offset(1), 1);
        m.write_frame(home.offset(32), time.as_bytes());
    }
    let wallclock = d.config.wallclock_ns;
    let at = |offset: usize| d.config.shared_info.addr().offset(offset as u64);
    m.store32(
        at(offset_of!(SharedInfo, wc_sec)),
        (wallclock / 1_000_000_000) as u32,
    );
    m.store32(
        at(offset_of!(SharedInfo, wc_nsec)),
        (wallclock % 1_000_000_000) as u32,
    );
    m.store32(at(offset_of!(SharedInfo, wc_version)), 2);
    // The first two ports: xenstore's and the console's.
    for _ in 0..2 {
        let _ = crate::evtchn::alloc_toolstack_port(m, d, DomId(0));
    }
    if let Some(first) = d.vcpus.first() {
        first
            .state
            .store(VCPU_INITIALISED | VCPU_UP, Ordering::Release);
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

/// All zero.
const NO_CONTEXT: VcpuGuestContext = zerocopy::transmute!([0u8; size_of::<VcpuGuestContext>()]);

/// The part of a virtual CPU that others touch.
pub struct VcpuShared {
    /// `VCPU_*` bits.
    pub state: AtomicU32,
    /// Machine address of its `vcpu_info`.
    pub vcpu_info: AtomicU64,
    /// Work to do before it runs guest code again, `WORK_*` bits.
    pub work: AtomicU32,
    /// `virq_to_evtchn`-like: the port each VIRQ is bound to, 0 if none.
    pub virq: [AtomicU32; 24],
    /// Runstate word for others to read (`RUNSTATE_*`).
    pub runstate: AtomicU32,
    /// The port it polls for: 0 none, u32::MAX several.
    pub poll: AtomicU32,
    /// A runstate area another virtual CPU registered for it; 0 none.
    pub runstate_area: AtomicU64,
}

impl VcpuShared {
    /// A virtual CPU that has not been initialised.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            vcpu_info: AtomicU64::new(0),
            work: AtomicU32::new(0),
            virq: [const { AtomicU32::new(0) }; 24],
            runstate: AtomicU32::new(crate::vcpu_op::RUNSTATE_OFFLINE),
            poll: AtomicU32::new(0),
            runstate_area: AtomicU64::new(0),
        }
    }

    /// Where its `vcpu_info` lies.
    pub fn vcpu_info(&self) -> Maddr {
        Maddr(self.vcpu_info.load(core::sync::atomic::Ordering::Acquire))
    }
}

impl Default for VcpuShared {
    fn default() -> Self {
        Self::new()
    }
}

/// The virtual CPU has its context (`VCPUOP_initialise`).
pub const VCPU_INITIALISED: u32 = 1;
/// It runs or may run (`VCPUOP_up`).
pub const VCPU_UP: u32 = 2;
/// `VcpuShared::work`: an NMI waits for delivery.
pub const WORK_NMI: u32 = 1;
/// It sleeps in `SCHEDOP_block` or `SCHEDOP_poll` until an event arrives.
pub const VCPU_BLOCKED: u32 = 4;
