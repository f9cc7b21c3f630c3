//! `xenner run` in the foreground: the test is its parent, so it learns how the domain ended and can
//! kill its process.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::terminal::Terminal;

/// What the domain is called.
pub const NAME: &str = "guest";

/// A domain and its process; dropping it kills it.
#[derive(Debug)]
pub struct Foreground {
    program: PathBuf,
    dir: TempDir,
    child: Child,
    /// The domain's console.
    pub terminal: Terminal,
}

impl Foreground {
    /// Starts `xenner run` with these arguments. The console is its standard input and output, what
    /// it complains of is [kept](Self::complaint).
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let temporary = Path::new("(temporary)");
        let dir = TempDir::new().map_err(Error::io("create", temporary))?;
        let socket = Path::new("(socket)");
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("create", socket))?;
        let copy = theirs.try_clone().map_err(Error::io("duplicate", socket))?;
        let log = dir.path().join("stderr");
        let child = Command::new(program)
            .env("XENNER_RUN_DIR", dir.path().join("run"))
            .args(["run", "--name", NAME, "--console", "stdio"])
            .args(arguments)
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(copy))
            .stderr(File::create(&log).map_err(Error::io("create", &log))?)
            .spawn()
            .map_err(|source| Error::Start {
                program: program.to_string_lossy().into_owned(),
                source,
                advice: "Set XENNER to a built xenner to do without".into(),
            })?;
        Ok(Self {
            program: program.to_owned(),
            dir,
            child,
            terminal: Terminal::new(Channel::new("guest's console", ours)?),
        })
    }

    /// Waits until the domain has ended.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.terminal.ended(deadline)?;
        let own = Path::new("xenner");
        self.child.wait().map_err(Error::io("wait for", own))
    }

    /// Ends the domain's own process as a power cut ends a machine, and waits for the end of the one
    /// that watches it.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let path = self.dir.path().join("run").join(NAME).join("pid");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let pid = text.trim().parse().map_err(|_| Error::Malformed {
            path: path.clone(),
            reason: format!("{text:?} is no process"),
        })?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .map_err(|errno| Error::io("kill the process in", &path)(errno.into()))?;
        let own = Path::new("xenner");
        self.child.wait().map_err(Error::io("wait for", own))
    }

    /// What xenner has complained of so far.
    pub fn complaint(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// Runs `xenner` on the domain, which is called [`NAME`].
    pub fn xenner(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .env("XENNER_RUN_DIR", self.dir.path().join("run"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("xenner starts")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
