//! The short ways: system calls, `HYPERVISOR_iret` and page faults of a guest
//! in its usual state, in some forty instructions each and without a stack
//! frame, and the entry for hypercalls.
//!
//! Whatever is unusual (events masked in user mode, an event to tell of, a
//! selector of the guest's own, a stack that cannot be written) is left to the
//! long way in `stubs.rs` before anything has been changed that the long way
//! would do differently; each stretch that touches guest memory has a fix-up
//! that goes there too ([`crate::stubs`], `ring0`).
//!
//! They need FSGSBASE. Without it none of them is used but `syscall_entry_msr`.
//!
//! The kernel is entered by SYSRETQ, as on Xen: RCX and R11 are in its frame.
//! SYSRETQ must not be given a RIP that is not canonical, which faults in ring
//! 0 on some processors: callbacks are checked when they are registered, the
//! user's RIP and that of a hypercall here.

use core::arch::global_asm;
use core::mem::offset_of;

use xenner_core::Vcpu;
use xenner_core::regs::flags;
use xenner_core::vcpu::{Callback, Gate};

use crate::cpu::Cpu;

/// What an entry to the kernel clears in RFLAGS, as on Xen.
const CLEARED: u64 = flags::TF | flags::NT | flags::RF | flags::VM | flags::AC;
/// What a frame of the guest's cannot set.
const NOT_THE_GUESTS: u64 = flags::IOPL | flags::VM | flags::VIF | flags::VIP;
/// What SYSRETQ cannot restore, or should not.
const NOT_BY_SYSRET: u64 = NOT_THE_GUESTS | flags::TF | flags::RF;

const VCPU: usize = offset_of!(Cpu, vcpu);
const PAGE_FAULT: usize = VCPU + offset_of!(Vcpu, gates) + 14 * size_of::<Gate>();
const SYSCALL: usize = VCPU + offset_of!(Vcpu, syscall);

/// An offset in [`Cpu`] from the end of its stack.
const fn from_stack_end(offset: usize) -> isize {
    offset as isize - Cpu::STACK_END as isize
}

global_asm!(
    r#"
.section .text.stubs, "ax"

// Leaves EAX with the guest's other GS base in force; RSP is \below bytes below
// the end of the stack.
.macro EXCHANGE_GS below, save, load
    swapgs
    rdgsbase rax
    mov [rsp + \below + \save], rax
    mov rax, [rsp + \below + \load]
    wrgsbase rax
.endm

.balign 64
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack_end}]
    cmp byte ptr gs:[{in_kernel}], 0
    jne from_kernel

    // A system call of a process.
    push rax
    mov rax, gs:[{info}]
    cmp byte ptr [rax + 1], 0
    jne call_slow
    cmp byte ptr gs:[{usual}], 0
    je call_slow
    mov rax, gs:[{kernel_l4}]
    shl rax, 12
    mov cr3, rax
    mov rax, gs:[{kernel_sp}]
    and rax, -16
    sub rax, 56
.global call_frame_start
call_frame_start:
    mov [rax], rcx
    mov [rax + 8], r11
    mov [rax + 16], rcx
    mov qword ptr [rax + 24], 0x33
    mov [rax + 32], r11
    push qword ptr gs:[{scratch}]
    pop qword ptr [rax + 40]
    mov qword ptr [rax + 48], 0x2b
.global call_frame_end
call_frame_end:
    mov gs:[{scratch}], rax
    mov rcx, gs:[{info}]
    mov al, gs:[{syscall_masks}]
    or [rcx + 1], al
    mov byte ptr gs:[{in_kernel}], 1
    EXCHANGE_GS 8, {gs_user}, {gs_kernel}
    and r11d, {kept}
    mov rcx, [rsp + 8 + {syscall_address}]
    pop rax
    mov rsp, [rsp + {scratch_below}]
    sysretq

.global call_frame_fault
call_frame_fault:
    mov rsp, gs:[{stack_end}]
    sub rsp, 8
call_slow:
    pop rax
    jmp syscall_slow

from_kernel:
    cmp rax, 23
    je iret
    push qword ptr gs:[{kernel_ss}]
    push qword ptr gs:[{scratch}]
    push r11
    push qword ptr gs:[{kernel_cs}]
    push rcx
    push 0
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    sub rsp, 56
    lea rdi, [rsp + 8]
    call emu_hypercall
    mov rcx, [rsp + 8 + 128]
    mov rdx, rcx
    shl rdx, 16
    sar rdx, 16
    cmp rdx, rcx
    jne 1f
    test eax, eax
    jnz 1f
    mov r11, [rsp + 8 + 144]
    mov r10, [rsp + 8 + 56]
    mov r9, [rsp + 8 + 64]
    mov r8, [rsp + 8 + 72]
    mov rax, [rsp + 8 + 80]
    mov rdx, [rsp + 8 + 96]
    mov rsi, [rsp + 8 + 104]
    mov rdi, [rsp + 8 + 112]
    mov rsp, [rsp + 8 + 152]
    swapgs
    sysretq
1:  // There is more to do, which may need all registers.
    mov [rsp + 8], r15
    mov [rsp + 16], r14
    mov [rsp + 24], r13
    mov [rsp + 32], r12
    mov [rsp + 40], rbp
    mov [rsp + 48], rbx
    lea rdi, [rsp + 8]
    call emu_resume
    add rsp, 8
    jmp leave

// HYPERVISOR_iret. The frame (struct iret_context): rax, r11, rcx, flags, rip,
// cs, rflags, rsp, ss.
iret:
    mov gs:[{scratch_rcx}], rcx
    mov rcx, gs:[{scratch}]
    cmp byte ptr gs:[{usual}], 0
    je iret_slow
    mov rax, rcx
    shr rax, 43
    cmp eax, {hole}
    je iret_slow
.global iret_frame_start
iret_frame_start:
    test byte ptr [rcx + 40], 3
    jz to_kernel
    cmp word ptr [rcx + 40], 0x33
    jne iret_slow
    cmp word ptr [rcx + 64], 0x2b
    jne iret_slow
    test byte ptr [rcx + 49], 2
    jz iret_slow
    mov rax, gs:[{info}]
    cmp byte ptr [rax], 0
    jne iret_slow
    cmp qword ptr gs:[{user_l4}], 0
    je iret_slow
    mov r11, [rcx + 48]
    mov rax, [rcx + 32]
    cmp rax, [rcx + 16]
    jne to_user_by_iret
    cmp r11, [rcx + 8]
    jne to_user_by_iret
    test r11d, {not_by_sysret}
    jnz to_user_by_iret
    shr rax, 47
    jnz to_user_by_iret
    push qword ptr [rcx + 56]
    push qword ptr [rcx]
    mov rcx, [rcx + 32]
    mov rax, gs:[{info}]
    mov byte ptr [rax + 1], 0
    mov rax, gs:[{user_l4}]
    shl rax, 12
    mov cr3, rax
    mov byte ptr gs:[{in_kernel}], 0
    EXCHANGE_GS 16, {gs_kernel}, {gs_user}
    pop rax
    pop rsp
    sysretq

to_user_by_iret:
    push 0x2b
    push qword ptr [rcx + 56]
    and r11d, {guests}
    or r11d, {always}
    push r11
    push 0x33
    push qword ptr [rcx + 32]
    push qword ptr [rcx]
    mov r11, [rcx + 8]
    mov rcx, [rcx + 16]
    mov rax, gs:[{info}]
    mov byte ptr [rax + 1], 0
    mov rax, gs:[{user_l4}]
    shl rax, 12
    mov cr3, rax
    mov byte ptr gs:[{in_kernel}], 0
    EXCHANGE_GS 48, {gs_kernel}, {gs_user}
    pop rax
    jmp leave_iretq

to_kernel:
    mov r11, [rcx + 48]
    test r11d, {interrupt_flag}
    jz 1f
    mov rax, gs:[{info}]
    cmp byte ptr [rax], 0
    jne iret_slow
1:
    push qword ptr gs:[{kernel_ss}]
    push qword ptr [rcx + 56]
    mov eax, r11d
    and eax, {guests}
    or eax, {always}
    push rax
    push qword ptr gs:[{kernel_cs}]
    push qword ptr [rcx + 32]
    push qword ptr [rcx]
    shr r11d, 9
    not r11d
    and r11d, 1
    mov rax, gs:[{info}]
    mov [rax + 1], r11b
    mov r11, [rcx + 8]
    mov rcx, [rcx + 16]
.global iret_frame_end
iret_frame_end:
    pop rax
    swapgs
    jmp leave_iretq

.global iret_frame_fault
iret_frame_fault:
    mov rsp, gs:[{stack_end}]
iret_slow:
    mov rcx, gs:[{scratch_rcx}]
    mov eax, 23
    jmp syscall_slow

.balign 64
.global page_fault_entry
page_fault_entry:
    test byte ptr [rsp + 16], 3
    jz page_fault_ring0
    swapgs
    push rax
    push rcx
    test byte ptr [rsp + 16], 1
    jnz page_fault_slow
    cmp byte ptr gs:[{usual}], 0
    je page_fault_slow
    cmp byte ptr gs:[{in_kernel}], 0
    jne page_fault_of_kernel
    mov rax, gs:[{info}]
    cmp byte ptr [rax + 1], 0
    jne page_fault_slow
    mov rcx, cr2
    mov gs:[{scratch}], rcx
    mov rax, gs:[{kernel_l4}]
    shl rax, 12
    mov cr3, rax
    mov rax, gs:[{kernel_sp}]
    and rax, -16
    sub rax, 64
.global page_fault_frame_start
page_fault_frame_start:
    pop qword ptr [rax]
    mov [rax + 8], r11
    mov ecx, [rsp + 8]
    mov [rax + 16], rcx
    mov rcx, [rsp + 16]
    mov [rax + 24], rcx
    movzx ecx, word ptr [rsp + 24]
    mov [rax + 32], rcx
    mov rcx, [rsp + 32]
    mov [rax + 40], rcx
    mov rcx, [rsp + 40]
    mov [rax + 48], rcx
    movzx ecx, word ptr [rsp + 48]
    mov [rax + 56], rcx
    mov rcx, gs:[{scratch}]
    mov gs:[{scratch}], rax
    mov rax, gs:[{info}]
    mov [rax + 16], rcx
    mov cl, gs:[{page_fault_masks}]
    or [rax + 1], cl
    mov byte ptr gs:[{in_kernel}], 1
    EXCHANGE_GS 56, {gs_user}, {gs_kernel}
page_fault_out:
    mov rcx, [rsp + 56 + {page_fault_address}]
    mov r11, [rsp + 32]
    and r11d, {kept}
    pop rax
    mov rsp, [rsp + 48 + {scratch_below}]
    sysretq

page_fault_of_kernel:
    mov rax, [rsp + 48]
    sub rax, 64
    and rax, -16
    mov rcx, rax
    shr rcx, 43
    cmp ecx, {hole}
    je page_fault_slow
    mov rcx, cr2
    mov gs:[{scratch}], rcx
    pop qword ptr [rax]
    mov [rax + 8], r11
    mov rcx, [rsp + 40]
    mov [rax + 48], rcx
    mov ecx, [rsp + 8]
    and ecx, -5
    mov [rax + 16], rcx
    mov rcx, [rsp + 16]
    mov [rax + 24], rcx
    mov rcx, gs:[{info}]
    cmp byte ptr [rcx + 1], 0
    setne cl
    movzx ecx, cl
    shl rcx, 32
    or rcx, 0xe030
    mov [rax + 32], rcx
    shr rcx, 23
    xor rcx, [rsp + 32]
    mov [rax + 40], rcx
    mov qword ptr [rax + 56], 0xe02b
.global page_fault_frame_end
page_fault_frame_end:
    mov rcx, gs:[{scratch}]
    mov gs:[{scratch}], rax
    mov rax, gs:[{info}]
    mov [rax + 16], rcx
    mov cl, gs:[{page_fault_masks}]
    or [rax + 1], cl
    swapgs
    jmp page_fault_out

// The frame cannot be written. RCX is still where it was saved: the fault's own
// frame lies below that. CR2 is put back.
.global page_fault_frame_fault
page_fault_frame_fault:
    mov rsp, gs:[{stack_end}]
    sub rsp, 64
    mov rax, gs:[{scratch}]
    mov cr2, rax
page_fault_slow:
    pop rcx
    pop rax
    mov byte ptr [rsp + 4], 14
    jmp trap_saved
page_fault_ring0:
    mov byte ptr [rsp + 4], 14
    jmp ring0
"#,
    scratch = const offset_of!(Cpu, scratch),
    scratch_rcx = const offset_of!(Cpu, scratch_rcx),
    scratch_below = const from_stack_end(offset_of!(Cpu, scratch)),
    stack_end = const offset_of!(Cpu, stack_end),
    info = const offset_of!(Cpu, info),
    usual = const offset_of!(Cpu, usual),
    kernel_cs = const offset_of!(Cpu, kernel_cs),
    kernel_ss = const offset_of!(Cpu, kernel_ss),
    in_kernel = const VCPU + offset_of!(Vcpu, in_kernel),
    kernel_l4 = const VCPU + offset_of!(Vcpu, kernel_l4),
    user_l4 = const VCPU + offset_of!(Vcpu, user_l4),
    kernel_sp = const VCPU + offset_of!(Vcpu, kernel_sp),
    gs_kernel = const from_stack_end(VCPU + offset_of!(Vcpu, gs_base_kernel)),
    gs_user = const from_stack_end(VCPU + offset_of!(Vcpu, gs_base_user)),
    syscall_address = const from_stack_end(SYSCALL + offset_of!(Callback, address)),
    syscall_masks = const SYSCALL + offset_of!(Callback, masks_events),
    page_fault_address = const from_stack_end(PAGE_FAULT + offset_of!(Gate, address)),
    page_fault_masks = const PAGE_FAULT + offset_of!(Gate, masks_events),
    kept = const !CLEARED as u32 as i32,
    not_by_sysret = const NOT_BY_SYSRET,
    guests = const !NOT_THE_GUESTS as u32 as i32,
    always = const flags::IF | flags::RESERVED1,
    interrupt_flag = const flags::IF,
    hole = const xenner_core::image::DIRECT_MAP >> 43,
);
