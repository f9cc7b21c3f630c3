//! Manual pages and completions.

use std::io::Write;

use clap::CommandFactory;
use xt_manual::Manual;

use crate::cli::Cli;
use crate::status::Status;
/// The manual pages.
pub fn manual() -> Manual {
    let statuses = Status::ALL.map(|status| (status.code(), status.meaning()));
    Manual::new(Cli::command(), statuses, crate::cli::FILES)
}

/// Writes the completion script for `shell`.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    xt_manual::completions(Cli::command(), shell, out);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_pages_are_current() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man");
        let stale = manual().stale(&dir, &[]).unwrap();
        assert!(
            stale.is_empty(),
            "docs/man: {stale:?} are stale or no longer made; run: cargo run -p xenner -- man docs/man"
        );
    }

    #[test]
    fn the_manual_has_every_status() {
        let (_, text) = manual().pages().unwrap().remove(0);
        let text = String::from_utf8(text).unwrap();
        for status in Status::ALL {
            let meaning = status.meaning().replace('-', "\\-").replace('\'', "\\*(Aq");
            let plain = text.replace("\\(aq", "\\*(Aq");
            assert!(plain.contains(&meaning), "{meaning}");
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
                text.contains("dump-core") && text.contains("coredump-restart"),
                "{shell}"
            );
        }
    }
}
