//! Assignments out of tokens. An error costs the assignment it stands in; parsing goes on with the
//! next line that begins like one.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::document::{Located, Source, Value};
use crate::lexer::{Lexer, Token};

/// Lists in lists: none of xl's keys needs more than two, and the stack has an end.
const DEEPEST_LIST: usize = 16;

/// A file of another format (a Python program, an image) yields an error per line.
const MOST_ERRORS: usize = 20;

/// `=` or `+=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Assign,
    Append,
}

/// One assignment.
pub(crate) struct Statement {
    pub(crate) key: Located<String>,
    pub(crate) operator: Operator,
    pub(crate) value: Located<Value>,
}

/// Why a statement ended early; the diagnostic is written already.
struct Abandoned;

struct Parser<'a> {
    source: &'a Source,
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token,
    range: Range<usize>,
    errors: &'a mut Vec<Diagnostic>,
}

/// Parses a whole text. What cannot be parsed is reported in `errors` and left out.
pub(crate) fn parse_statements(source: &Source, errors: &mut Vec<Diagnostic>) -> Vec<Statement> {
    let mut lexer = Lexer::new(source.text());
    let (token, range) = lexer.next();
    let before = errors.len();
    let mut parser = Parser {
        source,
        text: source.text(),
        lexer,
        token,
        range,
        errors,
    };
    let mut statements = Vec::new();
    while parser.token != Token::End && parser.errors.len() - before < MOST_ERRORS {
        match parser.statement() {
            Ok(Some(statement)) => statements.push(statement),
            Ok(None) => {}
            Err(Abandoned) => parser.recover(),
        }
    }
    statements
}

impl Parser<'_> {
    /// Takes the current token and reads the next.
    fn advance(&mut self) -> (Token, Range<usize>) {
        let (token, range) = self.lexer.next();
        (
            std::mem::replace(&mut self.token, token),
            std::mem::replace(&mut self.range, range),
        )
    }

    fn fail<T>(&mut self, expected: &str, help: Option<&str>) -> Result<T, Abandoned> {
        let (message, help) = match &self.token {
            Token::Bad(message, help) => (message.clone(), help.clone()),
            token => (
                format!("Expected {expected}, found {}.", token.name()),
                help.map(str::to_owned),
            ),
        };
        self.errors
            .push(self.source.error(self.range.clone(), message, help));
        Err(Abandoned)
    }

    /// One assignment with its terminator, or an empty one.
    fn statement(&mut self) -> Result<Option<Statement>, Abandoned> {
        if matches!(self.token, Token::Newline | Token::Semicolon) {
            self.advance();
            return Ok(None);
        }
        if self.token != Token::Ident {
            return self.fail("a key", Some("An assignment looks like this: memory = 512"));
        }
        let (_, range) = self.advance();
        let name = self.text.get(range.clone()).unwrap_or("").to_owned();
        let operator = match self.token {
            Token::Assign => Operator::Assign,
            Token::Append => Operator::Append,
            _ => return self.fail("\"=\" or \"+=\" after the key", None),
        };
        self.advance();
        let value = self.value(0)?;
        self.terminator(&value)?;
        Ok(Some(Statement {
            key: Located::new(name, range),
            operator,
            value,
        }))
    }

    fn terminator(&mut self, value: &Located<Value>) -> Result<(), Abandoned> {
        match self.token {
            Token::Newline | Token::Semicolon => {
                self.advance();
                Ok(())
            }
            Token::End => Ok(()),
            _ if value.ends_at(self.range.start) && self.at_letter() => {
                let help = "Numbers have no unit (memory is in MiB); other values need quotes.";
                let message = "This is no number, and no string in quotes.";
                self.errors.push(
                    self.source
                        .error(self.range.clone(), message, Some(help.into())),
                );
                Err(Abandoned)
            }
            _ => self.fail(
                "the end of the line after the value",
                Some("Put one assignment on a line, or \";\" between two."),
            ),
        }
    }

    fn at_letter(&self) -> bool {
        let rest = self.text.get(self.range.start..).unwrap_or("");
        rest.starts_with(char::is_alphabetic)
    }

    fn value(&mut self, depth: usize) -> Result<Located<Value>, Abandoned> {
        match &self.token {
            Token::Text(_) | Token::Number => {}
            Token::Open => return self.list(depth),
            Token::Ident => return self.fail("a value", Some("Strings need quotes.")),
            _ => {
                let help = "A value is a string in quotes, a number, or a list in [ ].";
                return self.fail("a value", Some(help));
            }
        }
        let (token, range) = self.advance();
        let value = match token {
            Token::Text(text) => Value::String(text),
            _ => Value::Number(self.text.get(range.clone()).unwrap_or("").to_owned()),
        };
        Ok(Located::new(value, range))
    }

    /// From `[` to its `]`.
    fn list(&mut self, depth: usize) -> Result<Located<Value>, Abandoned> {
        if depth == DEEPEST_LIST {
            return self.fail("a value that is not one more list in a list", None);
        }
        let (_, open) = self.advance();
        let mut items = Vec::new();
        loop {
            self.newlines();
            if self.token == Token::Close {
                break;
            }
            if self.token == Token::End {
                return self.fail_open(open);
            }
            items.push(self.value(depth + 1)?);
            self.newlines();
            match self.token {
                Token::Comma => self.advance(),
                Token::Close => break,
                Token::End => return self.fail_open(open),
                _ => return self.fail("a comma or \"]\" after the item of the list", None),
            };
        }
        let (_, close) = self.advance();
        Ok(Located::new(Value::List(items), open.start..close.end))
    }

    fn fail_open<T>(&mut self, open: Range<usize>) -> Result<T, Abandoned> {
        let help = Some("Add the closing ].".into());
        self.errors.push(
            self.source
                .error(open, "The list that begins here is not closed.", help),
        );
        Err(Abandoned)
    }

    fn newlines(&mut self) {
        while self.token == Token::Newline {
            self.advance();
        }
    }

    /// Skips to the next line that begins like an assignment: the rest of a list or of a Python
    /// statement would only give errors that are none.
    fn recover(&mut self) {
        loop {
            while !matches!(self.token, Token::Newline | Token::End) {
                self.advance();
            }
            self.newlines();
            let mut ahead = self.lexer.clone();
            let assignment = self.token == Token::Ident
                && matches!(ahead.next().0, Token::Assign | Token::Append);
            if assignment || self.token == Token::End {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::document::parse;

    fn accepts(text: &str, printed: &str) {
        assert_eq!(parse(text, "f").unwrap().to_string(), printed, "{text}");
    }

    fn refuses(text: &str, start: &str) {
        let errors = parse(text, "f").expect_err(text).to_string();
        assert!(errors.starts_with(start), "{text}: {errors}");
    }

    #[test]
    fn assignments_and_their_separators() {
        accepts("", "");
        accepts("\n\n  \t\nmemory=64\n\n", "memory = 64\n");
        accepts("memory=64;vcpus=2", "memory = 64\nvcpus = 2\n");
        accepts("memory=64;;vcpus=2;\n;", "memory = 64\nvcpus = 2\n");
        accepts("memory = 64 ;# x\n vcpus = 2", "memory = 64\nvcpus = 2\n");
        accepts(
            "memory=64#c\n#d\nname='a#b'",
            "memory = 64\nname = \"a#b\"\n",
        );
    }

    #[test]
    fn lists() {
        accepts("a=[]", "a = []\n");
        accepts("a=[\n]", "a = []\n");
        accepts("a=['x',\n\n'y',\n]", "a = [\"x\", \"y\"]\n");
        accepts("a=[\n\n'x'\n\n,\n'y'\n]\n", "a = [\"x\", \"y\"]\n");
        accepts("a=['x' #c\n]", "a = [\"x\"]\n");
        accepts("a=[[1,'x'],2]", "a = [[1, \"x\"], 2]\n");
        refuses("a=['x',,'y']", "f:1:8: Expected a value, found a comma.");
        refuses("a=[,]", "f:1:4: ");
        refuses("a=['x' 'y']", "f:1:8: Expected a comma or \"]\"");
        refuses(
            "a=1\nb=['x'\n",
            "f:2:3: The list that begins here is not closed.",
        );
        refuses(
            &format!("a={}", "[".repeat(100_000)),
            "f:1:19: Expected a value that is not",
        );
    }

    #[test]
    fn what_libxlutil_refuses() {
        refuses(
            "memory=64 vcpus=2",
            "f:1:11: Expected the end of the line after the value, found a bare",
        );
        refuses("memory=64k", "f:1:10: This is no number");
        refuses("memory=64M", "f:1:10: This is no number");
        refuses("memory=0xg", "f:1:10: ");
        refuses("memory=-4", "f:1:8: A number has no sign here.");
        refuses(
            "memory=\n64",
            "f:1:8: Expected a value, found the end of the line.",
        );
        refuses(
            "memory\n=64",
            "f:1:7: Expected \"=\" or \"+=\" after the key, found the end",
        );
        refuses(
            "memory=64\r\n",
            "f:1:10: The line ends with a carriage return.",
        );
        refuses("a-b=1", "f:1:2: ");
        refuses("A=1", "f:1:1: \"A\" is no key.");
        refuses("1a=1", "f:1:1: Expected a key, found a number.");
        refuses("a+ =1", "f:1:2: ");
        refuses("localtime=True", "f:1:11: \"True\" is no value");
        refuses("a=b", "f:1:3: Expected a value, found a bare word.");
        refuses("a='x", "f:1:3: The string is not closed");
        refuses("a='\\q'", "f:1:3: \"\\\\q\" is no escape.");
        refuses("=4", "f:1:1: ");
        refuses("[", "f:1:1: ");
        refuses("$", "f:1:1: ");
    }

    #[test]
    fn every_bad_assignment_is_reported_once() {
        let errors = parse("a=\nb=1\nc=[1,\n2 3,\n4]\nd=?\n", "f").unwrap_err();
        let places: Vec<String> = errors
            .errors
            .iter()
            .map(|e| e.location.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(places, ["f:1:3", "f:4:3", "f:6:3"]);
    }

    #[test]
    fn a_file_of_another_kind_does_not_flood() {
        let python = "import os\n".repeat(1000) + &"a = os\n".repeat(1000);
        assert_eq!(
            parse(&python, "f").unwrap_err().errors.len(),
            super::MOST_ERRORS
        );
    }
}
