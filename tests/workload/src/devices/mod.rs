//! What a disk and a network card cost, in nanoseconds of CLOCK_MONOTONIC per
//! operation, as in [`crate::bench`]. Of several batches the least counts: the
//! first meet cold caches, page pools and congestion windows.

mod aio;
mod disk;
mod nic;
pub mod peer;

use std::process::ExitCode;
use std::time::Instant;

use crate::Failure;

const BATCHES: u32 = 5;

/// Measures what the arguments name: `disk=DEVICE`, `nic=IF,ADDRESS/PREFIX,PEER`
/// and `peer=ADDRESS:PORT`, which needs no card set up. Each line is
/// `bench: NAME NANOSECONDS`.
pub fn main(arguments: &[String]) -> ExitCode {
    for argument in arguments {
        let measured = match argument.split_once('=') {
            Some(("disk", device)) => disk::measure(device),
            Some(("nic", card)) => nic::measure(card),
            Some(("peer", address)) => nic::measure_peer(address),
            _ => Err("neither disk=, nic= nor peer=".into()),
        };
        if let Err(error) = measured {
            println!("bench: {argument} failed: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!("bench: done");
    ExitCode::SUCCESS
}

/// The least time of an operation, of several batches of `count` operations.
fn least(
    name: &str,
    count: u32,
    mut batch: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut least = u128::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        batch()?;
        least = least.min(start.elapsed().as_nanos());
    }
    println!("bench: {name} {}", least / u128::from(count));
    Ok(())
}
