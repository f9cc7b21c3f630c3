//! `xl vcpu-list`.

use std::fmt::Write;

use xt_host::{VcpuInfo, VcpuState};

use super::name;

/// The heading.
pub fn vcpu_heading() -> String {
    format!(
        "{:<32} {:>5} {:>5} {:>5} {:>5} {:>9} {}\n",
        "Name", "ID", "VCPU", "CPU", "State", "Time(s)", "Affinity (Hard / Soft)"
    )
}

/// The lines of a domain, on a host of so many processors.
pub fn vcpu_rows(domain: &str, domid: u16, vcpus: &[VcpuInfo], processors: u32) -> String {
    let mut text = String::new();
    for vcpu in vcpus {
        let _ = write!(text, "{:<32} {domid:>5} {:>5}", name(domain), vcpu.vcpu);
        let _ = match (vcpu.state, vcpu.cpu) {
            (VcpuState::Offline, _) | (_, None) => write!(text, "{:>5}   --p ", '-'),
            (state, Some(cpu)) => {
                let running = if state == VcpuState::Running {
                    'r'
                } else {
                    '-'
                };
                let blocked = if state == VcpuState::Blocked {
                    'b'
                } else {
                    '-'
                };
                write!(text, " {cpu:>4}   {running}{blocked}- ")
            }
        };
        let _ = writeln!(
            text,
            "{:>9.1}  {} / {}",
            vcpu.time_ns as f64 / 1e9,
            vcpu.hard_affinity.text(processors),
            vcpu.soft_affinity.text(processors)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use xt_host::CpuSet;

    use super::*;

    #[test]
    fn vcpu_list_is_xls() {
        let vcpu = |vcpu, state, cpu, time_ns, hard: &[u32], soft: &[u32]| VcpuInfo {
            vcpu,
            state,
            cpu,
            time_ns,
            hard_affinity: CpuSet(hard.iter().copied().collect()),
            soft_affinity: CpuSet(soft.iter().copied().collect()),
        };
        let all = [0, 1];
        let host = [
            vcpu(0, VcpuState::Blocked, Some(1), 85_000_000_000, &all, &all),
            vcpu(1, VcpuState::Running, Some(0), 64_700_000_000, &all, &all),
        ];
        let guest = [
            vcpu(0, VcpuState::Blocked, Some(1), 28_500_000_000, &[1], &[0]),
            vcpu(1, VcpuState::Offline, None, 10_700_000_000, &all, &all),
        ];
        let text =
            vcpu_heading() + &vcpu_rows("Domain-0", 0, &host, 2) + &vcpu_rows("g", 1, &guest, 2);
        assert_eq!(
            text,
            "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n\
             Domain-0                             0     0    1   -b-      85.0  all / all\n\
             Domain-0                             0     1    0   r--      64.7  all / all\n\
             g                                    1     0    1   -b-      28.5  1 / 0\n\
             g                                    1     1    -   --p      10.7  all / all\n"
        );
    }
}
