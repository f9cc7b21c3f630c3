//! Commands that tell of the host and its domains.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use xt_config::DomainType;
use xt_config::libxl::{Bitmap, Listing, MemKb, Scheduler, Tuning, Type};
use xt_host::{DomId, DomainInfo, Host};

use super::domains;
use crate::cli::{InfoArgs, ListArgs, NameOnly, NumberOnly, UptimeArgs};
use crate::output::{self, Columns, print, print_json};
use crate::status::{Failure, Status};

/// `list`
pub fn list(host: &dyn Host, arguments: &ListArgs) -> Result<Status, Failure> {
    let names: Vec<String> = arguments.domain.iter().cloned().collect();
    let domains = domains(host, &names)?;
    if arguments.long {
        let long: Result<Vec<_>, Failure> =
            domains.iter().map(|domain| long(host, domain)).collect();
        let text = xt_config::libxl::to_string(&long?)
            .map_err(|error| Failure::plain(error.to_string()))?;
        return print(&(text + "\n\n"));
    }
    if arguments.json {
        return print_json(&with_starts(host, domains)?);
    }
    let columns = Columns::from(arguments);
    let nodes = |domain: &DomainInfo| nodes(host, domain);
    print(&output::list(&domains, columns, &nodes))
}

/// With when each was started.
fn with_starts(host: &dyn Host, mut domains: Vec<DomainInfo>) -> Result<Vec<DomainInfo>, Failure> {
    for domain in &mut domains {
        domain.started = host.started(domain)?;
    }
    Ok(domains)
}

/// An entry of `list -l`: what is kept of the domain, with what may have changed since.
fn long(host: &dyn Host, domain: &DomainInfo) -> Result<Listing, Failure> {
    let kept = host.libxl_config(DomId(domain.domid))?;
    let mut config = kept.unwrap_or_default();
    if config.c_info.kind == Type::Invalid {
        config.c_info.kind = match domain.kind {
            DomainType::Pv => Type::Pv,
            DomainType::Pvh => Type::Pvh,
            DomainType::Hvm => Type::Hvm,
        };
    }
    config.c_info.name = Some(domain.name.clone());
    let (most, target) = host.memory_now(DomId(domain.domid))?;
    let build = &mut config.b_info;
    build.max_memkb = most.map_or(build.max_memkb, MemKb);
    // libxl adds the video memory, also where that is "not set", as for domain 0.
    let with_video = |kib: u64| MemKb(kib.wrapping_add(build.video_memkb.0));
    build.target_memkb = target.map_or(build.target_memkb, with_video);
    // libxl has room for as many as the domain may have.
    let online = domain
        .vcpus_online
        .min(build.max_vcpus.max(0).cast_unsigned());
    build.avail_vcpus = Bitmap::below(online);
    if let Ok(settings) = host.credit2(DomId(domain.domid)) {
        let params = &mut config.b_info.sched_params;
        params.sched = Scheduler::Credit2;
        params.weight = Tuning(settings.weight as i32);
        params.cap = Tuning(settings.cap as i32);
    }
    Ok(Listing {
        domid: Some(domain.domid.into()),
        config,
    })
}

/// The nodes whose processors some vCPU may run on.
fn nodes(host: &dyn Host, domain: &DomainInfo) -> String {
    let Ok(info) = host.info() else {
        return "-".to_owned();
    };
    let vcpus = host.vcpu_list(DomId(domain.domid)).unwrap_or_default();
    let mut nodes = xt_host::CpuSet::default();
    for cpu in vcpus.iter().flat_map(|vcpu| &vcpu.hard_affinity.0) {
        nodes
            .0
            .extend(info.topology.get(*cpu as usize).map(|place| place.2));
    }
    nodes.text(info.nr_nodes)
}

/// `vm-list`
pub fn vm_list(host: &dyn Host, json: bool) -> Result<Status, Failure> {
    let domains = host.list()?;
    if json {
        let entry = |domain: &DomainInfo| json!({"uuid": domain.uuid, "domid": domain.domid, "name": domain.name});
        return print_json(&domains.iter().map(entry).collect::<Vec<_>>());
    }
    print(&output::vm_list(&domains))
}

/// `info`
pub fn info(host: &dyn Host, arguments: &InfoArgs) -> Result<Status, Failure> {
    let info = host.info()?;
    if arguments.json {
        return print_json(&info);
    }
    print(&output::info(&info, arguments.numa))
}

/// `domid`
pub fn domid(host: &dyn Host, arguments: &NameOnly) -> Result<Status, Failure> {
    let name = &arguments.name;
    let domains = host.list()?;
    let Some(domain) = domains.iter().find(|domain| domain.name == *name) else {
        return Err(xt_host::HostError::NoSuchDomain(name.clone()).into());
    };
    tell(domain, arguments.json, &domain.domid.to_string())
}

/// `domname`
pub fn domname(host: &dyn Host, arguments: &NumberOnly) -> Result<Status, Failure> {
    let text = &arguments.domid;
    let Ok(domid) = text.parse::<u16>() else {
        return Err(Failure::plain(format!("{text:?} is no number of a domain")));
    };
    let domain = host.domain(DomId(domid))?;
    tell(&domain, arguments.json, &domain.name)
}

fn tell(domain: &DomainInfo, json: bool, text: &str) -> Result<Status, Failure> {
    match json {
        true => print_json(&json!({"domid": domain.domid, "name": domain.name})),
        false => print(&format!("{text}\n")),
    }
}

/// How long this system runs, in seconds.
fn own_uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split('.').next().and_then(|text| text.parse().ok());
    seconds.unwrap_or(0)
}

/// `uptime`
pub fn uptime(host: &dyn Host, arguments: &UptimeArgs) -> Result<Status, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let age = |domain: &DomainInfo| match domain.domid {
        // This system, which nobody started as a domain.
        0 => own_uptime(),
        _ => now.saturating_sub(domain.started.unwrap_or(now)),
    };
    let domains = with_starts(host, domains(host, &arguments.domains)?)?;
    let domains: Vec<_> = domains
        .into_iter()
        .map(|domain| {
            let age = age(&domain);
            (domain, age)
        })
        .collect();
    if arguments.json {
        let entry = |(domain, age): &(DomainInfo, u64)| json!({"domid": domain.domid, "name": domain.name, "uptime": age});
        return print_json(&domains.iter().map(entry).collect::<Vec<_>>());
    }
    print(&match arguments.short {
        true => output::uptime_short(&domains, &super::misc::now()),
        false => output::uptime(&domains),
    })
}
