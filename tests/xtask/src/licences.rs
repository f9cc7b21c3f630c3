//! Every dependency's licence against the list in `deny.toml`, for machines
//! without cargo-deny.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::{cargo, top};

/// Fails, with their names, if packages have licences that are not allowed.
pub fn check() -> Result<()> {
    let list = fs::read_to_string(top().join("deny.toml")).context("Cannot read deny.toml")?;
    let allowed = allowed(&list);
    let output = cargo(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("Cannot run cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context("cargo metadata printed no JSON; does `cargo metadata --locked` work?")?;
    let packages = metadata["packages"]
        .as_array()
        .context("No packages in cargo metadata")?;
    let refused: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none given");
            (!satisfied(licence, &allowed)).then(|| format!("{}: {licence}", package["name"]))
        })
        .collect();
    if !refused.is_empty() {
        bail!(
            "Licences not in deny.toml's list:\n  {}\nAdd them there if they go with GPL-3.0-or-later, else take another crate.",
            refused.join("\n  ")
        );
    }
    println!("licences: {} packages, all allowed", packages.len());
    Ok(())
}

/// The strings of `allow = [ … ]`.
fn allowed(deny: &str) -> BTreeSet<String> {
    let list = deny.split_once("allow = [").map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or(list, |(list, _)| list);
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Evaluates an SPDX expression; `/` is what OR was before SPDX.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        tokens: &tokens,
        allowed,
    };
    parser.any() && parser.tokens.is_empty()
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn next_is(&mut self, token: &str) -> bool {
        let found = self.tokens.first() == Some(&token);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    // Both operators must parse their right side even when the left decides.
    fn any(&mut self) -> bool {
        let mut holds = self.all();
        while self.next_is("OR") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.term();
        while self.next_is("AND") {
            holds &= self.term();
        }
        holds
    }

    fn term(&mut self) -> bool {
        if self.next_is("(") {
            let holds = self.any();
            return self.next_is(")") && holds;
        }
        let Some((name, rest)) = self.tokens.split_first() else {
            return false;
        };
        self.tokens = rest;
        if self.next_is("WITH") {
            let Some((exception, rest)) = self.tokens.split_first() else {
                return false;
            };
            self.tokens = rest;
            return self.allowed.contains(&format!("{name} WITH {exception}"));
        }
        self.allowed.contains(*name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        let allowed = allowed("allow = [\n\"MIT\", \"Zlib\",\n\"A WITH E\"]\nother = [\"X\"]");
        assert!(satisfied("MIT", &allowed));
        assert!(satisfied("X OR MIT", &allowed));
        assert!(satisfied("X/MIT", &allowed));
        assert!(satisfied("(X OR MIT) AND Zlib", &allowed));
        assert!(satisfied("A WITH E", &allowed));
        assert!(!satisfied("X", &allowed));
        assert!(!satisfied("MIT AND X", &allowed));
        assert!(!satisfied("A", &allowed));
        assert!(!satisfied("MIT WITH E", &allowed));
        assert!(!satisfied("", &allowed));
        assert!(!satisfied("MIT )", &allowed));
    }
}
