//! Exit statuses: `xl`'s, and two of our own.

use std::process::ExitCode;

use xt_host::HostError;

/// What the exit status of a command says. Numbers that `xl` uses mean here what they mean there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command did what it was asked.
    Success,
    /// It failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A domain could not be created, or its configuration not be read.
    NotCreated,
    /// A command of `xl` that is not there yet.
    NotYet,
    /// This kind of host cannot do that.
    NotHere,
    /// `create` without a configuration.
    NoConfig,
}

impl Status {
    /// Every status, in the order of its number.
    pub const ALL: [Status; 7] = [
        Status::Success,
        Status::Failed,
        Status::Usage,
        Status::NotCreated,
        Status::NotYet,
        Status::NotHere,
        Status::NoConfig,
    ];

    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// One line for the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Status::Success => "Success",
            Status::Failed => {
                "A failure, such as a domain that is not there or a configuration with errors"
            }
            Status::Usage => "The command line is wrong",
            Status::NotCreated => {
                "The domain could not be created, or its configuration not be read"
            }
            Status::NotYet => "A command that xl has and xt does not have yet",
            Status::NotHere => "This kind of host cannot do that",
            Status::NoConfig => "create was given no configuration",
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// What happened, where, and how to mend it.
    pub message: String,
}

impl Failure {
    /// A failure of kind `status`.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure { status, message }
    }

    /// One with no status of its own.
    pub fn plain(message: impl Into<String>) -> Failure {
        Failure::new(Status::Failed, message)
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Status::Usage, message)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Failure {
        let status = match error {
            HostError::NotHere { .. } => Status::NotHere,
            _ => Status::Failed,
        };
        Failure::new(status, error.chain())
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
