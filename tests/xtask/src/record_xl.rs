//! `cargo xtask record-xl`: what Xen 4.17's `xl` makes of xt-config's test configurations, from rig X
//! into files beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use xenner_rigs::{RigSpec, packages, rig_x};

use crate::{HOST_PACKAGES, top};

/// Runs `xl -N create` on every configuration of toolstack/config/tests in rig
/// X. For those of xl/ its JSON is kept beside each; for those of malformed/
/// the verdict goes to malformed/xl-4.17.txt.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Compare with what is there and change nothing
    #[arg(long)]
    check: bool,
}

/// What xl did with one configuration.
struct Answer {
    /// Its exit status was 0.
    accepted: bool,
    /// What it printed.
    out: String,
    /// What it complained of.
    complaints: String,
}

/// Long, for a machine that does other things, too.
const DEADLINE: Duration = Duration::from_secs(1200);
/// In the rig.
const FOLDER: &str = "/corpus";

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    packages::install(HOST_PACKAGES)?;
    let tests = top().join("toolstack/config/tests");
    let valid = configurations(&tests.join("xl"))?;
    let malformed = configurations(&tests.join("malformed"))?;
    let mut spec = RigSpec::default();
    for file in valid.iter().chain(&malformed) {
        spec = spec.file(file, &format!("{FOLDER}/{}", name(file)));
    }
    let mut rig = rig_x::RigX::boot(&spec)?;
    let mut differ = Vec::new();
    for file in &valid {
        let answer = ask(&mut rig, file)?;
        if !answer.accepted {
            bail!("xl refuses {}: {}", file.display(), answer.complaints);
        }
        keep(
            &file.with_extension("json"),
            &answer.out,
            arguments,
            &mut differ,
        )?;
    }
    let mut table = "# What xl -N create of Xen 4.17 does, and the last it says.\n".to_owned();
    for file in &malformed {
        let answer = ask(&mut rig, file)?;
        let verdict = if answer.accepted {
            "accepts"
        } else {
            "refuses"
        };
        let last = answer.complaints.lines().last().unwrap_or_default();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        table += format!("{stem} {verdict} {last}").trim_end();
        table += "\n";
    }
    let path = tests.join("malformed/xl-4.17.txt");
    keep(&path, &table, arguments, &mut differ)?;
    for path in &differ {
        eprintln!("xl answers something else than {}", path.display());
    }
    Ok(if differ.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn configurations(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("Cannot list {folder:?}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cfg") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn ask(rig: &mut rig_x::RigX, file: &Path) -> Result<Answer> {
    let command = format!(
        "cd {FOLDER}; xl -N create {} 2>/tmp/complaints; s=$?; echo; echo '-- complaints'; \
         grep -v '^Parsing config from' /tmp/complaints; exit $s",
        name(file)
    );
    let output = rig.run(&command, DEADLINE)?;
    let text = output.text.replace('\r', "");
    let (out, complaints) = text
        .split_once("-- complaints\n")
        .with_context(|| format!("xl's answer to {} is cut off: {text}", file.display()))?;
    Ok(Answer {
        accepted: output.status == 0,
        out: out.trim().to_owned() + "\n",
        complaints: complaints.trim().to_owned(),
    })
}

/// Writes `text`, or compares. What is random, the UUID of a configuration without one, does not
/// count.
fn keep(path: &Path, text: &str, arguments: &Arguments, differ: &mut Vec<PathBuf>) -> Result<()> {
    let settled = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("\"uuid\""));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let there = fs::read_to_string(path).unwrap_or_default();
    if settled(&there) == settled(text) {
        return Ok(());
    }
    if arguments.check {
        differ.push(path.to_owned());
        return Ok(());
    }
    println!("{}", path.display());
    fs::write(path, text).with_context(|| format!("Cannot write {path:?}"))
}
