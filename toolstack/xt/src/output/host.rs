//! The host, its scheduler and channels.

use std::fmt::Write;

use xt_host::{ChannelInfo, Credit2, Credit2Domain, HostInfo};

use super::name;

const PAGES_PER_MIB: u64 = 256;

/// `xl info`; `numa` adds the topology.
pub fn info(host: &HostInfo, numa: bool) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key:<23}: {value}");
    };
    line("host", &host.host);
    line("release", &host.release);
    line("version", &host.version);
    line("machine", &host.machine);
    line("nr_cpus", &host.nr_cpus);
    line("max_cpu_id", &host.max_cpu_id);
    line("nr_nodes", &host.nr_nodes);
    line("cores_per_socket", &host.cores_per_socket);
    line("threads_per_core", &host.threads_per_core);
    let mhz = format!("{}.{:03}", host.cpu_khz / 1000, host.cpu_khz % 1000);
    line("cpu_mhz", &mhz);
    let caps: Vec<String> = host
        .hw_caps
        .iter()
        .map(|word| format!("{word:08x}"))
        .collect();
    line("hw_caps", &caps.join(":"));
    line("virt_caps", &host.virt_caps.join(" "));
    line("total_memory", &(host.total_memory_kib / 1024));
    line("free_memory", &(host.free_memory_kib / 1024));
    line(
        "sharing_freed_memory",
        &(host.sharing_freed_pages / PAGES_PER_MIB),
    );
    line(
        "sharing_used_memory",
        &(host.sharing_used_pages / PAGES_PER_MIB),
    );
    line(
        "outstanding_claims",
        &(host.outstanding_pages / PAGES_PER_MIB),
    );
    line("free_cpus", &host.free_cpus);
    if numa {
        text.push_str(&topology(host));
    }
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key:<23}: {value}");
    };
    let xen = &host.hypervisor;
    line("xen_major", &xen.major);
    line("xen_minor", &xen.minor);
    line("xen_extra", &xen.extra);
    line(
        "xen_version",
        &format!("{}.{}{}", xen.major, xen.minor, xen.extra),
    );
    line("xen_caps", &xen.caps);
    line("xen_scheduler", &xen.scheduler);
    line("xen_pagesize", &xen.pagesize);
    line(
        "platform_params",
        &format!("virt_start=0x{:x}", xen.virt_start),
    );
    line("xen_changeset", &xen.changeset);
    line("xen_commandline", &xen.commandline);
    line("cc_compiler", &xen.compiler);
    line("cc_compile_by", &xen.compile_by);
    line("cc_compile_domain", &xen.compile_domain);
    line("cc_compile_date", &xen.compile_date);
    line("build_id", &xen.build_id);
    line("xend_config_format", &4);
    text
}

fn topology(host: &HostInfo) -> String {
    let mut text = "cpu_topology           :\ncpu:    core    socket     node\n".to_owned();
    for (cpu, (core, socket, node)) in host.topology.iter().enumerate() {
        let _ = writeln!(text, "{cpu:>3}:    {core:>4}     {socket:>4}     {node:>4}");
    }
    text.push_str("device topology        :\ndevice           node\n");
    text.push_str("No device topology data available\n");
    text.push_str("numa_info              :\nnode:    memsize    memfree    distances\n");
    for (number, node) in host.nodes.iter().enumerate() {
        let (size, free) = (node.size_kib / 1024, node.free_kib / 1024);
        let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
        let distances = distances.join(",");
        let _ = writeln!(
            text,
            "{number:>4}:    {size:>6}     {free:>6}      {distances}"
        );
    }
    text
}

/// A pool's line of `xl sched-credit2`.
pub fn credit2_pool(pool: &Credit2) -> String {
    format!("Cpupool {}: ratelimit={}us\n", pool.pool, pool.ratelimit_us)
}

/// The heading of its domains.
pub fn credit2_heading() -> String {
    format!("{:<33} {:>4} {:>6} {:>4}\n", "Name", "ID", "Weight", "Cap")
}

/// Its domains, by name.
pub fn credit2_domains(domains: &[(String, Credit2Domain)]) -> String {
    let mut text = String::new();
    for (domain, settings) in domains {
        let Credit2Domain { domid, weight, cap } = settings;
        let _ = writeln!(text, "{:<33} {domid:>4} {weight:>6} {cap:>4}", name(domain));
    }
    text
}

/// `xl channel-list`, with its heading.
pub fn channels(channels: &[ChannelInfo]) -> String {
    let mut text = format!(
        "{:<3} {:<2} {:<5} {:<6} {:>8} {:<10} {:<30}\n",
        "Idx", "BE", "state", "evt-ch", "ring-ref", "connection", ""
    );
    for channel in channels {
        let _ = writeln!(
            text,
            "{:<3} {:<2} {:<5} {:<6} {:<8} {:<10} {:<30} ",
            channel.devid,
            channel.backend_domid,
            channel.state,
            channel.event_channel,
            channel.ring_ref,
            channel.connection,
            channel.path
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use xt_host::info::NodeInfo;
    use xt_host::{HostKind, HypervisorInfo};

    use super::*;

    fn host() -> HostInfo {
        HostInfo {
            kind: HostKind::Xen,
            host: "(none)".into(),
            release: "6.1.0-56-amd64".into(),
            version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)".into(),
            machine: "x86_64".into(),
            nr_cpus: 2,
            max_cpu_id: 1,
            nr_nodes: 1,
            cores_per_socket: 2,
            threads_per_core: 1,
            cpu_khz: 2_596_121,
            hw_caps: vec![0x178bf3fd, 0xf2d83203, 0x24500800, 0x77, 0, 0x8801a9, 0, 0],
            virt_caps: ["pv", "hvm", "hap", "gnttab-v1", "gnttab-v2"]
                .map(str::to_owned)
                .into(),
            total_memory_kib: 3071 * 1024,
            free_memory_kib: 2014 * 1024,
            sharing_freed_pages: 0,
            sharing_used_pages: 0,
            outstanding_pages: 0,
            free_cpus: 0,
            hypervisor: HypervisorInfo {
                major: 4,
                minor: 17,
                extra: ".7".into(),
                caps: "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ".into(),
                scheduler: "credit2".into(),
                pagesize: 4096,
                virt_start: 0xffff_8000_0000_0000,
                changeset: String::new(),
                commandline: "console=com1".into(),
                compiler: "x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0".into(),
                compile_by: "pkg-xen-devel".into(),
                compile_domain: "lists.alioth.debian.org".into(),
                compile_date: "Wed Nov  4 16:52:28 UTC 2026".into(),
                build_id: "151b373fd64b321593bf987fd923cd10dabadac4".into(),
            },
            topology: vec![(0, 0, 0), (1, 0, 0)],
            nodes: vec![NodeInfo {
                size_kib: 3071 * 1024,
                free_kib: 2014 * 1024,
                distances: vec![10],
            }],
        }
    }

    #[test]
    fn info_is_xls() {
        assert_eq!(info(&host(), true), include_str!("info-4.17.txt"));
        assert!(!info(&host(), false).contains("topology"));
    }

    #[test]
    fn sched_credit2_is_xls() {
        let pool = Credit2 {
            pool: "Pool-0".into(),
            ratelimit_us: 1000,
        };
        let of = |domid, weight, cap| Credit2Domain { domid, weight, cap };
        let domains = [
            ("Domain-0".into(), of(0, 256, 0)),
            ("g".into(), of(1, 512, 0)),
        ];
        assert_eq!(
            credit2_pool(&pool) + &credit2_heading() + &credit2_domains(&domains),
            "Cpupool Pool-0: ratelimit=1000us\n\
             Name                                ID Weight  Cap\n\
             Domain-0                             0    256    0\n\
             g                                    1    512    0\n"
        );
    }

    #[test]
    fn channel_list_begins_as_xls() {
        assert_eq!(
            channels(&[]),
            "Idx BE state evt-ch ring-ref connection                               \n"
        );
    }
}
