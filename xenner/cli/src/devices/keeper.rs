//! Undoes what was made on the host for a network card, once nobody needs it any more.
//!
//! The domain's process has given up the rights for that when the time comes, and it may end in any
//! way. So a process of its own waits for the other end of a socket to close, which the domain holds
//! as long as it has the card, and then does what is to be done.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use pv_netdev::Chores;

/// The hidden command by which it starts.
pub const COMMAND: &str = "keep-network";

/// Starts it; the chores are done when the last copy of the descriptor is closed.
pub fn start(chores: Chores) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    Command::new("/proc/self/exe")
        .arg(COMMAND)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut line = serde_json::to_vec(&chores)?;
    line.push(b'\n');
    (&ours).write_all(&line)?;
    // Not here: dropping them would do them.
    std::mem::forget(chores);
    Ok(ours.into())
}

/// The process: reads the chores from standard input, waits for its end, and does them.
pub fn run() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let mut line = String::new();
    input.read_line(&mut line)?;
    let chores: Chores = serde_json::from_str(&line)?;
    let mut rest = [0; 64];
    while input.read(&mut rest)? > 0 {}
    drop(chores);
    Ok(())
}
