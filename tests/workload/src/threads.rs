//! Threads: futexes, and what one CPU does to another's address space.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError, mpsc};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};

use crate::runner::Check;
use crate::{Context, Failure, checks, cpu, ensure};

pub const CHECKS: &[Check] = checks![mutex, condition, barrier, many_threads, shootdown];

fn mutex() -> Result<(), Failure> {
    const EACH: u64 = 2_000;
    let total = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    *total.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                }
            });
        }
    });
    let total = *total.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(total == 4 * EACH, "counted {total} of {}", 4 * EACH);
    Ok(())
}

fn condition() -> Result<(), Failure> {
    const ROUNDS: u32 = 500;
    let turn = (Mutex::new(0_u32), Condvar::new());
    let play = |parity: u32| {
        for round in (parity..2 * ROUNDS).step_by(2) {
            let guard = turn.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut guard = turn
                .1
                .wait_while(guard, |now| *now != round)
                .unwrap_or_else(PoisonError::into_inner);
            *guard += 1;
            turn.1.notify_all();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play(0));
        scope.spawn(|| play(1));
    });
    let end = *turn.0.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(end == 2 * ROUNDS, "ended at {end}");
    Ok(())
}

fn barrier() -> Result<(), Failure> {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 100;
    let (barrier, arrived) = (Barrier::new(THREADS as usize), AtomicU64::new(0));
    let early = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    barrier.wait();
                    if arrived.load(Ordering::SeqCst) < round * THREADS {
                        early.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    ensure!(
        !early.load(Ordering::SeqCst),
        "a thread passed before all had come"
    );
    Ok(())
}

fn many_threads() -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..50_u64)
        .map(|index| {
            let sender = sender.clone();
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || sender.send(index))
        })
        .collect::<Result<_, _>>()
        .context("spawn")?;
    drop(sender);
    let sum: u64 = receiver.iter().sum();
    for thread in threads {
        thread
            .join()
            .map_err(|_| "a thread died")?
            .context("send")?;
    }
    ensure!(sum == 49 * 50 / 2, "the sum is {sum}");
    Ok(())
}

/// A page made read-only on one CPU must not be written through another's
/// TLB: when `mprotect` has returned, the writer's count stands still.
fn shootdown() -> Result<(), Failure> {
    let length = std::num::NonZeroUsize::MIN.saturating_add(4095);
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping where the kernel likes.
    let page = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }
        .context("mmap")?;
    // SAFETY: the page is mapped for the process's whole life, aligned and
    // only ever used as this atomic.
    let counter: &'static AtomicU64 = unsafe { page.cast::<AtomicU64>().as_ref() };
    ignore_faults()?;
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let cpus = cpu::online()?;
    let (mine, other) = (cpus[0], cpus[cpus.len() - 1]);
    let writer = std::thread::spawn(move || {
        let moved = cpu::move_to(other);
        while !theirs.load(Ordering::Relaxed) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        moved
    });
    cpu::move_to(mine)?;
    for round in 0..50 {
        let before = counter.load(Ordering::SeqCst);
        while counter.load(Ordering::SeqCst) == before {
            std::thread::yield_now();
        }
        // SAFETY: the writer's faults are ignored until the page is back.
        unsafe { mprotect(page, 4096, ProtFlags::PROT_READ) }.context("mprotect")?;
        let stands = counter.load(Ordering::SeqCst);
        for _ in 0..1000 {
            std::hint::spin_loop();
        }
        let later = counter.load(Ordering::SeqCst);
        ensure!(
            later == stands,
            "round {round}: written {} times while read-only",
            later - stands
        );
        // SAFETY: as above.
        unsafe { mprotect(page, 4096, protection) }.context("mprotect")?;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().map_err(|_| "the writer died")?
}

/// A faulting store is tried again and again until it is allowed.
fn ignore_faults() -> Result<(), Failure> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn again(_signal: i32) {}
    let action = SigAction::new(
        SigHandler::Handler(again),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGSEGV, &action) }.context("sigaction")?;
    Ok(())
}
