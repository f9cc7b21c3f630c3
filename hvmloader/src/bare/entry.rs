//! The few instructions that are not Rust: from Xen's 32-bit entry to 64-bit
//! Rust, from there to the BIOS in real mode, and the same way up for every
//! other processor.
//!
//! Xen starts the boot processor as `xen/arch-x86/hvm/start_info.h` says: flat
//! 32-bit segments, paging off, EBX the address of `hvm_start_info`. The rest is
//! 64-bit code for one reason: it is the only bare x86 target the stable
//! toolchain has, and the ABI crate describes the 64-bit interface. The first
//! 4 GiB are mapped one to one, so a physical address is a pointer.
//!
//! `LOW` is a page below 1 MiB with what must run in 16-bit mode. The code is
//! linked with the image and copied there.

use core::arch::{asm, global_asm};

use hvmloader::layout;

const LOW: u64 = layout::LOW_CODE.0;

const CODE64: u16 = 0x08;
const CODE32: u16 = 0x10;
const DATA32: u16 = 0x18;
const CODE16: u16 = 0x20;
const DATA16: u16 = 0x28;

global_asm!(
    r#"
    .section .text.entry, "ax"
    .code32
    .global _start
_start:
    cli
    cld
    movl %ebx, %edi              /* hvm_start_info: first argument of `enter` */
    movl $boot_stack_top, %esp

    /* Four page directories of 2 MiB pages: 0 to 4 GiB one to one. */
    movl $page_directories, %ebx
    movl $0x83, %eax             /* present, writable, large */
    movl $2048, %ecx
1:  movl %eax, (%ebx)
    movl $0, 4(%ebx)
    addl $0x200000, %eax
    addl $8, %ebx
    loop 1b
    movl $page_directories + 3, pdpt
    movl $page_directories + 0x1003, pdpt + 8
    movl $page_directories + 0x2003, pdpt + 16
    movl $page_directories + 0x3003, pdpt + 24
    movl $pdpt + 3, pml4
    movl $enter, %ebp

    /* In: EBP the function, EDI its argument, ESP the stack. */
long_mode:
    movl $pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax              /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx       /* EFER */
    rdmsr
    orl $0x100, %eax             /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax        /* PG, PE */
    andl $0x9fffffff, %eax       /* not CD, not NW */
    movl %eax, %cr0
    lgdtl gdt_pointer
    ljmpl ${CODE64}, $1f
    .code64
1:  xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl %edi, %edi
    movl %ebp, %eax
    xorl %ebp, %ebp
    callq *%rax
    ud2

    /* Another processor, from `low_ap`. */
    .code32
ap_start:
    movl ${DATA32}, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $ap_stack_top, %esp
    xorl %edi, %edi
    movl $enter_ap, %ebp
    jmp long_mode

    /* To the BIOS: out of 64-bit mode, out of paging, then to 16-bit code. */
    .code64
    .global leave
leave:
    cli
    lidt real_idt(%rip)
    pushq ${CODE32}
    pushq $1f
    lretq
    .code32
1:  movl ${DATA32}, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl %cr0, %eax
    andl $0x7fffffff, %eax       /* PG */
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x100, %eax           /* LME */
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr3
    movl %eax, %cr4
    ljmpl ${CODE16}, $low_leave - low_code

    /* What runs below 1 MiB, at {LOW}. */
    .balign 16
    .global low_code, low_code_end
    .code16
low_code:
    /* A processor woken by INIT and SIPI begins here: CS = {LOW} / 16, IP = 0. */
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl low_gdt_pointer - low_code
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl ${CODE32}, $ap_start

low_leave:
    movw ${DATA16}, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movl %cr0, %eax
    andl $0xfffffffe, %eax       /* PE */
    movl %eax, %cr0
    ljmpw ${LOW_SEGMENT}, $1f - low_code
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movw ${LOW_STACK}, %sp
    ljmpw $0xf000, $0xfff0       /* where a processor starts after a reset */

    .balign 4
low_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
low_code_end:

    /* Exceptions: what firmware meets none of. Each has 16 bytes here. */
    .code64
    .balign 16
    .global exceptions
exceptions:
    .set vector, 0
    .rept 32
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp 2f
    .set vector, vector + 1
    .endr
2:  popq %rdi
    popq %rsi
    popq %rdx
    movq %cr2, %rcx
    andq $~15, %rsp
    call fault
    ud2

    .section .rodata.entry, "a"
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff     /* CODE64 */
    .quad 0x00cf9b000000ffff     /* CODE32 */
    .quad 0x00cf93000000ffff     /* DATA32 */
    .quad 0x00009b000000ffff + ({LOW} << 16)   /* CODE16 */
    .quad 0x000093000000ffff     /* DATA16 */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
real_idt:
    .word 0x3ff
    .quad 0

    .section .bss.entry, "aw", @nobits
    .balign 4096
pml4: .skip 4096
pdpt: .skip 4096
page_directories: .skip 4 * 4096
boot_stack: .skip 262144
boot_stack_top:
ap_stack: .skip 8192
ap_stack_top:
    .text
"#,
    LOW = const LOW,
    LOW_SEGMENT = const LOW >> 4,
    LOW_STACK = const LOW,
    CODE64 = const CODE64,
    CODE32 = const CODE32,
    DATA32 = const DATA32,
    CODE16 = const CODE16,
    DATA16 = const DATA16,
    options(att_syntax),
);

unsafe extern "C" {
    static low_code: [u8; 0];
    static low_code_end: [u8; 0];
    static exceptions: [u8; 0];
    fn leave() -> !;
}

/// The code that must be copied to [`layout::LOW_CODE`] before a processor is
/// woken or the BIOS is started.
pub fn low_image() -> &'static [u8] {
    let start = (&raw const low_code).cast::<u8>();
    let end = (&raw const low_code_end).cast::<u8>();
    // SAFETY: the two symbols enclose bytes of the image's text, which nobody
    // writes; they are in order, in one section.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Starts what lies at F000:FFF0 in real mode.
pub fn start_bios() -> ! {
    // SAFETY: `low_image` has been copied to `LOW_CODE` (`Loader::hand_over`
    // does it first), and nothing of this program is needed any more.
    unsafe { leave() }
}

/// A gate of a 64-bit interrupt descriptor table.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

static mut IDT: [Gate; 32] = [Gate { low: 0, high: 0 }; 32];

/// Makes exceptions end the domain with a message instead of a triple fault,
/// which Xen would take for a reboot.
pub fn catch_exceptions() {
    let idt = &raw mut IDT;
    let stubs = (&raw const exceptions).addr() as u64;
    for vector in 0..32 {
        let at = stubs + 16 * vector as u64;
        let low = at & 0xffff | u64::from(CODE64) << 16 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
        let gate = Gate {
            low,
            high: at >> 32,
        };
        // SAFETY: index below 32 in a table that only this function writes,
        // before any exception.
        unsafe { (*idt)[vector] = gate };
    }
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&(32u16 * 16 - 1).to_le_bytes());
    pointer[2..].copy_from_slice(&(idt.addr() as u64).to_le_bytes());
    // SAFETY: the descriptor names a table of 32 gates that stays for good.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, readonly)) };
}
