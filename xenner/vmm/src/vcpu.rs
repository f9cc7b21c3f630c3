//! A virtual CPU's loop when the emulator in the guest answers.

use kvm_ioctls::{VcpuExit, VcpuFd};
use xen_sys::addr::{Maddr, Mfn};
use xenner_core::Regs;
use xenner_core::image::*;

use crate::emulator::Emulator;
use crate::shared::{CrashReport, DomainExit, Paused, Shared, Snapshot};

/// The signal that makes a virtual CPU's thread leave the guest.
pub fn kick_signal() -> i32 {
    vmm_sys_util::signal::SIGRTMIN()
}

/// Does nothing: its arrival is what counts.
extern "C" fn on_kick(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Makes [`kick_signal`] interrupt `KVM_RUN` in this process.
///
/// # Errors
/// The operating system's.
pub fn install_kick() -> Result<(), vmm_sys_util::errno::Error> {
    vmm_sys_util::signal::register_signal_handler(kick_signal(), on_kick)
}

/// Runs a virtual CPU until the domain's end.
pub fn run(mut vcpu: VcpuFd, id: usize, shared: &Shared, emulator: &Emulator) {
    while !shared.stopping() {
        if shared.pause_here(id, || snapshot(&vcpu, id, shared, emulator)) == Paused::Stopping {
            break;
        }
        shared.entering();
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT_CALL, _)) => {
                shared.exits.count(id);
                host_call(&vcpu, id, shared, emulator);
            }
            // A doorbell of a port the host has not bound, or a process's
            // port access on a KVM that does not check it.
            Ok(VcpuExit::IoOut(..)) => shared.exits.count(id),
            Ok(VcpuExit::IoIn(_, data)) => data.fill(0xff),
            Ok(VcpuExit::Intr) => {}
            Ok(other) => {
                let reason = format!("the virtual CPU stopped: {other:?}");
                kill(id, shared, reason);
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                vcpu.set_kvm_immediate_exit(0);
            }
            Err(error) => kill(
                id,
                shared,
                format!("KVM cannot run the virtual CPU: {error}"),
            ),
        }
    }
    shared.thread_ended(id, snapshot(&vcpu, id, shared, emulator));
}

/// Largest text taken in one `CALL_CONSOLE`.
const CONSOLE_MOST: u64 = 4096;

fn host_call(vcpu: &VcpuFd, id: usize, shared: &Shared, emulator: &Emulator) {
    let Ok(regs) = vcpu.get_regs() else { return };
    match regs.rax {
        CALL_SHUTDOWN => shared.end(DomainExit::from_reason(regs.rdi, id)),
        CALL_CRASH => {
            let reason = epitaph(shared, emulator);
            kill(id, shared, reason);
        }
        CALL_CONSOLE => {
            let mut text = vec![0; regs.rsi.min(CONSOLE_MOST) as usize];
            let at = Maddr(regs.rdi.wrapping_sub(DIRECT_MAP));
            if shared.memory.read(at, &mut text).is_ok()
                && let Ok(mut console) = shared.console.lock()
            {
                console(&text);
            }
        }
        CALL_WATCHDOG => {
            let after = (regs.rsi != 0).then(|| std::time::Duration::from_nanos(regs.rdx >> 16));
            shared.set_watchdog(regs.rdi as usize, after);
        }
        CALL_RELEASE => shared
            .memory
            .release(xen_sys::addr::Mfn(regs.rdi), regs.rsi),
        _ => {}
    }
}

/// What the emulator left behind.
fn epitaph(shared: &Shared, emulator: &Emulator) -> String {
    let mut bytes = [0u8; size_of::<Epitaph>()];
    if shared.memory.read(emulator.epitaph, &mut bytes).is_err() {
        return "the emulator died without a word".into();
    }
    let number = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    let text = &bytes[8..128][..number(0).min(120) as usize];
    format!("{} {:#x}", String::from_utf8_lossy(text), number(128))
}

fn kill(id: usize, shared: &Shared, reason: String) {
    shared.end(DomainExit::Killed(CrashReport { reason, vcpu: id }));
}

/// The guest's registers: KVM's, or, while ring 0 runs, what it saved.
fn snapshot(vcpu: &VcpuFd, id: usize, shared: &Shared, emulator: &Emulator) -> Snapshot {
    let (Ok(now), Ok(system)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        return Snapshot::default();
    };
    let regs = if system.cs.selector & 3 == 3 {
        Regs {
            r15: now.r15,
            r14: now.r14,
            r13: now.r13,
            r12: now.r12,
            rbp: now.rbp,
            rbx: now.rbx,
            r11: now.r11,
            r10: now.r10,
            r9: now.r9,
            r8: now.r8,
            rax: now.rax,
            rcx: now.rcx,
            rdx: now.rdx,
            rsi: now.rsi,
            rdi: now.rdi,
            error_code: 0,
            rip: now.rip,
            cs: system.cs.selector.into(),
            rflags: now.rflags,
            rsp: now.rsp,
            ss: system.ss.selector.into(),
        }
    } else {
        saved_regs(id, shared, emulator)
    };
    Snapshot {
        regs,
        cr3: Mfn(system.cr3 >> 12),
        fs_base: system.fs.base,
        gs_base: system.gs.base,
        cr2: system.cr2,
    }
}

fn saved_regs(id: usize, shared: &Shared, emulator: &Emulator) -> Regs {
    let mut words = [0u64; size_of::<Regs>() / 8];
    let frame = emulator
        .stack_end(id)
        .0
        .wrapping_sub(size_of::<Regs>() as u64);
    for (index, word) in words.iter_mut().enumerate() {
        *word = shared
            .memory
            .load(Maddr(frame + index as u64 * 8))
            .unwrap_or(0);
    }
    zerocopy::transmute!(words)
}
