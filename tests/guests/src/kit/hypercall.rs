//! The two ways into the hypervisor, and what it answers.

use core::arch::asm;
use core::fmt;

use crate::abi::errno_name;

unsafe extern "C" {
    static hypercall_page: [u8; 4096];
}

/// What a hypercall returned: a value, or a negated errno. Prints as a decimal number or as `-EINVAL`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ret(pub i64);

impl Ret {
    /// Whether it is no error.
    pub fn ok(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno_name(self.0.wrapping_neg()) {
            Some(name) if self.0 < 0 => write!(f, "-{name}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// A hypercall through the hypercall page, where each call has 32 bytes (xen.h, `__HYPERVISOR_*` numbers below 128).
pub fn call5(
    nr: u32,
    a: impl Into<u64>,
    b: impl Into<u64>,
    c: impl Into<u64>,
    d: impl Into<u64>,
    e: impl Into<u64>,
) -> Ret {
    let (a, b, c, d, e) = (a.into(), b.into(), c.into(), d.into(), e.into());
    let entry = &raw const hypercall_page as u64 + u64::from(nr) * 32;
    let ret;
    // SAFETY: the hypercall page's stubs are functions that keep all but rax, rcx, r11 (arch-x86/xen-x86_64.h:
    // arguments may be clobbered in debug builds, so they are outputs too). For the call's effect see lib.rs.
    unsafe {
        asm!("call {entry}", entry = in(reg) entry, inlateout("rdi") a => _, inlateout("rsi") b => _,
            inlateout("rdx") c => _, inlateout("r10") d => _, inlateout("r8") e => _,
            lateout("rax") ret, out("rcx") _, out("r11") _);
    }
    Ret(ret)
}

/// [`call5`] with four arguments.
pub fn call4(
    nr: u32,
    a: impl Into<u64>,
    b: impl Into<u64>,
    c: impl Into<u64>,
    d: impl Into<u64>,
) -> Ret {
    call5(nr, a, b, c, d, 0u64)
}

/// [`call5`] with three arguments.
pub fn call3(nr: u32, a: impl Into<u64>, b: impl Into<u64>, c: impl Into<u64>) -> Ret {
    call5(nr, a, b, c, 0u64, 0u64)
}

/// [`call5`] with two arguments.
pub fn call2(nr: u32, a: impl Into<u64>, b: impl Into<u64>) -> Ret {
    call5(nr, a, b, 0u64, 0u64, 0u64)
}

/// [`call5`] with one argument.
pub fn call1(nr: u32, a: impl Into<u64>) -> Ret {
    call5(nr, a, 0u64, 0u64, 0u64, 0u64)
}

/// A hypercall by the SYSCALL instruction itself, as Linux makes it since 6.13, with any 64-bit number.
pub fn direct(nr: u64, a: u64, b: u64, c: u64) -> Ret {
    let ret;
    // SAFETY: as for `call5`; this is what the stubs in the page do.
    unsafe {
        asm!("syscall", inlateout("rax") nr => ret, inlateout("rdi") a => _, inlateout("rsi") b => _,
            inlateout("rdx") c => _, out("rcx") _, out("r11") _, inlateout("r10") 0u64 => _, inlateout("r8") 0u64 => _);
    }
    Ret(ret)
}

/// The address of a hypercall argument.
pub fn ptr<T>(value: &T) -> u64 {
    core::ptr::from_ref(value) as u64
}

/// The address of a hypercall argument that the hypervisor writes.
pub fn ptr_mut<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value) as u64
}
