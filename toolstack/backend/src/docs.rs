//! Manual pages and completions.

use std::io::Write;

use clap::CommandFactory;
use xt_manual::Manual;

use crate::cli::Cli;

/// The manual pages.
pub fn manual() -> Manual {
    Manual::new(Cli::command(), [], "")
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
            "docs/man: {stale:?} are stale or no longer made; run: cargo run -p xt-backend -- man docs/man"
        );
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
            assert!(text.contains("kinds"), "{shell}");
        }
    }
}
