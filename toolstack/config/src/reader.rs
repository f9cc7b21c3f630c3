//! Values with their types checked. Every complaint goes to one list.

use std::ops::RangeInclusive;

use crate::diagnostic::{Diagnostic, Severity, SpecError, quote};
use crate::document::{Document, Located, Value};

/// Reads the keys that the caller acts on; the others count as not set.
pub(crate) struct Reader<'a> {
    pub(crate) document: &'a Document,
    acted_on: &'a [&'a str],
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document, acted_on: &'a [&'a str]) -> Self {
        Reader {
            document,
            acted_on,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Located<Value>> {
        self.acted_on
            .contains(&key)
            .then(|| self.document.get(key))
            .flatten()
    }

    pub(crate) fn error(&mut self, key: &str, message: impl Into<String>, help: &str) {
        self.errors
            .push(self.document.error_at(key, message, Some(help.into())));
    }

    pub(crate) fn warn(&mut self, key: &str, message: impl Into<String>, help: Option<String>) {
        let warning = self.document.error_at(key, message, help);
        self.warnings.push(Diagnostic {
            severity: Severity::Warning,
            ..warning
        });
    }

    /// A string, or a number taken as one.
    pub(crate) fn string(&mut self, key: &str) -> Option<&'a str> {
        let text = self.get(key)?.value.text();
        if text.is_none() {
            self.error(
                key,
                format!("{key} is a list."),
                "Write one string in quotes.",
            );
        }
        text
    }

    /// A string that says something.
    pub(crate) fn filled(&mut self, key: &str) -> Option<&'a str> {
        let text = self.string(key)?;
        if text.is_empty() {
            self.error(
                key,
                format!("{key} is empty."),
                "Give it a value or remove the line.",
            );
            return None;
        }
        Some(text)
    }

    /// A number, or a string that holds one, in `range`. `unit` is what messages call it.
    pub(crate) fn integer(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
        unit: &str,
    ) -> Option<i64> {
        let value = self.get(key)?;
        match value.value.integer() {
            Some(number) if range.contains(&number) => return Some(number),
            Some(number) => self.error(
                key,
                format!("{key} = {number} is out of range."),
                &format!("Choose {} to {} {unit}.", range.start(), range.end()),
            ),
            None => {
                let shown = value.value.text().map_or_else(|| "a list".into(), quote);
                self.error(
                    key,
                    format!("{key} wants a number, not {shown}."),
                    &format!("Write a plain number of {unit}, decimal, 0x hexadecimal or 0 octal."),
                );
            }
        }
        None
    }

    /// A string parsed by `parse`.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, SpecError>,
    ) -> Option<T> {
        self.string(key)?;
        let value = self.get(key)?;
        self.item(value, parse)
    }

    /// A list of strings, each parsed by `parse`. Those that fail are reported and left out.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        mut parse: impl FnMut(&str) -> Result<T, SpecError>,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        match value.value.items() {
            Some(items) => items
                .iter()
                .filter_map(|item| self.item(item, &mut parse))
                .collect(),
            None => {
                let help = format!("Put it in brackets: {key} = [ {} ]", value.value);
                self.error(
                    key,
                    format!("{key} is a single value but must be a list."),
                    &help,
                );
                Vec::new()
            }
        }
    }

    fn item<T>(
        &mut self,
        item: &Located<Value>,
        parse: impl FnOnce(&str) -> Result<T, SpecError>,
    ) -> Option<T> {
        let result = match item.value.text() {
            Some(text) => parse(text).map_err(|error| self.document.spec_error(item, error)),
            None => Err(self.document.error(
                item.span,
                "A string is wanted here, not a list.",
                Some("Remove the inner brackets.".into()),
            )),
        };
        result.map_err(|error| self.errors.push(error)).ok()
    }
}
