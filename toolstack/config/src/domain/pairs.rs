//! Strings of the form `key=value,key=value`, of which most devices' are.

use std::ops::Range;

use crate::diagnostic::{SpecError, nearest, quote};

/// One `key=value`, with its place in the string.
pub(super) struct Pair<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    /// The key's first byte.
    at: usize,
    /// The value's first byte.
    value_at: usize,
}

impl<'a> Pair<'a> {
    /// A string that is one pair; its value may have commas.
    pub(super) fn whole(text: &'a str) -> Result<Self, SpecError> {
        Self::at(text, 0)
    }

    /// One pair, of a string where it begins at `start`.
    pub(super) fn at(text: &'a str, start: usize) -> Result<Self, SpecError> {
        let Some((key, value)) = text.split_once('=') else {
            let message = format!("{} has no value.", quote(text.trim()));
            return Err(SpecError::new(start..start + text.len(), message).help("Write key=value."));
        };
        Ok(Pair {
            key: key.trim(),
            value: value.trim(),
            at: start + key.len() - key.trim_start().len(),
            value_at: start + key.len() + 1 + value.len() - value.trim_start().len(),
        })
    }

    fn value_range(&self) -> Range<usize> {
        self.value_at..self.value_at + self.value.len()
    }

    /// The string, for a field of libxl's.
    pub(super) fn owned(&self) -> Option<String> {
        Some(self.value.to_owned())
    }

    /// An error that points at the value.
    pub(super) fn error(&self, message: impl Into<String>, help: &str) -> SpecError {
        SpecError::new(self.value_range(), message).help(help)
    }

    /// Moves an error in the value to its place in the string.
    pub(super) fn inside(&self, error: SpecError) -> SpecError {
        let Range { start, end } = error.range;
        SpecError {
            range: start + self.value_at..end + self.value_at,
            ..error
        }
    }

    /// A number, decimal, hexadecimal or octal.
    pub(super) fn number<T: TryFrom<i64>>(&self) -> Result<T, SpecError> {
        let number = crate::document::integer(self.value).and_then(|n| T::try_from(n).ok());
        number.ok_or_else(|| {
            let message = format!("{} is no number for {}.", quote(self.value), self.key);
            self.error(message, "Write a decimal or 0x hexadecimal number.")
        })
    }

    /// A number that is 0 for no.
    pub(super) fn flag(&self) -> Result<bool, SpecError> {
        self.number::<i64>().map(|number| number != 0)
    }

    /// One of libxl's `names`, in any case.
    pub(super) fn libxl_name<T: Copy>(&self, names: &[(&str, T)]) -> Result<T, SpecError> {
        let found = crate::reader::libxl_name_of(self.key, self.value, names);
        found.map_err(|error| self.inside(error))
    }

    /// One of `names`.
    pub(super) fn named<T: Copy>(&self, names: &[(&str, T)]) -> Result<T, SpecError> {
        crate::reader::name_of(self.key, self.value, names).map_err(|error| self.inside(error))
    }

    /// There is no such key.
    pub(super) fn unknown(&self, what: &str, known: &[&str]) -> SpecError {
        let message = format!("{what} has no parameter {}.", quote(self.key));
        let error = SpecError::new(self.at..self.at + self.key.len(), message);
        match nearest(self.key, known.iter().copied()) {
            Some(near) => error.help(format!("Did you mean {near}?")),
            None => error.help(format!("Known: {}.", known.join(", "))),
        }
    }
}

/// The pairs of `text`; blanks around keys and values do not count, nor do empty parameters.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair<'_>>, SpecError> {
    let mut found = Vec::new();
    let mut position = 0;
    for parameter in text.split(',') {
        let start = position;
        position += parameter.len() + 1;
        if parameter.trim().is_empty() {
            continue;
        }
        found.push(Pair::at(parameter, start)?);
    }
    Ok(found)
}

/// Something that must be there is not.
pub(super) fn missing(text: &str, what: &str, parameter: &str) -> SpecError {
    let message = format!("{what} has no {parameter}.");
    SpecError::new(0..text.len(), message).help(format!("Add {parameter}=…"))
}
