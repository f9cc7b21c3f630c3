//! `console`

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use xenner::console::relay::{Relay, Turn};
use xt_host::{ConsoleEnd, ConsoleKind, DomId, Host};

use crate::cli::{ConsoleArgs, ConsoleType};
use crate::output::print;
use crate::status::{Failure, Status};

/// `console`
pub fn console(host: &dyn Host, arguments: &ConsoleArgs) -> Result<Status, Failure> {
    let domid = super::domid(host, &arguments.domain)?;
    let kind = match arguments.kind {
        None => ConsoleKind::Any,
        Some(ConsoleType::Pv) => ConsoleKind::Pv,
        Some(ConsoleType::Serial) => ConsoleKind::Serial,
    };
    Attached::open(host, domid, kind, arguments.number)?.relay()
}

/// A console that is open.
pub struct Attached {
    console: OwnedFd,
    early: Vec<u8>,
    keyboard: bool,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::plain(format!("Cannot use the console: {error}"))
}

impl Attached {
    /// Opens a console of a domain.
    ///
    /// # Errors
    /// There is none such.
    pub fn open(
        host: &dyn Host,
        domid: DomId,
        kind: ConsoleKind,
        number: u32,
    ) -> Result<Self, Failure> {
        match host.console(domid, kind, number)? {
            ConsoleEnd::Stream {
                early,
                stream,
                keyboard,
            } => Ok(Self {
                console: stream,
                early,
                keyboard,
            }),
            ConsoleEnd::Pty(path) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).custom_flags(libc::O_NOCTTY);
                let file = options.open(&path).map_err(|error| {
                    Failure::plain(format!("Cannot open the console {path:?}: {error}"))
                })?;
                // What is typed is for the guest to echo and to make lines of.
                make_raw(&file).map_err(failed)?;
                Ok(Self {
                    console: file.into(),
                    early: Vec::new(),
                    keyboard: true,
                })
            }
        }
    }

    /// Relays between it and the terminal until the user leaves or the domain is gone.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn relay(self) -> Result<Status, Failure> {
        let signals = block_signals().map_err(failed)?;
        let mut relay = Relay::new(Some(self.console)).map_err(failed)?;
        if !self.keyboard {
            relay.say("xt: Somebody else has the keyboard; this console only shows");
        }
        print(&String::from_utf8_lossy(&self.early))?;
        loop {
            let watched: [BorrowedFd<'_>; 1] = [signals.as_fd()];
            match relay.turn(&watched).map_err(failed)? {
                Turn::Moved => {}
                Turn::Left | Turn::Closed | Turn::Lost => break,
                Turn::Watched(_) => match signals.read_signal() {
                    Ok(Some(info)) if info.ssi_signo == Signal::SIGTSTP as u32 => {
                        relay.stop_process().map_err(failed)?;
                    }
                    Ok(Some(_)) => break,
                    _ => {}
                },
            }
        }
        drop(relay);
        eprintln!();
        Ok(Status::Success)
    }
}

fn make_raw(file: &impl AsFd) -> nix::Result<()> {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let mut settings = tcgetattr(file)?;
    cfmakeraw(&mut settings);
    tcsetattr(file, SetArg::TCSANOW, &settings)
}

/// Signals end the console in order, so that the terminal is restored.
fn block_signals() -> io::Result<SignalFd> {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    let set: SigSet = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP]
        .into_iter()
        .collect();
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}
