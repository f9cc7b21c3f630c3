//! `xenner run` in the foreground: starts the process of the domain, relays the console, passes
//! signals on and says how it ended.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::console::backend::ConsoleSpec;
use crate::console::relay::{Relay, Turn};
use crate::domain::{self, Plan};
use crate::front::{Event, Line, Order, Sender};
use crate::machine::Launcher;
use crate::status::{Failure, Status};
use crate::sys;

/// Signals that should end the domain.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// How the foreground behaves.
pub struct Foreground {
    /// Leave as soon as the domain runs.
    pub detach: bool,
    /// Write a report of the end to this file.
    pub report: Option<PathBuf>,
}

/// Runs a domain.
pub fn run(
    plan: Plan,
    launcher: &dyn Launcher,
    foreground: &Foreground,
) -> Result<Status, Failure> {
    let signals = block_signals().map_err(internal)?;
    let (front, back) = Line::pair().map_err(internal)?;
    let terminal = match plan.console == ConsoleSpec::Stdio && !foreground.detach {
        true => Some(UnixStream::pair().map_err(internal)?),
        false => None,
    };
    let (ours, theirs) = terminal.unzip();

    // The domain's ends must not stay open here, nor ours there: each side learns of the other's
    // end by its descriptor closing.
    let mut parent = Some((front, ours));
    let mut child = Some((back, theirs));
    let pid = sys::fork(|| {
        drop(parent.take());
        match child.take() {
            Some((line, terminal)) => background(&plan, launcher, line, terminal).code(),
            None => Status::Failed.code(),
        }
    })
    .map_err(internal)?;
    drop(child);
    let Some((line, terminal)) = parent else {
        return Err(internal("The console was lost"));
    };
    Front::new(pid, line, terminal, signals, &plan, foreground)?.watch()
}

/// The process of the domain.
fn background(
    plan: &Plan,
    launcher: &dyn Launcher,
    line: Line,
    terminal: Option<UnixStream>,
) -> Status {
    let signals = match become_background() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("xenner: Cannot leave the foreground: {error}");
            return Status::Failed;
        }
    };
    domain::run(plan, launcher, line, terminal, signals)
}

/// Leaves the terminal to the foreground: what is typed there, Ctrl-C included, is not for the
/// domain's process.
fn become_background() -> nix::Result<SignalFd> {
    nix::unistd::setsid()?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    block_signals()
}

/// Blocks the signals of interest, here and in every thread to come, and returns where to read
/// them. The domain's process makes its own: a signalfd shows the signals of the reading process.
fn block_signals() -> nix::Result<SignalFd> {
    let mut set: SigSet = ENDING.into_iter().collect();
    set.add(Signal::SIGTSTP);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Failed, error.to_string())
}

struct Front<'a> {
    pid: Pid,
    line: Line,
    sender: Sender,
    relay: Relay,
    signals: SignalFd,
    plan: &'a Plan,
    foreground: &'a Foreground,
    last: Option<(Status, Option<String>)>,
    report: serde_json::Map<String, serde_json::Value>,
}

/// Where the descriptors stand in what the relay watches.
const LINE: usize = 0;
const SIGNALS: usize = 1;

impl<'a> Front<'a> {
    fn new(
        pid: Pid,
        line: Line,
        terminal: Option<UnixStream>,
        signals: SignalFd,
        plan: &'a Plan,
        foreground: &'a Foreground,
    ) -> Result<Front<'a>, Failure> {
        let sender = line.sender().map_err(internal)?;
        let relay = Relay::new(terminal.map(Into::into)).map_err(|error| {
            Failure::new(Status::Console, format!("Cannot use the terminal: {error}"))
        })?;
        let report = serde_json::Map::new();
        Ok(Front {
            pid,
            line,
            sender,
            relay,
            signals,
            plan,
            foreground,
            last: None,
            report,
        })
    }

    /// Relays until the domain is gone or the user leaves.
    fn watch(mut self) -> Result<Status, Failure> {
        while self.last.is_none() || self.relay.is_open() {
            if self.last.is_none() && self.line.has_more() {
                if let Some(status) = self.event() {
                    return Ok(status);
                }
                continue;
            }
            let watched = [self.line.as_fd(), self.signals.as_fd()];
            // Once the domain has said its last, only the rest of the console is waited for.
            let watched = if self.last.is_none() {
                &watched[..]
            } else {
                &[]
            };
            match self.relay.turn(watched).map_err(internal)? {
                Turn::Moved | Turn::Closed => {}
                Turn::Left => return Ok(self.leave()),
                Turn::Lost => return Err(self.abandon()),
                Turn::Watched(LINE) => {
                    if let Some(status) = self.event() {
                        return Ok(status);
                    }
                }
                Turn::Watched(SIGNALS) => self.signal()?,
                Turn::Watched(_) => {}
            }
        }
        self.end()
    }

    /// Takes a message of the domain. Something to exit with if that is all.
    fn event(&mut self) -> Option<Status> {
        match self.line.receive() {
            Some(Event::Ready { console }) => {
                if self.plan.console != ConsoleSpec::Stdio || self.foreground.detach {
                    let name = &self.plan.spec.name;
                    self.relay
                        .say(&format!("Domain {name} runs; console: {console}"));
                }
                if self.foreground.detach {
                    self.sender.send(&Order::Detach);
                    return Some(Status::Success);
                }
            }
            Some(Event::Notice(text)) => self.relay.say(&format!("xenner: {text}")),
            Some(Event::Crashed { name, report }) => {
                self.relay.say(report.text(&name).trim_end());
                self.report
                    .insert("crash".into(), serde_json::json!(report));
            }
            Some(Event::Ended(stats)) => {
                self.report.insert("stats".into(), serde_json::json!(stats));
            }
            Some(Event::Finished { status, message }) => self.last = Some((status, message)),
            None => self.last = Some(self.died()),
        }
        None
    }

    /// What is said about a domain whose process ended without a word.
    fn died(&self) -> (Status, Option<String>) {
        let how = match waitpid(self.pid, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("exited with status {code}"),
            other => format!("is lost ({other:?})"),
        };
        // What it left is swept up at once; a failure leaves that to the next command.
        let _ = self.plan.base.names();
        let name = &self.plan.spec.name;
        let message = format!(
            "The process of domain {name} {how}; unless somebody killed it this is a bug in xenner"
        );
        (Status::Failed, Some(message))
    }

    fn signal(&mut self) -> Result<(), Failure> {
        let Ok(Some(info)) = self.signals.read_signal() else {
            return Ok(());
        };
        if info.ssi_signo == Signal::SIGTSTP as u32 {
            // The default action was blocked away; SIGSTOP does the same.
            return self.relay.stop_process().map_err(internal);
        }
        self.sender.send(&Order::Stop);
        Ok(())
    }

    /// Ctrl-]: the domain goes on.
    fn leave(self) -> Status {
        self.sender.send(&Order::Detach);
        let name = self.plan.spec.name.clone();
        drop(self.relay);
        eprintln!("\nDomain {name} goes on; back to it with: xenner console {name}");
        Status::Success
    }

    /// The terminal or the reader of the output is gone: so is the reason to go on.
    fn abandon(self) -> Failure {
        Failure::new(
            Status::Console,
            "The console's reader is gone; the domain is destroyed",
        )
    }

    fn end(mut self) -> Result<Status, Failure> {
        let (status, message) = self.last.take().unwrap_or_else(|| self.died());
        drop(self.relay);
        // Until then the name could still be taken.
        let _ = waitpid(self.pid, None);
        if let Some(path) = &self.foreground.report {
            self.report
                .insert("name".into(), self.plan.spec.name.clone().into());
            self.report
                .insert("status".into(), serde_json::json!(status));
            self.report
                .insert("exit_status".into(), status.code().into());
            self.report
                .insert("message".into(), serde_json::json!(message));
            let text = serde_json::to_string_pretty(&self.report).map_err(internal)? + "\n";
            std::fs::write(path, text).map_err(|error: io::Error| {
                Failure::new(
                    Status::Failed,
                    format!("Cannot write the report {path:?}: {error}"),
                )
            })?;
        }
        match message {
            Some(message) => Err(Failure::new(status, message)),
            None => Ok(status),
        }
    }
}
