//! On which CPUs, and with which memory near: `cpus`, `cpus_soft`, `vnuma`.

use std::ops::RangeInclusive;

use crate::diagnostic::{SpecError, quote};
use crate::document::{Located, Value};
use crate::domain::Host;
use crate::domain::pairs::Pair;
use crate::libxl::{Bitmap, BuildInfo, MemKb, VnodeInfo};
use crate::reader::Reader;

/// `cpus` and `cpus_soft`, once the number of vCPUs is known. A string holds for all of them, an
/// item of a list for one.
pub(super) fn read(reader: &mut Reader<'_>, host: &Host, info: &mut BuildInfo) {
    let vcpus = usize::try_from(info.max_vcpus).unwrap_or(0);
    for (key, soft) in [("cpus", false), ("cpus_soft", true)] {
        if reader.get(key).is_none() {
            continue;
        }
        let is_list = reader.is_list(key);
        let maps = if is_list {
            let mut maps = reader.list(key, |text| cpu_set(text, host));
            maps.truncate(vcpus);
            maps
        } else {
            let map = reader.parsed(key, |text| cpu_set(text, host));
            vec![map.unwrap_or_default(); vcpus]
        };
        if is_list || soft {
            info.numa_placement = false.into();
        }
        match soft {
            true => info.vcpu_soft_affinity = maps,
            false => info.vcpu_hard_affinity = maps,
        }
    }
}

/// `all`, `0-3,^2`, `nodes:0,^node:1`. CPUs that the host does not have are left out.
fn cpu_set(text: &str, host: &Host) -> Result<Bitmap, SpecError> {
    let mut set = Bitmap::default();
    let mut position = 0;
    for part in text.split(',') {
        let range = position..position + part.len();
        position = range.end + 1;
        if part.is_empty() {
            continue;
        }
        let refuse = |message: String| {
            SpecError::new(range.clone(), message).help("Examples: all, 0-3,^2, nodes:0-1")
        };
        let (out, rest) = match part.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, part),
        };
        let nodes = rest.strip_prefix("nodes:").or(rest.strip_prefix("node:"));
        let rest = nodes.unwrap_or(rest);
        if rest == "all" {
            if out {
                return Err(refuse("All CPUs cannot be taken away.".into()));
            }
            set = host.all_cpus();
            continue;
        }
        let numbers = number_range(rest)
            .ok_or_else(|| refuse(format!("{} is no range of CPUs.", quote(part))))?;
        let cpus: Vec<u32> = match nodes {
            None => numbers.filter(|cpu| *cpu < host.cpu_bits()).collect(),
            Some(_) => {
                let mut cpus = Vec::new();
                for node in numbers {
                    let found = usize::try_from(node).ok().and_then(|n| host.nodes.get(n));
                    let found =
                        found.ok_or_else(|| refuse(format!("The host has no node {node}.")))?;
                    cpus.extend(found.0.iter().copied());
                }
                cpus
            }
        };
        for cpu in cpus {
            match out {
                true => set.0.remove(&cpu),
                false => set.0.insert(cpu),
            };
        }
    }
    Ok(set)
}

/// More CPUs or nodes than any machine has: what is above is no range but a slip.
const MOST: u32 = 1 << 16;

/// `3` or `1-3`.
pub(super) fn number_range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .filter(|n| *n < MOST)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// `vnuma`: a list of nodes, each a list of `key=value`. It also says how many vCPUs and how much
/// memory there are.
pub(super) fn read_vnuma(reader: &mut Reader<'_>, host: &Host, info: &mut BuildInfo) {
    let Some(Value::List(items)) = reader.get("vnuma").map(|value| &value.value) else {
        if reader.get("vnuma").is_some() {
            reader.error(
                "vnuma",
                "vnuma is a single value but must be a list.",
                VNUMA,
            );
        }
        return;
    };
    let nodes: Vec<VnodeInfo> = items
        .iter()
        .map(|item| node(reader, item, host, items.len()))
        .collect();
    if nodes.is_empty() {
        return;
    }
    let vcpus: usize = nodes.iter().map(|node| node.vcpus.0.len()).sum();
    let memory = nodes
        .iter()
        .filter_map(|node| node.memkb.get())
        .fold(0u64, u64::saturating_add);
    let vcpus = i32::try_from(vcpus).unwrap_or(i32::MAX);
    if info.max_vcpus == 0 {
        info.max_vcpus = vcpus;
    } else if info.max_vcpus != vcpus {
        let message = format!(
            "The nodes have {vcpus} vCPUs, but maxvcpus is {}.",
            info.max_vcpus
        );
        reader.error("vnuma", message, "Give each vCPU to one node.");
    }
    if info.max_memkb == MemKb::UNSET {
        info.max_memkb = MemKb(memory);
    } else if info.max_memkb != MemKb(memory) {
        let message = format!(
            "The nodes have {} MiB, but maxmem is another.",
            memory / 1024
        );
        reader.error("vnuma", message, "Make the sum of size equal to maxmem.");
    }
    if nodes.iter().any(|node| node.pnode != 0) || names_pnode(items) {
        info.numa_placement = false.into();
    }
    info.vnuma_nodes = nodes;
}

const VNUMA: &str =
    "Write vnuma = [ [ \"pnode=0\", \"size=512\", \"vcpus=0-1\", \"vdistances=10,20\" ], … ]";

fn names_pnode(items: &[Located<Value>]) -> bool {
    let texts = items.iter().filter_map(|item| item.value.items()).flatten();
    texts
        .filter_map(|text| text.value.text())
        .any(|text| text.trim().starts_with("pnode"))
}

fn node(reader: &mut Reader<'_>, item: &Located<Value>, host: &Host, count: usize) -> VnodeInfo {
    let mut node = VnodeInfo {
        distances: vec![0; count],
        ..VnodeInfo::default()
    };
    let Some(options) = item.value.items() else {
        let error = reader
            .document
            .error(item.span, "A node must be a list.", Some(VNUMA.into()));
        reader.errors.push(error);
        return node;
    };
    for option in options {
        reader.item(option, |text| node_option(&mut node, text, host));
    }
    node
}

fn node_option(node: &mut VnodeInfo, text: &str, host: &Host) -> Result<(), SpecError> {
    let pair = Pair::whole(text)?;
    match pair.key {
        "pnode" => {
            node.pnode = pair.number()?;
            if usize::try_from(node.pnode).map_or(true, |n| n >= host.nodes.len()) {
                return Err(pair.error(format!("The host has no node {}.", node.pnode), VNUMA));
            }
        }
        "size" => {
            let mib: u32 = pair.number()?;
            node.memkb = MemKb(u64::from(mib) * 1024);
        }
        "vcpus" => {
            for part in pair.value.split(',') {
                let range = number_range(part.trim()).ok_or_else(|| {
                    pair.error(format!("{} is no range of vCPUs.", quote(part)), VNUMA)
                })?;
                node.vcpus.0.extend(range);
            }
        }
        "vdistances" => {
            for (place, part) in pair.value.split(',').enumerate() {
                let distance = part.trim().parse().ok();
                match (node.distances.get_mut(place), distance) {
                    (Some(slot), Some(distance)) => *slot = distance,
                    (None, _) => {
                        let message = "There are more distances than nodes.";
                        return Err(pair.error(message, VNUMA));
                    }
                    (_, None) => {
                        let message = format!("{} is no distance.", quote(part));
                        return Err(pair.error(message, VNUMA));
                    }
                }
            }
        }
        _ => return Err(pair.unknown("A node of vnuma", &["pnode", "size", "vcpus", "vdistances"])),
    }
    Ok(())
}
