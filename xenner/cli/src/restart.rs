//! What follows the end of a domain: the `on_*` settings, and the guard against restarting for ever.

use std::time::Duration;

use crate::machine::DomainExit;
use crate::spec::{Action, Actions};

/// A domain that fails sooner than this after its start failed early.
pub const EARLY: Duration = Duration::from_secs(10);
/// How many early failures in a row are followed by a restart.
pub const EARLY_RESTARTS: u32 = 3;

/// What is to be done with an ended domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Write a core file first.
    pub dump: bool,
    /// Then do this.
    pub step: Step,
}

/// What becomes of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is gone.
    End,
    /// It starts again.
    Restart,
    /// It stays for inspection.
    Keep,
    /// It stays under another name, and starts again under its own.
    KeepAndRestart,
}

/// What `actions` say about `exit`.
pub fn next(actions: &Actions, exit: &DomainExit) -> Next {
    let action = match exit {
        DomainExit::Poweroff => actions.on_poweroff,
        DomainExit::Reboot => actions.on_reboot,
        DomainExit::Crash(_) => actions.on_crash,
        DomainExit::Watchdog => actions.on_watchdog,
        DomainExit::Suspend | DomainExit::Destroyed => Action::Destroy,
    };
    let (dump, step) = match action {
        Action::Destroy => (false, Step::End),
        Action::Restart => (false, Step::Restart),
        Action::Preserve => (false, Step::Keep),
        Action::RenameRestart => (false, Step::KeepAndRestart),
        Action::CoredumpDestroy => (true, Step::End),
        Action::CoredumpRestart => (true, Step::Restart),
    };
    Next { dump, step }
}

/// Counts early failures.
#[derive(Debug, Default)]
pub struct Guard {
    early: u32,
}

impl Guard {
    /// Whether a domain that ended so after `lived` may be started again: one that fails again and
    /// again may not, one that asks for a reboot gets it.
    pub fn allows(&mut self, exit: &DomainExit, lived: Duration) -> bool {
        let failed = matches!(exit, DomainExit::Crash(_) | DomainExit::Watchdog);
        self.early = match failed && lived < EARLY {
            true => self.early + 1,
            false => 0,
        };
        self.early <= EARLY_RESTARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::CrashReport;

    #[test]
    fn each_end_has_its_setting() {
        let actions = Actions {
            on_poweroff: Action::Preserve,
            on_reboot: Action::Restart,
            on_crash: Action::CoredumpRestart,
            on_watchdog: Action::RenameRestart,
        };
        let step = |exit| next(&actions, &exit);
        assert_eq!(
            step(DomainExit::Poweroff),
            Next {
                dump: false,
                step: Step::Keep
            }
        );
        assert_eq!(
            step(DomainExit::Reboot),
            Next {
                dump: false,
                step: Step::Restart
            }
        );
        let crash = DomainExit::Crash(Box::new(CrashReport::new("x")));
        assert_eq!(
            step(crash),
            Next {
                dump: true,
                step: Step::Restart
            }
        );
        assert_eq!(
            step(DomainExit::Watchdog),
            Next {
                dump: false,
                step: Step::KeepAndRestart
            }
        );
        assert_eq!(
            step(DomainExit::Destroyed),
            Next {
                dump: false,
                step: Step::End
            }
        );
    }

    #[test]
    fn early_failures_in_a_row_are_not_followed_for_ever() {
        let mut guard = Guard::default();
        let early = Duration::from_secs(1);
        let exit = DomainExit::Watchdog;
        for _ in 0..EARLY_RESTARTS {
            assert!(guard.allows(&exit, early));
        }
        assert!(!guard.allows(&exit, early));
        assert!(guard.allows(&DomainExit::Reboot, early));
        assert!(guard.allows(&exit, early));
        assert!(guard.allows(&exit, EARLY));
    }
}
