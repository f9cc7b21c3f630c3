//! Commands on vCPUs.

use serde_json::json;
use xt_host::{CpuSet, DomId, Host, HostInfo};

use super::{domains, domid};
use crate::cli::{VcpuListArgs, VcpuPinArgs, VcpuSetArgs};
use crate::output::{print, print_json, vcpu_heading, vcpu_rows};
use crate::status::{Failure, Status};

/// `vcpu-list`
pub fn list(host: &dyn Host, arguments: &VcpuListArgs) -> Result<Status, Failure> {
    let processors = host.info()?.nr_cpus;
    let (mut text, mut all) = (vcpu_heading(), Vec::new());
    for domain in domains(host, &arguments.domains)? {
        let vcpus = match host.vcpu_list(DomId(domain.domid)) {
            Ok(vcpus) => vcpus,
            // It ended meanwhile.
            Err(_) if arguments.domains.is_empty() => continue,
            Err(error) => return Err(error.into()),
        };
        text.push_str(&vcpu_rows(&domain.name, domain.domid, &vcpus, processors));
        all.push(json!({"domid": domain.domid, "name": domain.name, "vcpus": vcpus}));
    }
    match arguments.json {
        true => print_json(&all),
        false => print(&text),
    }
}

/// `vcpu-pin`
pub fn pin(host: &dyn Host, arguments: &VcpuPinArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let info = host.info()?;
    let hard = cpus(&arguments.hard, &info)?;
    let soft = match &arguments.soft {
        Some(text) => cpus(text, &info)?,
        None => None,
    };
    let vcpus: Vec<u32> = match arguments.vcpu.as_str() {
        "all" => host
            .vcpu_list(domid)?
            .iter()
            .map(|vcpu| vcpu.vcpu)
            .collect(),
        text => vec![text.parse().map_err(|_| {
            Failure::plain(format!(
                "{text:?} is no number of a vCPU; all is all of them"
            ))
        })?],
    };
    for vcpu in vcpus {
        host.vcpu_pin(domid, vcpu, hard.as_ref(), soft.as_ref())?;
    }
    Ok(Status::Success)
}

/// `vcpu-set`
pub fn set(host: &dyn Host, arguments: &VcpuSetArgs) -> Result<Status, Failure> {
    let domid = domid(host, &arguments.domain)?;
    let (count, processors) = (arguments.count, host.info()?.nr_cpus);
    if count > processors && !arguments.ignore_host {
        let message = format!(
            "This host has {processors} processors, and {count} vCPUs would share them; --ignore-host allows that"
        );
        return Err(Failure::plain(message));
    }
    host.vcpu_set(domid, count)?;
    Ok(Status::Success)
}

/// Processors in `xl`'s notation; `None` for `-`, which leaves what is.
fn cpus(text: &str, host: &HostInfo) -> Result<Option<CpuSet>, Failure> {
    let bad = |why: &str| {
        Failure::plain(format!(
            "{text:?} is no set of processors: {why}; write 0-3,^1, nodes:0 or all"
        ))
    };
    if text == "-" {
        return Ok(None);
    }
    let mut set = CpuSet::default();
    for (place, part) in text.split(',').enumerate() {
        let (part, away) = match part.strip_prefix('^') {
            Some(rest) => (rest, true),
            None => (part, false),
        };
        let of_nodes = part.strip_prefix("nodes:").or(part.strip_prefix("node:"));
        let chosen: Vec<u32> = match of_nodes {
            _ if part == "all" => (0..host.nr_cpus).collect(),
            _ if part == "none" => Vec::new(),
            Some(range) => {
                let (first, last) = bounds(range).ok_or_else(|| bad("a node is a number"))?;
                let there = (0..).zip(&host.topology);
                let inside = there.filter(|(_, place)| (first..=last).contains(&place.2));
                inside.map(|(cpu, _)| cpu).collect()
            }
            None => {
                let (first, last) = bounds(part).ok_or_else(|| bad("a processor is a number"))?;
                (first..=last.min(first.saturating_add(0xffff))).collect()
            }
        };
        if away && place == 0 {
            // As xl: without anything before it, it is taken from all.
            set = CpuSet::all(host.nr_cpus);
        }
        for cpu in chosen {
            match away {
                true => set.0.remove(&cpu),
                false => set.0.insert(cpu),
            };
        }
    }
    set.0.retain(|cpu| *cpu <= host.max_cpu_id);
    match set.0.is_empty() {
        true => Err(bad("this host has none of them")),
        false => Ok(Some(set)),
    }
}

/// The ends of `N` or `N-M`.
fn bounds(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostInfo {
        serde_json::from_value(json!({
            "kind": "xen", "host": "", "release": "", "version": "", "machine": "", "nr_cpus": 4,
            "max_cpu_id": 3, "nr_nodes": 2, "cores_per_socket": 2, "threads_per_core": 1, "cpu_khz": 1,
            "hw_caps": [], "virt_caps": [], "total_memory_kib": 1, "free_memory_kib": 1,
            "sharing_freed_pages": 0, "sharing_used_pages": 0, "outstanding_pages": 0, "free_cpus": 0,
            "hypervisor": xt_host::HypervisorInfo::default(),
            "topology": [[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]], "nodes": [],
        }))
        .unwrap()
    }

    #[test]
    fn sets_are_read_as_xl_does() {
        let of =
            |text: &str| cpus(text, &host()).map(|set| set.map(|set| set.0.into_iter().collect()));
        let set = |cpus: &[u32]| Ok(Some(cpus.to_vec()));
        assert_eq!(of("-"), Ok(None));
        assert_eq!(of("all"), set(&[0, 1, 2, 3]));
        assert_eq!(of("1"), set(&[1]));
        assert_eq!(of("0-2,^1"), set(&[0, 2]));
        assert_eq!(of("^0"), set(&[1, 2, 3]));
        assert_eq!(of("nodes:1"), set(&[2, 3]));
        assert_eq!(of("all,^node:0"), set(&[2, 3]));
        assert_eq!(of("2-9"), set(&[2, 3]));
        for text in ["9", "", "x", "3-1", "0,^0", "node:", "0-4294967295x"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
