//! The ways into ring 0 and back, in assembly.
//!
//! Every entry leaves the guest's registers as a [`xenner_core::Regs`] at the
//! end of the virtual CPU's stack, the vector in byte 4 of the error code.
//! Ring 0 runs with interrupts off but for the wait in `HLT`, and faults only
//! where that is expected: where it touches guest memory through the guest's
//! page tables (the copies here, the frames of `fast.rs`), and at the IRETQ
//! that returns to the guest.

use core::arch::global_asm;

use xenner_core::domain::VcpuShared;

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
    .quad {domain} + {ports}
    .quad {domain} + {runstates}
    .quad {vcpu_shared_size}
    .quad {domain} + {balance}

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
.global trap_saved
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

// A debug exception comes on a stack of its own: after MOV SS it can meet the
// first instruction of the SYSCALL entry, on the guest's stack and with the
// guest's GS base. In ring 0 it is of no interest, be it that or a watchpoint
// on guest memory that the emulator has touched.
.balign 16
.global debug_entry
debug_entry:
    test byte ptr [rsp + 8], 3
    jnz 1f
    push rax
    mov eax, 0xffff0ff0
    mov dr6, rax
    pop rax
    iretq
1:
    swapgs
    mov gs:[{scratch}], rax
    mov rax, rsp
    mov rsp, gs:[{stack_end}]
    push qword ptr [rax + 32]
    push qword ptr [rax + 24]
    push qword ptr [rax + 16]
    push qword ptr [rax + 8]
    push qword ptr [rax]
    push 0
    mov byte ptr [rsp + 4], 1
    mov rax, gs:[{scratch}]
    jmp trap_saved

// Nobody sends a real one: VCPUOP_send_nmi is a bit and a kick.
.balign 16
.global nmi_entry
nmi_entry:
    iretq

// SYSCALL the long way: GS base and RSP are the emulator's, RCX and R11 hold
// RIP and RFLAGS.
.global syscall_slow
syscall_slow:
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
    jmp leave

// The only way without FSGSBASE.
.balign 16
.global syscall_entry_msr
syscall_entry_msr:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack_end}]
    jmp syscall_slow

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

// Sends a fault in \name to its fix-up.
.macro FIXUP name
    lea rax, [rip + \name\()_start]
    cmp [rsp + 16], rax
    jb 1f
    lea rax, [rip + \name\()_end]
    cmp [rsp + 16], rax
    jae 1f
    lea rax, [rip + \name\()_fault]
    jmp fixed
1:
.endm

// A fault or an interrupt in ring 0: vector in byte 4 of the error code.
.global ring0
ring0:
    push rax
    cmp byte ptr [rsp + 12], 32
    jae not_expected
    lea rax, [rip + leave_iretq]
    cmp [rsp + 16], rax
    je return_failed
    FIXUP user_access
    FIXUP call_frame
    FIXUP iret_frame
    FIXUP page_fault_frame
not_expected:
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
fixed:
    mov [rsp + 16], rax
    pop rax
    add rsp, 8
    iretq
return_failed:
    // The return to the guest itself faulted: its registers are live, and the
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
    cmp rdx, 64
    ja 2f
    test dl, 7
    jnz 2f
    // Up to eight words: into the middle of a row of eight-byte pairs.
    lea rax, [rip + words_end]
    sub rax, rdx
    jmp rax
words:
    .irp at, 56, 48, 40, 32, 24, 16, 8
    mov rax, [rsi + \at]
    mov [rdi + \at], rax
    .endr
    .byte 0x48, 0x8b, 0x46, 0x00 // mov rax, [rsi + 0]
    .byte 0x48, 0x89, 0x47, 0x00 // mov [rdi + 0], rax
words_end:
    xor eax, eax
    ret
.if (words_end - words) != 64
    .error "a copied word must take eight bytes of code"
.endif
2:
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
// edi register, rsi value; 0, or 1 when there is no such register.
.global try_wrmsr
try_wrmsr:
    mov ecx, edi
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    wrmsr
    xor eax, eax
    ret
user_access_end:
user_access_fault:
    mov eax, 1
    ret

// Waits for an interrupt, interrupts off again on return. One that comes
// before HLT must not be followed by it. STI's shadow sees to that, if it
// survives an exit between the two, which an emulated SVM need not keep; so the
// handler steps over HLT.
.balign 16
.global wait_for_interrupt
wait_for_interrupt:
    sti
.global wait_hlt
wait_hlt:
    hlt
.global wait_done
wait_done:
    cli
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
    ports = const core::mem::offset_of!(xenner_core::Domain, evtchn) + xenner_core::evtchn::PORTS,
    runstates = const core::mem::offset_of!(xenner_core::Domain, vcpus)
        + core::mem::offset_of!(VcpuShared, runstate),
    balance = const core::mem::offset_of!(xenner_core::Domain, balance),
    vcpu_shared_size = const size_of::<VcpuShared>(),
);

unsafe extern "C" {
    /// 256 stubs, 16 bytes apart.
    pub static stub_table: u8;
    /// Target of SYSCALL in 64-bit mode.
    pub static syscall_entry: u8;
    /// The same without FSGSBASE.
    pub static syscall_entry_msr: u8;
    /// Handler of page faults, with FSGSBASE.
    pub static page_fault_entry: u8;
    /// Handler of debug exceptions.
    pub static debug_entry: u8;
    /// Handler of non-maskable interrupts.
    pub static nmi_entry: u8;
    /// Target of SYSCALL in compatibility mode.
    pub static syscall32_entry: u8;
    /// Waits for an interrupt; called and left with interrupts off.
    pub fn wait_for_interrupt();
    /// The HLT in it.
    pub static wait_hlt: u8;
    /// Where it goes on.
    pub static wait_done: u8;
    /// Copies between guest-virtual and emulator memory; 1 on a fault.
    pub fn copy_user(to: *mut u8, from: *const u8, bytes: usize) -> u64;
    /// Writes a model-specific register; 1 on a fault.
    pub fn try_wrmsr(msr: u32, value: u64) -> u64;
    /// Loads the GS selector; 1 on a fault.
    pub fn load_gs(selector: u32) -> u64;
}
