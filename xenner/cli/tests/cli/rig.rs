//! Starting the program under test and watching it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The first argument that makes this binary the program under test.
pub const FAKE: &str = "--fake-xenner";
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A run directory of its own.
pub struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Rig {
        Rig {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// The program with `arguments`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(FAKE)
            .args(arguments)
            .env("XENNER_RUN_DIR", self.run_dir());
        command.env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it to its end, which must be status `code`; returns standard output and error.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.output(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\nout: {out}\nerr: {err}"
        );
        (out, err)
    }

    /// Starts a domain with options, and returns once it runs.
    #[track_caller]
    pub fn start(&self, name: &str, options: &[&str]) -> Domain {
        let arguments = [&["run", "--name", name][..], options].concat();
        let mut command = self.command(&arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        if options.contains(&"--console") {
            err.read_line(&mut line).unwrap();
            assert!(line.contains(" runs; console: "), "{line}");
        } else {
            out.read_line(&mut line).unwrap();
            if !line.starts_with("booted") {
                let mut rest = String::new();
                err.read_to_string(&mut rest).unwrap();
                panic!("{line}{rest}");
            }
        }
        Domain {
            child,
            out,
            err,
            first: line,
        }
    }

    /// Asserts that no domain and no trace of one is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left: Vec<_> = match std::fs::read_dir(self.run_dir()) {
            Ok(entries) => entries
                .map(|entry| entry.unwrap().path())
                // The number given last is the next domain's concern.
                .filter(|path| !path.ends_with(".last-id"))
                .collect(),
            Err(_) => Vec::new(),
        };
        assert!(left.is_empty(), "{left:?}");
    }

    /// Waits until `path` is gone.
    #[track_caller]
    pub fn await_gone(&self, path: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while path.exists() {
            assert!(Instant::now() < deadline, "{path:?} is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A domain in the foreground of a process without a terminal.
pub struct Domain {
    pub child: Child,
    pub out: BufReader<std::process::ChildStdout>,
    pub err: BufReader<std::process::ChildStderr>,
    pub first: String,
}

impl Domain {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn type_in(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// The next line of the console.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// The next line of messages.
    pub fn message(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line
    }

    /// Waits for the end, which must be status `code`; returns what was left to say.
    #[track_caller]
    pub fn end(mut self, code: i32) -> (String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "out: {out}\nerr: {err}");
        (out, err)
    }
}

/// A terminal with a process on it.
pub struct Terminal {
    pub master: std::fs::File,
    pub slave: OwnedFd,
    pub child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// Runs `command` on a new terminal.
    pub fn run(mut command: Command) -> Terminal {
        let size = nix::pty::Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(&size, None).unwrap();
        for end in [&pty.master, &pty.slave] {
            // Or the process would keep its own terminal open.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        Terminal {
            master: pty.master.into(),
            slave: pty.slave,
            child,
            seen: Vec::new(),
        }
    }

    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Waits until `text` appears, and forgets everything up to it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self
                .seen
                .windows(text.len())
                .position(|part| part == text.as_bytes())
            {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let count = poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
            assert!(
                count > 0,
                "no {text:?} in {:?}",
                String::from_utf8_lossy(&self.seen)
            );
            let mut buf = [0; 4096];
            let count = self.master.read(&mut buf).unwrap();
            self.seen.extend(&buf[..count]);
        }
    }

    /// Makes it larger or smaller, and tells the process.
    pub fn resize(&self, rows: u16, columns: u16) {
        let status = Command::new("stty")
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .stdin(self.slave.try_clone().unwrap())
            .status();
        assert!(status.unwrap().success());
        // It is not the session's terminal, so the kernel tells nobody.
        self.signal(Signal::SIGWINCH);
    }

    /// Whether the terminal echoes: not in raw mode.
    pub fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        tcgetattr(&self.slave)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end, which must be status `code`, with the terminal as before.
    #[track_caller]
    pub fn end(mut self, code: i32) {
        // The kernel's queue must not fill while nobody reads it.
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.code(),
            Some(code),
            "{:?}",
            String::from_utf8_lossy(&self.seen)
        );
        assert!(self.is_cooked(), "the terminal stays in raw mode");
    }
}
