//! Complaints about a configuration: where, what, how to mend.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but does something other than one might expect.
    Warning,
}

/// A place in a configuration text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The name of the text, as given to the parser.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters of the part of the line that is meant, at least 1.
    pub width: usize,
    /// The whole line, without its line end.
    pub text: Arc<str>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One complaint. Its `Display` is `file:line:column: message`, a snippet with a caret, and help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The place, or only the file where something is missing.
    pub location: Result<Location, Arc<str>>,
    /// What is wrong, a sentence.
    pub message: String,
    /// How to mend it, a sentence.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Ok(location) => write!(f, "{location}: ")?,
            Err(file) => write!(f, "{file}: ")?,
        }
        if self.severity == Severity::Warning {
            write!(f, "Warning: ")?;
        }
        write!(f, "{}", self.message)?;
        if let Ok(location) = &self.location {
            snippet(f, location)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// The line and a caret under the place. Tabs stay tabs in the padding so that the caret lines up;
/// other control characters would move the cursor and are shown as `?`.
fn snippet(f: &mut fmt::Formatter<'_>, location: &Location) -> fmt::Result {
    let visible = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
    let line: String = location.text.chars().map(visible).collect();
    let padding: String = location
        .text
        .chars()
        .take(location.column.saturating_sub(1))
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    write!(
        f,
        "\n  | {line}\n  | {padding}{}",
        "^".repeat(location.width)
    )
}

/// Why a configuration was refused: at least one error, and the warnings met on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// In the order in which they were found. Never empty.
    pub errors: Vec<Diagnostic>,
    /// What else was odd.
    pub warnings: Vec<Diagnostic>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self
            .warnings
            .iter()
            .chain(&self.errors)
            .map(Diagnostic::to_string)
            .collect();
        f.write_str(&all.join("\n"))
    }
}

/// Why a string with a syntax of its own (disk, vif, cpuid) was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// Bytes of the string that are meant.
    pub range: Range<usize>,
    /// What is wrong, a sentence.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl SpecError {
    pub(crate) fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        SpecError {
            range,
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// "Did you mean": the candidate nearest to `word`, if one is near enough to be a slip.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Shortens what a message quotes from the file: a line of a megabyte is no message.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    let more = if text.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    format!("\"{shown}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(column: usize, width: usize, text: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            location: Ok(Location {
                file: "web.cfg".into(),
                line: 7,
                column,
                width,
                text: text.into(),
            }),
            message: "Bad.".into(),
            help: Some("Mend it.".into()),
        }
    }

    #[test]
    fn display_points_at_the_place() {
        let expected = "web.cfg:7:10: Bad.\n  | memory = x9\n  |          ^^\n  help: Mend it.";
        assert_eq!(at(10, 2, "memory = x9").to_string(), expected);
    }

    #[test]
    fn tabs_keep_the_caret_in_line() {
        let expected = "web.cfg:7:2: Bad.\n  | \tx?\n  | \t^\n  help: Mend it.";
        assert_eq!(at(2, 1, "\tx\u{7}").to_string(), expected);
    }

    #[test]
    fn nearest_forgives_slips_only() {
        let words = || ["memory", "maxmem", "vcpus"].into_iter();
        assert_eq!(nearest("memroy", words()), Some("memory"));
        assert_eq!(nearest("ports", words()), None);
    }
}
