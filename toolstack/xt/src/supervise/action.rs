//! What follows the end of a domain.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xt_config::{Action, DomainSpec, EventActions};
use xt_host::{CreateOptions, Created, DomId, DomainInfo, Host, ShutdownReason};

use super::owed::{Owed, Restart};
use super::record::{self, Record};
use crate::status::Failure;

/// Where core files go, as xl's.
const DUMPS: &str = "/var/lib/xen/dump";

/// What the settings say about an end; `None` if nothing is to be done, as for a suspend, which who
/// asked for it handles.
fn wanted(on: &EventActions, reason: ShutdownReason) -> Option<Action> {
    match reason {
        ShutdownReason::Poweroff => Some(on.poweroff),
        ShutdownReason::Reboot => Some(on.reboot),
        ShutdownReason::Crash => Some(on.crash),
        ShutdownReason::Watchdog => Some(on.watchdog),
        ShutdownReason::SoftReset => Some(on.soft_reset),
        ShutdownReason::Suspend => None,
        ShutdownReason::Other(_) => Some(on.crash),
    }
}

/// Every domain that is looked after by whom `mine` says.
fn charges(host: &dyn Host, mine: impl Fn(&Record) -> bool) -> Result<Vec<DomainInfo>, Failure> {
    let mut charges = Vec::new();
    for domain in host.list()? {
        if domain.self_supervised || domain.state.dying {
            continue;
        }
        // One that goes just now has none any more.
        let Ok(Some(record)) = Record::read(host, DomId(domain.domid)) else {
            continue;
        };
        if mine(&record) && !record.done {
            charges.push(domain);
        }
    }
    Ok(charges)
}

/// How many there are.
pub fn count(host: &dyn Host, mine: impl Fn(&Record) -> bool) -> Result<usize, Failure> {
    Ok(charges(host, mine)?.len())
}

/// Does what is to be done for each that has ended, and tells how many are left. One that fails is
/// said on standard error, and holds up no other.
pub fn round(
    host: &dyn Host,
    owed: &Owed,
    mine: impl Fn(&Record) -> bool,
) -> Result<usize, Failure> {
    for domain in charges(host, &mine)? {
        if let Err(failure) = end(host, owed, &domain) {
            eprintln!("xt: Domain {}: {failure}", domain.name);
        }
    }
    count(host, mine)
}

/// Does what the settings say about the end of a domain, if it has ended.
pub fn end(host: &dyn Host, owed: &Owed, domain: &DomainInfo) -> Result<(), Failure> {
    let domid = DomId(domain.domid);
    let Some(reason) = domain.state.shutdown else {
        return Ok(());
    };
    let (Some(record), Some(spec)) = (Record::read(host, domid)?, host.configuration(domid)?)
    else {
        return Ok(());
    };
    let done = || {
        let done = Record {
            done: true,
            ..record.clone()
        };
        done.write(host, domid)
    };
    let Some(action) = wanted(&spec.on, reason) else {
        return Ok(());
    };
    let name = &domain.name;
    eprintln!(
        "xt: Domain {name} ({}) ended: {reason:?}; {action:?} follows",
        domid.0
    );
    if matches!(action, Action::CoredumpDestroy | Action::CoredumpRestart) {
        dump(host, domain);
    }
    match action {
        Action::Preserve => done(),
        Action::Destroy | Action::CoredumpDestroy => Ok(host.destroy(domid)?),
        Action::Restart | Action::CoredumpRestart => {
            let restart = next(host, domain, reason, &record, spec);
            if let Ok(restart) = &restart {
                owed.note(restart)?;
            }
            host.destroy(domid)?;
            start_again(host, owed, &restart?)
        }
        Action::RenameRestart => {
            let restart = next(host, domain, reason, &record, spec);
            if let Ok(restart) = &restart {
                owed.note(restart)?;
            }
            done()?;
            host.preserve(domid, &kept_name(host, name)?)?;
            start_again(host, owed, &restart?)
        }
        // Where that cannot be the domain is kept as it is, and said so once.
        Action::SoftReset => host.soft_reset(domid, &spec).or_else(|error| {
            done()?;
            Err(error.into())
        }),
    }
}

/// The start that follows an end.
fn next(
    host: &dyn Host,
    domain: &DomainInfo,
    reason: ShutdownReason,
    record: &Record,
    spec: DomainSpec,
) -> Result<Restart, Failure> {
    let asked = matches!(reason, ShutdownReason::Reboot | ShutdownReason::Poweroff);
    let next = record.next(record::now(), !asked).ok_or_else(|| {
        Failure::plain(format!(
            "It failed {} times in a row within {} seconds of its start; it is not started again",
            record::EARLY_RESTARTS + 1,
            record::EARLY
        ))
    })?;
    let domid = DomId(domain.domid);
    // As xl keeps it.
    let source = host.kept(domid, "xl")?.unwrap_or_default();
    Ok(Restart {
        uuid: domain.uuid,
        spec,
        source: String::from_utf8_lossy(&source).into_owned(),
        libxl: host.libxl_config(domid)?.unwrap_or_default(),
        next,
    })
}

/// Starts a domain again. It is paused until its record is there, so that it is looked after from its
/// first instruction on.
fn start_again(host: &dyn Host, owed: &Owed, restart: &Restart) -> Result<(), Failure> {
    let options = CreateOptions {
        paused: true,
        uncommitted: true,
        source: restart.source.clone(),
        libxl: restart.libxl.clone(),
        ..CreateOptions::default()
    };
    let start = || {
        let Created { domid, warnings } = host.create(&restart.spec, &options)?;
        let name = &restart.spec.name;
        warnings
            .iter()
            .for_each(|warning| eprintln!("xt: Domain {name}: {warning}"));
        let record = restart.next.clone();
        let begun = record
            .write(host, domid)
            .and_then(|()| Ok(host.unpause(domid)?))
            .and_then(|()| Ok(host.commit(domid)?));
        if begun.is_err() {
            let _ = host.destroy(domid);
        }
        begun
    };
    // One that cannot be started is said once, not tried for ever.
    start().and(owed.settle(restart))
}

/// Starts what a supervisor that was killed had ended and not started again.
pub fn pay(host: &dyn Host, owed: &Owed) -> Result<(), Failure> {
    for mut restart in owed.left() {
        let name = &restart.spec.name;
        let domains = host.list()?;
        if domains.iter().any(|domain| domain.name == *name) {
            // Not ended yet, or started already, by whomever.
            owed.settle(&restart)?;
            continue;
        }
        if domains.iter().any(|domain| domain.uuid == restart.uuid) {
            // Kept under another name, and not yet under another UUID.
            restart.spec.uuid = None;
        }
        eprintln!("xt: Domain {name} had ended and is started again");
        if let Err(failure) = start_again(host, owed, &restart) {
            eprintln!("xt: Domain {name}: {failure}");
        }
    }
    Ok(())
}

/// A name for a domain that makes room for its successor: with the number of its run behind it, as no
/// other domain has that.
fn kept_name(host: &dyn Host, name: &str) -> Result<String, Failure> {
    let domains = host.list()?;
    let free = |wanted: &String| !domains.iter().any(|domain| domain.name == *wanted);
    let stem = format!("{name}-{}", record::now());
    let numbered = (2..100).map(|number| format!("{stem}.{number}"));
    let mut names = std::iter::once(stem.clone()).chain(numbered);
    names
        .find(free)
        .ok_or_else(|| Failure::plain(format!("Every name like {stem} is taken")))
}

/// Writes a core file; failing to is said, and no reason not to go on.
fn dump(host: &dyn Host, domain: &DomainInfo) {
    let path = Path::new(DUMPS).join(format!("{}-{}.core", domain.name, record::now()));
    match write_dump(host, domain, &path) {
        Ok(()) => eprintln!("xt: Core file: {}", path.display()),
        Err(failure) => {
            let _ = std::fs::remove_file(&path);
            eprintln!("xt: {failure}");
        }
    }
}

fn write_dump(host: &dyn Host, domain: &DomainInfo, path: &PathBuf) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::plain(format!("Cannot write the core file {path:?}: {error}"))
    };
    std::fs::create_dir_all(DUMPS).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(path).map_err(failed)?;
    Ok(host.dump_core(DomId(domain.domid), file, path, false)?)
}

#[cfg(test)]
#[path = "action_test.rs"]
mod tests;
