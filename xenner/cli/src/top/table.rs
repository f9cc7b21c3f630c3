//! The table's columns, and what it is sorted by.

use clap::ValueEnum;
use pv_stats::text;

use super::meter::Row;
use crate::crash::printable;
use crate::machine::RunState;

/// What domains are sorted by: the greatest first, but names from A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// Its name
    Name,
    /// What it does
    State,
    /// Processor use
    #[default]
    Cpu,
    /// vCPUs that are up
    Vcpus,
    /// Memory
    Memory,
    /// Exits to the host
    Exits,
    /// Hypercalls
    Hypercalls,
    /// What its network cards receive
    Rx,
    /// What they send
    Tx,
    /// What it reads of its disks
    Read,
    /// What it writes
    Write,
    /// How long reads take, at p99
    ReadLatency,
    /// How long writes take, at p99
    WriteLatency,
}

impl SortKey {
    /// The key that many columns further right, or left.
    pub fn step(self, by: isize) -> SortKey {
        let all = SortKey::value_variants();
        let at = all.iter().position(|key| *key == self).unwrap_or(0);
        let at = at.wrapping_add_signed(by + all.len() as isize) % all.len();
        all[at]
    }

    fn value(self, row: &Row) -> Option<f64> {
        match self {
            SortKey::Name => None,
            SortKey::State => row.state.map(|state| match state {
                RunState::Running => 4.0,
                RunState::Blocked => 3.0,
                RunState::Paused => 2.0,
                RunState::Shutdown => 1.0,
                RunState::Crashed => 0.0,
            }),
            SortKey::Cpu => row.cpu_percent,
            SortKey::Vcpus => Some(row.online() as f64),
            SortKey::Memory => Some(row.memory_mib as f64),
            SortKey::Exits => row.exits,
            SortKey::Hypercalls => row.hypercalls,
            SortKey::Rx => row.net_rx_bytes,
            SortKey::Tx => row.net_tx_bytes,
            SortKey::Read => row.disk_read_bytes,
            SortKey::Write => row.disk_write_bytes,
            SortKey::ReadLatency => row.read_latency_ns.map(|latency| latency.p99 as f64),
            SortKey::WriteLatency => row.write_latency_ns.map(|latency| latency.p99 as f64),
        }
    }
}

/// Sorts by `key`, what is unknown last, and the same by name.
pub fn sort(rows: &mut [Row], key: SortKey, reverse: bool) {
    let value = |row: &Row| key.value(row).unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| {
        let order = value(b).total_cmp(&value(a));
        order.then_with(|| a.name.cmp(&b.name))
    });
    if reverse {
        rows.reverse();
    }
}

/// A column.
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// What sorting by it means, if that can be.
    pub key: Option<SortKey>,
    /// How wide it is at least.
    width: usize,
    /// Where there is too little room, those of the highest rank go first.
    rank: u8,
    cell: fn(&Row) -> String,
}

const fn column(
    title: &'static str,
    key: Option<SortKey>,
    width: usize,
    rank: u8,
    cell: fn(&Row) -> String,
) -> Column {
    Column {
        title,
        key,
        width,
        rank,
        cell,
    }
}

/// All columns. The first is aligned to the left.
const COLUMNS: [Column; 15] = [
    column("NAME", Some(SortKey::Name), 12, 0, |row| {
        printable(&row.name)
    }),
    column("STATE", Some(SortKey::State), 6, 1, |row| {
        row.state.map_or("------", RunState::letters).into()
    }),
    column("CPU(s)", None, 8, 10, |row| {
        format!("{:.1}", row.cpu_seconds)
    }),
    column("CPU%", Some(SortKey::Cpu), 6, 0, |row| {
        percent(row.cpu_percent)
    }),
    column("VCPU", Some(SortKey::Vcpus), 4, 8, |row| {
        row.online().to_string()
    }),
    column("MEM(M)", Some(SortKey::Memory), 6, 4, |row| {
        row.memory_mib.to_string()
    }),
    column("EXIT/s", Some(SortKey::Exits), 6, 6, |row| count(row.exits)),
    column("HCALL/s", Some(SortKey::Hypercalls), 7, 7, |row| {
        count(row.hypercalls)
    }),
    column("RX/s", Some(SortKey::Rx), 6, 2, |row| {
        bytes(row.net_rx_bytes)
    }),
    column("TX/s", Some(SortKey::Tx), 6, 2, |row| {
        bytes(row.net_tx_bytes)
    }),
    column("READ/s", Some(SortKey::Read), 6, 2, |row| {
        bytes(row.disk_read_bytes)
    }),
    column("WRITE/s", Some(SortKey::Write), 7, 2, |row| {
        bytes(row.disk_write_bytes)
    }),
    column("RDp99", Some(SortKey::ReadLatency), 6, 3, |row| {
        time(row.read_latency_ns.map(|latency| latency.p99))
    }),
    column("WRp99", Some(SortKey::WriteLatency), 6, 3, |row| {
        time(row.write_latency_ns.map(|latency| latency.p99))
    }),
    column("CPU TREND", None, 10, 9, |row| spark(&row.trend, 10)),
];

const UNKNOWN: &str = "-";

/// A share in hundredths.
pub fn percent(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.into(), |value| format!("{value:.1}"))
}

/// A number of things.
pub fn count(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.into(), text::count)
}

/// A number of bytes.
pub fn bytes(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.into(), text::short_bytes)
}

/// A time in nanoseconds.
pub fn time(value: Option<u64>) -> String {
    value.map_or(UNKNOWN.into(), text::short_time)
}

/// The last `width` values as bars. The highest bar stands for the greatest of all values, or for 100
/// if that is more.
pub fn spark(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(width)..];
    let top = values.iter().copied().fold(100.0, f64::max);
    let bar = |value: &f64| {
        let height = value / top * (BARS.len() - 1) as f64;
        BARS[(height.round().max(0.0) as usize).min(BARS.len() - 1)]
    };
    values.iter().map(bar).collect()
}

/// A table's shape: columns, and how wide each is.
pub struct Table {
    columns: Vec<(&'static Column, usize)>,
}

impl Table {
    /// The columns for `rows`, as many as there is room for.
    pub fn fit(rows: &[Row], room: Option<usize>) -> Table {
        let cells = |column: &Column| {
            rows.iter()
                .map(|row| (column.cell)(row).chars().count())
                .max()
        };
        let mut columns: Vec<_> = COLUMNS
            .iter()
            .map(|column| {
                let cells = cells(column).unwrap_or(0);
                (column, cells.max(column.width).max(column.title.len()))
            })
            .collect();
        let wide = |columns: &[(&Column, usize)]| -> usize {
            columns.iter().map(|(_, width)| width + 1).sum()
        };
        while room.is_some_and(|room| wide(&columns) > room + 1) {
            let ranks = columns.iter().map(|(column, _)| column.rank);
            let Some(last) = ranks.max().filter(|rank| *rank > 0) else {
                break;
            };
            columns.retain(|(column, _)| column.rank != last);
        }
        Table { columns }
    }

    /// The titles, each with whether `key` is its key.
    pub fn head(&self, key: SortKey) -> Vec<(String, bool)> {
        let titles = self.columns.iter().enumerate();
        let title = |(at, (column, width)): (usize, &(&Column, usize))| {
            let text = aligned(at, column.title, *width);
            (text, column.key == Some(key))
        };
        titles.map(title).collect()
    }

    /// A domain's line.
    pub fn line(&self, row: &Row) -> String {
        let cells = self.columns.iter().enumerate();
        let cells = cells.map(|(at, (column, width))| aligned(at, &(column.cell)(row), *width));
        cells.collect::<Vec<_>>().join(" ")
    }
}

/// Names to the left, numbers to the right.
fn aligned(column: usize, text: &str, width: usize) -> String {
    match column {
        0 => format!("{text:<width$}"),
        _ => format!("{text:>width$}"),
    }
}
