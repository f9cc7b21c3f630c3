//! Why something was not done.

use crate::HostKind;

/// What a host's methods return.
pub type Result<T> = std::result::Result<T, HostError>;

/// A refusal or a failure. The text says what, why, and how to mend it where that is known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such domain.
    #[error("There is no domain {0:?}; xt list shows those that there are")]
    NoSuchDomain(String),
    /// A domain of that name is there already.
    #[error(
        "A domain named {name:?} is there already; choose another name, or end it with: xt destroy {name}"
    )]
    NameInUse {
        /// The name.
        name: String,
    },
    /// This kind of host cannot do that.
    #[error("{what} is not on this host ({host}){}", .instead.map(|text| format!("; {text}")).unwrap_or_default())]
    NotHere {
        /// What was asked for, as the subject of a sentence.
        what: &'static str,
        /// The kind of host.
        host: HostKind,
        /// What to do instead.
        instead: Option<&'static str>,
    },
    /// The specification asks for what cannot be.
    #[error("{0}")]
    Config(String),
    /// A key of the specification asks for what this host cannot do; who has the text says where.
    #[error("{key}: {message}")]
    Key {
        /// The key in xl.cfg.
        key: &'static str,
        /// What is wrong.
        message: String,
        /// What to do instead.
        help: Option<String>,
    },
    /// The host lacks memory or another resource.
    #[error("{0}")]
    Resources(String),
    /// The hypervisor or the domain refused.
    #[error("{0}")]
    Refused(String),
    /// Somebody did not answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The host cannot be driven: rights, a device or a daemon is missing.
    #[error("{0}")]
    Unusable(String),
    /// Anything else.
    #[error("{what}")]
    Failed {
        /// What was being done.
        what: String,
        /// What happened.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl HostError {
    /// A failure while doing `what`, with its cause.
    pub fn failed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            what: what.into(),
            source: Some(source.into()),
        }
    }

    /// A failure with nothing more to be said of its cause.
    pub fn because(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            source: None,
        }
    }

    /// The text with all causes.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text = format!("{}: {inner}", text.trim_end_matches('.'));
            cause = inner.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_why_and_how_to_mend() {
        let error = HostError::NotHere {
            what: "A soft reset",
            host: HostKind::Kvm,
            instead: Some("use restart"),
        };
        assert_eq!(
            error.to_string(),
            "A soft reset is not on this host (kvm); use restart"
        );
        let cause = std::io::Error::other("disk full");
        let error = HostError::failed("Cannot write the core file.", cause);
        assert_eq!(error.chain(), "Cannot write the core file: disk full");
    }
}
