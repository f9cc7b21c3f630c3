//! The two ways into the hypervisor, and what it answers.

use core::arch::asm;
use core::fmt;

use xen_sys::errno::Errno;
use xen_sys::{DomId, GuestHandle};

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

/// Success without a value.
pub const OK: Ret = Ret(0);
/// Refused.
pub const EPERM: Ret = Ret(-1);
/// No such object.
pub const ENOENT: Ret = Ret(-2);
/// No such domain.
pub const ESRCH: Ret = Ret(-3);
/// No such device or address.
pub const ENXIO: Ret = Ret(-6);
/// Not accessible.
pub const EACCES: Ret = Ret(-13);
/// Bad address.
pub const EFAULT: Ret = Ret(-14);
/// In use.
pub const EBUSY: Ret = Ret(-16);
/// Exists already.
pub const EEXIST: Ret = Ret(-17);
/// Bad argument.
pub const EINVAL: Ret = Ret(-22);
/// No such call.
pub const ENOSYS: Ret = Ret(-38);
/// Too late.
pub const ETIME: Ret = Ret(-62);
/// Not for this kind of domain.
pub const EOPNOTSUPP: Ret = Ret(-95);

/// An address of the guest's half that nothing is mapped at.
pub const UNMAPPED: u64 = 0xffff_8880_0000_0000;
/// An address that belongs to the hypervisor on every host.
pub const HYPERVISOR: u64 = 0xffff_8700_0000_0000;
/// No canonical address.
pub const NON_CANONICAL: u64 = 0x0080_0000_0000_0000;

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::from_ret(self.0).and_then(Errno::name) {
            Some(name) => write!(f, "-{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What can be a hypercall argument: numbers, and references for their address.
pub trait Arg {
    /// The register's value.
    fn word(self) -> u64;
}

macro_rules! arg {
    ($($ty:ty),*) => {
        $(impl Arg for $ty {
            fn word(self) -> u64 {
                self as u64
            }
        })*
    };
}
arg!(u8, u16, u32, i32, i64, u64, usize);

impl Arg for DomId {
    fn word(self) -> u64 {
        u64::from(self.0)
    }
}

impl<T> Arg for &T {
    fn word(self) -> u64 {
        core::ptr::from_ref(self) as u64
    }
}

impl<T> Arg for &mut T {
    fn word(self) -> u64 {
        core::ptr::from_mut(self) as u64
    }
}

/// A handle to a structure or array of the guest.
pub fn handle<T: ?Sized>(value: &T) -> GuestHandle {
    GuestHandle(core::ptr::from_ref(value).cast::<u8>() as u64)
}

/// A handle to a structure or array of the guest that the hypervisor writes.
pub fn handle_mut<T: ?Sized>(value: &mut T) -> GuestHandle {
    GuestHandle(core::ptr::from_mut(value).cast::<u8>() as u64)
}

/// A hypercall through the hypercall page, where each call has 32 bytes (xen.h, `__HYPERVISOR_*` numbers below 128).
pub fn call5(nr: u64, a: impl Arg, b: impl Arg, c: impl Arg, d: impl Arg, e: impl Arg) -> Ret {
    raw(nr, [a.word(), b.word(), c.word(), d.word(), e.word()])
}

fn raw(nr: u64, args: [u64; 5]) -> Ret {
    let entry = &raw const hypercall_page as u64 + nr * 32;
    let [a, b, c, d, e] = args;
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
pub fn call4(nr: u64, a: impl Arg, b: impl Arg, c: impl Arg, d: impl Arg) -> Ret {
    raw(nr, [a.word(), b.word(), c.word(), d.word(), 0])
}

/// [`call5`] with three arguments.
pub fn call3(nr: u64, a: impl Arg, b: impl Arg, c: impl Arg) -> Ret {
    raw(nr, [a.word(), b.word(), c.word(), 0, 0])
}

/// [`call5`] with two arguments.
pub fn call2(nr: u64, a: impl Arg, b: impl Arg) -> Ret {
    raw(nr, [a.word(), b.word(), 0, 0, 0])
}

/// [`call5`] with one argument.
pub fn call1(nr: u64, a: impl Arg) -> Ret {
    raw(nr, [a.word(), 0, 0, 0, 0])
}

/// A hypercall by the SYSCALL instruction itself, as Linux makes it since 6.13, with any 64-bit number.
pub fn direct(nr: u64, a: impl Arg, b: impl Arg, c: impl Arg) -> Ret {
    let (a, b, c) = (a.word(), b.word(), c.word());
    let ret;
    // SAFETY: as for `raw`; this is what the stubs in the page do.
    unsafe {
        asm!("syscall", inlateout("rax") nr => ret, inlateout("rdi") a => _, inlateout("rsi") b => _,
            inlateout("rdx") c => _, out("rcx") _, out("r11") _, inlateout("r10") 0u64 => _, inlateout("r8") 0u64 => _);
    }
    Ret(ret)
}
