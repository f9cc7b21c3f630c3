//! Manual pages and completions, generated from the command line's definition.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;

/// Every manual page: its file name and its text.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = vec![("xt-backend.1".to_owned(), page(root.clone())?)];
    for command in root.get_subcommands() {
        let name = format!("xt-backend-{}", command.get_name());
        // clap keeps names for the life of the program, which ends when the pages are written.
        let leaked: &str = Box::leak(name.clone().into_boxed_str());
        let text = page(command.clone().name(leaked).display_name(&name))?;
        pages.push((format!("{name}.1"), text));
    }
    Ok(pages)
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let man = Man::new(command)
        .date("")
        .source(format!("xt-backend {}", env!("CARGO_PKG_VERSION")))
        .manual("xenner");
    man.render(&mut out)?;
    Ok(out)
}

/// Writes every manual page to the folder `dir`.
///
/// # Errors
/// The host's.
pub fn write_pages(dir: &Path) -> io::Result<()> {
    for (name, text) in pages()? {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// Writes the completion script for `shell`.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "xt-backend", out);
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
                "docs/man/{name} is stale; run: cargo run -p xt-backend -- man docs/man"
            );
        }
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = pages.iter().any(|(page, _)| *page == name);
            assert!(
                known || !name.starts_with("xt-backend"),
                "{name} is of no command"
            );
        }
    }

    #[test]
    fn every_shell_completes_the_options() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let mut script = Vec::new();
            completions(shell, &mut script);
            assert!(
                String::from_utf8_lossy(&script).contains("kinds"),
                "{shell}"
            );
        }
    }
}
