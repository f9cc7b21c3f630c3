//! Clocks and timers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::runner::Check;
use crate::{Context, Failure, checks, cpu, ensure};

pub const CHECKS: &[Check] = checks![
    monotonic_never_back,
    monotonic_across_cpus,
    sleeps_long_enough,
    clocks_agree,
    interval_timer,
    timer_descriptor,
    timer_ticks_while_busy,
];

/// How late a wakeup may come: emulators and busy hosts are slow, but a lost
/// timer is far later.
const SLACK: Duration = Duration::from_secs(5);

fn monotonic_never_back() -> Result<(), Failure> {
    let mut last = Instant::now();
    for _ in 0..20_000 {
        let now = Instant::now();
        ensure!(now >= last, "it went back by {:?}", last - now);
        last = now;
    }
    Ok(())
}

/// One thread goes round the CPUs: no CPU's clock may be behind another's.
fn monotonic_across_cpus() -> Result<(), Failure> {
    let cpus = cpu::online()?;
    let mut last = Instant::now();
    for _ in 0..30 {
        for &cpu in &cpus {
            cpu::move_to(cpu)?;
            let now = Instant::now();
            ensure!(now >= last, "CPU {cpu} is behind by {:?}", last - now);
            last = now;
        }
    }
    Ok(())
}

fn sleeps_long_enough() -> Result<(), Failure> {
    for millis in [1, 5, 20, 100] {
        let wanted = Duration::from_millis(millis);
        let start = Instant::now();
        std::thread::sleep(wanted);
        let slept = start.elapsed();
        ensure!(slept >= wanted, "slept {slept:?} of {wanted:?}");
        ensure!(
            slept < wanted + SLACK,
            "slept {slept:?} instead of {wanted:?}"
        );
    }
    Ok(())
}

fn clocks_agree() -> Result<(), Failure> {
    // The wall clock between two looks at the other, whatever time passes between those.
    let look = || (Instant::now(), SystemTime::now(), Instant::now());
    let first = look();
    std::thread::sleep(Duration::from_millis(200));
    let last = look();
    let wall = last.1.duration_since(first.1);
    let wall = wall.context("the wall clock went back")?;
    let (least, most) = (last.0 - first.2, last.2 - first.0);
    let slack = Duration::from_millis(100);
    ensure!(
        wall + slack > least && wall < most + slack,
        "in {least:?} to {most:?} the wall clock went {wall:?}"
    );
    Ok(())
}

static ALARMS: AtomicU32 = AtomicU32::new(0);

extern "C" fn alarm(_signal: i32) {
    ALARMS.fetch_add(1, Ordering::SeqCst);
}

fn start_alarms(period: Duration) -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::Handler(alarm),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGALRM, &action) }.context("sigaction")?;
    let period = libc::timeval {
        tv_sec: 0,
        tv_usec: period.subsec_micros().into(),
    };
    let timer = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: the kernel reads the structure.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    ensure!(set == 0, "setitimer: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Sleeping between the ticks: each has to wake an idle CPU.
fn interval_timer() -> Result<(), Failure> {
    let start = Instant::now();
    start_alarms(Duration::from_millis(10))?;
    while ALARMS.load(Ordering::SeqCst) < 10 {
        ensure!(
            start.elapsed() < SLACK,
            "{} alarms in {SLACK:?}",
            ALARMS.load(Ordering::SeqCst)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let taken = start.elapsed();
    ensure!(
        taken >= Duration::from_millis(99),
        "10 ticks of 10 ms in {taken:?}"
    );
    Ok(())
}

/// Never entering the kernel between the ticks: each has to interrupt.
fn timer_ticks_while_busy() -> Result<(), Failure> {
    start_alarms(Duration::from_millis(10))?;
    let start = Instant::now();
    while ALARMS.load(Ordering::Relaxed) < 10 {
        // Reading the clock may be a system call, so mostly spin.
        for _ in 0..10_000 {
            std::hint::spin_loop();
        }
        ensure!(
            start.elapsed() < SLACK,
            "{} alarms in {SLACK:?}",
            ALARMS.load(Ordering::SeqCst)
        );
    }
    Ok(())
}

fn timer_descriptor() -> Result<(), Failure> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty()).context("timerfd")?;
    let period = TimeSpec::from(Duration::from_millis(20));
    timer
        .set(Expiration::Interval(period), TimerSetTimeFlags::empty())
        .context("timerfd_settime")?;
    let start = Instant::now();
    for _ in 0..5 {
        timer.wait().context("wait")?;
    }
    let taken = start.elapsed();
    ensure!(taken < SLACK, "5 ticks of 20 ms in {taken:?}");
    Ok(())
}
