//! What commands print: tables in the shapes of `xl` (Xen 4.17), character for character.
//!
//! Every function is from values to text; the tests compare with what `xl` printed in a rig.

mod domains;
mod host;
mod vcpus;

use std::io::{self, Write};

pub use domains::{Columns, list, uptime, uptime_short, vm_list};
pub use host::{channels, credit2_domains, credit2_heading, credit2_pool, info};
pub use vcpus::{vcpu_heading, vcpu_rows};

use crate::status::{Failure, Status};

/// Prints to standard output. A reader that goes away early is no failure.
///
/// # Errors
/// The output cannot be written.
pub fn print(text: &str) -> Result<Status, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::plain(format!("Cannot write the output: {error}")))
        }
        _ => Ok(Status::Success),
    }
}

/// Prints JSON.
///
/// # Errors
/// As of [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Result<Status, Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::plain(error.to_string()))?;
    print(&(text + "\n"))
}

/// A name as `xl` pads it, with what could confuse a terminal escaped.
fn name(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use uuid::Uuid;
    use xt_config::DomainType;
    use xt_host::{DomainInfo, DomainState};

    /// The two domains of the rig whose `xl` the tests compare with.
    pub fn domains() -> Vec<DomainInfo> {
        let domain = |domid, name: &str, uuid: Uuid, mib: u64, vcpus| DomainInfo {
            domid,
            name: name.to_owned(),
            uuid,
            kind: DomainType::Pv,
            state: DomainState::default(),
            memory_kib: mib * 1024,
            outstanding_kib: 0,
            max_memory_kib: mib * 1024,
            shared_memory_kib: 0,
            cpu_time_ns: 0,
            vcpus_online: vcpus,
            vcpus,
            cpupool: 0,
            cpupool_name: "Pool-0".to_owned(),
            security_label: String::new(),
            started: Some(1_000),
            self_supervised: false,
        };
        let uuid = Uuid::from_u128(0x01234567_89ab_cdef_0123_456789abcdef);
        let mut host = domain(0, "Domain-0", Uuid::nil(), 1024, 2);
        host.state.running = true;
        host.cpu_time_ns = 134_900_000_000;
        let mut guest = domain(1, "g", uuid, 192, 1);
        guest.state.blocked = true;
        guest.cpu_time_ns = 32_200_000_000;
        vec![host, guest]
    }
}
