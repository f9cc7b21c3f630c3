//! Values with their types checked. Every complaint goes to one list.

use std::ops::RangeInclusive;

use crate::diagnostic::{ConfigErrors, Diagnostic, Severity, SpecError, nearest, quote};
use crate::document::{Document, Located, Value};
use crate::libxl::{Defbool, MemKb, Tuning};
use crate::spec::Checked;

/// 16 EiB in MiB would overflow KiB; 2^40 MiB is beyond any machine.
const MOST_MIB: i64 = 1 << 40;

/// Reads the keys that the caller acts on; the others count as not set.
pub(crate) struct Reader<'a> {
    pub(crate) document: &'a Document,
    /// `None` is all keys.
    acted_on: Option<&'a [&'a str]>,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document, acted_on: &'a [&'a str]) -> Self {
        Reader {
            document,
            acted_on: Some(acted_on),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads all keys.
    pub(crate) fn of_all_keys(document: &'a Document) -> Self {
        Reader {
            document,
            acted_on: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Located<Value>> {
        self.acted_on
            .is_none_or(|keys| keys.contains(&key))
            .then(|| self.document.get(key))
            .flatten()
    }

    /// The value made by `read`, or every complaint, both in the order of the text.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<Checked<T>, ConfigErrors> {
        let (mut errors, mut warnings) = (self.errors, self.warnings);
        for list in [&mut errors, &mut warnings] {
            list.sort_by_key(|d| d.location.as_ref().map_or((0, 0), |l| (l.line, l.column)));
        }
        match value {
            Some(value) if errors.is_empty() => Ok(Checked { value, warnings }),
            _ => Err(ConfigErrors { errors, warnings }),
        }
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

    /// A string of its own.
    pub(crate) fn owned(&mut self, key: &str) -> Option<String> {
        self.string(key).map(str::to_owned)
    }

    /// A number that is 0 for no and anything else for yes.
    pub(crate) fn defbool(&mut self, key: &str) -> Defbool {
        Defbool(
            self.integer(key, i64::MIN..=i64::MAX, "for yes (1) or no (0)")
                .map(|n| n != 0),
        )
    }

    /// A number of 32 bits with a sign.
    pub(crate) fn tuning(&mut self, key: &str, unit: &str) -> Tuning {
        let number = self.integer(key, 0..=i64::from(i32::MAX), unit);
        number
            .and_then(|n| i32::try_from(n).ok())
            .map(Tuning)
            .unwrap_or_default()
    }

    /// A number of MiB as KiB.
    pub(crate) fn mebibytes(&mut self, key: &str) -> MemKb {
        let amount = self.integer(key, 0..=MOST_MIB, "MiB");
        amount.map_or(MemKb::UNSET, |mib| MemKb(mib.unsigned_abs() * 1024))
    }

    /// A whole number that fits `T`, or `T`'s default.
    pub(crate) fn number<T: TryFrom<i64> + Default>(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
        unit: &str,
    ) -> T {
        let number = self.integer(key, range, unit);
        number.and_then(|n| T::try_from(n).ok()).unwrap_or_default()
    }

    /// One of `names`.
    pub(crate) fn named<T: Copy>(&mut self, key: &str, names: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| name_of(key, text, names))
    }

    /// One of libxl's `names`, in any case.
    pub(crate) fn libxl_name<T: Copy>(&mut self, key: &str, names: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| libxl_name_of(key, text, names))
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, key: &str) -> Vec<String> {
        self.list(key, |text| Ok(text.to_owned()))
    }

    /// The name of the domain, which every one must have.
    pub(crate) fn domain_name(&mut self) -> Option<String> {
        if self.get("name").is_none() {
            self.error("name", "The domain has no name.", "Add name = \"…\"");
            return None;
        }
        let name = self.filled("name")?;
        if name.contains(|c: char| c.is_control() || c == '/') {
            let message = format!("{} cannot be the name of a domain.", quote(name));
            self.error("name", message, "Leave slashes and control characters out.");
            return None;
        }
        Some(name.to_owned())
    }

    /// Whether the value is a list.
    pub(crate) fn is_list(&self, key: &str) -> bool {
        matches!(self.get(key).map(|v| &v.value), Some(Value::List(_)))
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

    pub(crate) fn item<T>(
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

/// The value called `text` among `names`.
pub(crate) fn name_of<T: Copy>(
    what: &str,
    text: &str,
    names: &[(&str, T)],
) -> Result<T, SpecError> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let near = nearest(text, all.iter().copied());
        let near = near.map_or(String::new(), |near| format!("Did you mean {near}? "));
        let message = format!("{} is no value for {what}.", quote(text));
        SpecError::new(0..text.len(), message).help(format!("{near}Known: {}.", all.join(", ")))
    })
}

/// The value that libxl calls `text`: it does not mind the case.
pub(crate) fn libxl_name_of<T: Copy>(
    what: &str,
    text: &str,
    names: &[(&str, T)],
) -> Result<T, SpecError> {
    let found = names
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map_or_else(|| name_of(what, text, names), |(_, value)| Ok(*value))
}
