//! What ring 3 executes and reads of ours: two pages in slot 258.
//!
//! **SYSCALL.** On a pagetable-based KVM it stays in ring 3. It leads to code
//! here, one copy for each virtual CPU, which ends in an OUT: in this process
//! at once, with no exception into ring 0 and no IRETQ out of it. A program that
//! jumps there says no more than SYSCALL would with the RCX and R11 it holds.
//!
//! **The timer's window.** A kernel that keeps a tick asks for its next one
//! (`VCPUOP_set_singleshot_timer`) in each. When `foresight` has armed
//! the timer for that already, the call need not leave ring 3: before its OUT
//! the code compares the deadline asked for with a window, and returns 0 inside
//! it. The window ends where the timer is armed, so the event comes no earlier
//! than asked for and no more than [`SLOP_NS`] later, as Xen's own timers may
//! (its `timer_slop`, 50 us). While a process runs, and not its kernel, the
//! window is closed: the number is that of another system call then.
//!
//! Ring 3 writes nothing, so a process cannot hurt its kernel there. The
//! decision must not grow old, and no kernel should meet addresses of ours in a
//! frame: whatever leaves ring 3 amid this code finds the call over, if it had
//! been decided, or as SYSCALL made it ([`Place`]).

use xen_sys::hypercall::__HYPERVISOR_vcpu_op;
use xen_sys::vcpu::VCPUOP_set_singleshot_timer;
use xenner_core::MAX_VCPUS;

use super::ring0::PORT;

/// Where ring 3 finds the code.
pub const CODE: u64 = 0xffff_8100_0000_0000;
/// Where it finds the windows.
pub const WINDOWS: u64 = CODE + 0x1000;
/// Bytes from one virtual CPU's code to the next.
const STRIDE: u64 = 64;
/// Bytes from one virtual CPU's window to the next.
pub const WINDOW_SIZE: u64 = 16;
/// How much later than asked for a timer may fire, nanoseconds.
pub const SLOP_NS: u64 = 50_000;
/// What R11 may bring into RFLAGS: what a program may change by POPF.
pub const SYSCALL_FLAGS: u64 = 0x24_0fd5;

/// The number of the hypercall that is looked at.
pub const LOOKED_AT: u64 = __HYPERVISOR_vcpu_op;

// Offsets in a virtual CPU's code.
/// Behind the first load of the deadline: RAX holds the hypercall's number no
/// more.
const LOADED: u64 = 0x1c;
/// RAX holds the result.
const DECIDED: u64 = 0x31;
/// R11 is on the stack.
const PUSHED: u64 = 0x33;
/// The hypercall made after all: its number goes back to RAX.
const SLOW: u64 = 0x36;
const OUT: u64 = 0x3b;
/// Behind the OUT.
const END: u64 = 0x3d;

/// Where LSTAR of a virtual CPU points.
pub fn syscall_target(vcpu: usize) -> u64 {
    CODE + vcpu as u64 * STRIDE
}

/// Whether this is RIP when an OUT behind SYSCALL has reached this process.
pub fn is_syscall(rip: u64) -> bool {
    offset(rip) == Some(END)
}

fn offset(rip: u64) -> Option<u64> {
    let offset = rip.wrapping_sub(CODE);
    (offset < MAX_VCPUS as u64 * STRIDE).then_some(offset % STRIDE)
}

/// Where in the code ring 3 was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// SYSCALL has done nothing yet; whether it holds [`LOOKED_AT`] in the
    /// place of RAX.
    Undecided {
        /// RAX was the number, and may be anything now.
        looked: bool,
    },
    /// The call is over, RAX holds its result; whether R11 is on the stack.
    Decided {
        /// RSP is 8 less than it was.
        pushed: bool,
    },
}

impl Place {
    /// Of an instruction not executed yet; `None` when it is not ours.
    pub fn of(rip: u64) -> Option<Self> {
        match offset(rip)? {
            0..LOADED | OUT => Some(Self::Undecided { looked: false }),
            LOADED..DECIDED | SLOW..OUT => Some(Self::Undecided { looked: true }),
            at @ DECIDED..SLOW => Some(Self::Decided {
                pushed: at == PUSHED,
            }),
            _ => None,
        }
    }
}

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
    (0..MAX_VCPUS).flat_map(of_vcpu).collect()
}

/// What SYSCALL leads to on one virtual CPU. RCX and R11 are SYSCALL's.
fn of_vcpu(id: usize) -> [u8; STRIDE as usize] {
    let window = WINDOWS + id as u64 * WINDOW_SIZE;
    // From the end of an instruction, both pages lying together.
    let from = |end: u64, to: u64| ((to - syscall_target(id) - end) as u32).to_le_bytes();
    let to_out = |end: u64| (OUT - end) as u8;
    let mut code = Vec::with_capacity(STRIDE as usize);
    code.extend([0x48, 0x83, 0xf8, LOOKED_AT as u8]); // cmp rax, vcpu_op
    code.extend([0x75, to_out(0x06)]); // jne out
    code.extend([0x83, 0xff, VCPUOP_set_singleshot_timer as u8]); // cmp edi, set_singleshot_timer
    code.extend([0x75, to_out(0x0b)]); // jne out
    code.extend([0x83, 0xfe, id as u8]); // cmp esi, id
    code.extend([0x75, to_out(0x10)]); // jne out
    code.extend([0x41, 0xf7, 0xc3, 0, 1, 0, 0]); // test r11d, TF
    code.extend([0x75, to_out(0x19)]); // jnz out
    code.extend([0x8b, 0x42, 8]); // mov eax, [rdx + 8]
    code.extend([0x48, 0x8b, 0x02]); // mov rax, [rdx]
    code.extend([0x48, 0x2b, 0x05]); // sub rax, [first]
    code.extend(from(0x26, window));
    code.extend([0x48, 0x3b, 0x05]); // cmp rax, [count]
    code.extend(from(0x2d, window + 8));
    code.extend([0x73, (SLOW - 0x2f) as u8]); // jae slow
    code.extend([0x31, 0xc0]); // xor eax, eax
    code.extend([0x41, 0x53, 0x9d]); // push r11; popfq
    code.extend([0xff, 0xe1]); // jmp rcx
    code.extend([0xb8, LOOKED_AT as u8, 0, 0, 0]); // slow: mov eax, vcpu_op
    code.extend([0xe6, PORT as u8]); // out: out PORT, al
    let mut all = [0xcc; STRIDE as usize];
    for (to, byte) in all.iter_mut().zip(code) {
        *to = byte;
    }
    all
}

const _: () = assert!(PORT < 0x100, "OUT has one byte for the port");
const _: () = assert!(MAX_VCPUS < 128 && LOOKED_AT < 128, "they have one byte");
const _: () = assert!(MAX_VCPUS as u64 * STRIDE <= WINDOWS - CODE);
const _: () = assert!(MAX_VCPUS as u64 * WINDOW_SIZE <= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> u64 {
        syscall_target(3) + offset
    }

    fn bytes(offset: u64, length: usize) -> Vec<u8> {
        code()[(at(offset) - CODE) as usize..][..length].to_vec()
    }

    #[test]
    fn names_meet_the_instructions() {
        assert_eq!(bytes(0, 4), [0x48, 0x83, 0xf8, 24]);
        assert_eq!(bytes(LOADED - 3, 3), [0x8b, 0x42, 8]);
        assert_eq!(bytes(DECIDED - 2, 2), [0x31, 0xc0]);
        assert_eq!(bytes(PUSHED, 1), [0x9d]);
        assert_eq!(bytes(SLOW, 1), [0xb8]);
        assert_eq!(bytes(OUT, 2), [0xe6, 0xe5]);
        assert_eq!(END, OUT + 2);
        assert_eq!(bytes(0x0d, 1), [3], "its own number");
    }

    #[test]
    fn jumps_and_operands_lead_where_they_should() {
        for (jump, to) in [
            (0x04, OUT),
            (0x09, OUT),
            (0x0e, OUT),
            (0x17, OUT),
            (0x2d, SLOW),
        ] {
            assert_eq!(jump + 2 + u64::from(bytes(jump, 2)[1]), to);
        }
        for (operand, field) in [(0x22, 0), (0x29, 8)] {
            let distance: [u8; 4] = bytes(operand, 4).try_into().expect("four bytes");
            let window = WINDOWS + 3 * WINDOW_SIZE + field;
            assert_eq!(
                at(operand + 4) + u64::from(u32::from_le_bytes(distance)),
                window
            );
        }
    }

    #[test]
    fn each_place_is_known() {
        let undecided = |looked| Some(Place::Undecided { looked });
        let decided = |pushed| Some(Place::Decided { pushed });
        assert_eq!(Place::of(at(0)), undecided(false));
        assert_eq!(Place::of(at(0x19)), undecided(false));
        assert_eq!(Place::of(at(0x1c)), undecided(true));
        assert_eq!(Place::of(at(0x2f)), undecided(true));
        assert_eq!(Place::of(at(DECIDED)), decided(false));
        assert_eq!(Place::of(at(PUSHED)), decided(true));
        assert_eq!(Place::of(at(0x34)), decided(false));
        assert_eq!(Place::of(at(SLOW)), undecided(true));
        assert_eq!(Place::of(at(OUT)), undecided(false));
        assert_eq!(Place::of(at(END)), None);
        assert_eq!(Place::of(CODE - 1), None);
        assert_eq!(Place::of(syscall_target(MAX_VCPUS)), None);
        assert!(is_syscall(at(END)) && !is_syscall(at(OUT)));
        assert!(!is_syscall(syscall_target(MAX_VCPUS) + END));
    }

    #[test]
    fn a_window_ends_where_the_timer_is_armed() {
        let inside = |window: Window, at: u64| at.wrapping_sub(window.first) < window.count;
        let window = Window::up_to(1_000_000);
        assert!(inside(window, 1_000_000) && inside(window, 1_000_000 - SLOP_NS));
        assert!(!inside(window, 1_000_001) && !inside(window, 999_999 - SLOP_NS));
        assert!(
            ![0, 1_000_000, u64::MAX]
                .map(|at| inside(Window::CLOSED, at))
                .contains(&true)
        );
    }
}
