//! `top`, in the shape of `xentop -b`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::os::fd::AsFd;

use serde::Serialize;
use xt_host::{Host, HostInfo, Sample};

use crate::cli::TopArgs;
use crate::output::print;
use crate::status::{Failure, Status};

/// A domain between two looks.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    sample: Sample,
    /// Share of one processor.
    cpu_percent: f64,
    /// Share of the machine's memory.
    memory_percent: f64,
}

/// `top`
pub fn top(host: &dyn Host, arguments: &TopArgs) -> Result<Status, Failure> {
    let failed = |error: nix::errno::Errno| Failure::plain(format!("Cannot wait: {error}"));
    let stop: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    stop.thread_block().map_err(failed)?;
    let stop = SignalFd::new(&stop).map_err(failed)?;
    let info = host.info()?;
    let clear = !arguments.batch && std::io::stdout().is_terminal();
    let mut before: BTreeMap<(u16, String), u64> = BTreeMap::new();
    let mut last: Option<Instant> = None;
    let mut count = 0;
    loop {
        let at = Instant::now();
        let samples = host.samples()?;
        let elapsed = last.map(|last| at.duration_since(last));
        let rows = rows(samples, &before, elapsed, &info);
        print(&match arguments.json {
            true => json_line(&rows)?,
            false => {
                let home = if clear { "\x1b[H\x1b[2J" } else { "" };
                home.to_owned() + &table(&rows, arguments.full_name)
            }
        })?;
        count += 1;
        if arguments.iterations == Some(count) {
            return Ok(Status::Success);
        }
        let of = |row: &Row| (row.sample.domain.domid, row.sample.domain.name.clone());
        before = rows
            .iter()
            .map(|row| (of(row), row.sample.domain.cpu_time_ns))
            .collect();
        last = Some(at);
        let delay = Duration::from_secs_f64(arguments.delay);
        let patience = PollTimeout::try_from(delay).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, patience).map_err(failed)? > 0 {
            return Ok(Status::Success);
        }
    }
}

/// The first look has no rates.
fn rows(
    samples: Vec<Sample>,
    before: &BTreeMap<(u16, String), u64>,
    elapsed: Option<Duration>,
    info: &HostInfo,
) -> Vec<Row> {
    let row = |sample: Sample| {
        let domain = &sample.domain;
        let key = (domain.domid, domain.name.clone());
        let cpu_percent = match (before.get(&key), elapsed) {
            (Some(&then), Some(elapsed)) if !elapsed.is_zero() => {
                let used = domain.cpu_time_ns.saturating_sub(then) as f64;
                used / elapsed.as_nanos() as f64 * 100.0
            }
            _ => 0.0,
        };
        let memory_percent = domain.memory_kib as f64 / info.total_memory_kib.max(1) as f64 * 100.0;
        Row {
            sample,
            cpu_percent,
            memory_percent,
        }
    };
    samples.into_iter().map(row).collect()
}

fn json_line(rows: &[Row]) -> Result<String, Failure> {
    let line = serde_json::json!({ "domains": rows
        .iter()
        .map(|row| {
            let mut value = serde_json::json!(row);
            // What people look for first.
            value["name"] = row.sample.domain.name.clone().into();
            value["domid"] = row.sample.domain.domid.into();
            value
        })
        .collect::<Vec<_>>() });
    Ok(line.to_string() + "\n")
}

/// `xentop -b`'s columns.
fn table(rows: &[Row], full_name: bool) -> String {
    let mut text = "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k) VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID\n".to_owned();
    for row in rows {
        let Sample {
            domain,
            net_tx_bytes,
            net_rx_bytes,
            nets,
            disk_reads,
            disk_writes,
            disk_out_of_requests,
            disk_read_sectors,
            disk_write_sectors,
            disks,
            ..
        } = &row.sample;
        let name: String = match full_name {
            true => domain.name.clone(),
            false => domain.name.chars().take(10).collect(),
        };
        let state = domain.state;
        let letters: String = [
            (state.dying, 'd'),
            (state.shutdown.is_some(), 's'),
            (state.blocked, 'b'),
            (state.shutdown == Some(xt_host::ShutdownReason::Crash), 'c'),
            (state.paused, 'p'),
            (state.running, 'r'),
        ]
        .map(|(is, letter)| if is { letter } else { '-' })
        .iter()
        .collect();
        let (most, of_most) = match domain.domid {
            0 => ("no limit".to_owned(), "n/a".to_owned()),
            _ => (domain.max_memory_kib.to_string(), {
                let share = row.memory_percent * domain.max_memory_kib as f64
                    / domain.memory_kib.max(1) as f64;
                format!("{share:.1}")
            }),
        };
        let _ = writeln!(
            text,
            "{name:>10} {letters} {:>10} {:>6.1} {:>10} {:>6.1} {most:>10} {of_most:>9} {:>5} {nets:>4} {:>8} {:>8} {disks:>4} {disk_out_of_requests:>8} {disk_reads:>8} {disk_writes:>8} {disk_read_sectors:>10} {disk_write_sectors:>10} {:>4}",
            domain.cpu_time_ns / 1_000_000_000,
            row.cpu_percent,
            domain.memory_kib,
            row.memory_percent,
            domain.vcpus_online,
            net_tx_bytes / 1024,
            net_rx_bytes / 1024,
            0,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::domains;

    #[test]
    fn rows_have_xentops_columns() {
        let sample = Sample {
            domain: domains().remove(1),
            vcpus: vec![(0, 1)],
            net_tx_bytes: 2048,
            net_rx_bytes: 0,
            nets: 1,
            disk_reads: 5,
            disk_writes: 6,
            disk_out_of_requests: 0,
            disk_read_sectors: 7,
            disk_write_sectors: 8,
            disks: 1,
        };
        let row = Row {
            sample,
            cpu_percent: 12.34,
            memory_percent: 6.25,
        };
        let text = table(&[row], false);
        let (heading, line) = text.split_once('\n').unwrap();
        assert_eq!(
            heading.split_whitespace().count(),
            line.split_whitespace().count()
        );
        assert!(
            line.starts_with("         g --b---         32   12.3     196608    6.2"),
            "{line}"
        );
        assert_eq!(heading.len(), line.trim_end().len());
    }
}
