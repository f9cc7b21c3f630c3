//! Manual pages and completions, generated from a command line's definition: those of every program
//! of the project.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The manual of one program: a page for it and one for each of its commands.
#[derive(Debug)]
pub struct Manual {
    command: Command,
    statuses: Vec<(u8, &'static str)>,
    files: &'static str,
}

impl Manual {
    /// The manual of the program that `command` describes. `statuses` are its exit statuses and what
    /// they mean, `files` the files and environment variables it knows. Without statuses the page
    /// shows what stands behind the options in the help, which has to tell them.
    pub fn new(
        command: Command,
        statuses: impl IntoIterator<Item = (u8, &'static str)>,
        files: &'static str,
    ) -> Self {
        let statuses = statuses.into_iter().collect();
        Self {
            command,
            statuses,
            files,
        }
    }

    /// Every page: its file name and its text. Commands that help does not show have none.
    ///
    /// # Errors
    /// None but those of writing to memory.
    pub fn pages(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut root = self.command.clone();
        root.build();
        let program = root.get_name();
        let mut pages = vec![(format!("{program}.1"), self.program(&root)?)];
        for command in root.get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = format!("{program}-{}", command.get_name());
            let command = command.clone().name(leak(&name)).display_name(name.clone());
            pages.push((format!("{name}.1"), subcommand(&command, program)?));
        }
        Ok(pages)
    }

    fn program(&self, root: &Command) -> io::Result<Vec<u8>> {
        let (man, mut out) = begin(root)?;
        man.render_subcommands_section(&mut out)?;
        if self.statuses.is_empty() {
            notes(root, &mut out)?;
        } else {
            exit_statuses(&self.statuses, &mut out)?;
        }
        verbatim("FILES AND ENVIRONMENT", self.files, &mut out)?;
        Ok(out)
    }

    /// Writes every page to the folder `dir`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        for (name, text) in self.pages()? {
            std::fs::write(dir.join(name), text)?;
        }
        Ok(())
    }

    /// The pages in `dir` that differ from what [`Manual::write`] would write there, and those of
    /// commands that are no more. Files of the programs `others`, whose names begin as this one's,
    /// are left out.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn stale(&self, dir: &Path, others: &[&str]) -> io::Result<Vec<String>> {
        let pages = self.pages()?;
        let differs = |(name, text): &&(String, Vec<u8>)| {
            std::fs::read(dir.join(name)).unwrap_or_default() != *text
        };
        let mut stale: Vec<_> = pages
            .iter()
            .filter(differs)
            .map(|(n, _)| n.clone())
            .collect();
        let program = self.command.get_name();
        let of = |name: &str, program: &str| {
            let rest = name.strip_prefix(program);
            rest.is_some_and(|rest| rest == ".1" || rest.starts_with('-') && rest.ends_with(".1"))
        };
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let ours = of(&name, program) && !others.iter().any(|other| of(&name, other));
            if ours && !pages.iter().any(|(page, _)| *page == name) {
                stale.push(name);
            }
        }
        Ok(stale)
    }
}

/// Writes the completion script of `command`'s program for `shell`.
pub fn completions(mut command: Command, shell: clap_complete::Shell, out: &mut dyn Write) {
    let program = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, program, out);
}

/// clap keeps names for the life of the program; this one is as short as writing the pages.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

fn subcommand(command: &Command, program: &str) -> io::Result<Vec<u8>> {
    let (_, mut out) = begin(command)?;
    notes(command, &mut out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(program), roman("(1)")]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

/// What every page begins with. What stands after the options in the help has sections of its own.
fn begin(command: &Command) -> io::Result<(Man, Vec<u8>)> {
    let man = Man::new(command.clone().after_help("").after_long_help(""))
        .date("")
        .source(format!("xenner {}", env!("CARGO_PKG_VERSION")))
        .manual("xenner");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    Ok((man, out))
}

fn exit_statuses(statuses: &[(u8, &str)], out: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in statuses {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(*meaning)]);
    }
    roff.to_writer(out)
}

/// What stands behind the options in the help.
fn notes(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let long = command.get_after_long_help();
    let notes = long.or(command.get_after_help()).map(ToString::to_string);
    verbatim("NOTES AND EXAMPLES", &notes.unwrap_or_default(), out)
}

/// A section whose lines stay as they are; none for no text.
fn verbatim(title: &str, text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(out)
}
