//! What the firmware of an HVM domain costs up to the first instruction of the BIOS: Xen's hvmloader and
//! this project's.
//!
//! Both say something first thing. The BIOS is one instruction long, and ends the domain by a triple
//! fault, which Xen says. Xen's log has the time of each line in microseconds, and by this rig's clock
//! a microsecond is a thousand instructions: the domain's, and what Xen, xenstored and the device model do
//! for it.

use std::process::Command;

use anyhow::{Context, Result, bail};
use regex::Regex;
use xenner_rigs::{RigX, xenner};

use super::{Figures, LIMIT, MEMORY_MIB, grouped, spec};

/// The firmware's name, its first line in the log and what its domains' configuration has for it.
const FIRMWARE: [(&str, &str, &str); 2] = [
    ("xen", r"HVM Loader$", ""),
    (
        "xenner",
        r"hvmloader [0-9.]+$",
        "firmware_override = \"/guest/hvmloader\"",
    ),
];

/// By the number of virtual CPUs: hvmloader starts each once.
const VCPUS: [u32; 2] = [1, 4];

/// How often each figure is taken; the least counts.
const ROUNDS: u32 = 3;

/// Measures both in one rig.
pub fn measure() -> Result<Figures> {
    eprintln!("Measuring: firmware");
    let mut spec = spec().with_device_model();
    spec.hypervisor = "console_timestamps=boot conring_size=256k";
    let mut rig = RigX::boot(&spec)?;
    rig.shell.write("hvmloader", &image()?, 0o644)?;
    rig.shell.write("bios", &bios(), 0o644)?;
    rig.run(
        "mkdir -p /guest; cp /share/hvmloader /share/bios /guest",
        LIMIT,
    )?;
    let mut figures = Figures::new();
    for vcpus in VCPUS {
        for _ in 0..ROUNDS {
            for (name, first_line, line) in FIRMWARE {
                let figure = once(&mut rig, vcpus, first_line, line)?;
                let known = figures.entry(format!("{name}.{vcpus}")).or_insert(figure);
                *known = figure.min(*known);
            }
        }
    }
    Ok(figures)
}

/// This project's firmware.
fn image() -> Result<Vec<u8>> {
    let program = xenner::build_hvmloader()?;
    let ended = Command::new(&program)
        .output()
        .with_context(|| format!("Cannot run {}", program.display()))?;
    match ended.status.success() {
        true => Ok(ended.stdout),
        false => bail!(
            "{}: {}",
            program.display(),
            String::from_utf8_lossy(&ended.stderr)
        ),
    }
}

/// A BIOS that loads an empty interrupt descriptor table, and traps.
fn bios() -> Vec<u8> {
    const RESET_VECTOR: usize = 0xfff0;
    // lidt cs:[0xfff8]; int3
    let code = [0x2e, 0x0f, 0x01, 0x1e, 0xf8, 0xff, 0xcc];
    let mut image = vec![0; 0x1_0000];
    image[RESET_VECTOR..][..code.len()].copy_from_slice(&code);
    image
}

/// One domain's start, up to the BIOS. It is unpaused when the toolstack has no more to do for it.
fn once(rig: &mut RigX, vcpus: u32, first_line: &str, line: &str) -> Result<u64> {
    let config = format!(
        "name = \"hvm\"\ntype = \"hvm\"\nmemory = {MEMORY_MIB}\nvcpus = {vcpus}\nvnc = 0\nvga = \"none\"\n\
         bios_path_override = \"/guest/bios\"\non_reboot = \"destroy\"\n{line}\n"
    );
    rig.shell.write("hvm.cfg", config.as_bytes(), 0o644)?;
    // What an earlier domain's creator said is gone before the next one is waited for.
    let script = "cp /share/hvm.cfg /guest
         xl dmesg -c >/dev/null
         : >/run/said
         (xl create -F -p /guest/hvm.cfg; echo \"ended: $?\") >>/run/said 2>&1 &
         until grep -qE 'Waiting for domain|ended:' /run/said; do usleep 100000; done
         xl unpause hvm
         wait
         grep -q 'ended: 0' /run/said || { cat /run/said; exit 1; }
         xl dmesg";
    let output = rig.run(script, LIMIT)?;
    if output.status != 0 {
        bail!("Status {}:\n{}", output.status, output.text);
    }
    between(&output.text, first_line).with_context(|| format!("The rig said:\n{}", output.text))
}

/// Instructions from the firmware's first line to the end of the domain.
fn between(log: &str, first_line: &str) -> Result<u64> {
    let time = |line: &str| -> Result<u64> {
        let pattern = Regex::new(&format!(r"(?m)\[ *(\d+)\.(\d{{6}})\] {line}"))?;
        let found = pattern.captures(log);
        let found = found.with_context(|| format!("Nothing in the log matches {line:?}"))?;
        Ok(found[1].parse::<u64>()? * 1_000_000 + found[2].parse::<u64>()?)
    };
    let (from, to) = (time(first_line)?, time(r"d\d+v0 Triple fault")?);
    let microseconds = to.checked_sub(from).context("The log goes backwards")?;
    Ok(microseconds * 1000)
}

/// Both figures for each number of virtual CPUs, and the second's share of the first.
pub fn table(figures: &Figures) -> String {
    let mut lines = vec![
        format!(
            "Instructions of the whole machine from hvmloader's first to the BIOS's, {MEMORY_MIB} MiB"
        ),
        format!(
            "{:<40}{:>16}{:>16}{:>8}{:>10}",
            "", "Xen's", "xenner's", "", "aim"
        ),
    ];
    for vcpus in VCPUS {
        let of = |name: &str| {
            figures
                .get(&format!("{name}.{vcpus}"))
                .copied()
                .unwrap_or(0)
        };
        let (xen, xenner) = (of("xen"), of("xenner"));
        let ratio = xenner as f64 / xen as f64;
        let verdict = if ratio <= 1.0 { "" } else { "  missed" };
        lines.push(format!(
            "{:<40}{:>16}{:>16}{ratio:>7.2}x{:>10}{verdict}",
            format!("vCPUs: {vcpus}"),
            grouped(xen),
            grouped(xenner),
            "<= 1",
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_how_long_it_took() {
        let log = "(XEN) [   12.000000] Dom0 alive\n(d7) [   14.000001] HVM Loader\n(d7) [   14.100000] CPU speed\n\
                   (XEN) [   14.500003] d7v0 Triple fault - invoking HVM shutdown action 1\n";
        assert_eq!(between(log, FIRMWARE[0].1).expect("a figure"), 500_002_000);
        assert!(between(log, FIRMWARE[1].1).is_err());
    }

    #[test]
    fn a_missed_aim_is_said() {
        let figures = [
            ("xen.1", 10),
            ("xenner.1", 9),
            ("xen.4", 10),
            ("xenner.4", 11),
        ];
        let table = table(&figures.map(|(name, n)| (name.to_string(), n)).into());
        let missed: Vec<_> = table.lines().filter(|l| l.ends_with("missed")).collect();
        assert!(missed.len() == 1 && missed[0].contains("1.10x"), "{table}");
    }
}
