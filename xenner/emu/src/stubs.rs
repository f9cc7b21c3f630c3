//! The ways into ring 0 and back, in assembly.
//!
//! Every entry leaves the guest's registers as a [`xenner_core::Regs`] at the
//! end of the virtual CPU's stack, the vector in byte 4 of the error code.
//! Ring 0 runs with interrupts off but for the wait in `HLT`, and faults in
//! two places only, both expected: the copies between `user_access_start` and
//! `user_access_end`, and the IRETQ that returns to the guest.

use core::arch::global_asm;

use crate::cpu::Cpu;

global_asm!(
    r#"
// xenner_core::image::Header
.section .header, "a"
    .quad {magic}
    .quad emu_entry
    .quad {boot}
    .quad {doorbells}
    .quad {epitaph}
    .quad {cpus}
    .quad {cpu_size}
    .quad {stack_offset}
    .quad {tables}
    .quad {domain} + {hypercalls}

.section .text.stubs, "ax"

.macro SAVE
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm

.macro RESTORE
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm

// One stub a vector, 16 bytes each.
.balign 16
.global stub_table
stub_table:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
        push 0
    .endif
    mov byte ptr [rsp + 4], vector
    jmp trap
    .set vector, vector + 1
.endr

.balign 16
trap:
    test byte ptr [rsp + 16], 3
    jz ring0
    swapgs
trap_saved:
    SAVE
    cld
    mov rdi, rsp
    sub rsp, 8
    call emu_trap
    add rsp, 8

.global leave
leave:
    RESTORE
    add rsp, 8
    swapgs
.global leave_iretq
leave_iretq:
    iretq

// SYSCALL: RCX and R11 hold RIP and RFLAGS. On a pagetable-based KVM control
// never gets here: the fetch faults and arrives as a page fault.
.balign 16
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack_end}]
    push 0x2b
    push qword ptr gs:[{scratch}]
    push r11
    push 0x33
    push rcx
    push 0
    SAVE
    mov rdi, rsp
    sub rsp, 8
    call emu_syscall
    add rsp, 8
    test eax, eax
    jz leave
    RESTORE
    mov rsp, [rsp + 32]
    swapgs
    sysretq

.balign 16
.global syscall32_entry
syscall32_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack_end}]
    push 0x2b
    push qword ptr gs:[{scratch}]
    push r11
    push 0x23
    push rcx
    push 0
    SAVE
    mov rdi, rsp
    sub rsp, 8
    call emu_syscall32
    add rsp, 8
    jmp leave

// A fault or an interrupt in ring 0.
ring0:
    push rax
    lea rax, [rip + leave_iretq]
    cmp [rsp + 16], rax
    je 2f
    lea rax, [rip + user_access_start]
    cmp [rsp + 16], rax
    jb 1f
    lea rax, [rip + user_access_end]
    cmp [rsp + 16], rax
    jae 1f
    lea rax, [rip + user_access_fault]
    mov [rsp + 16], rax
    pop rax
    add rsp, 8
    iretq
1:
    pop rax
    SAVE
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call emu_ring0
    mov rsp, rbp
    RESTORE
    add rsp, 8
    iretq
2:  // The return to the guest itself faulted: its registers are live, and the
    // frame it wanted is where RSP pointed.
    pop rax
    mov rsp, [rsp + 32]
    swapgs
    push 0
    mov byte ptr [rsp + 4], 0xff
    jmp trap_saved

// rdi to, rsi from, rdx bytes; 0, or 1 when the guest's side faulted.
.balign 16
.global copy_user
copy_user:
user_access_start:
    mov rcx, rdx
    shr rcx, 3
    jz 4f
3:
    mov rax, [rsi]
    mov [rdi], rax
    add rsi, 8
    add rdi, 8
    dec rcx
    jnz 3b
4:
    and edx, 7
    jz 6f
5:
    mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec edx
    jnz 5b
6:
    xor eax, eax
    ret
// edi selector; 0, or 1 when it cannot be loaded.
.global load_gs
load_gs:
    mov gs, edi
    xor eax, eax
    ret
user_access_end:
user_access_fault:
    mov eax, 1
    ret

// A virtual CPU starts: its number in RDI.
.global emu_entry
emu_entry:
    lea rax, [rip + {cpus}]
    imul rcx, rdi, {cpu_size}
    add rax, rcx
    lea rsp, [rax + {stack_offset} - 176]
    call emu_start
    add rsp, 8
    jmp leave
"#,
    scratch = const core::mem::offset_of!(Cpu, scratch),
    stack_end = const core::mem::offset_of!(Cpu, stack_end),
    cpus = sym crate::cpu::CPUS,
    cpu_size = const size_of::<Cpu>(),
    stack_offset = const Cpu::STACK_END,
    magic = const xenner_core::image::MAGIC,
    boot = sym crate::host::BOOT,
    doorbells = sym crate::host::DOORBELLS,
    epitaph = sym crate::host::EPITAPH,
    tables = sym crate::host::TABLES_L1,
    domain = sym crate::host::DOMAIN,
    hypercalls = const core::mem::offset_of!(xenner_core::Domain, hypercalls),
);

unsafe extern "C" {
    /// 256 stubs, 16 bytes apart.
    pub static stub_table: u8;
    /// Target of SYSCALL in 64-bit mode.
    pub static syscall_entry: u8;
    /// Target of SYSCALL in compatibility mode.
    pub static syscall32_entry: u8;
    /// Copies between guest-virtual and emulator memory; 1 on a fault.
    pub fn copy_user(to: *mut u8, from: *const u8, bytes: usize) -> u64;
    /// Loads the GS selector; 1 on a fault.
    pub fn load_gs(selector: u32) -> u64;
}
