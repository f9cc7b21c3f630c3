//! The metrics over HTTP, on the same socket: `curl --unix-socket …/control.sock http://localhost/metrics`.
//!
//! One request a connection, GET and HEAD of one path, and no more of the protocol than that: a body
//! is not read, nothing but the first line is looked at, and nothing can be changed this way.

use pv_stats::prometheus::CONTENT_TYPE;

use crate::machine::ControlError;

/// The longest head of a request, in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// An answer, but for the text of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16, &'static str);

const OK: Status = Status(200, "OK");
const NOT_FOUND: Status = Status(404, "Not Found");
const METHOD_NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
/// The head is longer than [`MAX_HEAD`].
pub const HEAD_TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");
const UNAVAILABLE: Status = Status(503, "Service Unavailable");
const OTHER_VERSION: Status = Status(505, "HTTP Version Not Supported");

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
}

impl<'a> RequestLine<'a> {
    /// Reads a line; `None` if it is not HTTP.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let http = words.next().is_none()
            && !method.is_empty()
            && method.bytes().all(|byte| byte.is_ascii_uppercase())
            && version.starts_with("HTTP/");
        http.then_some(Self {
            method,
            target,
            version,
        })
    }

    /// The whole answer. `metrics` makes the text, if that is what was asked for.
    pub fn answer(self, metrics: impl FnOnce() -> Result<String, ControlError>) -> Vec<u8> {
        let path = self.target.split('?').next().unwrap_or_default();
        let (status, text) = match (self.version, self.method, path) {
            ("HTTP/1.0" | "HTTP/1.1", "GET" | "HEAD", "/metrics") => match metrics() {
                Ok(text) => (OK, text),
                Err(error) => (UNAVAILABLE, format!("{error}\n")),
            },
            ("HTTP/1.0" | "HTTP/1.1", "GET" | "HEAD", _) => {
                (NOT_FOUND, "The metrics are at /metrics\n".into())
            }
            ("HTTP/1.0" | "HTTP/1.1", ..) => (
                METHOD_NOT_ALLOWED,
                "Only GET and HEAD are known here\n".into(),
            ),
            _ => (
                OTHER_VERSION,
                "Only HTTP/1.0 and 1.1 are known here\n".into(),
            ),
        };
        let mut answer = head(status, text.len());
        if self.method != "HEAD" {
            answer.extend(text.into_bytes());
        }
        answer
    }
}

/// An answer without text.
pub fn refusal(status: Status) -> Vec<u8> {
    head(status, 0)
}

fn head(Status(code, reason): Status, length: usize) -> Vec<u8> {
    let sort = match code {
        200 => CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    let allow = match code {
        405 => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {sort}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &[u8], metrics: Result<&str, &str>) -> Option<String> {
        let metrics = metrics
            .map(str::to_owned)
            .map_err(|error| ControlError(error.into()));
        let answer = RequestLine::parse(line)?.answer(|| metrics);
        Some(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn answers() {
        let ok = ask(b"GET /metrics HTTP/1.1\r\n", Ok("a 1\n")).unwrap();
        assert_eq!(
            ok,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\nConnection: close\r\n\r\na 1\n"
        );
        let head = ask(b"HEAD /metrics?x=y HTTP/1.0\n", Ok("a 1\n")).unwrap();
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"));
        for (line, begin) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP/1.1 404 "),
            (b"GET /metrics/ HTTP/1.1\r\n", "HTTP/1.1 404 "),
            (b"POST /metrics HTTP/1.1\r\n", "HTTP/1.1 405 "),
            (b"GET /metrics HTTP/2.0\r\n", "HTTP/1.1 505 "),
        ] {
            let answer = ask(line, Ok("a 1\n")).unwrap();
            assert!(answer.starts_with(begin), "{answer}");
        }
        let busy = ask(b"GET /metrics HTTP/1.1\r\n", Err("Later")).unwrap();
        assert!(busy.starts_with("HTTP/1.1 503 ") && busy.ends_with("\r\n\r\nLater\n"));
    }

    #[test]
    fn what_is_not_http() {
        for line in [
            &b"{\"version\":1,\"command\":\"info\"}\n"[..],
            b"GET /metrics\n",
            b"GET  /metrics HTTP/1.1\n",
            b" /metrics HTTP/1.1\n",
            b"get /metrics HTTP/1.1\n",
            b"GET /metrics HTTP/1.1 x\n",
            b"GET /\xff HTTP/1.1\n",
            b"\n",
        ] {
            assert_eq!(RequestLine::parse(line), None);
        }
    }
}
