//! libxl's JSON: written byte for byte as libxl does it, with the layout of yajl, and read back.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter};

use crate::libxl::DomainConfig;

/// What `xl create -n` prints and, in a list, `xl list -l`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Number of the domain; `None` before it exists.
    pub domid: Option<u32>,
    /// Everything else.
    pub config: DomainConfig,
}

/// Writes `value` with yajl's indentation, without a newline at the end.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Yajl::default());
    value.serialize(&mut serializer)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

impl DomainConfig {
    /// The JSON that libxl keeps of a running domain (`libxl-json` of its user data).
    ///
    /// # Errors
    /// None is known: every configuration has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        to_string(self)
    }

    /// Reads libxl's JSON. What this crate does not know is left out.
    ///
    /// # Errors
    /// It is not JSON, or a known field has another type.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        // libxl ends its user data with a NUL.
        serde_json::from_str(text.trim_end_matches('\0'))
    }
}

impl Listing {
    /// What `xl create -n` prints of `config`, without the newline at the end.
    ///
    /// # Errors
    /// None is known.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        to_string(self)
    }
}

/// yajl's layout: four blanks a level, and an empty map or list is two lines.
#[derive(Default)]
struct Yajl {
    depth: usize,
}

impl Yajl {
    fn open<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(bracket)?;
        writer.write_all(b"\n")
    }

    fn close<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"\n")?;
        self.indent(writer)?;
        writer.write_all(bracket)
    }

    fn item<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",\n")?;
        }
        self.indent(writer)
    }

    fn indent<W: io::Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        (0..self.depth).try_for_each(|_| writer.write_all(b"    "))
    }
}

impl Formatter for Yajl {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u00{byte:02X}"),
        }
    }
}
