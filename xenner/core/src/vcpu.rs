//! What belongs to one virtual CPU.

use xen_sys::addr::{Mfn, Vaddr};

/// One entry of the guest's trap table (`struct trap_info`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// Handler; 0 when there is none.
    pub address: u64,
    /// Code selector as the guest gave it.
    pub cs: u16,
    /// Lowest privilege that may raise it by `int`.
    pub dpl: u8,
    /// Masks events on entry.
    pub masks_events: bool,
}

/// One callback (`CALLBACKOP_register`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback {
    /// Handler; 0 when there is none.
    pub address: u64,
    /// `CALLBACKF_mask_events`.
    pub masks_events: bool,
}

/// A virtual CPU's private state; only the CPU itself touches it.
#[derive(Debug)]
pub struct Vcpu {
    /// Its number.
    pub id: usize,
    /// Whether ring 3 runs the guest's kernel (or its user processes).
    pub in_kernel: bool,
    /// Top-level table of kernel mode.
    pub kernel_l4: Mfn,
    /// Top-level table of user mode; 0 when none is set.
    pub user_l4: Mfn,
    /// Stack for entries from user mode (`HYPERVISOR_stack_switch`).
    pub kernel_sp: u64,
    /// The guest's I/O privilege level (0-3), in software.
    pub iopl: u8,
    /// `set_trap_table`.
    pub gates: [Gate; 256],
    /// `CALLBACKTYPE_event`.
    pub event: Callback,
    /// `CALLBACKTYPE_failsafe`.
    pub failsafe: Callback,
    /// `CALLBACKTYPE_syscall`.
    pub syscall: Callback,
    /// `CALLBACKTYPE_syscall32`.
    pub syscall32: Callback,
    /// `CALLBACKTYPE_sysenter`.
    pub sysenter: Callback,
    /// `CALLBACKTYPE_nmi`.
    pub nmi: Callback,
    /// FS base to load on entry to the mode that is not running, and so on.
    pub gs_base_kernel: u64,
    /// GS base of user mode while kernel mode runs.
    pub gs_base_user: u64,
    /// CR0.TS as the guest sees it.
    pub task_switched: bool,
    /// XCR0 as the guest set it.
    pub xcr0: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// Debug registers 0-7 as the guest set them.
    pub debugreg: [u64; 8],
    /// Where to copy the runstate to, guest virtual; 0 nowhere.
    pub runstate_area: Vaddr,
    /// Where to copy the time to, guest virtual; 0 nowhere.
    pub time_area: Vaddr,
    /// System time of the last runstate change, ns.
    pub runstate_entry: u64,
    /// Time spent in each runstate, ns.
    pub runstate_time: [u64; 4],
    /// The current runstate (`RUNSTATE_*`).
    pub runstate: u32,
    /// Period of the periodic timer, ns; 0 stopped.
    pub period: u64,
    /// Next expiry of the periodic timer, system time.
    pub periodic_at: u64,
    /// Expiry of the single-shot timer, system time; 0 stopped.
    pub singleshot_at: u64,
    /// Expiry of `SCHEDOP_poll`'s timeout, system time; 0 none.
    pub poll_until: u64,
    /// Descriptor table frames in force.
    pub gdt_frames: [Mfn; 16],
    /// Entries of the descriptor table.
    pub gdt_entries: u32,
    /// Page tables the kernel stores to as if they were data.
    pub stores: crate::ptwr::Stores,
    /// A multicall did what is not [`crate::hypercall::is_common`].
    pub unsettled: bool,
    /// The guest is blocked; see [`crate::domain::VCPU_BLOCKED`].
    pub blocked: bool,
    /// It has taken up its first context.
    pub started: bool,
    /// Nothing of the guest runs on this virtual CPU until it is brought up.
    pub down: bool,
}

impl Vcpu {
    /// A virtual CPU that is down.
    pub const fn new(id: usize) -> Self {
        const NO_GATE: Gate = Gate {
            address: 0,
            cs: 0,
            dpl: 0,
            masks_events: false,
        };
        const NO_CALLBACK: Callback = Callback {
            address: 0,
            masks_events: false,
        };
        Self {
            id,
            in_kernel: true,
            kernel_l4: Mfn(0),
            user_l4: Mfn(0),
            kernel_sp: 0,
            iopl: 0,
            gates: [NO_GATE; 256],
            event: NO_CALLBACK,
            failsafe: NO_CALLBACK,
            syscall: NO_CALLBACK,
            syscall32: NO_CALLBACK,
            sysenter: NO_CALLBACK,
            nmi: NO_CALLBACK,
            gs_base_kernel: 0,
            gs_base_user: 0,
            task_switched: false,
            xcr0: 1,
            cr4: 0,
            debugreg: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            runstate_area: Vaddr(0),
            time_area: Vaddr(0),
            runstate_entry: 0,
            runstate_time: [0; 4],
            runstate: 3,
            period: 0,
            periodic_at: 0,
            singleshot_at: 0,
            poll_until: 0,
            gdt_frames: [Mfn(0); 16],
            gdt_entries: 0,
            stores: crate::ptwr::Stores::NONE,
            unsettled: false,
            blocked: false,
            started: false,
            down: true,
        }
    }

    /// Sets the stack for entries from user mode. One whose frames would lie in
    /// the emulator's range is replaced by one that cannot be written.
    pub fn set_kernel_sp(&mut self, sp: u64) {
        const FRAME: u64 = 64;
        let low = Vaddr((sp & !15).wrapping_sub(FRAME));
        self.kernel_sp = if crate::mmu::in_hole(low) || crate::mmu::in_hole(Vaddr(sp)) {
            0
        } else {
            sp
        };
    }
}
