//! Faults become signals with the right number, code and address.

use std::arch::asm;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![
    divide_error,
    breakpoint,
    trap_flag,
    invalid_opcode,
    privileged_instruction,
    null_read,
    read_only_write,
    no_execute,
    non_canonical,
    bus_error,
    unhandled_kills,
];

static SIGNAL: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static RIP: AtomicUsize = AtomicUsize::new(0);
static RESUME: AtomicUsize = AtomicUsize::new(0);

/// Notes the fault and goes on at `RESUME`, or where it was if that is 0.
extern "C" fn note(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const TRAP_FLAG: i64 = 1 << 8;
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes valid structures and takes the changed
    // registers back when the handler returns.
    unsafe {
        SIGNAL.store(signal, Ordering::SeqCst);
        CODE.store((*info).si_code, Ordering::SeqCst);
        ADDRESS.store((*info).si_addr() as usize, Ordering::SeqCst);
        let registers = &mut (*context).uc_mcontext.gregs;
        RIP.store(registers[libc::REG_RIP as usize] as usize, Ordering::SeqCst);
        registers[libc::REG_EFL as usize] &= !TRAP_FLAG;
        let resume = RESUME.load(Ordering::SeqCst);
        if resume != 0 {
            registers[libc::REG_RIP as usize] = resume as i64;
        }
    }
}

fn catch(signal: Signal) -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::SigAction(note),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler only stores to atomics and changes its own context.
    unsafe { sigaction(signal, &action) }.context("sigaction")?;
    Ok(())
}

/// Runs instructions that fault; the code resumes at label 3.
macro_rules! faulting {
    ($signal:expr, $body:expr $(, $($operand:tt)*)?) => {{
        catch($signal)?;
        // SAFETY: the handler resumes at label 3, past the faulting code.
        unsafe {
            asm!(
                "lea {resume}, [rip + 3f]",
                "mov [{place}], {resume}",
                $body,
                "3:",
                resume = out(reg) _,
                place = in(reg) RESUME.as_ptr(),
                $($($operand)*)?
            );
        }
    }};
}

fn caught(signal: i32, code: i32) -> Result<(), Failure> {
    let got = (SIGNAL.load(Ordering::SeqCst), CODE.load(Ordering::SeqCst));
    ensure!(
        got == (signal, code),
        "got signal and code {got:?}, not {:?}",
        (signal, code)
    );
    Ok(())
}

fn caught_at(signal: i32, code: i32, address: usize) -> Result<(), Failure> {
    caught(signal, code)?;
    let got = ADDRESS.load(Ordering::SeqCst);
    ensure!(got == address, "at {got:#x}, not {address:#x}");
    Ok(())
}

// Codes of <asm-generic/siginfo.h> that the libc crate lacks.
const FPE_INTDIV: i32 = 1;
const ILL_ILLOPN: i32 = 2;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;
const TRAP_TRACE: i32 = 2;
const SI_KERNEL: i32 = 0x80;

fn divide_error() -> Result<(), Failure> {
    for _ in 0..100 {
        faulting!(Signal::SIGFPE, "div {zero:e}", zero = in(reg) 0_u32, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _);
        caught_at(libc::SIGFPE, FPE_INTDIV, RIP.load(Ordering::SeqCst))?;
    }
    Ok(())
}

fn breakpoint() -> Result<(), Failure> {
    for _ in 0..100 {
        faulting!(Signal::SIGTRAP, "int3");
        caught(libc::SIGTRAP, SI_KERNEL)?;
        // The trap comes after the instruction, right at the label behind it.
        let (at, after) = (RIP.load(Ordering::SeqCst), RESUME.load(Ordering::SeqCst));
        ensure!(at == after, "RIP is {at:#x}, not {after:#x}");
    }
    Ok(())
}

fn trap_flag() -> Result<(), Failure> {
    faulting!(
        Signal::SIGTRAP,
        "pushfq\n or qword ptr [rsp], 0x100\n popfq\n nop\n nop"
    );
    caught(libc::SIGTRAP, TRAP_TRACE)
}

fn invalid_opcode() -> Result<(), Failure> {
    faulting!(Signal::SIGILL, "ud2");
    caught_at(libc::SIGILL, ILL_ILLOPN, RIP.load(Ordering::SeqCst))
}

fn privileged_instruction() -> Result<(), Failure> {
    faulting!(Signal::SIGSEGV, "hlt");
    caught(libc::SIGSEGV, SI_KERNEL)?;
    faulting!(Signal::SIGSEGV, "mov rax, cr3", out("rax") _);
    caught(libc::SIGSEGV, SI_KERNEL)?;
    faulting!(Signal::SIGSEGV, "wrmsr", in("rcx") 0x10_u64, in("rax") 0_u64, in("rdx") 0_u64);
    caught(libc::SIGSEGV, SI_KERNEL)
}

fn null_read() -> Result<(), Failure> {
    for address in [0_usize, 0x123, 0x7fff_ffff_0000] {
        faulting!(Signal::SIGSEGV, "mov al, [{at}]", at = in(reg) address, out("al") _);
        caught_at(libc::SIGSEGV, SEGV_MAPERR, address)?;
    }
    // The kernel's half: present or not, user space must not tell.
    let kernel = 0xffff_ffff_8100_0000_usize;
    faulting!(Signal::SIGSEGV, "mov al, [{at}]", at = in(reg) kernel, out("al") _);
    ensure!(SIGNAL.load(Ordering::SeqCst) == libc::SIGSEGV, "no SIGSEGV");
    Ok(())
}

fn page(protection: ProtFlags) -> Result<usize, Failure> {
    let length = std::num::NonZeroUsize::MIN.saturating_add(4095);
    // SAFETY: a fresh mapping where the kernel likes.
    let page = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) };
    Ok(page.context("mmap")?.as_ptr() as usize)
}

fn read_only_write() -> Result<(), Failure> {
    let address = page(ProtFlags::PROT_READ)?;
    faulting!(Signal::SIGSEGV, "mov byte ptr [{at}], 1", at = in(reg) address);
    caught_at(libc::SIGSEGV, SEGV_ACCERR, address)
}

fn no_execute() -> Result<(), Failure> {
    let address = page(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    // SAFETY: the page was just mapped writable. 0xc3 is RET.
    unsafe { std::ptr::write_volatile(address as *mut u8, 0xc3) };
    faulting!(Signal::SIGSEGV, "jmp {at}", at = in(reg) address);
    caught_at(libc::SIGSEGV, SEGV_ACCERR, address)
}

fn non_canonical() -> Result<(), Failure> {
    faulting!(Signal::SIGSEGV, "mov al, [{at}]", at = in(reg) 0x8000_0000_0000_0000_u64, out("al") _);
    caught(libc::SIGSEGV, SI_KERNEL)
}

/// Beyond the end of a mapped file.
fn bus_error() -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("workload-bus-{}", std::process::id()));
    std::fs::write(&path, "short").context("write")?;
    let file = std::fs::File::open(&path).context("open")?;
    std::fs::remove_file(&path).context("remove")?;
    let length = std::num::NonZeroUsize::MIN.saturating_add(8191);
    // SAFETY: a fresh mapping where the kernel likes.
    let map = unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED,
            &file,
            0,
        )
    };
    let beyond = map.context("mmap")?.as_ptr() as usize + 4096;
    faulting!(Signal::SIGBUS, "mov al, [{at}]", at = in(reg) beyond, out("al") _);
    caught_at(libc::SIGBUS, BUS_ADRERR, beyond)
}

fn unhandled_kills() -> Result<(), Failure> {
    let child = crate::process::forked(|| {
        // SAFETY: undefined on purpose: this process is to die of it.
        unsafe { asm!("ud2") };
        0
    })?;
    let status = nix::sys::wait::waitpid(child, None).context("waitpid")?;
    let killed = matches!(
        status,
        nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGILL, _)
    );
    ensure!(killed, "it ended with {status:?}");
    Ok(())
}
