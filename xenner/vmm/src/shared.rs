//! What the threads of a domain share: whether it runs, how it ended, what
//! stopped virtual CPUs held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use vmm_sys_util::signal::Killable;
use xen_sys::addr::Mfn;
use xen_sys::sched::*;
use xenner_core::{MAX_VCPUS, Regs};

use crate::memory::Memory;
use crate::tables::Hole;

/// The moment a guest was first entered.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    /// By CLOCK_MONOTONIC.
    pub at: Duration,
    /// Processor time that this process had used.
    pub cpu: Duration,
}

/// Why a domain's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainExit {
    /// `SHUTDOWN_poweroff`.
    Poweroff,
    /// `SHUTDOWN_reboot`.
    Reboot,
    /// `SHUTDOWN_suspend`.
    Suspend,
    /// `SHUTDOWN_crash`: the guest's kernel says that it crashed, on this
    /// virtual CPU.
    Crash(usize),
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
    /// What `vcpu` asked for by `SCHEDOP_shutdown`.
    pub(crate) fn from_reason(reason: u64, vcpu: usize) -> Self {
        match reason as u32 {
            SHUTDOWN_poweroff => Self::Poweroff,
            SHUTDOWN_reboot => Self::Reboot,
            SHUTDOWN_suspend => Self::Suspend,
            SHUTDOWN_watchdog => Self::Watchdog,
            SHUTDOWN_soft_reset => Self::SoftReset,
            _ => Self::Crash(vcpu),
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
}

/// What a stopped virtual CPU held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// The guest's general registers.
    pub regs: Regs,
    /// Top-level page table in force.
    pub cr3: Mfn,
    /// Segment bases as ring 3 has them.
    pub fs_base: u64,
    /// See `fs_base`.
    pub gs_base: u64,
    /// Address of the last page fault.
    pub cr2: u64,
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

/// Takes what the guest writes to the hypervisor's console.
pub type ConsoleSink = Box<dyn FnMut(&[u8]) + Send>;

/// What all threads of a domain share.
pub struct Shared {
    /// Guest memory.
    pub memory: Memory,
    /// Xen's hole.
    pub hole: Hole,
    /// Exits to this process.
    pub exits: Exits,
    /// Receives what the guest writes to the hypervisor's console.
    pub console: Mutex<ConsoleSink>,
    /// See [`Self::entering`].
    entered: OnceLock<Entered>,
    stop: AtomicBool,
    run: Mutex<Run>,
    changed: Condvar,
}

/// What changes while a domain runs.
#[derive(Default)]
struct Run {
    exit: Option<DomainExit>,
    paused: bool,
    /// Virtual CPU threads that have started and not ended.
    threads: usize,
    /// Those of them that wait while the domain is paused.
    parked: usize,
    snapshots: BTreeMap<usize, Snapshot>,
    watchdogs: [Option<Instant>; 2],
}

impl Shared {
    /// For a domain about to start.
    pub fn new(memory: Memory, hole: Hole, console: ConsoleSink) -> Arc<Self> {
        Arc::new(Self {
            memory,
            hole,
            exits: Exits::default(),
            console: Mutex::new(console),
            entered: OnceLock::new(),
            stop: AtomicBool::new(false),
            run: Mutex::new(Run::default()),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        // Nothing that holds the lock can leave it half done.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A virtual CPU is about to enter the guest; the first time is kept.
    pub fn entering(&self) {
        let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        self.entered.get_or_init(|| Entered {
            at: read(ClockId::CLOCK_MONOTONIC),
            cpu: read(ClockId::CLOCK_PROCESS_CPUTIME_ID),
        });
    }

    /// When the guest was first entered.
    pub fn entered(&self) -> Option<Entered> {
        self.entered.get().copied()
    }

    /// Ends the run; the first reason counts.
    pub fn end(&self, exit: DomainExit) {
        self.stop.store(true, Ordering::SeqCst);
        self.lock().exit.get_or_insert(exit);
        self.changed.notify_all();
    }

    /// Whether virtual CPUs are to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// How the run has ended, if it has.
    pub fn exit(&self) -> Option<DomainExit> {
        self.lock().exit.clone()
    }

    /// Waits for the end of the run, and ends it when a watchdog fires.
    pub fn wait(&self) -> DomainExit {
        let mut run = self.lock();
        loop {
            if let Some(exit) = run.exit.as_ref() {
                return exit.clone();
            }
            let Some(first) = run.watchdogs.iter().flatten().min().copied() else {
                run = self
                    .changed
                    .wait(run)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = first.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(run);
                self.end(DomainExit::Watchdog);
                run = self.lock();
            } else {
                run = self
                    .changed
                    .wait_timeout(run, left)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(run, _)| run);
            }
        }
    }

    /// Has the domain end by `SHUTDOWN_watchdog` after a time; `None` stops that.
    pub fn set_watchdog(&self, id: usize, after: Option<Duration>) {
        if let Some(slot) = self.lock().watchdogs.get_mut(id) {
            *slot = after.map(|after| Instant::now() + after);
        }
        self.changed.notify_all();
    }

    /// A virtual CPU's thread starts.
    pub fn thread_started(&self) {
        self.lock().threads += 1;
    }

    /// A virtual CPU's thread ends; its last registers stay readable.
    pub fn thread_ended(&self, vcpu: usize, snapshot: Snapshot) {
        let mut run = self.lock();
        run.threads -= 1;
        run.snapshots.insert(vcpu, snapshot);
        self.changed.notify_all();
    }

    /// Whether the domain is paused, without waiting.
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Waits here while the domain is paused.
    pub fn pause_here(&self, vcpu: usize, snapshot: impl FnOnce() -> Snapshot) -> Paused {
        let mut run = self.lock();
        if run.paused && run.exit.is_none() {
            run.snapshots.insert(vcpu, snapshot());
            run.parked += 1;
            self.changed.notify_all();
            while run.paused && run.exit.is_none() {
                run = self
                    .changed
                    .wait(run)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            run.parked -= 1;
        }
        if run.exit.is_some() {
            Paused::Stopping
        } else {
            Paused::Running
        }
    }

    /// Stops all virtual CPUs and returns when they stand.
    pub fn pause(&self, threads: &Threads) {
        self.lock().paused = true;
        self.until(threads, |run| run.parked == run.threads);
    }

    /// Lets them run again.
    pub fn unpause(&self) {
        self.lock().paused = false;
        self.changed.notify_all();
    }

    /// Waits until all threads have ended.
    pub fn drain(&self, threads: &Threads) {
        self.until(threads, |run| run.threads == 0);
    }

    /// Interrupts the threads until `done`. Once is not enough: a signal that
    /// comes just before `KVM_RUN` is lost.
    fn until(&self, threads: &Threads, done: impl Fn(&Run) -> bool) {
        const AGAIN: Duration = Duration::from_millis(2);
        let mut run = self.lock();
        while !done(&run) {
            threads.kick();
            run = self
                .changed
                .wait_timeout(run, AGAIN)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(run, _)| run);
        }
    }

    /// The registers of virtual CPUs that stand.
    pub fn snapshots(&self) -> BTreeMap<usize, Snapshot> {
        self.lock().snapshots.clone()
    }
}

/// The virtual CPU threads of a domain.
#[derive(Default)]
pub struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// One more.
    pub fn push(&self, thread: JoinHandle<()>) {
        self.lock().push(thread);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes them all leave the guest for a moment.
    pub fn kick(&self) {
        for thread in self.lock().iter().filter(|thread| !thread.is_finished()) {
            // It fails only for a thread that has just ended.
            let _ = thread.kill(crate::vcpu::kick_signal());
        }
    }

    /// Waits for them all to end.
    pub fn join(&self) {
        for thread in std::mem::take(&mut *self.lock()) {
            let _ = thread.join();
        }
    }

    /// The processor time each has used, nanoseconds.
    pub fn cpu_times(&self) -> Vec<u64> {
        use std::os::unix::thread::JoinHandleExt;
        let time = |thread: &JoinHandle<()>| {
            let mut clock = 0;
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the handle keeps the thread's identity valid; both calls
            // write to live locals only.
            let failed = unsafe {
                libc::pthread_getcpuclockid(thread.as_pthread_t(), &mut clock) != 0
                    || libc::clock_gettime(clock, &mut time) != 0
            };
            if failed {
                0
            } else {
                time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
            }
        };
        self.lock().iter().map(time).collect()
    }
}
