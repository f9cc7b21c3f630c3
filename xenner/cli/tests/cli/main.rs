//! The program as its users meet it: run as a process of its own, on a terminal of its own, with a
//! fake machine behind it.
//!
//! This binary is both the tests and, called with `--fake-xenner` first, the program under test.

mod fake;
mod rig;
mod running;
mod sandbox;
mod statistics;
mod terminal;
mod usage;

use std::ffi::OsStr;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    match std::env::args_os().nth(1) {
        Some(first) if first == OsStr::new(rig::FAKE) => {
            let arguments = name.into_iter().chain(arguments.skip(1));
            return xenner::program::main(arguments, &fake::FakeLauncher);
        }
        Some(first) if first == OsStr::new(sandbox::PROBE) => return sandbox::probe(),
        Some(first) if first == OsStr::new(statistics::PANIC) => {
            return statistics::panic_on_screen();
        }
        _ => {}
    }
    let suites = [
        ("usage", usage::TESTS),
        ("running", running::TESTS),
        ("terminal", terminal::TESTS),
        ("sandbox", sandbox::TESTS),
        ("statistics", statistics::TESTS),
    ];
    let trials = suites
        .into_iter()
        .flat_map(|(suite, tests)| tests.iter().map(move |&(name, test)| (suite, name, test)))
        .map(|(suite, name, test)| {
            Trial::test(format!("{suite}::{name}"), move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
