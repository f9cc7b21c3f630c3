//! What the supervisor keeps with each domain.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xt_host::{DomId, Host};

use crate::status::Failure;

/// By whose name it is kept.
const WHO: &str = "xt";

/// A failure that comes sooner after the start than that, in seconds, is an early one.
pub const EARLY: u64 = 10;
/// How many early failures in a row are followed by a restart.
pub const EARLY_RESTARTS: u32 = 3;

/// A domain that is looked after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// By the process that created it, and not by the supervisor.
    pub foreground: bool,
    /// When it was started, in seconds since 1970.
    pub started: u64,
    /// How often in a row it failed early.
    pub early: u32,
    /// What had to be done was done: it is only kept.
    pub done: bool,
}

/// Now, in seconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

impl Record {
    /// The record of a domain; `None` for one that nobody looks after, or that `xl` made.
    pub fn read(host: &dyn Host, domid: DomId) -> Result<Option<Self>, Failure> {
        let Some(data) = host.kept(domid, WHO)? else {
            return Ok(None);
        };
        serde_json::from_slice(&data).map(Some).map_err(|error| {
            let domid = domid.0;
            Failure::plain(format!(
                "Cannot read what is kept of domain {domid}: {error}"
            ))
        })
    }

    /// Keeps it with the domain, with the time of its start if that is not known yet.
    pub fn write(mut self, host: &dyn Host, domid: DomId) -> Result<(), Failure> {
        if self.started == 0 {
            self.started = now();
        }
        let data = serde_json::to_vec(&self).map_err(|error| Failure::plain(error.to_string()))?;
        Ok(host.keep(domid, WHO, &data)?)
    }

    /// The record of the next start, if there may be one: a guest that `failed` early again and again
    /// is given up. One that asks for a reboot gets it.
    pub fn next(&self, now: u64, failed: bool) -> Option<Self> {
        let early = match failed && now.saturating_sub(self.started) < EARLY {
            true => self.early + 1,
            false => 0,
        };
        (early <= EARLY_RESTARTS).then_some(Self {
            foreground: self.foreground,
            started: now,
            early,
            done: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_failures_in_a_row_are_not_followed_for_ever() {
        let mut record = Record {
            started: 100,
            ..Record::default()
        };
        for _ in 0..EARLY_RESTARTS {
            record = record.next(record.started + 1, true).unwrap();
        }
        assert_eq!(record.next(record.started + 1, true), None);
        let later = record.next(record.started + EARLY, true).unwrap();
        assert_eq!(later.early, 0);
        assert!(later.next(later.started, true).is_some());
        let rebooted = record.next(record.started + 1, false).unwrap();
        assert_eq!(rebooted.early, 0);
    }
}
