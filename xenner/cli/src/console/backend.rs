//! Where a domain's console is: the `--console` option.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use super::{Console, Writer, pump};
use crate::rundir::{CONSOLE, RunDir};
use crate::sandbox::{self, Role};

/// How many clients may follow a console socket at a time.
const MAX_CLIENTS: usize = 16;

/// Where the console goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleSpec {
    /// Standard input and output of `xenner run`.
    Stdio,
    /// A pseudo-terminal.
    Pty,
    /// A listening UNIX socket.
    Socket(PathBuf),
    /// The end of a file.
    File(PathBuf),
    /// Only `xenner console`.
    None,
}

/// Not a value of `--console`.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is no console; use stdio, pty, socket:PATH, file:PATH or none")]
pub struct NoConsole(String);

impl FromStr for ConsoleSpec {
    type Err = NoConsole;

    fn from_str(text: &str) -> Result<ConsoleSpec, NoConsole> {
        match text.split_once(':') {
            None if text == "stdio" => Ok(ConsoleSpec::Stdio),
            None if text == "pty" => Ok(ConsoleSpec::Pty),
            None if text == "none" => Ok(ConsoleSpec::None),
            Some(("socket", path)) if !path.is_empty() => Ok(ConsoleSpec::Socket(path.into())),
            Some(("file", path)) if !path.is_empty() => Ok(ConsoleSpec::File(path.into())),
            _ => Err(NoConsole(text.to_owned())),
        }
    }
}

impl std::fmt::Display for ConsoleSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConsoleSpec::Stdio => f.write_str("stdio"),
            ConsoleSpec::Pty => f.write_str("pty"),
            ConsoleSpec::Socket(path) => write!(f, "socket:{}", path.display()),
            ConsoleSpec::File(path) => write!(f, "file:{}", path.display()),
            ConsoleSpec::None => f.write_str("none"),
        }
    }
}

/// A console that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "Cannot open the console {spec}: {source}; choose another place with --console, or --console none"
)]
pub struct OpenError {
    spec: ConsoleSpec,
    source: io::Error,
}

/// An open console. Dropping it removes what it left in the file system.
pub struct Backend {
    kind: Kind,
    text: String,
    remove: Option<PathBuf>,
}

enum Kind {
    Terminal(UnixStream),
    Pty(OwnedFd, OwnedFd),
    Socket(UnixListener),
    File(std::fs::File),
    None,
}

/// A console in use.
pub struct Running {
    done: Receiver<()>,
    patience: Option<Duration>,
    /// Kept for the removal.
    _backend: Backend,
}

impl Backend {
    /// Opens what `spec` names. `terminal` is the connection to the process in the foreground.
    pub fn open(
        spec: &ConsoleSpec,
        terminal: Option<UnixStream>,
        rundir: &RunDir,
    ) -> Result<Backend, OpenError> {
        let failed = |source| OpenError {
            spec: spec.clone(),
            source,
        };
        let (mut text, mut remove) = (spec.to_string(), None);
        let kind = match spec {
            ConsoleSpec::Stdio => match terminal {
                Some(terminal) => Kind::Terminal(terminal),
                None => Kind::None,
            },
            ConsoleSpec::Pty => {
                let (master, slave, path) = open_pty().map_err(failed)?;
                symlink(&path, rundir.file(CONSOLE)).map_err(failed)?;
                text = format!("pty {}", path.display());
                Kind::Pty(master, slave)
            }
            ConsoleSpec::Socket(path) => {
                let listener = bind(path).map_err(failed)?;
                remove = Some(path.clone());
                Kind::Socket(listener)
            }
            ConsoleSpec::File(path) => {
                let mut options = OpenOptions::new();
                // A pipe without a reader must not keep the domain from starting.
                options
                    .append(true)
                    .create(true)
                    .custom_flags(nix::libc::O_NONBLOCK);
                let file = options.open(path).map_err(failed)?;
                let blocking = FcntlArg::F_SETFL(OFlag::O_APPEND);
                fcntl(&file, blocking).map_err(|errno| failed(errno.into()))?;
                Kind::File(file)
            }
            ConsoleSpec::None => Kind::None,
        };
        Ok(Backend { kind, text, remove })
    }

    /// Where the console is, in a few words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Connects it to `console`.
    pub fn start(mut self, console: &Arc<Console>) -> io::Result<Running> {
        let (done, receiver) = channel();
        let mut patience = None;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(move || {
                sandbox::enter(Role::Console);
                run();
            })
        };
        let never = AtomicBool::new(false);
        match std::mem::replace(&mut self.kind, Kind::None) {
            Kind::None => {}
            Kind::Terminal(stream) => {
                let (input, writer) = (stream.try_clone()?, console.writer());
                spawn("keyboard", Box::new(move || pump::keys(input, writer)))?;
                let reader = console.reader(0);
                spawn(
                    "console",
                    Box::new(move || {
                        pump::output(reader, &stream, &never);
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                        drop(done);
                    }),
                )?;
            }
            Kind::File(file) => {
                let reader = console.reader(0);
                spawn(
                    "console",
                    Box::new(move || {
                        pump::output(reader, file, &never);
                        drop(done);
                    }),
                )?;
            }
            Kind::Pty(master, slave) => {
                patience = Some(Duration::from_millis(200));
                let file = std::fs::File::from(master);
                let (input, writer) = (file.try_clone()?, console.writer());
                spawn("keyboard", Box::new(move || pump::keys(input, writer)))?;
                let reader = console.reader(0);
                spawn(
                    "console",
                    Box::new(move || {
                        pump::output(reader, file, &never);
                        // While this end is open, reading the other never fails.
                        drop(slave);
                        drop(done);
                    }),
                )?;
            }
            Kind::Socket(listener) => {
                patience = Some(Duration::from_secs(1));
                let console = console.clone();
                spawn(
                    "console",
                    Box::new(move || serve(&listener, &console, done)),
                )?;
            }
        }
        Ok(Running {
            done: receiver,
            patience,
            _backend: self,
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Running {
    /// Waits until everything the closed console still holds was written: as long as it takes to a
    /// file or the foreground process, not long where nobody may be reading.
    pub fn finish(self) {
        match self.patience {
            // An error says that all senders are gone, which is what is waited for.
            None => drop(self.done.recv()),
            Some(patience) => drop(self.done.recv_timeout(patience)),
        }
    }
}

/// A pseudo-terminal in raw mode, its other end and that end's path.
fn open_pty() -> io::Result<(OwnedFd, OwnedFd, PathBuf)> {
    let pty = nix::pty::openpty(None, None)?;
    let mut mode = nix::sys::termios::tcgetattr(&pty.slave)?;
    nix::sys::termios::cfmakeraw(&mut mode);
    nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &mode)?;
    let path = nix::unistd::ttyname(pty.slave.as_fd())?;
    Ok((pty.master, pty.slave, path))
}

/// Listens on `path`, replacing a socket nobody listens on any more.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it exists and is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

/// Lets clients follow the console; the first to come has the keyboard until it goes.
fn serve(listener: &UnixListener, console: &Arc<Console>, done: std::sync::mpsc::Sender<()>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if clients.load(Ordering::Acquire) >= MAX_CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::AcqRel);
        let (console, clients, done) = (console.clone(), clients.clone(), done.clone());
        // Taken here, because threads may start in any order.
        let writer = console.writer();
        let client = move || {
            follow(&stream, &console, writer);
            clients.fetch_sub(1, Ordering::AcqRel);
            drop(done);
        };
        // Without a thread the client is dropped, and only its place in the count is lost.
        let _ = thread::Builder::new()
            .name("console-client".into())
            .spawn(client);
    }
}

fn follow(stream: &UnixStream, console: &Arc<Console>, writer: Option<Writer>) {
    let Ok(input) = stream.try_clone() else {
        return;
    };
    let gone = Arc::new(AtomicBool::new(false));
    let hung_up = gone.clone();
    let keys = move || {
        pump::keys(input, writer);
        hung_up.store(true, Ordering::Release);
    };
    if thread::Builder::new()
        .name("keyboard".into())
        .spawn(keys)
        .is_ok()
    {
        pump::output(console.reader(super::REPLAY), stream, &gone);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::Base;
    use std::io::{Read, Write};

    fn with(
        spec: &str,
    ) -> (
        tempfile::TempDir,
        Result<Backend, OpenError>,
        RunDir,
        Arc<Console>,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let rundir = Base::find(Some(&dir.path().join("run")))
            .unwrap()
            .claim("a")
            .unwrap();
        let spec = spec.replace("DIR", dir.path().to_str().unwrap());
        let backend = Backend::open(&spec.parse().unwrap(), None, &rundir);
        (dir, backend, rundir, Console::new().unwrap())
    }

    fn input(console: &Console, length: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < length {
            let mut buf = [0; 16];
            let count = console.input(&mut buf);
            got.extend(&buf[..count]);
            std::thread::yield_now();
        }
        got
    }

    #[test]
    fn the_option() {
        for text in ["stdio", "pty", "none", "socket:/a b", "file:x:y"] {
            assert_eq!(text.parse::<ConsoleSpec>().unwrap().to_string(), text);
        }
        for text in ["", "tty", "socket", "socket:", "file:", "pty:1"] {
            assert!(text.parse::<ConsoleSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_appended_to() {
        let (dir, backend, _rundir, console) = with("file:DIR/log");
        let path = dir.path().join("log");
        std::fs::write(&path, "old ").unwrap();
        let running = backend.unwrap().start(&console).unwrap();
        console.output(b"new");
        console.close();
        running.finish();
        assert_eq!(std::fs::read(&path).unwrap(), b"old new");
    }

    #[test]
    fn unusable_places_are_named() {
        for spec in ["file:/nonexistent/log", "file:DIR", "socket:/nonexistent/s"] {
            let (_dir, backend, _rundir, _console) = with(spec);
            let error = backend.map(drop).unwrap_err().to_string();
            assert!(
                error.contains("Cannot open the console") && error.contains("--console"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_pty_works_both_ways_and_is_linked() {
        let (_dir, backend, rundir, console) = with("pty");
        let running = backend.unwrap().start(&console).unwrap();
        let mut tty = OpenOptions::new()
            .read(true)
            .write(true)
            .open(rundir.file(CONSOLE))
            .unwrap();
        console.output(b"login:");
        let mut buf = [0; 6];
        tty.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"login:");
        tty.write_all(b"root\r").unwrap();
        assert_eq!(input(&console, 5), b"root\r");
        console.close();
        running.finish();
    }

    #[test]
    fn a_socket_serves_several_and_is_removed() {
        let (dir, backend, _rundir, console) = with("socket:DIR/s");
        let path = dir.path().join("s");
        let running = backend.unwrap().start(&console).unwrap();
        console.output(b"hi");
        let mut first = UnixStream::connect(&path).unwrap();
        let mut second = UnixStream::connect(&path).unwrap();
        for client in [&mut first, &mut second] {
            let mut buf = [0; 2];
            client.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"hi");
        }
        first.write_all(b"ls\n").unwrap();
        assert_eq!(input(&console, 3), b"ls\n");
        assert!(bind(&path).is_err(), "somebody listens there");
        console.close();
        let mut rest = Vec::new();
        second.read_to_end(&mut rest).unwrap();
        running.finish();
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_but_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        bind(&path).unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "precious").unwrap();
        assert!(bind(&file).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
