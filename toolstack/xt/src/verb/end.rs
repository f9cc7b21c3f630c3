//! Commands that end domains, or ask them to end.

use xt_host::{DomId, DomainInfo, Host, HostError};

use super::domains;
use crate::cli::{DestroyArgs, EndArgs};
use crate::status::{Failure, Status};

/// `destroy`
pub fn destroy(host: &dyn Host, arguments: &DestroyArgs) -> Result<Status, Failure> {
    let domain = host.find(&arguments.domain)?;
    if domain.domid == 0 && !arguments.force {
        return Err(Failure::plain(
            "Domain 0 is this system; -f destroys it where the toolstack is another domain's",
        ));
    }
    match host.destroy(DomId(domain.domid)) {
        // It went between being found and being ended: what was asked for is named as it was.
        Err(HostError::NoSuchDomain(_)) => {
            let name = arguments.domain.clone();
            Err(HostError::NoSuchDomain(name).into())
        }
        ended => Ok(ended.map(|()| Status::Success)?),
    }
}

/// `shutdown`
pub fn shutdown(host: &dyn Host, arguments: &EndArgs) -> Result<Status, Failure> {
    ask(host, arguments, "Shutting down", &|domid| {
        host.shutdown(domid)
    })
}

/// `reboot`
pub fn reboot(host: &dyn Host, arguments: &EndArgs) -> Result<Status, Failure> {
    ask(host, arguments, "Rebooting", &|domid| host.reboot(domid))
}

fn ask(
    host: &dyn Host,
    arguments: &EndArgs,
    word: &str,
    how: &dyn Fn(DomId) -> xt_host::Result<()>,
) -> Result<Status, Failure> {
    let names: Vec<String> = arguments.domain.iter().cloned().collect();
    let mut asked = match arguments.all {
        true => host.list()?,
        false => domains(host, &names)?,
    };
    // As xl, whose -a leaves out the control domain and what has ended already.
    if arguments.all {
        asked.retain(|domain| domain.domid != 0 && domain.state.shutdown.is_none());
    }
    // Before anything is asked, so that no end is missed.
    let mut changes = match arguments.wait {
        true => Some(host.changes()?),
        false => None,
    };
    for domain in &asked {
        eprintln!("{word} domain {}", domain.domid);
        how(DomId(domain.domid))?;
    }
    let Some(changes) = &mut changes else {
        return Ok(Status::Success);
    };
    let mut waiting = asked;
    loop {
        let there = host.list()?;
        waiting.retain(|domain| !has_ended(domain, &there));
        if waiting.is_empty() {
            return Ok(Status::Success);
        }
        changes.wait(None)?;
    }
}

/// Says how a domain ended, if it has.
fn has_ended(domain: &DomainInfo, there: &[DomainInfo]) -> bool {
    let domid = domain.domid;
    let now = there.iter().find(|now| now.domid == domid);
    let again = |now: &DomainInfo| now.started.is_some() && now.started != domain.started;
    match now {
        None => println!("Domain {domid} has been destroyed"),
        // A host that restarts by itself keeps the number.
        Some(now) if again(now) => println!("Domain {domid} has rebooted"),
        Some(now) => match now.state.shutdown {
            None => return false,
            Some(reason) => println!(
                "Domain {domid} has been shut down, reason code {}",
                reason.code()
            ),
        },
    }
    true
}
