//! Pure computing on demand: for each line on standard input the same amount of
//! work, which makes no system call, then a line that it is done. Who wants to
//! know what it cost asks the host for the processor time.

use std::hint::black_box;
use std::io::BufRead;
use std::process::ExitCode;

/// A second on a processor of 2020: the line and its answer cost nothing beside it.
const ROUNDS: u64 = 500_000_000;
/// Words of the table worked on: 1 MiB, more than the first-level caches and
/// the translations of a few pages hold.
const WORDS: usize = 1 << 17;

/// Works until the line `end` or the end of the input.
pub fn main() -> ExitCode {
    let mut table: Vec<u64> = (0..WORDS as u64).collect();
    // Every page is there before the first measurement.
    work(&mut table, WORDS as u64);
    println!("compute: ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line.trim() == "end" {
            break;
        }
        work(&mut table, ROUNDS);
        println!("compute: done");
    }
    ExitCode::SUCCESS
}

/// Integers, floating point, and memory in no order.
fn work(table: &mut [u64], rounds: u64) {
    let (mut state, mut sum) = (0x9e37_79b9_7f4a_7c15_u64, 1.0_f64);
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = &mut table[state as usize % WORDS];
        *word = word.wrapping_add(state);
        sum = sum * 0.999_999 + (*word as u32) as f64;
    }
    black_box(sum);
}
