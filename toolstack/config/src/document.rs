//! The text of a configuration as keys with located values, nothing interpreted.
//!
//! Grammar (what libxlutil accepts):
//!
//! ```text
//! text       = [ assignment ] { ( newline | ";" ) [ assignment ] }
//! assignment = key ( "=" | "+=" ) value
//! value      = string | number | "[" { newline } [ value { newline } { "," { newline } value … } [ "," ] ] "]"
//! key        = a lower case letter, then lower case letters, digits, "_", "."
//! comment    = "#" to the end of the line
//! ```
//!
//! Newlines may stand anywhere between the parts of a list. A later assignment replaces an earlier
//! one; `+=` joins strings and lists. Strings and numbers are interchangeable: `memory="64"` and
//! `name=7` are fine.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{ConfigErrors, Diagnostic, Location, Severity, SpecError};
use crate::parser::{Operator, Statement, parse_statements};

/// Some bytes of one of a [`Document`]'s texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    source: usize,
    start: usize,
    end: usize,
}

/// Something read from a text, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// The right-hand side of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A quoted string.
    String(String),
    /// A number as it was written: decimal, `0x` hexadecimal or `0` octal. It may still turn out
    /// not to be one (`09`), see [`Value::integer`].
    Number(String),
    /// A list.
    List(Vec<Located<Value>>),
}

impl Value {
    /// The characters of a string or number; `None` for a list.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::Number(text) => Some(text),
            Value::List(_) => None,
        }
    }

    /// The items of a list; `None` for a string or number.
    pub fn items(&self) -> Option<&[Located<Value>]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The integer in a number or string, by the rules of C's `strtol` with base 0: blanks before
    /// it, a sign, then decimal, `0x` hexadecimal or `0` octal digits and nothing after them.
    pub fn integer(&self) -> Option<i64> {
        integer(self.text()?)
    }
}

/// See [`Value::integer`].
pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (digits, radix) = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X"))
    {
        (hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (digits, 8)
    } else {
        (digits, 10)
    };
    if digits.starts_with(['-', '+']) {
        return None; // from_str_radix would take a second sign.
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// Writes the value so that it parses to the same value again.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(text) => f.write_str(text),
            Value::String(text) => write_string(f, text),
            Value::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{}", item.value)?;
                }
                f.write_str("]")
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            '\u{1}'..='\u{1f}' | '\u{7f}' => write!(f, "\\x{:02x}", u32::from(c))?,
            _ => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// A text that was parsed.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: Arc<str>,
    text: String,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Source {
            name: name.into(),
            text: text.into(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of bytes of this text.
    pub(crate) fn location(&self, range: Range<usize>) -> Location {
        let before = self.text.get(..range.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self
            .text
            .get(line_start..)
            .and_then(|rest| rest.split('\n').next());
        let line = line.unwrap_or("");
        let covered = self
            .text
            .get(range.start..range.end.min(line_start + line.len()));
        Location {
            file: self.name.clone(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before.get(line_start..).map_or(0, |s| s.chars().count()),
            width: covered.map_or(0, |s| s.chars().count()).max(1),
            text: line.trim_end_matches('\r').into(),
        }
    }

    pub(crate) fn error(
        &self,
        range: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            location: Ok(self.location(range)),
            message: message.into(),
            help,
        }
    }
}

/// One key and what it was last set to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key was set, or last added to.
    pub key: Span,
    /// The value.
    pub value: Located<Value>,
}

/// A parsed configuration: one file, and what was put on top of it.
#[derive(Clone, Debug)]
pub struct Document {
    sources: Vec<Source>,
    entries: BTreeMap<String, Entry>,
    warnings: Vec<Diagnostic>,
}

/// Parses a configuration text.
///
/// `file_name` is only used in messages.
///
/// # Errors
/// Every syntax error that was found.
pub fn parse(text: &str, file_name: &str) -> Result<Document, ConfigErrors> {
    parse_with_overrides::<&str>(text, file_name, &[])
}

/// Parses a file and then, on top of it, assignments from the command line, as
/// `xl create web.cfg 'memory=512' 'vcpus=2'` does: they are further lines. In messages they are
/// lines of a text called `command line`, the first argument being line 1.
///
/// # Errors
/// Every syntax error that was found in any of the texts.
pub fn parse_with_overrides<S: AsRef<str>>(
    text: &str,
    file_name: &str,
    overrides: &[S],
) -> Result<Document, ConfigErrors> {
    let mut document = Document {
        sources: Vec::new(),
        entries: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let mut errors = Vec::new();
    document.add(Source::new(file_name, text), &mut errors);
    let lines: Vec<&str> = overrides.iter().map(AsRef::as_ref).collect();
    document.add(Source::new("command line", &lines.join("\n")), &mut errors);
    if errors.is_empty() {
        Ok(document)
    } else {
        Err(ConfigErrors {
            errors,
            warnings: document.warnings,
        })
    }
}

/// [`parse`] for bytes read from a file.
///
/// # Errors
/// As [`parse`], and when the bytes are not UTF-8.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Document, ConfigErrors> {
    let wrong = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(text, file_name),
        Err(wrong) => wrong.valid_up_to(),
    };
    let text = String::from_utf8_lossy(bytes);
    let error = Source::new(file_name, &text).error(
        wrong..wrong + 1,
        "The text is not UTF-8 from here on.",
        Some("Save the file as UTF-8.".into()),
    );
    Err(ConfigErrors {
        errors: vec![error],
        warnings: Vec::new(),
    })
}

impl Document {
    fn add(&mut self, source: Source, errors: &mut Vec<Diagnostic>) {
        let statements = parse_statements(&source, errors);
        let index = self.sources.len();
        self.sources.push(source);
        for statement in statements {
            if let Err(error) = self.execute(index, statement) {
                errors.push(error);
            }
        }
    }

    fn execute(&mut self, source: usize, statement: Statement) -> Result<(), Diagnostic> {
        let name = statement.key.value.clone();
        let key = Span {
            source,
            start: statement.key.span.start,
            end: statement.key.span.end,
        };
        let mut value = statement.value;
        set_source(&mut value, source);
        let Some(old) = self.entries.get_mut(&name) else {
            self.entries.insert(name, Entry { key, value });
            return Ok(());
        };
        match statement.operator {
            Operator::Assign => {
                let earlier = std::mem::replace(old, Entry { key, value }).key;
                if earlier.source == source {
                    self.warn_replaced(&name, earlier, key);
                }
                Ok(())
            }
            Operator::Append => {
                let span = value.span;
                let joined = append(&mut old.value.value, value.value);
                (old.key, old.value.span) = (key, span);
                joined.map_err(|message| self.error(span, message, None))
            }
        }
    }

    fn warn_replaced(&mut self, name: &str, earlier: Span, key: Span) {
        let line = self.location(earlier).line;
        let mut warning = self.error(
            key,
            format!("{name} is set again here; its value from line {line} is dropped."),
            Some("Remove one of the two, or use += to add to a string or list.".into()),
        );
        warning.severity = Severity::Warning;
        self.warnings.push(warning);
    }

    /// What `key` was set to.
    pub fn get(&self, key: &str) -> Option<&Located<Value>> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Every key that was set, in alphabetical order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// What was odd but not wrong.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The name of the file, as given to the parser.
    pub fn file_name(&self) -> Arc<str> {
        self.sources
            .first()
            .map_or_else(|| "".into(), |source| source.name.clone())
    }

    /// Line and column of `span`, which must be of this document.
    pub fn location(&self, span: Span) -> Location {
        match self.sources.get(span.source) {
            Some(source) => source.location(span.start..span.end),
            None => Source::new("", "").location(0..0),
        }
    }

    /// An error at `span`: also for later stages that find a file missing or unfit.
    pub fn error(
        &self,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            location: Ok(self.location(span)),
            message: message.into(),
            help,
        }
    }

    /// An error about the value of `key`, or about the file as a whole where `key` is not set.
    pub fn error_at(
        &self,
        key: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let mut error = Diagnostic {
            severity: Severity::Error,
            location: Err(self.file_name()),
            message: message.into(),
            help,
        };
        if let Some(value) = self.get(key) {
            error.location = Ok(self.location(value.span));
        }
        error
    }

    /// Turns an error in a string into one in the file.
    pub(crate) fn spec_error(&self, value: &Located<Value>, error: SpecError) -> Diagnostic {
        self.error(self.inside(value, error.range), error.message, error.help)
    }

    /// The place of some bytes of a string value. Where escapes or `+=` make that hard to tell it
    /// is the whole string.
    fn inside(&self, value: &Located<Value>, range: Range<usize>) -> Span {
        let Span { source, start, end } = value.span;
        let raw = self
            .sources
            .get(source)
            .and_then(|source| source.text.get(start..end));
        let quote = matches!(value.value, Value::String(_)) as usize;
        let plain = raw.and_then(|raw| raw.get(quote..raw.len().saturating_sub(quote)));
        if plain.is_some() && plain == value.value.text() {
            let limit = end - quote;
            let start = (start + quote + range.start).min(limit);
            Span {
                source,
                start,
                end: (start + range.len()).min(limit),
            }
        } else {
            value.span
        }
    }
}

/// Two documents are the same when they set the same keys to the same values.
impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        let entries = |document: &Document| {
            document
                .entries()
                .map(|(k, e)| (k.to_owned(), plain(&e.value.value)))
                .collect::<Vec<_>>()
        };
        entries(self) == entries(other)
    }
}

/// A value without places.
fn plain(value: &Value) -> Value {
    let nowhere = Span {
        source: 0,
        start: 0,
        end: 0,
    };
    match value {
        Value::List(items) => Value::List(
            items
                .iter()
                .map(|i| Located {
                    value: plain(&i.value),
                    span: nowhere,
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Writes every key on a line of its own, in alphabetical order.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries()
            .try_for_each(|(key, entry)| writeln!(f, "{key} = {}", entry.value.value))
    }
}

impl Located<Value> {
    /// Whether it is a number whose last byte is the one before `position`.
    pub(crate) fn ends_at(&self, position: usize) -> bool {
        matches!(self.value, Value::Number(_)) && self.span.end == position
    }
}

impl<T> Located<T> {
    /// A value at some bytes of the text being parsed; [`set_source`] says later which that is.
    pub(crate) fn new(value: T, range: Range<usize>) -> Self {
        Located {
            value,
            span: Span {
                source: 0,
                start: range.start,
                end: range.end,
            },
        }
    }
}

fn set_source(value: &mut Located<Value>, source: usize) {
    value.span.source = source;
    if let Value::List(items) = &mut value.value {
        items.iter_mut().for_each(|item| set_source(item, source));
    }
}

fn append(old: &mut Value, new: Value) -> Result<(), String> {
    match (old, new) {
        (Value::String(old), Value::String(new)) => old.push_str(&new),
        (Value::List(old), Value::List(new)) => old.extend(new),
        (Value::Number(_), _) | (_, Value::Number(_)) => {
            return Err("+= joins strings or lists, not numbers.".into());
        }
        (Value::List(_), _) => {
            return Err("+= cannot add a string to a list: put it in [ ].".into());
        }
        (_, Value::List(_)) => return Err("+= cannot add a list to a string.".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_strtol() {
        let good = [
            ("64", 64),
            ("0x40", 64),
            ("0100", 64),
            (" 64", 64),
            ("0", 0),
            ("-4", -4),
            ("+4", 4),
        ];
        for (text, value) in good {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "",
            "64 ",
            "09",
            "64k",
            "0x",
            "--4",
            "0x-4",
            "99999999999999999999",
            "é",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_inside_a_string_points_at_its_characters() {
        let document = parse("a='x'\ndisk = [ 'é/a,bad,xvda' ]", "f").unwrap();
        let item = &document.get("disk").unwrap().value.items().unwrap()[0];
        let error = document.spec_error(item, SpecError::new(5..8, "Bad."));
        let location = error.location.unwrap();
        assert_eq!((location.line, location.column, location.width), (2, 15, 3));
    }

    #[test]
    fn with_escapes_it_points_at_the_whole_string() {
        let document = parse(r"disk = '\x41bc'", "f").unwrap();
        let error =
            document.spec_error(document.get("disk").unwrap(), SpecError::new(1..2, "Bad."));
        let location = error.location.unwrap();
        assert_eq!((location.column, location.width), (8, 8));
    }

    #[test]
    fn a_later_assignment_wins_with_a_warning() {
        let document = parse("memory=1\nvcpus=2\nmemory=3\n", "f").unwrap();
        assert_eq!(
            document.get("memory").unwrap().value,
            Value::Number("3".into())
        );
        let text = document.warnings()[0].to_string();
        assert!(
            text.starts_with("f:3:1: Warning: memory is set again here; its value from line 1"),
            "{text}"
        );
    }

    #[test]
    fn arguments_override_in_silence_and_have_places_of_their_own() {
        let document = parse_with_overrides("memory=1", "f", &["vcpus=2", "memory=3"]).unwrap();
        assert_eq!(document.get("memory").unwrap().value.integer(), Some(3));
        assert_eq!(document.warnings(), []);
        let location = document.location(document.get("memory").unwrap().span);
        assert_eq!(location.to_string(), "command line:2:8");
        let errors = parse_with_overrides("memory=1", "f", &["vcpus"]).unwrap_err();
        assert!(
            errors.to_string().starts_with("command line:1:6: "),
            "{errors}"
        );
    }

    #[test]
    fn append() {
        let document = parse("extra='a'\nextra+='b'\ndisk+=['x']\ndisk+=['y',['z']]", "f").unwrap();
        assert_eq!(document.get("extra").unwrap().value.text(), Some("ab"));
        assert_eq!(
            document.get("disk").unwrap().value.to_string(),
            r#"["x", "y", ["z"]]"#
        );
        for wrong in [
            "a='x'\na+=['y']",
            "a=['x']\na+='y'",
            "a=1\na+=2",
            "a='1'\na+=2",
        ] {
            let errors = parse(wrong, "f").unwrap_err();
            assert!(errors.to_string().starts_with("f:2:4: += "), "{errors}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        let errors = parse_bytes(b"a='x'\nb='\xff'", "f").unwrap_err();
        assert!(errors.to_string().starts_with("f:2:4: "), "{errors}");
    }
}
