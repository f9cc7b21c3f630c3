//! Exceptions, event upcalls and system calls: entry stubs, and [`attempt!`](crate::attempt) to provoke them.
//!
//! The hypervisor pushes RCX and R11 on top of the hardware's frame (arch-x86/xen-x86_64.h), on the current stack in
//! kernel mode and on the one of `stack_switch` in user mode. The stubs complete that to a [`Frame`]. There is one
//! resume point: a trap while it is armed is recorded and the guest goes on behind the attempt, whatever it had tried.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::*;
use crate::boot::start_info;
use crate::hypercall::{Ret, call1, call3, handle};
use crate::{events, println};

/// Pseudo vector: event upcall.
pub const EVENT: u64 = 0x100;
/// Pseudo vector: failsafe callback.
pub const FAILSAFE: u64 = 0x101;
/// Pseudo vector: SYSCALL from user mode.
pub const SYSCALL: u64 = 0x102;
/// Pseudo vector: NMI callback.
pub const NMI: u64 = 0x103;
/// Pseudo vector: SYSENTER from user mode.
pub const SYSENTER: u64 = 0x104;

/// RFLAGS: trap flag.
pub const TF: u64 = 1 << 8;
/// RFLAGS: interrupts enabled.
pub const IF: u64 = 1 << 9;

/// What the stubs leave on the stack.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "registers")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Exception vector or one of the pseudo vectors.
    pub vector: u64,
    /// Error code, 0 where the vector has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// A trap that an attempt provoked.
#[derive(Clone, Copy, Default)]
pub struct Trap {
    /// Registers.
    pub frame: Frame,
    /// `cr2` of the vCPU's info at that moment.
    pub cr2: u64,
    /// Bytes between the start of the attempted instruction and the frame's RIP.
    pub advance: u64,
    /// Whether upcalls were masked when the handler began.
    pub masked: bool,
}

impl Trap {
    /// Whether it came from user mode.
    pub fn from_user(&self) -> bool {
        self.frame.cs & 3 == 3
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frame.vector {
            EVENT => f.write_str("event"),
            FAILSAFE => f.write_str("failsafe"),
            SYSCALL => f.write_str("syscall"),
            SYSENTER => f.write_str("sysenter"),
            NMI => f.write_str("nmi"),
            0 => f.write_str("#DE"),
            1 => f.write_str("#DB"),
            3 => f.write_str("#BP"),
            4 => f.write_str("#OF"),
            6 => f.write_str("#UD"),
            7 => f.write_str("#NM"),
            11 => write!(f, "#NP({:#x})", self.frame.error),
            12 => write!(f, "#SS({:#x})", self.frame.error),
            13 => write!(f, "#GP({:#x})", self.frame.error),
            14 => write!(f, "#PF({:#x})", self.frame.error),
            16 => f.write_str("#MF"),
            17 => write!(f, "#AC({:#x})", self.frame.error),
            19 => f.write_str("#XM"),
            other => write!(f, "vector {other} error {:#x}", self.frame.error),
        }
    }
}

/// Prints a trap, or `none`.
pub struct Outcome(pub Option<Trap>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(trap) => trap.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// The resume point, written by [`attempt!`](crate::attempt): address (0: not armed), stack pointer, start of the code.
pub static RESUME: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

struct Recorded(UnsafeCell<Trap>);
// SAFETY: written by the trap handler and read behind the attempt, both on the boot vCPU only.
unsafe impl Sync for Recorded {}
static RECORDED: Recorded = Recorded(UnsafeCell::new(Trap {
    frame: Frame {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rbp: 0,
        rdi: 0,
        rsi: 0,
        rdx: 0,
        rcx: 0,
        rbx: 0,
        rax: 0,
        vector: 0,
        error: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    },
    cr2: 0,
    advance: 0,
    masked: false,
}));
static HIT: AtomicU64 = AtomicU64::new(0);

// One stub per vector, 16 bytes apart, in `trap_stubs`.
global_asm!(
    r#"
    .pushsection .text.traps, "ax"
    .balign 16
    .global trap_stubs
trap_stubs:
    vector = 0
    .rept 32
    .balign 16
    pop rcx
    pop r11
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    vector = vector + 1
    .endr

    .macro pseudo name number
    .global \name
    .balign 16
\name:
    pop rcx
    pop r11
    push 0
    push \number
    jmp trap_common
    .endm
    pseudo entry_event 0x100
    pseudo entry_syscall 0x102
    pseudo entry_nmi 0x103
    pseudo entry_sysenter 0x104

    // The failsafe callback's frame has DS, ES, FS, GS below RIP.
    .global entry_failsafe
    .balign 16
entry_failsafe:
    pop rcx
    pop r11
    add rsp, 32
    push 0
    push 0x101

trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    cld
    call {handler}
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    push 0
    jmp [rip + 1f]
1:  .quad hypercall_page + 23 * 32
    .popsection
"#,
    handler = sym on_trap,
);

unsafe extern "C" {
    static trap_stubs: [u8; 512];
    static entry_event: u8;
    static entry_syscall: u8;
    static entry_nmi: u8;
    static entry_sysenter: u8;
    static entry_failsafe: u8;
}

/// Address of the stub of an exception vector (0 to 31) or a pseudo vector.
pub fn stub(vector: u64) -> u64 {
    match vector {
        EVENT => &raw const entry_event as u64,
        FAILSAFE => &raw const entry_failsafe as u64,
        SYSCALL => &raw const entry_syscall as u64,
        NMI => &raw const entry_nmi as u64,
        SYSENTER => &raw const entry_sysenter as u64,
        _ => &raw const trap_stubs as u64 + (vector % 32) * 16,
    }
}

/// The table [`init`] sets: every exception, `#BP` and `#OF` callable from user mode.
pub fn table() -> [TrapInfo; 21] {
    let mut table = [TrapInfo::default(); 21];
    for (vector, info) in table.iter_mut().enumerate().take(20) {
        let dpl = if vector == 3 || vector == 4 { 3 } else { 0 };
        *info = TrapInfo {
            vector: vector as u8,
            flags: dpl | 4,
            cs: FLAT_RING3_CS64,
            address: Vaddr(stub(vector as u64)),
            ..TrapInfo::default()
        };
    }
    table
}

/// Registers the stubs, and nothing else.
pub fn reset() {
    call1(__HYPERVISOR_set_trap_table, 0);
    set_trap_table(&table());
    call3(
        __HYPERVISOR_set_callbacks,
        stub(EVENT),
        stub(FAILSAFE),
        stub(SYSCALL),
    );
}

/// Registers the stubs and maps the shared info page, which holds CR2.
pub fn init() {
    reset();
    events::init(start_info().shared_info.0);
}

extern "C" fn on_trap(frame: &mut Frame) {
    if frame.vector == EVENT && !events::WATCHED.load(Relaxed) {
        events::on_upcall();
        return;
    }
    let resume = RESUME[0].swap(0, Relaxed);
    if resume == 0 {
        let trap = Trap {
            frame: *frame,
            ..Trap::default()
        };
        println!(
            "unexpected {trap} rip {:#x} rsp {:#x} cr2 {:#x}",
            frame.rip,
            frame.rsp,
            events::cr2()
        );
        crate::boot::shutdown(SHUTDOWN_crash);
    }
    let trap = Trap {
        frame: *frame,
        cr2: events::cr2(),
        advance: frame.rip.wrapping_sub(RESUME[2].load(Relaxed)),
        masked: events::upcall_mask().load(Relaxed) != 0,
    };
    // SAFETY: only this vCPU arms the resume point, and it is not reading while it is here.
    unsafe { *RECORDED.0.get() = trap };
    HIT.store(1, Relaxed);
    frame.rip = resume;
    frame.rsp = RESUME[1].load(Relaxed);
    frame.cs = u64::from(FLAT_RING3_CS64) & !3;
    frame.ss = u64::from(FLAT_RING3_SS64);
    // Events stay as they were masked when the attempt began; the attempt's end restores nothing else.
    frame.rflags = 2 | if events::MASKED.load(Relaxed) { 0 } else { IF };
}

/// Whether the attempt that just ended was cut short, and by what. [`attempt!`](crate::attempt) calls this.
pub fn taken() -> Option<Trap> {
    RESUME[0].store(0, Relaxed);
    if HIT.swap(0, Relaxed) == 0 {
        return None;
    }
    // SAFETY: the handler has returned, nobody writes.
    Some(unsafe { *RECORDED.0.get() })
}

/// Runs instructions that may trap; the operands are those of `asm!`. Returns the trap as `Option<Trap>`.
///
/// After a trap RSP, RBP and RBX are as before; the other registers are what the instructions left, so name those that
/// change as outputs. Instructions that may end without a trap must leave RSP and RBP alone. Not reentrant, and for
/// the boot vCPU only.
#[macro_export]
macro_rules! attempt {
    ($($code:literal),+ $(; $($operands:tt)*)?) => {{
        $crate::events::note_mask();
        #[allow(clippy::macro_metavars_in_unsafe, reason = "the operands belong to the instructions")]
        // SAFETY: a trap resumes at label 93 with the stack pointer of now; what the instructions do on purpose is
        // the check's responsibility.
        unsafe {
            core::arch::asm!(
                "push rbx",
                "push rbp",
                "lea rbx, [rip + 93f]",
                "mov [rip + {resume}], rbx",
                "mov [rip + {resume} + 8], rsp",
                "lea rbx, [rip + 92f]",
                "mov [rip + {resume} + 16], rbx",
                "mov rbx, [rsp + 8]",
                "92:",
                $($code,)+
                "lea rsp, [rsp + 16]",
                "jmp 94f",
                "93:",
                "pop rbp",
                "pop rbx",
                "94:",
                resume = sym $crate::trap::RESUME,
                $($($operands)*)?
            );
        }
        $crate::trap::taken()
    }};
}

/// The `set_trap_table` hypercall; the last entry must have address 0.
pub fn set_trap_table(table: &[TrapInfo]) -> Ret {
    call1(__HYPERVISOR_set_trap_table, handle(table).0)
}
