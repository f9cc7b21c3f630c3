//! `cargo xtask install`: the programs and the firmware of HVM domains, with their manual pages, completions and systemd units, for
//! who runs domains and for who makes packages.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, top};

/// Builds the programs and puts them, the firmware of HVM domains, their manual pages, completions and systemd units in place.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the programs will run from
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put all of it below DIR, as makers of packages need it
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

/// Each program is the package of its name.
const PROGRAMS: &[&str] = &["xt", "xt-backend", "xenner"];

const UNITS: &[&str] = &[
    "toolstack/xt/systemd/xt-supervise.service",
    "toolstack/xt/systemd/xt-domain@.service",
    "toolstack/backend/xt-backend.service",
];

/// What shells call a program's completions, and where they look for them.
const SHELLS: &[(&str, &str)] = &[
    ("bash", "share/bash-completion/completions/@"),
    ("zsh", "share/zsh/site-functions/_@"),
    ("fish", "share/fish/vendor_completions.d/@.fish"),
];

/// Runs the chore.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.prefix.is_absolute() {
        bail!("--prefix {}: give it from / on", arguments.prefix.display());
    }
    let to = Destination {
        prefix: arguments.prefix.clone(),
        root: arguments.destdir.clone().unwrap_or_default(),
    };
    // Before the minutes of building.
    fs::create_dir_all(to.path("bin")).map_err(|e| cannot(&to.path("bin"), e))?;
    for program in PROGRAMS {
        install(program, &to)?;
    }
    // For domains of Xen's own toolstack: `xt` has it in itself.
    let firmware = said(&build("hvmloader-image")?, &[])?;
    to.write(Path::new("lib/xt/hvmloader"), &firmware, 0o644)?;
    for unit in UNITS {
        let from = top().join(unit);
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let name = from.file_name().unwrap_or_default();
        let place = Path::new("lib/systemd/system").join(name);
        to.write(&place, to.unit(&text).as_bytes(), 0o644)?;
    }
    println!(
        "{} are in {}",
        PROGRAMS.join(", "),
        to.path("bin").display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Builds the program of the package of its name.
fn build(program: &str) -> Result<PathBuf> {
    println!("== building {program}");
    let mut build = cargo(["build", "--release", "--locked", "--quiet", "--package"]);
    if !build.arg(program).status()?.success() {
        bail!("{program} cannot be built");
    }
    Ok(target().join("release").join(program))
}

fn install(program: &str, to: &Destination) -> Result<()> {
    let built = build(program)?;
    to.write(&Path::new("bin").join(program), &stripped(&built)?, 0o755)?;
    for (shell, place) in SHELLS {
        let script = said(&built, &["completions", shell])?;
        to.write(Path::new(&place.replace('@', program)), &script, 0o644)?;
    }
    let pages = tempfile::tempdir()?;
    said(&built, &["man", &pages.path().display().to_string()])?;
    for page in fs::read_dir(pages.path())? {
        let page = page?;
        let place = Path::new("share/man/man1").join(page.file_name());
        to.write(&place, &fs::read(page.path())?, 0o644)?;
    }
    Ok(())
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

/// A program without what only debuggers read, four fifths of it.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let slim = tempfile::NamedTempFile::new()?;
    let mut strip = Command::new("strip");
    strip
        .args(["--strip-debug", "-o"])
        .arg(slim.path())
        .arg(program);
    let ended = strip
        .status()
        .context("cannot run strip (package binutils)")?;
    if !ended.success() {
        bail!("strip of {} failed", program.display());
    }
    Ok(fs::read(slim.path())?)
}

/// What a program prints.
fn said(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let out = Command::new(program).args(arguments).output()?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        bail!("{} {}: {why}", program.display(), arguments.join(" "));
    }
    Ok(out.stdout)
}

/// Where things go: below `root` now, below `prefix` when they run.
struct Destination {
    prefix: PathBuf,
    root: PathBuf,
}

impl Destination {
    fn path(&self, place: impl AsRef<Path>) -> PathBuf {
        let prefix = if self.root.as_os_str().is_empty() {
            self.prefix.clone()
        } else {
            self.root
                .join(self.prefix.strip_prefix("/").unwrap_or(&self.prefix))
        };
        prefix.join(place)
    }

    /// Writes a file beside its place and moves it there: a program that runs stays whole.
    fn write(&self, place: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.path(place);
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| cannot(dir, e))?;
        std::io::Write::write_all(&mut file, bytes).map_err(|e| cannot(&path, e))?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))?;
        file.persist(&path).map_err(|e| cannot(&path, e.error))?;
        Ok(())
    }

    /// A unit that starts the programs from where they will be.
    fn unit(&self, text: &str) -> String {
        let bin = self.prefix.join("bin");
        PROGRAMS.iter().fold(text.to_owned(), |text, program| {
            let there = bin.join(program);
            text.replace(
                &format!("/usr/bin/{program} "),
                &format!("{} ", there.display()),
            )
        })
    }
}

fn cannot(path: &Path, error: std::io::Error) -> anyhow::Error {
    let mend = if error.kind() == ErrorKind::PermissionDenied {
        " (run as root, or give a --prefix of your own)"
    } else {
        ""
    };
    anyhow::anyhow!("cannot write {}: {error}{mend}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(prefix: &str, root: &str) -> Destination {
        Destination {
            prefix: prefix.into(),
            root: root.into(),
        }
    }

    #[test]
    fn a_package_is_made_below_its_own_root() {
        let there = to("/usr", "/tmp/deb").path("bin");
        assert_eq!(there, Path::new("/tmp/deb/usr/bin"));
        assert_eq!(
            to("/usr/local", "").path("bin"),
            Path::new("/usr/local/bin")
        );
    }

    #[test]
    fn units_start_the_installed_programs() {
        for unit in UNITS {
            let text = fs::read_to_string(top().join(unit)).unwrap();
            let text = to("/opt/x", "/tmp/deb").unit(&text);
            assert!(text.contains("=/opt/x/bin/xt"), "{unit}: {text}");
            assert!(!text.contains("/usr/bin/xt"), "{unit}: {text}");
        }
    }
}
