//! The terminal in raw mode, and back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal in raw mode: every key goes to the guest. Dropping it restores the terminal, also
/// while a panic unwinds.
#[derive(Debug)]
pub struct RawMode {
    tty: OwnedFd,
    saved: Termios,
}

impl RawMode {
    /// Puts the terminal `tty` into raw mode.
    pub fn enter(tty: impl AsFd) -> io::Result<RawMode> {
        let tty = tty.as_fd().try_clone_to_owned()?;
        let saved = tcgetattr(&tty)?;
        let mode = RawMode { tty, saved };
        mode.set_raw()?;
        Ok(mode)
    }

    fn set_raw(&self) -> io::Result<()> {
        let mut raw = self.saved.clone();
        cfmakeraw(&mut raw);
        Ok(tcsetattr(&self.tty, SetArg::TCSADRAIN, &raw)?)
    }

    fn restore(&self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.saved);
    }

    /// Runs `pause` with the terminal as it was before, then goes back to raw mode.
    pub fn suspended(&self, pause: impl FnOnce()) -> io::Result<()> {
        self.restore();
        pause();
        self.set_raw()
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    fn echoes(tty: impl AsFd) -> bool {
        tcgetattr(tty)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ECHO)
    }

    #[test]
    fn the_terminal_is_restored_on_drop_and_on_panic() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let raw = RawMode::enter(&pty.slave).unwrap();
        assert!(!echoes(&pty.slave));
        raw.suspended(|| assert!(echoes(&pty.slave))).unwrap();
        assert!(!echoes(&pty.slave));
        drop(raw);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);

        let slave = pty.slave.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let _raw = RawMode::enter(slave).unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        thread.join().unwrap_err();
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }

    #[test]
    fn something_else_than_a_terminal_is_refused() {
        assert!(RawMode::enter(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
