//! The report: one line per check, `ok|FAIL|skip group.check: observed value`.
//!
//! The observed value is printed whether it is right or not, so that reports of two hypervisors can be compared even
//! where both pass or both fail.

use core::fmt::Display;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::println;

static OK: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Reports what was seen, right if it equals `want`.
pub fn eq<T: PartialEq + Display>(check: &str, seen: T, want: T) {
    if seen == want {
        OK.fetch_add(1, Relaxed);
        println!("ok {check}: {seen}");
    } else {
        FAILED.fetch_add(1, Relaxed);
        println!("FAIL {check}: {seen} (want {want})");
    }
}

/// Reports a condition.
pub fn yes(check: &str, holds: bool) {
    eq(check, holds, true);
}

/// Reports a value that is right by being the same as the reference's.
pub fn see(check: &str, seen: impl Display) {
    OK.fetch_add(1, Relaxed);
    println!("ok {check}: {seen}");
}

/// Reports a check that this host cannot run, and why.
pub fn skip(check: &str, why: &str) {
    SKIPPED.fetch_add(1, Relaxed);
    println!("skip {check}: {why}");
}

/// Prints the last line.
pub fn finish() {
    let (ok, failed, skipped) = (
        OK.load(Relaxed),
        FAILED.load(Relaxed),
        SKIPPED.load(Relaxed),
    );
    println!("report: {ok} ok, {failed} failed, {skipped} skipped");
}
