//! ELF notes, first instructions, and the way from there to the guest's own `main`.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::*;
use crate::hypercall::{self, Ret};
use crate::{console, memory, print, println, trap};

// The notes are what public/elfnote.h and docs/misc/pv-bootup (xen.h, "bootstrap") ask of a 64-bit PV kernel.
global_asm!(
    r#"
.macro note type
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4
    .long 2f - 1f
    .long \type
    .asciz "Xen"
1:
.endm
.macro endnote
2:
    .balign 4
    .popsection
.endm
    note 6
    .asciz "xenner-guest"
    endnote
    note 7
    .asciz "1"
    endnote
    note 5
    .asciz "xen-3.0"
    endnote
    note 8
    .asciz "generic"
    endnote
    note 10
    .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    endnote
    note 9
    .asciz "yes"
    endnote
    note 3
    .quad 0xffffffff80000000
    endnote
    note 4
    .quad 0
    endnote
    note 1
    .quad _start
    endnote
    note 2
    .quad hypercall_page
    endnote
    note 12
    .quad 0xffff800000000000
    endnote
    note 13
    .quad 1, 1
    endnote
    note 14
    .long 1
    endnote

    .pushsection .text.hypercall_page, "ax"
    .balign 4096
    .global hypercall_page
hypercall_page:
    .fill 4096, 1, 0xcc
    .popsection

    .pushsection .bss.boot_stack, "aw", @nobits
    .balign 4096
boot_stack:
    .skip 65536
boot_stack_top:
    .popsection

    .pushsection .text.start, "ax"
    .global _start
_start:
    cld
    mov rdi, rsi
    mov rsi, rsp
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    call {enter}
    ud2
    .popsection
"#,
    enter = sym enter,
);

unsafe extern "Rust" {
    // Defined by `guest!` in each guest.
    fn guest_main();
}

static START_INFO: AtomicU64 = AtomicU64::new(0);

extern "C" fn enter(start_info: *const StartInfo, boot_sp: u64) -> ! {
    START_INFO.store(start_info as u64, Relaxed);
    memory::init(boot_sp);
    console::init();
    trap::init();
    // SAFETY: `guest!` defines it with exactly this signature.
    unsafe { guest_main() };
    shutdown(SHUTDOWN_poweroff)
}

/// The start-of-day page the domain builder filled (xen.h `struct start_info`).
pub fn start_info() -> &'static StartInfo {
    let address = START_INFO.load(Relaxed) as *const StartInfo;
    // SAFETY: the domain builder mapped this page and handed its address to `_start`; any bit pattern is valid, and
    // nobody writes it while the domain runs.
    unsafe { &*address }
}

/// The kernel command line (`extra=` of xl.cfg), up to the first NUL; empty when it is not UTF-8.
pub fn command_line() -> &'static str {
    let bytes = &start_info().cmd_line;
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(bytes.split_at(len).0).unwrap_or("")
}

/// Whether the command line holds this word.
pub fn has_word(word: &str) -> bool {
    command_line().split_ascii_whitespace().any(|w| w == word)
}

/// Waits until the console's other end has taken everything, then ends the domain with a `SHUTDOWN_*` reason.
pub fn shutdown(reason: u32) -> ! {
    console::drain();
    loop {
        let arg = SchedShutdown { reason };
        hypercall::call2(
            __HYPERVISOR_sched_op,
            SCHEDOP_shutdown,
            &raw const arg as u64,
        );
    }
}

/// Ends the domain the way the command line asks for: `reboot`, `crash`, `suspend`, `watchdog`, `soft_reset`, else power
/// off.
pub fn shutdown_as_asked() -> ! {
    let reasons = [
        ("reboot", SHUTDOWN_reboot),
        ("crash", SHUTDOWN_crash),
        ("suspend", SHUTDOWN_suspend),
        ("watchdog", SHUTDOWN_watchdog),
        ("soft_reset", SHUTDOWN_soft_reset),
    ];
    let asked = reasons.iter().find(|(word, _)| has_word(word));
    let reason = asked.map_or(SHUTDOWN_poweroff, |(_, reason)| *reason);
    if reason == SHUTDOWN_suspend {
        suspend();
        shutdown(SHUTDOWN_poweroff);
    }
    shutdown(reason)
}

/// `SCHEDOP_shutdown` with `SHUTDOWN_suspend` wants the start info frame as third argument, and returns 1 when the
/// suspend was cancelled.
fn suspend() {
    console::drain();
    let arg = SchedShutdown {
        reason: SHUTDOWN_suspend,
    };
    let frame = memory::mfn_of(START_INFO.load(Relaxed));
    let ret = hypercall::call3(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &arg, frame);
    println!(
        "suspend: {}",
        if ret == Ret(1) {
            "cancelled"
        } else {
            "resumed"
        }
    );
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    print!("panic: {}", info.message());
    if let Some(place) = info.location() {
        print!(" at {}:{}", place.file(), place.line());
    }
    println!();
    shutdown(SHUTDOWN_crash)
}

/// Makes a function the guest's `main`, on the bare machine; on the host, a `main` that explains.
#[macro_export]
macro_rules! guest {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn guest_main() {
            $main()
        }
    };
}
