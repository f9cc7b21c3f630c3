//! The commands: each is a function from the host and the arguments to a status.

pub mod console;
pub mod create;
pub mod device;
pub mod end;
pub mod list;
pub mod misc;
pub mod sched;
#[cfg(test)]
pub(crate) mod testing;
pub mod top;
pub mod vcpu;

use xt_host::{DomId, DomainInfo, Host};

use crate::status::Failure;

/// The number of the domain `name` names.
pub(crate) fn domid(host: &dyn Host, name: &str) -> Result<DomId, Failure> {
    Ok(DomId(host.find(name)?.domid))
}

/// The domains that `names` name, or all.
pub(crate) fn domains(host: &dyn Host, names: &[String]) -> Result<Vec<DomainInfo>, Failure> {
    if names.is_empty() {
        return Ok(host.list()?);
    }
    let found: Result<Vec<_>, _> = names.iter().map(|name| host.find(name)).collect();
    Ok(found?)
}
