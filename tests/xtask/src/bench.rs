//! `cargo xtask bench`: five tables.
//!
//! What a guest's system calls cost, where nothing, Xen and xenner lie between
//! it and the machine: the clock counts instructions, so the figures repeat from
//! run to run, however busy the host. By the same clock, what a guest's disk and
//! network card cost, by who serves them ([`devices`]), what `xl` and `xt` cost on
//! a Xen host ([`toolstack`]), and the firmware of HVM domains ([`firmware`]). And what a guest costs on this machine's own KVM
//! ([`local`]).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use regex::bytes::Regex;
use xenner_rigs::packages::{self, Cache, Kernel, KernelFiles};
use xenner_rigs::qemu::{Clock, QemuSpec};
use xenner_rigs::{Domain, RigK, RigSpec, RigX, Shell, guest, rig_l, xenner};

use crate::HOST_PACKAGES;

mod devices;
mod firmware;
mod local;
mod toolstack;

/// A benchmark of minutes: one emulated CPU, each instruction counted.
const LIMIT: Duration = Duration::from_secs(1500);
const MEMORY_MIB: u32 = 256;

/// In the order of the table.
const OPERATIONS: [(&str, &str); 9] = [
    ("boot", "boot to /init"),
    ("getppid", "getppid"),
    ("read-zero", "read 1 byte of /dev/zero"),
    ("page-fault", "anonymous page fault"),
    ("mmap-touch-munmap", "mmap + touch + munmap"),
    ("signal-self", "signal to self"),
    ("pipe-ping-pong", "pipe ping-pong"),
    ("fork-exit-wait", "fork + exit + wait"),
    ("fork-exec-wait", "fork + exec + wait"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Place {
    /// The kernel alone on the machine
    Bare,
    /// A PV domain of Xen 4.17
    Xen,
    /// A PV guest of xenner on KVM
    Xenner,
}

/// The same kernel and program everywhere: one vCPU, 256 MiB, Debian's cloud
/// kernel. First instructions per operation, under emulation; then times and
/// sizes on this machine's KVM.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// System calls in these places only, and no disks and network cards
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PLACE")]
    places: Option<Vec<Place>>,
    /// Only disks and network cards, served by these
    #[arg(
        long, value_enum, value_delimiter = ',', num_args = 0.., value_name = "SERVER",
        conflicts_with = "places",
        default_missing_values = ["host", "xenner", "kernel", "qdisk", "virtio", "vhost"]
    )]
    devices: Option<Vec<devices::Server>>,
    /// For the command line of the guest with disks and network cards, e.g.
    /// xen_blkfront.max_indirect_segments=256
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Only `xl` and `xt` on a Xen host
    #[arg(long, conflicts_with_all = ["places", "devices"])]
    toolstack: bool,
    /// Only the firmware of HVM domains, Xen's and this project's
    #[arg(long, conflicts_with_all = ["places", "devices", "toolstack"])]
    firmware: bool,
    /// Only what is measured on this machine's own KVM
    #[arg(long, conflicts_with_all = ["places", "devices", "toolstack", "firmware"])]
    local: bool,
    /// Guests booted on this machine's KVM
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

type Figures = BTreeMap<String, u64>;

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let kernel = cache.kernel(Kernel::CLOUD)?;
    let results = Results::measure(arguments, &kernel)?;
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&results.json(&kernel.release))?
        );
    } else {
        print!("{}", results.tables(&kernel.release));
    }
    Ok(ExitCode::SUCCESS)
}

/// What has been measured; empty what has not been asked for.
struct Results {
    calls: Vec<(Place, Figures)>,
    devices: devices::Columns,
    toolstack: Option<Figures>,
    firmware: Option<Figures>,
    local: Option<Result<Vec<local::Row>, rig_l::Skipped>>,
}

impl Results {
    fn measure(arguments: &Arguments, kernel: &KernelFiles) -> Result<Self> {
        let (mut calls, mut columns) = (Vec::new(), Vec::new());
        // Which were asked for; none: all.
        let (places, devices) = (arguments.places.is_some(), arguments.devices.is_some());
        let (toolstack, firmware) = (arguments.toolstack, arguments.firmware);
        let local = arguments.local;
        let all = !(places || devices || toolstack || firmware || local);
        if !local {
            packages::install(HOST_PACKAGES)?;
        }
        if all || places {
            let places = arguments.places.as_deref();
            calls = measure(kernel, places.unwrap_or(Place::value_variants()))?;
        }
        if all || devices {
            let servers = arguments.devices.as_deref();
            let servers = servers.unwrap_or(devices::Server::value_variants());
            columns = devices::measure(kernel, servers, &arguments.append)?;
        }
        let toolstack = (all || toolstack).then(|| toolstack::measure(kernel));
        let firmware = (all || firmware).then(firmware::measure);
        // The figures of places have always come with those of this machine.
        let local = (all || places || local).then(|| local::measure(kernel, arguments.rounds));
        Ok(Self {
            calls,
            devices: columns,
            toolstack: toolstack.transpose()?,
            firmware: firmware.transpose()?,
            local: local.transpose()?,
        })
    }

    fn json(&self, release: &str) -> serde_json::Value {
        let places: BTreeMap<_, _> = self
            .calls
            .iter()
            .map(|(place, figures)| (format!("{place:?}").to_lowercase(), figures))
            .collect();
        serde_json::json!({
            "kernel": release,
            "unit": "instructions per operation",
            "places": places,
            "devices": devices::json(&self.devices),
            "toolstack": self.toolstack,
            "firmware": self.firmware,
            "local": self.local.as_ref().map(local::json),
        })
    }

    fn tables(&self, release: &str) -> String {
        let mut tables = Vec::new();
        if !self.calls.is_empty() {
            tables.push(table(release, &self.calls));
        }
        if !self.devices.is_empty() {
            tables.push(devices::table(release, &self.devices));
        }
        if let Some(figures) = &self.toolstack {
            tables.push(toolstack::table(release, figures));
        }
        if let Some(figures) = &self.firmware {
            tables.push(firmware::table(figures));
        }
        if let Some(local) = &self.local {
            tables.push(local::table(release, local));
        }
        tables.join("\n")
    }
}

fn measure(kernel: &KernelFiles, places: &[Place]) -> Result<Vec<(Place, Figures)>> {
    let mut columns = Vec::new();
    for &place in places {
        eprintln!("Measuring: {place:?}");
        let console = match place {
            Place::Bare => bare(kernel)?,
            Place::Xen => xen(kernel)?,
            Place::Xenner => on_xenner(kernel)?,
        };
        let figures = read(&console).with_context(|| format!("{place:?} said:\n{console}"))?;
        columns.push((place, figures));
    }
    Ok(columns)
}

fn spec() -> RigSpec {
    RigSpec::default().counting_instructions()
}

fn bare(kernel: &KernelFiles) -> Result<String> {
    let dir = tempfile::tempdir().context("Cannot create a temporary directory")?;
    let initrd = dir.path().join("initrd");
    guest::initramfs()?.write(&initrd)?;
    let mut machine = QemuSpec {
        cpu: "EPYC,-smap".into(),
        memory_mib: MEMORY_MIB,
        cpus: 1,
        clock: Clock::Instructions,
        kernel: kernel.image.clone(),
        append: "console=ttyS0 quiet tsc=reliable mitigations=off xenner.test=bench,poweroff"
            .into(),
        initrd: initrd.to_string_lossy().into_owned(),
        share: None,
        extra: Vec::new(),
    }
    .spawn()?;
    machine
        .console
        .expect(&Regex::new("bench: (done|.*failed)")?, LIMIT)?;
    Ok(machine.console.text())
}

/// Puts the guest's kernel and initial file system into a rig.
fn provide(shell: &Shell, kernel: &KernelFiles) -> Result<()> {
    shell.put(&kernel.image, "vmlinuz")?;
    guest::initramfs()?.write(&shell.share().join("initrd"))?;
    Ok(())
}

fn xen(kernel: &KernelFiles) -> Result<String> {
    let mut rig = RigX::boot(&spec())?;
    provide(&rig.shell, kernel)?;
    let domain = Domain::pv(
        "bench",
        "/share/vmlinuz",
        "/share/initrd",
        "console=hvc0 quiet mitigations=off xenner.test=bench,poweroff",
    );
    let ended = rig.run_domain(&domain, LIMIT)?;
    if ended.reason != Some(0) {
        bail!(
            "The domain did not power off: {}\n{}",
            ended.xl,
            ended.console
        );
    }
    Ok(ended.console)
}

fn on_xenner(kernel: &KernelFiles) -> Result<String> {
    let mut rig = RigK::boot(&spec().program(xenner::build()?, "/usr/bin/xenner"))?;
    provide(&rig.shell, kernel)?;
    let guest = xenner::Guest {
        kernel: "/tmp/vmlinuz".into(),
        initrd: "/tmp/initrd".into(),
        append: "console=hvc0 quiet mitigations=off xenner.test=bench,poweroff".into(),
        memory_mib: MEMORY_MIB,
        vcpus: 1,
    };
    // Off the shared directory: xenner's sandbox allows files by inode, and 9p
    // makes up a new one at each look.
    let command = format!(
        "cp /share/vmlinuz /share/initrd /tmp; {}",
        guest.command("xenner")
    );
    let output = rig.run(&command, LIMIT)?;
    Ok(output.text)
}

/// The lines `bench: NAME FIGURE`, up to `bench: done`.
fn read(console: &str) -> Result<Figures> {
    let lines = console
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("bench: "));
    let mut figures = Figures::new();
    for line in lines {
        if line == "done" {
            return Ok(figures);
        }
        let (name, figure) = line
            .split_once(' ')
            .context("A line of the benchmark has no figure")?;
        let figure = figure
            .parse()
            .with_context(|| format!("{name}: {figure:?} is no figure"))?;
        figures.insert(name.into(), figure);
    }
    bail!("The benchmark did not finish")
}

/// Each figure, and from the second column on its ratio to the first.
fn table(release: &str, columns: &[(Place, Figures)]) -> String {
    let mut lines = vec![format!("Instructions per operation, Linux {release}")];
    let mut head = format!("{:<30}", "");
    for (place, _) in columns {
        head += &format!("{:>24}", format!("{place:?}"));
    }
    lines.push(head);
    for (name, title) in OPERATIONS {
        let mut line = format!("{title:<30}");
        let first = columns.first().and_then(|(_, figures)| figures.get(name));
        for (index, (_, figures)) in columns.iter().enumerate() {
            let Some(&figure) = figures.get(name) else {
                line += &format!("{:>24}", "-");
                continue;
            };
            let ratio = first
                .filter(|_| index > 0)
                .map(|&first| figure as f64 / first as f64);
            let ratio = ratio.map_or_else(String::new, |r| format!("{r:.2}x"));
            line += &format!("{:>15}{ratio:>9}", grouped(figure));
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// 1234567 as "1 234 567".
fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_shown() {
        let console = "init: up\r\nbench: boot 1610000000\r\nbench: getppid 383\r\nbench: done\r\n[ 2.0] reboot\r\n";
        let bare = read(console).expect("figures");
        assert_eq!(bare["getppid"], 383);
        let twice = bare
            .iter()
            .map(|(name, figure)| (name.clone(), figure * 2))
            .collect();
        let table = table("6.1", &[(Place::Bare, bare), (Place::Xen, twice)]);
        assert!(
            table.contains("1 610 000 000") && table.contains("2.00x"),
            "{table}"
        );
    }

    #[test]
    fn a_benchmark_cut_short_is_an_error() {
        assert!(read("bench: getppid 383\npanic").is_err());
        assert!(read("bench: fork failed: x\nbench: done").is_err());
    }
}
