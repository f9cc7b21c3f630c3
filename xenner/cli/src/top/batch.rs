//! Output for scripts and files.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::lines::{Shown, lines};
use super::meter::{Meter, Row};
use super::table::{Table, sort};
use crate::cli::TopArgs;
use crate::rundir::Base;
use crate::status::{Failure, Status};
use crate::survey::survey;

/// A line of JSON.
#[derive(Serialize)]
struct Record<'a> {
    /// Seconds since 1970.
    time: f64,
    domains: &'a [Row],
}

/// Looks once for nothing, so that everything printed later has rates, then prints after each delay.
pub fn run(base: &Base, arguments: &TopArgs) -> Result<Status, Failure> {
    let mut meter = Meter::default();
    meter.measure(survey(base)?);
    let mut left = arguments.iterations;
    while left != Some(0) {
        thread::sleep(arguments.delay);
        let mut rows = meter.measure(survey(base)?);
        sort(&mut rows, arguments.sort, arguments.reverse);
        let text = match arguments.json {
            true => json(&rows)?,
            false => plain(&rows, arguments),
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                let message = format!("Cannot write the output: {error}");
                return Err(Failure::new(Status::Failed, message));
            }
        }
        left = left.map(|left| left - 1);
    }
    Ok(Status::Success)
}

fn json(rows: &[Row]) -> Result<String, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let record = Record {
        time: since.map_or(0.0, |since| since.as_secs_f64()),
        domains: rows,
    };
    let text = serde_json::to_string(&record);
    let text = text.map_err(|error| Failure::new(Status::Failed, error.to_string()))?;
    Ok(text + "\n")
}

/// The table, as wide as it is.
pub fn plain(rows: &[Row], arguments: &TopArgs) -> String {
    let table = Table::fit(rows, None);
    let head = table.head(arguments.sort);
    let head: Vec<_> = head.into_iter().map(|(title, _)| title).collect();
    let shown = Shown::of(arguments);
    let mut text = head.join(" ") + "\n";
    for line in lines(rows, &table, shown, &BTreeSet::new()) {
        text.push_str(line.text.trim_end());
        text.push('\n');
    }
    text
}
