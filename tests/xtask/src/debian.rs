//! `cargo xtask debian`: a Debian system on a PV disk, with a PV network card.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use pv_stats::{DeviceStats, HistogramSnapshot};
use xenner_rigs::debian::System;
use xenner_rigs::packages::{self, Cache};
use xenner_rigs::{rig_l, xenner};

use crate::boot::here;

/// What user-mode networking is done by.
const PASST: &str = "passt";

/// The system is built once, in a minute, from this machine's own package sources. The guest works
/// on a copy of it, which goes with the guest unless --disk names a place. Log in as root, without
/// a password; poweroff ends it. Meanwhile `xenner stats debian`, `xenner top`, `xenner
/// block-attach debian FILE` work from another terminal, and at the end the counters of its devices
/// are shown.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Keep the disk in this file, or use the one that is there
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// The network card (see xenner help network-attach), or none
    #[arg(long, default_value = "user")]
    nic: String,
    /// Memory in MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Number of vCPUs
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// More words for the kernel's command line
    #[arg(long, default_value = "quiet")]
    append: String,
}

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if let Err(reason) = rig_l::detect() {
        bail!(
            "{reason}. A whole Debian system takes too long on an emulated machine; ./x boot works \
             without KVM"
        );
    }
    if arguments.nic == "user" {
        packages::install(&[PASST])?;
    }
    let program = xenner::build()?;
    let system = System::of_this_release(&Cache::open()?)?;
    let dir = tempfile::Builder::new()
        .prefix("xenner-debian")
        .tempdir()
        .context("Cannot create a temporary directory")?;
    let disk = match &arguments.disk {
        Some(path) => path.clone(),
        None => dir.path().join("root.img"),
    };
    if !disk.exists() {
        system.copy_disk(&disk)?;
    }
    let report = dir.path().join("report.json");
    let status = here(&program, &command(arguments, &system, &disk, &report))?;
    show_counters(&report)?;
    Ok(status)
}

fn command(arguments: &Arguments, system: &System, disk: &Path, report: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut command = vec![
        "run".into(),
        "--name=debian".into(),
        format!("--kernel={}", text(&system.kernel)),
        format!("--initrd={}", text(&system.initrd)),
        format!("--memory={}M", arguments.memory),
        format!("--vcpus={}", arguments.vcpus),
        format!("--append=root=/dev/xvda console=hvc0 {}", arguments.append),
        format!("--disk=format=raw,vdev=xvda,target={}", text(disk)),
        format!("--report={}", text(report)),
    ];
    if arguments.nic != "none" {
        command.push(format!("--nic={}", arguments.nic));
    }
    command
}

/// Prints what the devices did, all queues of each together.
fn show_counters(report: &Path) -> Result<()> {
    let Ok(text) = std::fs::read(report) else {
        // The domain goes on, or never began.
        return Ok(());
    };
    let mut report: serde_json::Value = serde_json::from_slice(&text)?;
    let devices = report["stats"]["devices"].take();
    if devices.is_null() {
        // It was lost, and has said so.
        return Ok(());
    }
    let devices: Vec<DeviceStats> = serde_json::from_value(devices)
        .context("The report of the end has counters that cannot be read")?;
    for device in devices {
        println!("{} {}:", device.kind, device.name);
        let mut sums = BTreeMap::<String, u64>::new();
        let mut latencies = BTreeMap::<String, HistogramSnapshot>::new();
        for queue in device.queues {
            for (name, count) in queue.counters {
                *sums.entry(name).or_default() += count;
            }
            for (name, histogram) in queue.histograms {
                latencies.entry(name).or_default().merge(&histogram);
            }
        }
        for (name, count) in sums.iter().filter(|(_, count)| **count > 0) {
            println!("  {name:28} {count:>14}");
        }
        for (name, histogram) in &latencies {
            let quantiles = [0.5, 0.99, 0.999].map(|q| histogram.quantile(q));
            if let [Some(p50), Some(p99), Some(p999)] = quantiles {
                println!("  {name:28} p50 {p50}, p99 {p99}, p99.9 {p999}");
            }
        }
    }
    Ok(())
}
