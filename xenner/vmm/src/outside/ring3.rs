//! What ring 3 executes and reads of ours: two pages in slot 258.
//!
//! **SYSCALL.** On a pagetable-based KVM it stays in ring 3. It leads to an OUT
//! here, which ends in this process at once: no exception into ring 0 and no
//! IRETQ out of it. A program that jumps there says no more than SYSCALL would
//! with the RCX and R11 it holds.
//!
//! **The timer's window.** A kernel that keeps a tick asks for its next one
//! (`VCPUOP_set_singleshot_timer`) in each. When [`super::foresight`] has armed
//! the timer for that already, the call need not leave ring 3: the hypercall
//! page leads to code here that compares the deadline asked for with a window
//! and returns 0 inside it. The window ends where the timer is armed, so the
//! event comes no earlier than asked for and no more than [`SLOP_NS`] later, as
//! Xen's own timers may (its `timer_slop`, 50 us).
//!
//! Ring 3 writes nothing, so a process cannot hurt its kernel there. The
//! decision must not grow old: whatever leaves ring 3 inside [`DECISION`] goes
//! on at the SYSCALL behind it, so that no other timer is set between the look
//! at the window and what follows from it. Once the decision is made the call
//! is over, and what comes then comes after it.

use std::ops::RangeInclusive;

use xen_sys::hypercall::__HYPERVISOR_vcpu_op;
use xen_sys::vcpu::VCPUOP_set_singleshot_timer;
use xenner_core::MAX_VCPUS;

/// Where ring 3 finds the code.
pub const CODE: u64 = 0xffff_8100_0000_0000;
/// Where it finds the windows.
pub const WINDOWS: u64 = CODE + 0x1000;
/// Bytes from one virtual CPU's window to the next.
pub const WINDOW_SIZE: u64 = 16;
/// How much later than asked for a timer may fire, nanoseconds.
pub const SLOP_NS: u64 = 50_000;

/// Where LSTAR points.
pub const SYSCALL_TARGET: u64 = CODE;
/// RIP when the OUT there has reached this process.
pub const SYSCALL_DONE: u64 = SYSCALL_TARGET + 2;
/// What R11 may bring into RFLAGS: what a program may change by POPF.
pub const SYSCALL_FLAGS: u64 = 0x24_0fd5;

/// `HYPERVISOR_vcpu_op`; the hypercall page has pushed RCX and R11.
pub const VCPU_OP: u64 = CODE + 0x40;
/// The load of the deadline, which may fault.
pub const LOAD: u64 = VCPU_OP + 33;
/// RIP while the window is looked at; RAX holds the number of the hypercall.
pub const DECISION: RangeInclusive<u64> = VCPU_OP + 5..=VCPU_OP + 45;
/// The hypercall made after all.
pub const SLOW: u64 = VCPU_OP + 51;

/// The deadlines that need no hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first, system time.
    pub first: u64,
    /// How many of them there are, a nanosecond apart.
    pub count: u64,
}

impl Window {
    /// None.
    pub const CLOSED: Self = Self {
        first: u64::MAX,
        count: 0,
    };

    /// For a timer armed at a system time.
    pub fn up_to(armed: u64) -> Self {
        Self {
            first: armed.saturating_sub(SLOP_NS),
            count: SLOP_NS + 1,
        }
    }
}

/// What the code page holds.
pub fn code() -> Vec<u8> {
    let mut page = vec![0xcc; 0x80];
    // out PORT, al; ud2
    page[..4].copy_from_slice(&[0xe6, super::ring0::PORT as u8, 0x0f, 0x0b]);
    let mut code = vec![0xb8, __HYPERVISOR_vcpu_op as u8, 0, 0, 0]; // mov eax, vcpu_op
    code.extend([0x83, 0xff, VCPUOP_set_singleshot_timer as u8]); // cmp edi, set_singleshot_timer
    code.extend([0x75, 41]); // jne slow
    code.extend([0x83, 0xfe, MAX_VCPUS as u8]); // cmp esi, MAX_VCPUS
    code.extend([0x73, 36]); // jae slow
    code.extend([0x89, 0xf1]); // mov ecx, esi
    code.extend([0xc1, 0xe1, 4]); // shl ecx, 4
    code.extend([0x49, 0xbb]); // mov r11, WINDOWS
    code.extend(WINDOWS.to_le_bytes());
    code.extend([0x49, 0x01, 0xcb]); // add r11, rcx
    code.extend([0x48, 0x8b, 0x0a]); // mov rcx, [rdx]
    code.extend([0x49, 0x2b, 0x0b]); // sub rcx, [r11]
    code.extend([0x49, 0x3b, 0x4b, 8]); // cmp rcx, [r11 + 8]
    code.extend([0x73, 6]); // jae slow
    code.extend([0x31, 0xc0]); // xor eax, eax
    code.extend([0x41, 0x5b, 0x59, 0xc3]); // pop r11; pop rcx; ret
    code.extend([0x0f, 0x05]); // slow: syscall
    code.extend([0x41, 0x5b, 0x59, 0xc3]); // pop r11; pop rcx; ret
    let at = (VCPU_OP - CODE) as usize;
    page[at..at + code.len()].copy_from_slice(&code);
    page
}

/// The entry of the hypercall page for `HYPERVISOR_vcpu_op`.
pub fn vcpu_op_entry() -> Vec<u8> {
    let mut code = vec![0x51, 0x41, 0x53, 0x49, 0xbb]; // push rcx; push r11; mov r11, VCPU_OP
    code.extend(VCPU_OP.to_le_bytes());
    code.extend([0x41, 0xff, 0xe3]); // jmp r11
    code
}

const _: () = assert!(MAX_VCPUS as u64 * WINDOW_SIZE <= 4096 && MAX_VCPUS < 128);
const _: () = assert!(WINDOW_SIZE == 1 << 4 && __HYPERVISOR_vcpu_op < 128);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(at: u64, length: usize) -> Vec<u8> {
        code()[(at - CODE) as usize..][..length].to_vec()
    }

    #[test]
    fn names_meet_the_instructions() {
        assert_eq!(bytes(VCPU_OP, 1), [0xb8]);
        assert_eq!(bytes(*DECISION.start(), 3), [0x83, 0xff, 8]);
        assert_eq!(bytes(LOAD, 3), [0x48, 0x8b, 0x0a]);
        assert_eq!(bytes(*DECISION.end(), 2), [0x31, 0xc0]);
        assert_eq!(bytes(SLOW, 2), [0x0f, 0x05]);
        assert!(vcpu_op_entry().len() <= 32);
    }

    #[test]
    fn jumps_lead_to_the_hypercall() {
        for at in [8, 13, 43] {
            let jump = bytes(VCPU_OP + at, 2);
            assert_eq!(VCPU_OP + at + 2 + u64::from(jump[1]), SLOW);
        }
    }

    #[test]
    fn a_window_ends_where_the_timer_is_armed() {
        let window = Window::up_to(1_000_000);
        let inside = |at: u64| at.wrapping_sub(window.first) < window.count;
        assert!(inside(1_000_000) && inside(1_000_000 - SLOP_NS));
        assert!(!inside(1_000_001) && !inside(999_999 - SLOP_NS));
        let none = Window::CLOSED;
        assert!(
            [0, 1_000_000, u64::MAX].map(|at: u64| at.wrapping_sub(none.first) < none.count)
                == [false; 3]
        );
    }
}
