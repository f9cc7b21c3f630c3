//! 32-bit programs: an ELF file made here, whose code calls the kernel through
//! INT 0x80 and through the vDSO (SYSENTER or SYSCALL, as the CPU has it).

use std::arch::global_asm;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use crate::runner::Check;
use crate::{Context, Failure, ensure};

pub const CHECKS: &[Check] = &[("program_32_bit", program_32_bit)];

/// Where the program is linked to.
const BASE: u32 = 0x0040_0000;
const HEADERS: u32 = 52 + 32;

// The program, position independent. Exit status: 0, or the number of the step
// that failed. System call numbers are those of <asm/unistd_32.h>.
global_asm!(
    ".pushsection .rodata",
    ".globl workload_program32, workload_program32_end",
    "workload_program32:",
    ".code32",
    // 1: getpid through INT 0x80
    "mov eax, 20",
    "int 0x80",
    "mov edi, 1",
    "test eax, eax",
    "jle 9f",
    "mov esi, eax",
    // 2: AT_SYSINFO (32) in the auxiliary vector, past argv and envp
    "mov edi, 2",
    "mov ecx, [esp]",
    "lea ebx, [esp + ecx * 4 + 8]",
    "2: mov eax, [ebx]",
    "add ebx, 4",
    "test eax, eax",
    "jnz 2b",
    "3: mov eax, [ebx]",
    "test eax, eax",
    "jz 9f",
    "cmp eax, 32",
    "je 4f",
    "add ebx, 8",
    "jmp 3b",
    "4: mov ebp, [ebx + 4]",
    "sub esp, 16",
    "mov [esp], ebp",
    // 3: getpid that way gives the same, many times
    "mov edi, 3",
    "mov dword ptr [esp + 4], 1000",
    "5: mov eax, 20",
    "call dword ptr [esp]",
    "cmp eax, esi",
    "jne 9f",
    "dec dword ptr [esp + 4]",
    "jnz 5b",
    // 4: six arguments, EBP among them: mmap2 of a page, and its use
    "mov edi, 4",
    "mov [esp + 8], edi",
    "mov [esp + 12], esi",
    "mov eax, 192",
    "xor ebx, ebx",
    "mov ecx, 4096",
    "mov edx, 3",
    "mov esi, 0x22",
    "mov edi, -1",
    "xor ebp, ebp",
    "call dword ptr [esp]",
    "mov edi, [esp + 8]",
    "mov esi, [esp + 12]",
    "cmp eax, 0xfffff000",
    "ja 9f",
    "mov dword ptr [eax], 0x12345678",
    // 5: what the CPU is in: 32-bit code has no REX prefixes, this is DEC EAX
    "mov edi, 5",
    "mov eax, 1",
    ".byte 0x48",
    "test eax, eax",
    "jnz 9f",
    "xor edi, edi",
    "9: mov ebx, edi",
    "mov eax, 1",
    "int 0x80",
    "ud2",
    ".code64",
    "workload_program32_end:",
    ".popsection",
);

unsafe extern "C" {
    static workload_program32: u8;
    static workload_program32_end: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (
        &raw const workload_program32,
        &raw const workload_program32_end,
    );
    // SAFETY: both are labels of the blob above, which is read-only data.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// An ELF32 executable with one segment that holds the whole file.
fn executable() -> Vec<u8> {
    let code = code();
    let size = HEADERS + code.len() as u32;
    let mut file = Vec::new();
    // e_ident: ELFCLASS32, ELFDATA2LSB, EV_CURRENT
    file.extend_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    halves(&mut file, &[2, 3]); // ET_EXEC, EM_386
    words(&mut file, &[1, BASE + HEADERS, 52, 0, 0]); // version, entry, phoff, shoff, flags
    halves(&mut file, &[52, 32, 1, 40, 0, 0]); // sizes and counts of headers
    words(&mut file, &[1, 0, BASE, BASE, size, size, 5, 4096]); // PT_LOAD, read and execute
    file.extend_from_slice(code);
    file
}

fn program_32_bit() -> Result<Option<String>, Failure> {
    let path = std::env::temp_dir().join(format!("workload-32-{}", std::process::id()));
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&path)
        .context("create")?;
    file.write_all(&executable()).context("write")?;
    drop(file);
    let status = Command::new(&path).arg("argument").status();
    fs::remove_file(&path).context("remove")?;
    match status {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            Ok(Some("this kernel runs no 32-bit programs".into()))
        }
        Err(error) => Err(format!("exec: {error}")),
        Ok(status) => {
            ensure!(
                status.success(),
                "it ended with {status} (an exit status is the failed step)"
            );
            Ok(None)
        }
    }
}
