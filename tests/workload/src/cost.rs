//! What a program costs, from its start to its end, by a clock that counts instructions: a line of a
//! benchmark's, as [`crate::bench`] prints them.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// `NAME PROGRAM ARGUMENT...`
pub fn main(arguments: &[String]) -> ExitCode {
    let [name, program, rest @ ..] = arguments else {
        eprintln!("Usage: workload cost NAME PROGRAM [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begun = Instant::now();
    let ended = command.status();
    let cost = begun.elapsed().as_nanos();
    match ended {
        Ok(status) if status.success() => {
            println!("bench: {name} {cost}");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            eprintln!("{command:?} ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("Cannot run {program}: {error}");
            ExitCode::FAILURE
        }
    }
}
