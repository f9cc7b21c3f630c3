//! Lists of domains.

use std::fmt::Write;

use xt_host::DomainInfo;

use super::name;
use crate::cli::ListArgs;

/// What `list` shows besides the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// UUIDs, reasons of shutdowns and security labels.
    pub verbose: bool,
    /// Security labels.
    pub context: bool,
    /// Pools.
    pub cpupool: bool,
    /// NUMA nodes.
    pub numa: bool,
}

impl From<&ListArgs> for Columns {
    fn from(arguments: &ListArgs) -> Self {
        Self {
            verbose: arguments.verbose,
            context: arguments.context,
            cpupool: arguments.cpupool,
            numa: arguments.numa,
        }
    }
}

/// `xl list`. The nodes of a domain are given by `nodes`, as `all` or a list.
pub fn list(
    domains: &[DomainInfo],
    columns: Columns,
    nodes: &dyn Fn(&DomainInfo) -> String,
) -> String {
    let mut text =
        "Name                                        ID   Mem VCPUs\tState\tTime(s)".to_owned();
    if columns.verbose {
        text.push_str("   UUID                            Reason-Code\tSecurity Label");
    }
    if columns.context && !columns.verbose {
        text.push_str("   Security Label");
    }
    if columns.cpupool {
        text.push_str("         Cpupool");
    }
    if columns.numa {
        text.push_str(" NODE Affinity");
    }
    text.push('\n');
    for domain in domains {
        let mib = (domain.memory_kib + domain.outstanding_kib) / 1024;
        let _ = write!(
            text,
            "{:<40} {:>5} {:>5} {:>5}     {}  {:>8.1}",
            name(&domain.name),
            domain.domid,
            mib,
            domain.vcpus_online,
            domain.state.letters(),
            domain.cpu_time_ns as f64 / 1e9,
        );
        if columns.verbose {
            let reason = match domain.state.shutdown {
                Some(reason) => format!("{:x}", reason.code()),
                None => "-".to_owned(),
            };
            let _ = write!(text, " {} {reason:>8}", domain.uuid);
        }
        if columns.verbose || columns.context {
            let label = match domain.security_label.is_empty() {
                true => "-",
                false => &domain.security_label,
            };
            let _ = write!(text, " {label:>16}");
        }
        if columns.cpupool {
            let _ = write!(text, " {:>15}", domain.cpupool_name);
        }
        if columns.numa {
            let _ = write!(text, " {}", nodes(domain));
        }
        text.push('\n');
    }
    text
}

/// `xl vm-list`.
pub fn vm_list(domains: &[DomainInfo]) -> String {
    let mut text = "UUID                                  ID    name\n".to_owned();
    for domain in domains {
        let DomainInfo { uuid, domid, .. } = domain;
        let _ = writeln!(text, "{uuid}  {domid}    {:<30}", name(&domain.name));
    }
    text
}

/// `xl uptime`: the domains with how long each runs, in seconds.
pub fn uptime(domains: &[(DomainInfo, u64)]) -> String {
    let mut text = format!("{:<33} {:>4} {}\n", "Name", "ID", "Uptime");
    for (domain, seconds) in domains {
        let _ = writeln!(
            text,
            "{:<33} {:>4} {}:{:02}",
            name(&domain.name),
            domain.domid,
            minutes(*seconds),
            seconds % 60
        );
    }
    text
}

/// `xl uptime -s`; `now` is the time of day.
pub fn uptime_short(domains: &[(DomainInfo, u64)], now: &str) -> String {
    let mut text = String::new();
    for (domain, seconds) in domains {
        let _ = writeln!(
            text,
            " {now} up {}, {} ({})",
            minutes(*seconds),
            name(&domain.name),
            domain.domid
        );
    }
    text
}

/// Days, hours and minutes.
fn minutes(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:>2}:{minutes:02}");
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use xt_host::ShutdownReason;

    use super::super::testing::domains;
    use super::*;

    fn of(columns: Columns) -> String {
        list(&domains(), columns, &|_| "all".to_owned())
    }

    #[test]
    fn list_is_xls() {
        assert_eq!(
            of(Columns {
                numa: true,
                ..Columns::default()
            }),
            "Name                                        ID   Mem VCPUs\tState\tTime(s) NODE Affinity\n\
             Domain-0                                     0  1024     2     r-----     134.9 all\n\
             g                                            1   192     1     -b----      32.2 all\n"
        );
        let verbose = Columns {
            verbose: true,
            ..Columns::default()
        };
        assert_eq!(
            of(verbose),
            "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n\
             Domain-0                                     0  1024     2     r-----     134.9 00000000-0000-0000-0000-000000000000        -                -\n\
             g                                            1   192     1     -b----      32.2 01234567-89ab-cdef-0123-456789abcdef        -                -\n"
        );
        let mut crashed = domains();
        crashed[1].state.shutdown = Some(ShutdownReason::Crash);
        let text = list(&crashed, verbose, &|_| String::new());
        assert!(
            text.contains("-b-sc-") && text.contains("cdef        3"),
            "{text}"
        );
        let one = |columns| of(columns).lines().nth(1).unwrap().to_owned();
        let context = Columns {
            context: true,
            ..Columns::default()
        };
        assert!(one(context).ends_with("r-----     134.9                -"));
        let pool = Columns {
            cpupool: true,
            ..Columns::default()
        };
        assert!(
            one(pool).ends_with("r-----     134.9          Pool-0"),
            "{}",
            one(pool)
        );
    }

    #[test]
    fn vm_list_is_xls() {
        assert_eq!(
            vm_list(&domains()),
            "UUID                                  ID    name\n\
             00000000-0000-0000-0000-000000000000  0    Domain-0                      \n\
             01234567-89ab-cdef-0123-456789abcdef  1    g                             \n"
        );
    }

    #[test]
    fn uptime_is_xls() {
        let domains: Vec<_> = domains().into_iter().zip([124, 90_058]).collect();
        assert_eq!(
            uptime(&domains),
            "Name                                ID Uptime\n\
             Domain-0                             0  0:02:04\n\
             g                                    1 1 day,  1:00:58\n"
        );
        assert_eq!(
            uptime_short(&domains[..1], "13:00:35"),
            " 13:00:35 up  0:02, Domain-0 (0)\n"
        );
    }

    #[test]
    fn names_do_not_reach_the_terminal_raw() {
        let mut domains = domains();
        domains[0].name = "a\u{1b}[2J".to_owned();
        assert!(!vm_list(&domains).contains('\u{1b}'));
    }
}
