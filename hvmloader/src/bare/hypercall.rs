//! Hypercalls through the page that Xen fills (`arch-x86/cpuid.h`, leaf 2).

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use xen_sys::addr::GuestHandle;
use xen_sys::errno::Errno;

use super::hardware::wrmsr;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

static mut PAGE: Page = Page([0xcc; 4096]);

/// Finds Xen's CPUID leaves and has the hypercall page filled. `false` where
/// there is no Xen.
pub fn init() -> bool {
    // arch-x86/cpuid.h: the leaves may lie above those of another interface.
    let base = (0x4000_0000..0x4001_0000).step_by(0x100).find(|base| {
        let id = __cpuid(*base);
        [id.ebx, id.ecx, id.edx]
            .map(u32::to_le_bytes)
            .as_flattened()
            == b"XenVMMXenVMM"
    });
    let Some(base) = base else { return false };
    let msr = __cpuid(base + 2).ebx;
    let page = (&raw const PAGE).addr() as u64;
    // SAFETY: Xen fills the page named, which holds nothing else and is
    // used through `call` only, after this.
    unsafe { wrmsr(msr, page) };
    true
}

/// A handle to a structure or array of this image.
pub fn handle<T: ?Sized>(value: &mut T) -> GuestHandle {
    GuestHandle(core::ptr::from_mut(value).cast::<u8>().addr() as u64)
}

/// A hypercall with up to two arguments; an argument that is an address comes
/// from [`handle`] of something that outlives the call.
///
/// # Errors
/// Xen's.
pub fn call(number: u64, a: u64, b: u64) -> Result<u64, Errno> {
    let entry = (&raw const PAGE).addr() as u64 + number * 32;
    let result: i64;
    // SAFETY: `init` had the page filled with functions that keep all but RAX,
    // RCX, R11 and their arguments' registers. What Xen writes through a handle
    // is behind a `&mut` of the caller.
    unsafe {
        asm!("call {entry}", entry = in(reg) entry, inlateout("rdi") a => _,
            inlateout("rsi") b => _, lateout("rax") result,
            out("rdx") _, out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    match Errno::from_ret(result) {
        Some(error) => Err(error),
        None => Ok(result.cast_unsigned()),
    }
}
