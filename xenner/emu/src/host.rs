//! What the emulator shares with the host process, and its calls to it.

use core::arch::asm;
use core::cell::UnsafeCell;

use xenner_core::Domain;
use xenner_core::image::*;

use crate::machine::Ring0;

/// Memory the host writes before the first virtual CPU starts.
#[repr(transparent)]
pub struct Filled<T>(UnsafeCell<core::mem::MaybeUninit<T>>);

// SAFETY: written by the host before anything runs, read only after that.
unsafe impl<T> Sync for Filled<T> {}

/// What the host decided; see [`boot`].
pub static BOOT: Filled<Boot> = Filled(UnsafeCell::new(core::mem::MaybeUninit::zeroed()));
/// Notification bits; see [`doorbells`].
pub static DOORBELLS: Doorbells = Doorbells {
    bound: [const { core::sync::atomic::AtomicU64::new(0) }; 64],
    to_guest: [const { core::sync::atomic::AtomicU64::new(0) }; 64],
};
/// Why the domain ended.
pub static mut EPITAPH: Epitaph = Epitaph {
    length: 0,
    text: [0; 120],
    detail: 0,
    vcpu: 0,
};
/// The domain; see [`domain`].
pub static mut DOMAIN: Domain = Domain::new();

/// Page tables of [`TABLES`].
#[repr(C, align(4096))]
pub struct Tables(pub [u64; 512 * TABLES_PAGES]);
/// See [`Tables`].
pub static mut TABLES_L1: Tables = Tables([0; 512 * TABLES_PAGES]);

/// What the host decided.
pub fn boot() -> &'static Boot {
    // SAFETY: filled by the host, see `Filled`; every field is plain data.
    unsafe { (*BOOT.0.get()).assume_init_ref() }
}

/// The notification bits.
pub fn doorbells() -> &'static Doorbells {
    &DOORBELLS
}

/// The domain.
pub fn domain() -> &'static Domain {
    let domain = &raw const DOMAIN;
    // SAFETY: changed by `set_up_domain` only, before a second virtual CPU
    // starts or any reference is kept.
    unsafe { &*domain }
}

/// The first virtual CPU's work before the guest starts.
pub fn set_up_domain(m: &mut Ring0) {
    {
        let domain = &raw mut DOMAIN;
        // SAFETY: no other virtual CPU has started and no reference is kept.
        let domain = unsafe { &mut *domain };
        domain.config = boot().config;
    }
    xenner_core::domain::start(m, domain());
}

/// Calls the host process.
pub fn call(function: u64, a: u64, b: u64) {
    call3(function, a, b, 0);
}

/// Calls the host process with a third argument, in the upper half of RDX.
pub fn call3(function: u64, a: u64, b: u64, c: u64) {
    // SAFETY: the host reads registers and what they name; it changes nothing
    // of the emulator's.
    unsafe {
        asm!("out dx, eax", in("rdx") c << 16 | u64::from(PORT_CALL), in("rax") function, in("rdi") a, in("rsi") b, options(nostack));
    }
}

/// Rings the doorbell of a port.
pub fn ring(port: u32) {
    // SAFETY: a port write that the host's kernel turns into an event.
    unsafe { asm!("out dx, eax", in("dx") PORT_DOORBELL, in("eax") port, options(nostack, nomem)) };
}

/// Leaves word of why the domain ends, and ends it.
pub fn epitaph(text: &str, detail: u64, vcpu: u64) {
    let epitaph = &raw mut EPITAPH;
    // SAFETY: whoever comes last wins; the host reads it as hostile data.
    let epitaph = unsafe { &mut *epitaph };
    let length = text.len().min(epitaph.text.len());
    epitaph.text[..length].copy_from_slice(&text.as_bytes()[..length]);
    epitaph.length = length as u64;
    epitaph.detail = detail;
    epitaph.vcpu = vcpu;
    call(CALL_CRASH, 0, 0);
}

/// The emulator itself cannot go on.
pub fn die(text: &str, numbers: &[u64]) -> ! {
    epitaph(text, numbers.get(1).copied().unwrap_or(0), u64::MAX);
    loop {
        // SAFETY: waits for ever.
        unsafe { asm!("cli", "hlt") };
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let line = info.location().map_or(0, |l| u64::from(l.line()));
    let file = info.location().map_or("?", |l| l.file());
    die(file, &[0, line]);
}
