//! `xenner top`: what all domains do, as they do it.
//!
//! A [`crate::survey`] looks at the domains, a `meter` makes rates of two looks, and `lines` makes text
//! of them, which a [`screen`] shows until the user has enough, or `batch` prints.

mod app;
mod batch;
mod lines;
mod meter;
pub mod screen;
mod table;

use std::io::IsTerminal;
use std::time::Duration;

use crate::cli::TopArgs;
use crate::rundir::Base;
use crate::status::{Failure, Status};

pub use table::SortKey;

/// The most and the least time between two looks.
const DELAYS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// Reads a delay in seconds.
pub fn parse_delay(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    match seconds.filter(|seconds| DELAYS.contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err(format!(
            "\"{text}\" is no delay; use seconds, {} to {}",
            DELAYS.start(),
            DELAYS.end()
        )),
    }
}

/// Shows or prints what domains do.
pub fn run(base: Base, arguments: &TopArgs) -> Result<Status, Failure> {
    if arguments.batch {
        return batch::run(&base, arguments);
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let message = "top needs a terminal; without one use top --batch";
        return Err(Failure::new(Status::Console, message));
    }
    screen::run(base, arguments)
}

#[cfg(test)]
mod fabricated;
#[cfg(test)]
mod tests;
