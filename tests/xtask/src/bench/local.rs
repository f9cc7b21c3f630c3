//! What a guest costs on this machine's own KVM.
//!
//! Each round boots a guest that computes when a line is typed and waits
//! otherwise. Times depend on what else the machine does, so each row has its
//! least, middle and greatest figure; where it can be, processor time is
//! compared and not the clock's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use xenner_rigs::guest;
use xenner_rigs::packages::KernelFiles;
use xenner_rigs::rig_l::{self, Skipped};
use xenner_rigs::xenner::{self, Guest};

use super::MEMORY_MIB;

/// Pairs of measurements in the guest and on the host, one after the other.
const COMPUTED: usize = 3;
/// For how long the guest is left alone.
const IDLE: Duration = Duration::from_secs(5);

/// A guest whose building takes time: so many tables.
const LARGE_MIB: u32 = 16 << 10;

/// What the issue of the speed asks for.
#[derive(Clone, Copy, Debug)]
enum Aim {
    Below(f64),
    AtLeast(f64),
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    name: &'static str,
    unit: &'static str,
    aim: Aim,
    figures: Vec<f64>,
}

impl Row {
    fn new(name: &'static str, unit: &'static str, aim: Aim) -> Self {
        Self {
            name,
            unit,
            aim,
            figures: Vec::new(),
        }
    }

    /// The least, the middle and the greatest figure.
    fn spread(&self) -> [f64; 3] {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        [
            at(0),
            at(sorted.len() / 2),
            at(sorted.len().saturating_sub(1)),
        ]
    }

    fn is_met(&self) -> bool {
        let [_, median, _] = self.spread();
        match self.aim {
            Aim::Below(limit) => median < limit,
            Aim::AtLeast(limit) => median >= limit,
        }
    }
}

/// Boots `rounds` guests; why not, where there is no KVM.
pub fn measure(kernel: &KernelFiles, rounds: u32) -> Result<Result<Vec<Row>, Skipped>> {
    if let Err(skipped) = rig_l::detect() {
        return Ok(Err(skipped));
    }
    let program = xenner::build()?;
    let dir = tempfile::tempdir().context("Cannot create a temporary directory")?;
    let initrd = dir.path().join("initrd");
    guest::initramfs()?.write(&initrd)?;
    let spec = Guest {
        kernel: kernel.image.to_string_lossy().into_owned(),
        initrd: initrd.to_string_lossy().into_owned(),
        append: "console=hvc0 quiet xenner.test=compute,poweroff".into(),
        memory_mib: MEMORY_MIB,
        vcpus: 1,
    };
    // The decompressed kernel is in the cache after the first.
    eprintln!("Measuring: on this machine's KVM, one guest for the cache");
    Running::boot(&program, dir.path(), &spec)?.end()?;
    let mut rows = rows();
    for round in 1..=rounds {
        eprintln!("Measuring: on this machine's KVM, round {round} of {rounds}");
        once(&program, dir.path(), &spec, &mut rows)?;
    }
    Ok(Ok(rows.into()))
}

fn rows() -> [Row; 7] {
    [
        Row::new(
            "start, exec to the guest's first instruction",
            "ms",
            Aim::Below(50.0),
        ),
        Row::new("  of that, the process's CPU time", "ms", Aim::Below(50.0)),
        Row::new(
            "  CPU time more for a guest of 16 GiB",
            "ms",
            Aim::Below(100.0),
        ),
        Row::new("boot to /init, from exec", "s", Aim::Below(15.0)),
        Row::new(
            "computing, the host's CPU time to the guest's",
            "",
            Aim::AtLeast(0.97),
        ),
        Row::new("xenner's own resident memory", "MB", Aim::Below(10.0)),
        Row::new("CPU of an idle guest", "%", Aim::Below(1.0)),
    ]
}

/// One guest, and a figure for each row.
fn once(program: &Path, dir: &Path, spec: &Guest, rows: &mut [Row; 7]) -> Result<()> {
    let [start, work, large, boot, computing, memory, idle] = rows;
    let mut guest = Running::boot(program, dir, spec)?;
    let (entered, work_time) = guest.entered()?;
    start
        .figures
        .push(millis(entered.saturating_sub(guest.started)));
    work.figures.push(millis(work_time));
    boot.figures.push(guest.booted.as_secs_f64());
    computing.figures.push(compare(&mut guest)?);
    memory.figures.push(guest.resident()? as f64 / 1e6);
    let (cpu, clock) = (guest.cpu_time()?, Instant::now());
    // The passing of time is what is measured.
    std::thread::sleep(IDLE);
    let used = guest.cpu_time()?.saturating_sub(cpu);
    idle.figures
        .push(100.0 * used.as_secs_f64() / clock.elapsed().as_secs_f64());
    guest.end()?;
    let spec = Guest {
        memory_mib: LARGE_MIB,
        ..spec.clone()
    };
    let guest = Running::boot(program, dir, &spec)?;
    let (_, more) = guest.entered()?;
    large.figures.push(millis(more) - millis(work_time));
    guest.end()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle ratio of pairs taken in turn, so that a change of the processor's
/// speed meets both.
fn compare(inside: &mut Running) -> Result<f64> {
    let mut outside = Computer::start(Command::new(guest::workload()).arg("compute"))?;
    outside.expect("compute: ready")?;
    let pid = outside.pid();
    let mut ratios = Row::new("", "", Aim::AtLeast(0.0));
    for _ in 0..COMPUTED {
        let host = outside.compute(&|| cpu_time(pid))?;
        let domain = inside.domain;
        let guest = inside.front.compute(&|| cpu_time(domain))?;
        ratios
            .figures
            .push(host.as_secs_f64() / guest.as_secs_f64());
    }
    outside.end()?;
    let [_, median, _] = ratios.spread();
    Ok(median)
}

/// The processor time a process has used.
fn cpu_time(pid: Pid) -> Result<Duration> {
    let clock = clock_getcpuclockid(pid).context("Cannot read a process's clock")?;
    Ok(clock_gettime(clock)
        .context("Cannot read a process's clock")?
        .into())
}

fn monotonic() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)
        .context("Cannot read the clock")?
        .into())
}

/// A process that computes when told to by a line.
struct Computer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Computer {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .with_context(|| format!("Cannot run {command:?}"))?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self {
                process,
                input,
                output: BufReader::new(output),
            }),
            _ => bail!("{command:?} has no standard input and output"),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Reads on until a line that ends in `wanted`.
    fn expect(&mut self, wanted: &str) -> Result<()> {
        let mut seen = String::new();
        loop {
            let from = seen.len();
            if self
                .output
                .read_line(&mut seen)
                .context("Cannot read the console")?
                == 0
            {
                bail!("{wanted:?} never came, but:\n{seen}");
            }
            if seen[from..].trim_end().ends_with(wanted) {
                return Ok(());
            }
        }
    }

    /// What computing costs, by `clock`.
    fn compute(&mut self, clock: &dyn Fn() -> Result<Duration>) -> Result<Duration> {
        let before = clock()?;
        self.input.write_all(b"go\n").context("Cannot write")?;
        self.expect("compute: done")?;
        Ok(clock()?.saturating_sub(before))
    }

    fn end(mut self) -> Result<()> {
        self.input.write_all(b"end\n").context("Cannot write")?;
        let mut rest = Vec::new();
        std::io::copy(&mut self.output, &mut rest).context("Cannot read the console")?;
        let status = self.process.wait().context("Cannot wait for a process")?;
        if !status.success() {
            bail!(
                "It ended with {status}:\n{}",
                String::from_utf8_lossy(&rest)
            );
        }
        Ok(())
    }
}

impl Drop for Computer {
    /// What went wrong leaves nothing behind; one that has ended is not harmed.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A guest that waits for lines.
struct Running<'a> {
    /// `xenner run` in the foreground.
    front: Computer,
    program: &'a Path,
    dir: &'a Path,
    /// The domain's own process.
    domain: Pid,
    /// When `xenner run` was started, by CLOCK_MONOTONIC.
    started: Duration,
    booted: Duration,
}

const NAME: &str = "bench";

impl<'a> Running<'a> {
    fn boot(program: &'a Path, dir: &'a Path, spec: &Guest) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg("--run-dir")
            .arg(dir)
            .args(spec.arguments())
            .args(["--name", NAME]);
        let started = monotonic()?;
        let mut front = Computer::start(&mut command)?;
        front.expect("init: up")?;
        let booted = monotonic()?.saturating_sub(started);
        front.expect("compute: ready")?;
        let pid = fs::read_to_string(dir.join(NAME).join("pid"))
            .context("Cannot read the domain's pid")?;
        Ok(Self {
            front,
            program,
            dir,
            domain: Pid::from_raw(
                pid.trim()
                    .parse()
                    .context("The domain's pid is no number")?,
            ),
            started,
            booted,
        })
    }

    /// When the guest was entered, by CLOCK_MONOTONIC, and what processor time
    /// that had taken.
    fn entered(&self) -> Result<(Duration, Duration)> {
        let output = Command::new(self.program)
            .arg("--run-dir")
            .arg(self.dir)
            .args(["stats", "--json", NAME])
            .output()
            .context("Cannot run xenner stats")?;
        let stats: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("xenner stats prints no JSON")?;
        let counter = |name: &str| {
            let value = stats["counters"][name].as_u64().map(Duration::from_nanos);
            value.with_context(|| format!("xenner stats has no {name}"))
        };
        Ok((
            counter("start.entered_monotonic_ns")?,
            counter("start.cpu_ns")?,
        ))
    }

    fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.domain)
    }

    /// Bytes of the domain's process in memory, without the guest's.
    fn resident(&self) -> Result<u64> {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.domain))
            .context("Cannot read a process's memory map")?;
        resident(&maps, MEMORY_MIB.into())
    }

    fn end(self) -> Result<()> {
        self.front.end()
    }
}

/// The resident bytes in an smaps listing, without the one mapping that can
/// hold a guest of `guest_mib`.
fn resident(maps: &str, guest_mib: u64) -> Result<u64> {
    let (mut own, mut guests, mut size) = (0, 0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (field, number) = (words.next(), words.next());
        let kib: u64 = number.and_then(|word| word.parse().ok()).unwrap_or(0);
        match field {
            Some("Size:") => size = kib,
            Some("Rss:") if size >= guest_mib * 1024 => guests += 1,
            Some("Rss:") => own += kib * 1024,
            _ => {}
        }
    }
    if guests != 1 || own == 0 {
        bail!("{guests} mappings are large enough for the guest's memory");
    }
    Ok(own)
}

/// The table, or why there is none.
pub fn table(release: &str, rows: &Result<Vec<Row>, Skipped>) -> String {
    let rows = match rows {
        Ok(rows) => rows,
        Err(skipped) => return format!("On this machine's KVM: {skipped}\n"),
    };
    let mut text = format!("On this machine's KVM, Linux {release}, 1 vCPU, {MEMORY_MIB} MiB\n");
    text += &format!(
        "{:<50}{:>10}{:>10}{:>10}{:>12}\n",
        "", "least", "middle", "most", "aim"
    );
    for row in rows {
        let title = if row.unit.is_empty() {
            row.name.to_owned()
        } else {
            format!("{}, {}", row.name, row.unit)
        };
        let [least, middle, most] = row.spread();
        let aim = match row.aim {
            Aim::Below(limit) => format!("< {limit}"),
            Aim::AtLeast(limit) => format!(">= {limit}"),
        };
        let verdict = if row.is_met() { "" } else { "  missed" };
        text += &format!("{title:<50}{least:>10.3}{middle:>10.3}{most:>10.3}{aim:>12}{verdict}\n");
    }
    text
}

/// The same for programs.
pub fn json(rows: &Result<Vec<Row>, Skipped>) -> serde_json::Value {
    let row = |row: &Row| {
        let (below, at_least) = match row.aim {
            Aim::Below(limit) => (Some(limit), None),
            Aim::AtLeast(limit) => (None, Some(limit)),
        };
        serde_json::json!({
            "name": row.name, "unit": row.unit, "figures": row.figures,
            "below": below, "at_least": at_least, "met": row.is_met(),
        })
    };
    match rows {
        Ok(rows) => rows.iter().map(row).collect(),
        Err(skipped) => serde_json::json!({ "skipped": skipped.0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_not_xenners() {
        let maps = "1000-2000 r-xp\nSize:   4 kB\nRss:  3 kB\nPss: 1 kB\n\
                    2000-9000 rw-p\nSize:  262144 kB\nRss: 100000 kB\n\
                    a000-b000 rw-p\nSize:   8 kB\nRss:  7 kB\n";
        assert_eq!(resident(maps, 256).expect("a figure"), 10 * 1024);
        assert!(resident(maps, 512).is_err(), "no guest there");
    }

    #[test]
    fn the_middle_figure_is_held_against_the_aim() {
        let mut row = Row::new("start", "ms", Aim::Below(50.0));
        row.figures = vec![70.0, 40.0, 45.0];
        assert_eq!(row.spread(), [40.0, 45.0, 70.0]);
        assert!(row.is_met());
        row.aim = Aim::AtLeast(46.0);
        assert!(table("6.1", &Ok(vec![row])).contains("missed"));
        let skipped = table("6.1", &Err(Skipped("no /dev/kvm".into())));
        assert!(skipped.contains("skipped: no /dev/kvm"));
    }
}
