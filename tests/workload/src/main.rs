//! `/init` of the guests that tests boot: one static program that needs nothing
//! else in the initial file system.
//!
//! As process 1 it mounts what programs expect, does what the kernel's command
//! line says ([`init`]) and ends the machine. Otherwise its first argument is
//! `checks` (see [`runner`]), `bench` (`bench`), `devices` ([`devices`]), `peer`
//! ([`devices::peer`]), `compute` ([`compute`]), `durable` ([`durable`]), `cost`
//! ([`cost`]) or one that a check runs itself with ([`process::child`]).

mod bench;
mod compat;
mod compute;
mod cost;
mod cpu;
mod devices;
mod durable;
mod faults;
mod fpu;
mod init;
mod memory;
mod modules;
mod process;
mod runner;
mod signals;
mod threads;
mod time;
mod trace;

use std::process::ExitCode;

/// Why a check did not hold.
type Failure = String;

/// Ends a check with a message unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// Names the operation that failed.
trait Context<T> {
    /// `what` is the operation.
    fn context(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("checks") => runner::main(&arguments[1..]),
        Some("bench") => bench::main(),
        Some("devices") => devices::main(&arguments[1..]),
        Some("peer") if arguments.len() == 2 => devices::peer::main(&arguments[1]),
        Some("compute") => compute::main(),
        Some("cost") => cost::main(&arguments[1..]),
        Some("durable") => durable::main(&arguments[1..]),
        Some("child") => process::child(&arguments[1..]),
        _ => {
            eprintln!(
                "Usage: workload checks [NAME...] | bench | compute | peer ADDRESS:PORT | durable ... |\n       \
                 cost NAME COMMAND... |\n       \
                 devices [disk=DEVICE] [nic=IF,ADDRESS/PREFIX,PEER:PORT] [peer=ADDRESS:PORT]"
            );
            ExitCode::from(2)
        }
    }
}
