//! A virtual CPU's loop, and how a domain's run ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use kvm_ioctls::{VcpuExit, VcpuFd};
use xen_sys::addr::Maddr;
use xen_sys::sched::*;
use xenner_core::MAX_VCPUS;
use xenner_core::image::*;

use crate::emulator::Emulator;
use crate::memory::Memory;
use crate::tables::Hole;

/// Why a domain's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainExit {
    /// `SHUTDOWN_poweroff`.
    Poweroff,
    /// `SHUTDOWN_reboot`.
    Reboot,
    /// `SHUTDOWN_suspend`.
    Suspend,
    /// `SHUTDOWN_crash`: the guest's kernel says that it crashed.
    Crash,
    /// `SHUTDOWN_watchdog`.
    Watchdog,
    /// `SHUTDOWN_soft_reset`.
    SoftReset,
    /// What Xen answers with `domain_crash`: the guest broke a rule.
    Killed(CrashReport),
    /// Destroyed from outside.
    Destroyed,
}

impl DomainExit {
    pub(crate) fn from_reason(reason: u64) -> Self {
        match reason as u32 {
            SHUTDOWN_poweroff => Self::Poweroff,
            SHUTDOWN_reboot => Self::Reboot,
            SHUTDOWN_suspend => Self::Suspend,
            SHUTDOWN_watchdog => Self::Watchdog,
            SHUTDOWN_soft_reset => Self::SoftReset,
            _ => Self::Crash,
        }
    }
}

/// What is known of a domain that was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// What happened.
    pub reason: String,
    /// The virtual CPU it happened on.
    pub vcpu: usize,
    /// The guest's registers, in the order of [`xenner_core::Regs`].
    pub registers: Vec<u64>,
}

/// Whether to go on after [`Shared::pause_here`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Run the guest.
    Running,
    /// The domain has ended.
    Stopping,
}

/// Exits to this process, by virtual CPU.
#[derive(Debug, Default)]
pub struct Exits([AtomicU64; MAX_VCPUS]);

impl Exits {
    /// One more.
    pub fn count(&self, vcpu: usize) {
        if let Some(count) = self.0.get(vcpu) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub fn of(&self, vcpu: usize) -> u64 {
        self.0
            .get(vcpu)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What all virtual CPU threads share.
pub struct Shared {
    /// Guest memory.
    pub memory: Memory,
    /// Xen's hole.
    pub hole: Hole,
    /// Exits to this process.
    pub exits: Exits,
    exit: Mutex<Option<DomainExit>>,
    ended: Condvar,
    stop: AtomicBool,
    /// Receives what the guest writes to the hypervisor's console.
    pub console: Mutex<Box<dyn FnMut(&[u8]) + Send>>,
}

impl Shared {
    /// For a domain about to start.
    pub fn new(memory: Memory, hole: Hole, console: Box<dyn FnMut(&[u8]) + Send>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            hole,
            exits: Exits::default(),
            exit: Mutex::new(None),
            ended: Condvar::new(),
            stop: AtomicBool::new(false),
            console: Mutex::new(console),
        })
    }

    /// Waits here while the domain is paused.
    pub fn pause_here(&self) -> Paused {
        Paused::Running
    }

    /// Has the domain ended by `SHUTDOWN_watchdog` at a system time, ns; 0 stops that.
    pub fn set_watchdog(&self, _id: usize, _deadline: u64) {}

    /// Ends the run; the first reason counts.
    pub fn end(&self, exit: DomainExit) {
        self.stop.store(true, Ordering::SeqCst);
        if let Ok(mut slot) = self.exit.lock() {
            slot.get_or_insert(exit);
        }
        self.ended.notify_all();
    }

    /// Whether virtual CPUs are to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits for the end of the run.
    pub fn wait(&self) -> DomainExit {
        let Ok(mut slot) = self.exit.lock() else {
            return DomainExit::Destroyed;
        };
        loop {
            if let Some(exit) = slot.as_ref() {
                return exit.clone();
            }
            slot = match self.ended.wait(slot) {
                Ok(slot) => slot,
                Err(_) => return DomainExit::Destroyed,
            };
        }
    }
}

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
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT_CALL, _)) => host_call(&vcpu, id, shared, emulator),
            // A doorbell of a port the host has not bound, or a process's
            // port access on a KVM that does not check it.
            Ok(VcpuExit::IoOut(..)) => {}
            Ok(VcpuExit::IoIn(_, data)) => data.fill(0xff),
            Ok(VcpuExit::Intr) => {}
            Ok(other) => {
                let what = format!("{other:?}");
                kill(
                    &vcpu,
                    id,
                    shared,
                    emulator,
                    format!("the virtual CPU stopped: {what}"),
                );
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                vcpu.set_kvm_immediate_exit(0);
                if std::env::var_os("XENNER_DEBUG").is_some() {
                    let r = vcpu.get_regs().unwrap();
                    eprintln!(
                        "vcpu{id} rip {:x} rsp {:x} rax {:x} rcx {:x} rdi {:x} rsi {:x} rflags {:x} cs {:x}",
                        r.rip,
                        r.rsp,
                        r.rax,
                        r.rcx,
                        r.rdi,
                        r.rsi,
                        r.rflags,
                        vcpu.get_sregs().unwrap().cs.selector
                    );
                    if r.rip >> 40 == 0xffff80 {
                        let frame = emulator.stack_end(id).0 - 168;
                        let g =
                            |i: u64| shared.memory.load::<u64>(Maddr(frame + i * 8)).unwrap_or(0);
                        eprintln!(
                            "  guest rip {:x} rsp {:x} rax {:x} cs {:x} err {:x}",
                            g(16),
                            g(19),
                            g(10),
                            g(17),
                            g(15)
                        );
                    }
                }
            }
            Err(error) => kill(
                &vcpu,
                id,
                shared,
                emulator,
                format!("KVM cannot run the virtual CPU: {error}"),
            ),
        }
    }
}

/// Largest text taken in one `CALL_CONSOLE`.
const CONSOLE_MOST: u64 = 4096;

fn host_call(vcpu: &VcpuFd, id: usize, shared: &Shared, emulator: &Emulator) {
    let Ok(regs) = vcpu.get_regs() else { return };
    match regs.rax {
        CALL_SHUTDOWN => shared.end(DomainExit::from_reason(regs.rdi)),
        CALL_CRASH => {
            let reason = epitaph(shared, emulator);
            kill(vcpu, id, shared, emulator, reason);
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

fn kill(vcpu: &VcpuFd, id: usize, shared: &Shared, emulator: &Emulator, reason: String) {
    if shared.stopping() {
        return;
    }
    let mut registers = Vec::new();
    let frame = emulator
        .stack_end(id)
        .0
        .wrapping_sub(size_of::<xenner_core::Regs>() as u64);
    for index in 0..size_of::<xenner_core::Regs>() as u64 / 8 {
        registers.push(shared.memory.load(Maddr(frame + index * 8)).unwrap_or(0));
    }
    if std::env::var_os("XENNER_DEBUG").is_some() {
        eprintln!(
            "{:#x?} {:#x?}",
            vcpu.get_regs(),
            vcpu.get_sregs().map(|s| (s.cr2, s.cr3, s.cs.selector))
        );
    }
    shared.end(DomainExit::Killed(CrashReport {
        reason,
        vcpu: id,
        registers,
    }));
}
