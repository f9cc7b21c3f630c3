//! Domains that end: one process for all of them does what their `on_*` settings say.
//!
//! `xl` leaves a process behind for each domain; here [`run`] looks after all that `xt` created. It
//! keeps nothing in memory that it needs: who is looked after, and with what settings, is kept with each
//! domain (`record`), and between a domain's end and its next start in a note (`owed`), so it can be
//! killed and started again at any moment, and finds the domains that ended meanwhile. A lock makes it
//! the only one. `create` starts it where it does not run; it ends when nothing is left to look after.
//!
//! Hosts that look after domains by themselves ([`xt_host::DomainInfo::self_supervised`]) need none of
//! this.

mod action;
mod owed;
mod process;
mod record;

use xt_host::{Changes, DomId, DomainInfo, Host};

use crate::cli::SuperviseArgs;
use crate::status::{Failure, Status};
use owed::Owed;
pub use record::Record;

/// `supervise`
///
/// # Errors
/// Another one runs, or the host cannot be driven.
pub fn command(host: &dyn Host, arguments: &SuperviseArgs) -> Result<Status, Failure> {
    if arguments.detach {
        process::start()?;
        return Ok(Status::Success);
    }
    run(host, arguments.stay)
}

/// Hands a new domain to the supervisor, unless its host needs none or `foreground` is told that the
/// caller does it himself.
///
/// # Errors
/// The supervisor does not start.
pub fn take_care(host: &dyn Host, domid: DomId, foreground: bool) -> Result<(), Failure> {
    if host.domain(domid)?.self_supervised {
        return Ok(());
    }
    let record = Record {
        foreground,
        ..Record::default()
    };
    record.write(host, domid)?;
    match foreground {
        true => Ok(()),
        false => process::start(),
    }
}

/// Looks after domains until none is left, or for ever with `stay`.
///
/// # Errors
/// As of [`command`].
pub fn run(host: &dyn Host, stay: bool) -> Result<Status, Failure> {
    let place = process::Place::take()?;
    let mut changes = host.changes()?;
    place.announce()?;
    let owed = Owed::here();
    action::pay(host, &owed)?;
    loop {
        let left = action::round(host, &owed, |record| !record.foreground)?;
        if left == 0 && !stay {
            // One that comes from now on starts another supervisor: it sees the lock free, or the
            // check below sees it.
            drop(place);
            return match action::count(host, |record| !record.foreground)? {
                0 => Ok(Status::Success),
                _ => run(host, stay),
            };
        }
        changes.wait(None)?;
    }
}

/// `create -F`: looks after one domain, and whatever it becomes, until it is gone.
///
/// # Errors
/// The host cannot be driven any more.
pub fn in_foreground(
    host: &dyn Host,
    domid: DomId,
    mut changes: Box<dyn Changes>,
) -> Result<Status, Failure> {
    let Ok(mut domain) = host.domain(domid) else {
        return Ok(Status::Success);
    };
    loop {
        if !domain.self_supervised {
            action::end(host, &Owed::here(), &domain)?;
        }
        match now(host, &domain)? {
            None => return Ok(Status::Success),
            // It has ended since it was looked at last: its settings are carried out first.
            Some(there) if !there.self_supervised && is_news(&there, &domain) => {
                domain = there;
                continue;
            }
            // Kept for inspection: nothing more will come.
            Some(kept) if kept.state.shutdown.is_some() => return Ok(Status::Success),
            Some(there) if there.uuid == domain.uuid => domain = there,
            Some(_) => {}
        }
        changes.wait(None)?;
    }
}

/// Whether an end has not been seen yet.
fn is_news(there: &DomainInfo, seen: &DomainInfo) -> bool {
    let seen = there.domid == seen.domid && seen.state.shutdown.is_some();
    there.state.shutdown.is_some() && !seen
}

/// What has become of a domain. A new start has a new number, and one that does not answer has no UUID.
fn now(host: &dyn Host, domain: &DomainInfo) -> Result<Option<DomainInfo>, Failure> {
    let mut all = host.list()?;
    let same = all.iter().position(|other| other.uuid == domain.uuid);
    let same = same.or_else(|| all.iter().position(|other| other.domid == domain.domid));
    Ok(same.map(|place| all.swap_remove(place)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use xt_config::DomainSpec;
    use xt_host::{CreateOptions, HostKind, ShutdownReason};

    use super::*;
    use crate::verb::testing::Fake;

    /// The domain ends while its end is waited for.
    struct Ends {
        host: Arc<Fake>,
        domid: DomId,
    }

    impl Changes for Ends {
        fn wait(&mut self, _limit: Option<Duration>) -> xt_host::Result<bool> {
            self.host.shut_down(self.domid, ShutdownReason::Poweroff);
            Ok(true)
        }
    }

    #[test]
    fn an_end_in_the_foreground_is_seen_to() {
        let text = "name = 'g'\nkernel = '/k'\nmemory = 64\n";
        let document = xt_config::parse(text, "g.cfg").unwrap();
        let spec = DomainSpec::from_document(&document, xt_config::keys::SPEC_KEYS).unwrap();
        let host = Arc::new(Fake::new(HostKind::Xen));
        let created = host.create(&spec.value, &CreateOptions::default());
        let domid = created.unwrap().domid;
        Record::default().write(&*host, domid).unwrap();
        let changes = Box::new(Ends {
            host: Arc::clone(&host),
            domid,
        });
        in_foreground(&*host, domid, changes).unwrap();
        assert!(
            host.list().unwrap().is_empty(),
            "destroyed, as is the default"
        );
    }
}
