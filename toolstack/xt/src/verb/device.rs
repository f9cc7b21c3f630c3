//! Commands on devices.

use serde_json::json;
use xt_config::SpecError;
use xt_config::disk::DiskSpec;
use xt_config::vif::VifSpec;
use xt_devices::list::{block_heading, network_heading};
use xt_host::{DeviceName, DomId, Host};

use super::{domains, domid};
use crate::cli::{AttachArgs, CdEjectArgs, CdInsertArgs, DetachArgs, DomainsArgs};
use crate::output::{self, print, print_json};
use crate::status::{Failure, Status};

/// Words of a disk's target that `xl` takes and that say nothing any more.
const TARGET_PREFIXES: [&str; 4] = ["phy:", "file:", "tap:", "tap2:"];

/// A wrong specification: its text, and where in it what is wrong.
fn located(text: &str, error: &SpecError) -> Failure {
    let place = xenner::devices::nic::located(
        text,
        error.range.clone(),
        &error.message,
        error.help.as_deref(),
    );
    Failure::plain(place)
}

/// `block-attach`
pub fn block_attach(host: &dyn Host, arguments: &AttachArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let text = arguments.spec.join(",");
    let spec: DiskSpec = text.parse().map_err(|error| located(&text, &error))?;
    host.block_attach(domid, &spec)?;
    Ok(Status::Success)
}

/// `network-attach`
pub fn network_attach(host: &dyn Host, arguments: &AttachArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let text = arguments.spec.join(",");
    let spec: VifSpec = text.parse().map_err(|error| located(&text, &error))?;
    host.network_attach(domid, &spec)?;
    Ok(Status::Success)
}

/// `block-detach`
pub fn block_detach(host: &dyn Host, arguments: &DetachArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    host.detach(domid, DeviceName::Disk(&arguments.device), arguments.force)?;
    Ok(Status::Success)
}

/// `network-detach`
pub fn network_detach(host: &dyn Host, arguments: &DetachArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    host.detach(domid, DeviceName::Nic(&arguments.device), arguments.force)?;
    Ok(Status::Success)
}

/// `block-list`
pub fn block_list(host: &dyn Host, arguments: &DomainsArgs) -> Result<Status, Failure> {
    listing(host, arguments, block_heading(), |domid| {
        host.block_list(domid)
    })
}

/// `network-list`
pub fn network_list(host: &dyn Host, arguments: &DomainsArgs) -> Result<Status, Failure> {
    listing(host, arguments, network_heading(), |domid| {
        host.network_list(domid)
    })
}

/// The devices of domains: a table, or JSON.
fn listing<T: serde::Serialize + std::fmt::Display>(
    host: &dyn Host,
    arguments: &DomainsArgs,
    heading: String,
    devices: impl Fn(DomId) -> xt_host::Result<Vec<T>>,
) -> Result<Status, Failure> {
    let (mut text, mut all) = (heading + "\n", Vec::new());
    for domain in domains(host, &arguments.domains)? {
        let entries = devices(DomId(domain.domid))?;
        for entry in &entries {
            text.push_str(&format!("{entry}\n"));
        }
        all.push(json!({"domid": domain.domid, "name": domain.name, "devices": entries}));
    }
    match arguments.json {
        true => print_json(&all),
        false => print(&text),
    }
}

/// `channel-list`
pub fn channel_list(host: &dyn Host, arguments: &DomainsArgs) -> Result<Status, Failure> {
    let (mut all, mut found) = (Vec::new(), Vec::new());
    for domain in domains(host, &arguments.domains)? {
        let channels = host.channel_list(DomId(domain.domid))?;
        all.push(json!({"domid": domain.domid, "name": domain.name, "devices": channels}));
        found.extend(channels);
    }
    match arguments.json {
        true => print_json(&all),
        false => print(&output::channels(&found)),
    }
}

/// `cd-insert`
pub fn cd_insert(host: &dyn Host, arguments: &CdInsertArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let prefixes = TARGET_PREFIXES.iter();
    let mut bare = prefixes.filter_map(|prefix| arguments.target.strip_prefix(prefix));
    let target = bare.next().unwrap_or(&arguments.target);
    host.cd_insert(domid, &arguments.vdev, Some(target))?;
    Ok(Status::Success)
}

/// `cd-eject`
pub fn cd_eject(host: &dyn Host, arguments: &CdEjectArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    host.cd_insert(domid, &arguments.vdev, None)?;
    Ok(Status::Success)
}
