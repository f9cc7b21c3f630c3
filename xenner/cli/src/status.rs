//! Exit statuses: one number per kind of failure, so that scripts need not read messages.

use std::process::ExitCode;

/// What the exit status of a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The command did what it was asked; for `run`, the guest ended by itself.
    Success,
    /// A failure with no number of its own, a bug in xenner among them.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A value of an option or of the configuration file is wrong.
    Config,
    /// The kernel or the initrd can't be booted.
    Image,
    /// KVM is missing or may not be used.
    Host,
    /// A domain of that name runs already.
    NameInUse,
    /// No domain of that name runs.
    NoSuchDomain,
    /// The console can't be opened or was lost.
    Console,
    /// The domain refused a request, or did not answer in time.
    Control,
    /// The guest crashed.
    GuestCrashed,
    /// The guest's watchdog expired.
    Watchdog,
    /// The domain was destroyed from outside.
    Destroyed,
    /// The host lacks memory or another resource for the domain.
    Resources,
}

impl Status {
    /// Every status, in the order of its number.
    pub const ALL: [Status; 14] = [
        Status::Success,
        Status::Failed,
        Status::Usage,
        Status::Config,
        Status::Image,
        Status::Host,
        Status::NameInUse,
        Status::NoSuchDomain,
        Status::Console,
        Status::Control,
        Status::GuestCrashed,
        Status::Watchdog,
        Status::Destroyed,
        Status::Resources,
    ];

    /// The number the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Status::Success => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::Config => 3,
            Status::Image => 4,
            Status::Host => 5,
            Status::NameInUse => 6,
            Status::NoSuchDomain => 7,
            Status::Console => 8,
            Status::Control => 9,
            Status::GuestCrashed => 10,
            Status::Watchdog => 11,
            Status::Destroyed => 12,
            Status::Resources => 13,
        }
    }

    /// One line for the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Status::Success => {
                "Success; for run: the guest powered off, or rebooted with on_reboot=destroy"
            }
            Status::Failed => "A failure not listed here, or a bug in xenner",
            Status::Usage => "The command line is wrong",
            Status::Config => "A value of an option or of the configuration file is wrong",
            Status::Image => "The kernel or the initrd cannot be booted",
            Status::Host => "KVM is missing or may not be used (see xenner check)",
            Status::NameInUse => "A domain of that name runs already",
            Status::NoSuchDomain => "No domain of that name runs",
            Status::Console => "The console cannot be opened, or was lost",
            Status::Control => "The domain refused the request or did not answer in time",
            Status::GuestCrashed => "The guest crashed",
            Status::Watchdog => "The guest's watchdog expired",
            Status::Destroyed => "The domain was destroyed from outside, or by a signal",
            Status::Resources => "The host lacks memory or another resource for the domain",
        }
    }

    /// The table of all statuses as plain text.
    pub fn table() -> String {
        let mut text = String::from("Exit status:\n");
        for status in Status::ALL {
            text.push_str(&format!("  {:>2}  {}\n", status.code(), status.meaning()));
        }
        text
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.code())
    }
}

/// A command that failed: what to print and what to exit with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// What happened, where, and how to mend it, in one line.
    pub message: String,
}

impl Failure {
    /// A failure of kind `status`.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure {
            status,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_number() {
        for (index, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status.code() as usize, index, "{status:?}");
        }
    }
}
