//! Manual pages and completions, generated from the command line's definition.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::status::Status;

/// Every manual page: its file name and its text.
///
/// # Errors
/// None that writing to memory has.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = vec![("xt.1".to_owned(), page(&root, true)?)];
    for command in root.get_subcommands() {
        let name = format!("xt-{}", command.get_name());
        let command = command.clone().name(leak(&name)).display_name(name.clone());
        pages.push((format!("{name}.1"), page(&command, false)?));
    }
    Ok(pages)
}

/// clap keeps names for the life of the program; this one is as short as writing the pages.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

fn page(command: &clap::Command, root: bool) -> io::Result<Vec<u8>> {
    // Examples, statuses and files have sections of their own below.
    let extra = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
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
    if root {
        man.render_subcommands_section(&mut out)?;
        exit_statuses(&mut out)?;
        verbatim("FILES AND ENVIRONMENT", crate::cli::FILES, &mut out)?;
        return Ok(out);
    }
    if !extra.is_empty() {
        verbatim("NOTES AND EXAMPLES", &extra, &mut out)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("xt"), roman("(1)")]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn exit_statuses(out: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for status in Status::ALL {
        roff.control("TP", []);
        roff.text([bold(status.code().to_string())]);
        roff.text([roman(status.meaning())]);
    }
    roff.to_writer(out)
}

fn verbatim(title: &str, text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(out)
}

/// Writes every manual page to the folder `dir`.
///
/// # Errors
/// A file cannot be written.
pub fn write_pages(dir: &Path) -> io::Result<()> {
    for (name, text) in pages()? {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// Writes the completion script for `shell`.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "xt", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pages_are_current() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man");
        let pages = pages().unwrap();
        for (name, text) in &pages {
            let committed = std::fs::read(dir.join(name)).unwrap_or_default();
            assert!(
                committed == *text,
                "docs/man/{name} is stale; run: cargo run -p xt -- man docs/man"
            );
        }
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // The back end's pages are its own.
            let others = name.starts_with("xt-backend");
            let ours = name == "xt.1" || name.starts_with("xt-") && name.ends_with(".1") && !others;
            assert!(
                !ours || pages.iter().any(|(page, _)| *page == name),
                "{name} is no longer made"
            );
        }
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let mut out = Vec::new();
            completions(shell, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.contains("sched-credit2") && text.contains("vm-list"),
                "{shell}"
            );
        }
    }
}
