//! Where a Network Block Device is (the project's `doc/uri.md`).

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::MediumError;

/// IANA's port of NBD.
const PORT: u16 = 10809;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Seconds of silence before the server is asked whether it is there; four times that is too long.
const KEEP_ALIVE: u32 = 5;

/// `nbd://host[:port]/export` or `nbd+unix:///export?socket=path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdUri {
    text: String,
    at: Address,
    export: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl NbdUri {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Name of the export; empty is the server's default.
    pub fn export(&self) -> &str {
        &self.export
    }

    /// Connects.
    ///
    /// # Errors
    /// The host's.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        match &self.at {
            Address::Unix(path) => Ok(UnixStream::connect(path)?.into()),
            Address::Tcp(host, port) => {
                let stream = tcp_stream(host, *port)?;
                stream.set_nodelay(true)?;
                // A server whose machine is gone says nothing.
                setsockopt(&stream, sockopt::KeepAlive, &true)?;
                setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_ALIVE)?;
                setsockopt(&stream, sockopt::TcpKeepInterval, &KEEP_ALIVE)?;
                setsockopt(&stream, sockopt::TcpUserTimeout, &(4 * 1000 * KEEP_ALIVE))?;
                Ok(stream.into())
            }
        }
    }
}

/// At the first of the host's addresses that answers.
fn tcp_stream(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for NbdUri {
    type Err = MediumError;

    fn from_str(text: &str) -> Result<Self, MediumError> {
        let (at, export) = parse(text).map_err(|why| {
            MediumError::Spec(format!(
                "{text:?} is no NBD URI: {why}. Write nbd://host:port/export or nbd+unix:///export?socket=path"
            ))
        })?;
        Ok(Self {
            text: text.to_owned(),
            at,
            export,
        })
    }
}

fn parse(text: &str) -> Result<(Address, String), String> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no \"://\"")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let export = unescape(path)?;
    if export.len() > 4096 {
        return Err("the export's name is longer than 4096 bytes".into());
    }
    let at = match scheme {
        "nbd" => tcp(authority)?,
        "nbd+unix" => {
            let socket = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("socket="));
            let socket = socket.filter(|path| !path.is_empty());
            Address::Unix(unescape(socket.ok_or("it has no socket=path")?)?.into())
        }
        "nbds" | "nbds+unix" => {
            return Err("TLS is not supported: tunnel it, by ssh or stunnel".into());
        }
        other => return Err(format!("the scheme {other:?} is not known")),
    };
    Ok((at, export))
}

fn tcp(authority: &str) -> Result<Address, String> {
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("\"[\" has no \"]\"")?;
            (host, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("it has no host".into());
    }
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port.parse().map_err(|_| format!("{port:?} is no port"))?,
    };
    Ok(Address::Tcp(unescape(host)?, port))
}

/// Percent-encoding.
fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.ok_or("\"%\" is not followed by two hexadecimal digits")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_exports() {
        let tcp =
            |host: &str, port, export: &str| (Address::Tcp(host.into(), port), export.to_owned());
        let cases = [
            ("nbd://host", tcp("host", 10809, "")),
            ("nbd://host/", tcp("host", 10809, "")),
            ("nbd://host:99/a/b%20c", tcp("host", 99, "a/b c")),
            ("nbd://[::1]:7/x", tcp("::1", 7, "x")),
            ("nbd://me@[::1]/x", tcp("::1", 10809, "x")),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        let unix = parse("nbd+unix:///disk?tls=no&socket=/run/a%2fb").unwrap();
        assert_eq!(unix, (Address::Unix("/run/a/b".into()), "disk".into()));
    }

    #[test]
    fn tls_is_refused_by_name() {
        for text in ["nbds://host/x", "nbds+unix:///x?socket=/s"] {
            let error = text.parse::<NbdUri>().unwrap_err().to_string();
            assert!(error.contains("TLS is not supported"), "{error}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused_with_the_form() {
        for text in [
            "",
            "host",
            "ftp://a",
            "nbd://",
            "nbd://h:70000",
            "nbd+unix:///x",
            "nbd://h/%zz",
        ] {
            let error = text.parse::<NbdUri>().unwrap_err().to_string();
            assert!(error.contains("Write nbd://host:port/export"), "{error}");
        }
    }
}
