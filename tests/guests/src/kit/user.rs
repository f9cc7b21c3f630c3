//! User mode of a 64-bit PV guest: its own page table root, in by IRET, out by SYSCALL or exception.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::*;
use crate::attempt;
use crate::hypercall::{Ret, call2};
use crate::memory::{A, D, P, Page, U, W, mmuext};
use crate::trap::{IF, Trap};

/// Start of the 2 MiB that a [`Space`] can map.
pub const USER_BASE: u64 = 0x40_0000;
/// Where [`Space::new`] maps the code page.
pub const USER_CODE: u64 = USER_BASE;
/// Where [`Space::new`] maps the stack page.
pub const USER_STACK: u64 = USER_BASE + 0x1000;
/// Top of the user stack.
pub const USER_SP: u64 = USER_STACK + 0x1000;

/// A user address space: four page table pages, one code page and one stack page.
pub struct Space {
    /// Level 4 to level 1.
    pub tables: [Page; 4],
    /// The code page, also mapped by the kernel.
    pub code: Page,
    /// The stack page, also mapped by the kernel.
    pub stack: Page,
}

impl Space {
    /// Builds the tables, with kernel mappings made read-only, but neither pins nor activates them.
    pub fn new() -> Space {
        let space = Space {
            tables: [Page::new(), Page::new(), Page::new(), Page::new()],
            code: Page::new(),
            stack: Page::new(),
        };
        let [l4, l3, l2, l1] = space.tables;
        let table = |page: Page| page.mfn() << 12 | P | W | U | A | D;
        l4.write(0, table(l3));
        l3.write(0, table(l2));
        l2.write((USER_BASE >> 21) as usize, table(l1));
        l1.write(0, space.code.mfn() << 12 | P | U | A);
        l1.write(1, table(space.stack));
        for page in space.tables {
            page.read_only();
        }
        space
    }

    /// Pins the root, makes it the user page table, and gives the kernel a stack for traps from user mode.
    pub fn activate(&self) -> Ret {
        let pinned = mmuext(MMUEXT_PIN_L4_TABLE, self.tables[0].mfn(), 0);
        if !pinned.ok() {
            return pinned;
        }
        kernel_stack();
        mmuext(MMUEXT_NEW_USER_BASEPTR, self.tables[0].mfn(), 0)
    }

    /// Copies code to the code page.
    pub fn load(&self, code: &[u8]) {
        assert!(code.len() <= 4096, "user code is longer than its page");
        for (index, byte) in code.iter().enumerate() {
            // SAFETY: the page is this space's, and the index is inside it.
            unsafe { ((self.code.0 + index as u64) as *mut u8).write_volatile(*byte) };
        }
    }
}

impl Default for Space {
    fn default() -> Self {
        Space::new()
    }
}

/// The frame that enters user mode at [`USER_CODE`] with events unmasked.
pub fn context() -> IretContext {
    IretContext {
        rip: USER_CODE,
        cs: u64::from(FLAT_RING3_CS64),
        rflags: 2 | IF,
        rsp: USER_SP,
        ss: u64::from(FLAT_RING3_SS64),
        ..IretContext::default()
    }
}

static STACK_TOP: AtomicU64 = AtomicU64::new(0);

/// `stack_switch` to a stack of four pages that belongs to traps from user mode.
pub fn kernel_stack() -> Ret {
    if STACK_TOP.load(Relaxed) == 0 {
        let pages = [Page::new(), Page::new(), Page::new(), Page::new()];
        STACK_TOP.store(pages[3].0 + 4096, Relaxed);
    }
    call2(
        __HYPERVISOR_stack_switch,
        FLAT_RING3_SS64,
        STACK_TOP.load(Relaxed),
    )
}

/// IRET with this frame; what brought the vCPU back to the kernel.
pub fn enter(context: &IretContext) -> Option<Trap> {
    let frame = core::ptr::from_ref(context) as u64;
    attempt!("mov rsp, {frame}", "mov eax, 23", "syscall";
        frame = in(reg) frame, out("r12") _, out("r13") _, out("r14") _, out("r15") _, clobber_abi("sysv64"))
}

/// Assembles user code out of line and returns its bytes.
#[macro_export]
macro_rules! user_code {
    ($($code:literal),+ $(,)?) => {{
        let (start, end): (u64, u64);
        // SAFETY: takes two addresses; the code between them is only read here.
        unsafe {
            core::arch::asm!(
                ".pushsection .text.user, \"ax\"",
                "771:",
                $($code,)+
                "772:",
                ".popsection",
                "lea {start}, [rip + 771b]",
                "lea {end}, [rip + 772b]",
                start = out(reg) start,
                end = out(reg) end,
            );
            core::slice::from_raw_parts(start as *const u8, (end - start) as usize)
        }
    }};
}
