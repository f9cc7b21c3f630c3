//! A console with a shell that obeys it: commands in, status and output back.

use std::time::Duration;

use regex::bytes::Regex;

use crate::channel::{Channel, Match};
use crate::error::Result;

/// Long enough for a boot on a busy machine.
pub const BOOT: Duration = Duration::from_secs(400);
/// Long enough for a command there.
pub const SOON: Duration = Duration::from_secs(180);

/// The console and how many commands it has been given.
#[derive(Debug)]
pub struct Terminal {
    console: Channel,
    count: u32,
}

impl Terminal {
    /// Takes over a console.
    pub fn new(console: Channel) -> Self {
        Self { console, count: 0 }
    }

    /// Waits for output that matches the pattern.
    pub fn expect(&mut self, pattern: &str, deadline: Duration) -> Result<Match> {
        let pattern = Regex::new(pattern).expect("a pattern");
        self.console.expect(&pattern, deadline)
    }

    /// Waits for the console's end.
    pub fn ended(&mut self, deadline: Duration) -> Result<()> {
        self.console.ended(deadline)
    }

    /// All output so far.
    pub fn text(&self) -> String {
        self.console.text()
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.console.send(format!("{text}\n").as_bytes())
    }

    /// Waits for the login prompt of a Debian system, logs in as root, who has no password, and makes
    /// the shell one that obeys.
    pub fn log_in(&mut self) -> Result<()> {
        self.expect("guest login: ", BOOT)?;
        self.line("root")?;
        self.expect("root@guest:~# ", SOON)?;
        // Neither a line editor nor a prompt nor an echo.
        self.line("exec sh")?;
        self.line("PS1=; stty -echo -onlcr; echo shell-is-'ready'")?;
        self.expect("shell-is-ready", SOON).map(drop)
    }

    /// Runs a shell command: its status and what it printed.
    pub fn run(&mut self, command: &str) -> Result<(i32, String)> {
        self.start(command)?;
        self.finish(SOON)
    }

    /// Starts one, to be waited for by [`Self::finish`].
    pub fn start(&mut self, command: &str) -> Result<()> {
        self.count += 1;
        self.line(&format!(
            "( {command} ) 2>&1; echo \"status=$? of {}\"",
            self.count
        ))
    }

    /// Waits for it.
    pub fn finish(&mut self, deadline: Duration) -> Result<(i32, String)> {
        let pattern = format!("status=([0-9]+) of {}\r?\n", self.count);
        let found = self.expect(&pattern, deadline)?;
        let status = found.groups[1].parse().unwrap_or(-1);
        Ok((status, found.before.trim().to_owned()))
    }
}
