//! The processors as user space sees them: `/proc/cpuinfo`, CPUID, the TSC,
//! every CPU reachable, segment bases.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, _rdtsc};
use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![
    cpuinfo,
    cpuid,
    tsc_runs,
    every_cpu,
    segment_bases,
    local_descriptors
];

/// The CPUs this process may run on.
pub fn online() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu) == Ok(true))
        .collect())
}

/// Moves this thread to a CPU.
pub fn move_to(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu).context("CPU number")?;
    sched_setaffinity(Pid::from_raw(0), &set).context("sched_setaffinity")
}

/// The CPU this thread is on, by system call: the vDSO's answer comes from a GDT
/// entry that Linux 6.1 leaves out on a PV domain's secondary CPUs.
fn current() -> Result<usize, Failure> {
    let mut cpu = 0_u32;
    let null = std::ptr::null_mut::<u8>();
    // SAFETY: the kernel writes one u32; the other arguments may be null.
    let got = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, null, null) };
    ensure!(got == 0, "getcpu: {}", std::io::Error::last_os_error());
    Ok(cpu as usize)
}

fn cpuinfo() -> Result<(), Failure> {
    let text = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let listed = text.lines().filter(|l| l.starts_with("processor")).count();
    let online = online()?.len();
    ensure!(listed == online, "{listed} CPUs listed, {online} usable");
    ensure!(
        text.lines()
            .any(|l| l.starts_with("flags") && l.contains(" lm ")),
        "no long mode in flags"
    );
    Ok(())
}

fn cpuid() -> Result<(), Failure> {
    let vendor = __cpuid(0);
    ensure!(vendor.eax >= 1, "highest leaf is {}", vendor.eax);
    let text: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx]
        .iter()
        .flat_map(|r| r.to_le_bytes())
        .collect();
    ensure!(
        text.iter().all(u8::is_ascii_graphic),
        "the vendor is {text:?}"
    );
    ensure!(__cpuid(1).edx & (1 << 26) != 0, "no SSE2");
    Ok(())
}

fn tsc_runs() -> Result<(), Failure> {
    let mut last = 0;
    for _ in 0..10_000 {
        // SAFETY: RDTSC reads a register; where it is forbidden the check fails by SIGSEGV.
        let now = unsafe { _rdtsc() };
        ensure!(now >= last, "it went back from {last} to {now}");
        last = now;
    }
    Ok(())
}

fn every_cpu() -> Result<(), Failure> {
    let cpus = online()?;
    for &cpu in cpus.iter().chain(cpus.iter().rev()) {
        move_to(cpu)?;
        let here = current()?;
        ensure!(here == cpu, "moved to CPU {cpu}, am on {here}");
    }
    Ok(())
}

/// GS is free in user space: its base is set by system call, read through the
/// segment, and must survive being switched out.
fn segment_bases() -> Result<(), Failure> {
    const ARCH_SET_GS: i32 = 0x1001;
    static VALUES: [u64; 2] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];
    for value in &VALUES {
        // SAFETY: nothing else uses GS in a 64-bit Linux program.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, value) };
        ensure!(set == 0, "arch_prctl: {}", std::io::Error::last_os_error());
        for _ in 0..10 {
            std::thread::yield_now();
            let read: u64;
            // SAFETY: GS points at `value`, which is static.
            unsafe { asm!("mov {}, gs:[0]", out(reg) read, options(nostack, readonly)) };
            ensure!(read == *value, "read {read:#x} through GS, not {value:#x}");
        }
    }
    Ok(())
}

/// An entry in the local descriptor table, read through.
fn local_descriptors() -> Result<(), Failure> {
    // `struct user_desc` of <asm/ldt.h>: entry, base, limit, flags (32-bit
    // data segment, limit in pages).
    let value = Box::new(0x5eed_u32);
    let page = low_page()?;
    // SAFETY: `low_page` maps a writable page there.
    unsafe { std::ptr::write_volatile(page as *mut u32, *value) };
    let descriptor: [u32; 4] = [0, page, 0xfffff, 0b0101_0001];
    // SAFETY: the kernel reads the structure and changes this process's LDT.
    let set = unsafe { libc::syscall(libc::SYS_modify_ldt, 1, &raw const descriptor, 16) };
    if set != 0 {
        let error = std::io::Error::last_os_error();
        ensure!(
            error.raw_os_error() == Some(libc::ENOSYS),
            "modify_ldt: {error}"
        );
        return Ok(());
    }
    for _ in 0..10 {
        std::thread::yield_now();
        let read: u32;
        // SAFETY: selector 7 is the entry just made (index 0, LDT, ring 3); it
        // starts at `page`. GS is free in user space.
        unsafe {
            asm!("mov gs, {s:e}", "mov {r:e}, gs:[0]", "mov gs, {z:e}",
                s = in(reg) 7_u32, z = in(reg) 0_u32, r = out(reg) read, options(nostack, readonly));
        }
        ensure!(read == *value, "read {read:#x} through the LDT");
    }
    Ok(())
}

/// A page below 4 GiB: a descriptor's base has 32 bits.
fn low_page() -> Result<u32, Failure> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let length = std::num::NonZeroUsize::MIN.saturating_add(4095);
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_32BIT;
    // SAFETY: a fresh mapping where the kernel likes.
    let page = unsafe {
        mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            flags,
        )
    }
    .context("mmap")?;
    u32::try_from(page.as_ptr() as usize).context("its address")
}
