//! Tokens of an xl.cfg text.

use std::ops::Range;

use crate::diagnostic::quote;

/// What a piece of text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A key: a lower case letter, then lower case letters, digits and `_`.
    Ident,
    /// Digits, `a`-`f` and `x` after a digit; libxlutil checks no more here, and neither do we.
    Number,
    /// A quoted string, escapes resolved.
    Text(String),
    /// `=`
    Assign,
    /// `+=`
    Append,
    /// `,`
    Comma,
    /// `[`
    Open,
    /// `]`
    Close,
    /// `;`
    Semicolon,
    /// End of a line.
    Newline,
    /// End of the text.
    End,
    /// No token; the message and how to mend it.
    Bad(String, Option<String>),
}

impl Token {
    /// How a message names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Token::Ident => "a bare word",
            Token::Number => "a number",
            Token::Text(_) => "a string",
            Token::Assign => "\"=\"",
            Token::Append => "\"+=\"",
            Token::Comma => "a comma",
            Token::Open => "\"[\"",
            Token::Close => "\"]\"",
            Token::Semicolon => "\";\"",
            Token::Newline => "the end of the line",
            Token::End => "the end of the text",
            Token::Bad(..) => "an unreadable character",
        }
    }
}

/// Cuts a text into tokens. After [`Token::End`] it yields `End` for ever.
#[derive(Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer { text, position: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or("")
    }

    /// Takes characters as long as `wanted` likes them.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.position += length;
        rest.get(..length).unwrap_or("")
    }

    /// The next token and the bytes it covers. Blanks and comments are none.
    pub(crate) fn next(&mut self) -> (Token, Range<usize>) {
        self.take_while(|c| c == ' ' || c == '\t');
        if self.rest().starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        let start = self.position;
        let token = match self.rest().chars().next() {
            None => Token::End,
            Some('a'..='z') => {
                self.take_while(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.'));
                Token::Ident
            }
            Some('0'..='9') => {
                self.take_while(|c| matches!(c, '0'..='9' | 'a'..='f' | 'x'));
                Token::Number
            }
            Some(quote @ ('\'' | '"')) => self.string(quote),
            Some(c) => self.punctuation(c),
        };
        (token, start..self.position)
    }

    fn punctuation(&mut self, c: char) -> Token {
        self.position += c.len_utf8();
        match c {
            '\n' => Token::Newline,
            '=' => Token::Assign,
            ',' => Token::Comma,
            '[' => Token::Open,
            ']' => Token::Close,
            ';' => Token::Semicolon,
            '+' if self.rest().starts_with('=') => {
                self.position += 1;
                Token::Append
            }
            '+' | '-' => bad("A number has no sign here.", "Write a plain number."),
            '\r' => bad(
                "The line ends with a carriage return.",
                "Save the file with Unix line ends; xl refuses this too.",
            ),
            'A'..='Z' | '_' => {
                let start = self.position - c.len_utf8();
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                let word = self.text.get(start..self.position).unwrap_or("");
                match word {
                    "True" | "False" => bad(
                        format!("{} is no value in xl.cfg.", quote(word)),
                        "Write 1 for true and 0 for false.",
                    ),
                    _ => bad(
                        format!("{} is no key.", quote(word)),
                        "Keys are lower case; strings need quotes.",
                    ),
                }
            }
            _ => {
                let c = quote(&c.to_string());
                Token::Bad(format!("{c} has no meaning here."), None)
            }
        }
    }

    /// A string: neither a line end nor the end of the text may come before the closing quote.
    fn string(&mut self, quote: char) -> Token {
        self.position += 1;
        let mut bytes = Vec::new();
        let mut wrong = None;
        loop {
            let plain = self.take_while(|c| c != quote && c != '\\' && c != '\n' && c != '\0');
            bytes.extend_from_slice(plain.as_bytes());
            match self.rest().chars().next() {
                Some('\\') => match self.escape() {
                    Ok(byte) => bytes.push(byte),
                    Err(message) => wrong = wrong.or(Some(message)),
                },
                Some('\0') => {
                    self.position += 1;
                    wrong = wrong.or(Some("A string cannot hold a NUL character.".into()));
                }
                Some(c) if c == quote => {
                    self.position += 1;
                    break;
                }
                _ => {
                    return bad(
                        "The string is not closed before the end of the line.",
                        format!("Add the closing {quote}; write \\n for a line end in a string."),
                    );
                }
            }
        }
        match (wrong, String::from_utf8(bytes)) {
            (Some(message), _) => Token::Bad(message, Some(ESCAPES.into())),
            (None, Ok(text)) => Token::Text(text),
            (None, Err(_)) => bad(
                "The \\x or octal escapes of the string give bytes that are not UTF-8.",
                "Write the characters themselves.",
            ),
        }
    }

    /// One escape, from its backslash. A NUL is refused, as by libxlutil: its strings end there.
    fn escape(&mut self) -> Result<u8, String> {
        let start = self.position;
        self.position += 1;
        let Some(c) = self.rest().chars().next().filter(|c| *c != '\n') else {
            return Ok(b'\\'); // The string is not closed: the caller finds that next.
        };
        let simple = match c {
            'n' => Some(b'\n'),
            't' => Some(b'\t'),
            'a' => Some(0x07),
            'b' => Some(0x08),
            'f' => Some(0x0c),
            'v' => Some(0x0b),
            'r' => Some(b'\r'),
            '\\' | '\'' | '"' => Some(c as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            self.position += 1;
            return Ok(byte);
        }
        let (skip, digits, radix) = match c {
            'x' => (1, 2, 16),
            '0'..='7' => (0, 3, 8),
            _ => {
                self.position += c.len_utf8();
                return Err(format!("{} is no escape.", quote(&format!("\\{c}"))));
            }
        };
        self.position += skip;
        let from = self.position;
        let digits = self
            .rest()
            .get(..digits)
            .filter(|d| d.chars().all(|c| c.is_digit(radix)));
        self.position += digits.map_or(0, str::len);
        let value = digits
            .and_then(|d| u8::from_str_radix(d, radix).ok())
            .filter(|v| *v != 0);
        let shown = self.text.get(start..from.max(self.position)).unwrap_or("");
        value.ok_or_else(|| format!("{} is no character.", quote(shown)))
    }
}

const ESCAPES: &str = "Known escapes: \\n \\t \\a \\b \\f \\v \\r \\\\ \\' \\\" \\xHH (two digits) \\ooo (three digits).";

fn bad(message: impl Into<String>, help: impl Into<String>) -> Token {
    Token::Bad(message.into(), Some(help.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut lexer = Lexer::new(text);
        let mut all = Vec::new();
        loop {
            let (token, _) = lexer.next();
            if token == Token::End {
                return all;
            }
            all.push(token);
        }
    }

    fn string(text: &str) -> Result<String, String> {
        match tokens(text).as_slice() {
            [Token::Text(value)] => Ok(value.clone()),
            [Token::Bad(message, _)] => Err(message.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blanks_and_comments_are_skipped() {
        assert_eq!(
            tokens("memory\t=0x40 # é\n;"),
            [
                Token::Ident,
                Token::Assign,
                Token::Number,
                Token::Newline,
                Token::Semicolon
            ]
        );
    }

    #[test]
    fn escapes() {
        assert_eq!(
            string(r#"'\n\t\a\b\f\v\r\\\'\"\x41\102'"#).unwrap(),
            "\n\t\x07\x08\x0c\x0b\r\\'\"AB"
        );
        assert_eq!(string(r"'\xc3\xa9'").unwrap(), "é");
        assert_eq!(string(r#"'a"b'"#).unwrap(), "a\"b");
        for wrong in [
            r"'\q'", r"'\x4g'", r"'\7z'", r"'\1'", r"'\x0'", r"'\x00a'", r"'\400'", r"'\xe9'",
            "'\0'",
        ] {
            assert!(string(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_string_ends_with_its_line() {
        for text in ["'x", "'x\n", "'x\\", "'x\\\n"] {
            assert!(
                matches!(tokens(text).first(), Some(Token::Bad(m, _)) if m.contains("closed")),
                "{text}"
            );
        }
    }
}
