//! A domain's nodes in xenstore, as libxl 4.17 writes them, names, values, permissions and all; its
//! devices are [`xt_devices`]'.
//!
//! Facts: what `xenstore-ls -fp` shows of domains that `xl` 4.17 created.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;
use xen_sys::DomId;
use xt_config::{DomainSpec, DomainType};
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::perms::Perm;
use xt_xenstore::wire::XsError;

use crate::build::{Ports, Rings};

/// Bytes of the console's ring that `xenconsoled` keeps for a slow reader.
const CONSOLE_LIMIT: u32 = 1_048_576;

/// Where device models say how they are, each in a directory with its domain's number.
pub(crate) const DEVICE_MODELS: &str = "/local/domain/0/device-model";

/// A domain's directory.
pub(crate) fn domain(domid: DomId) -> String {
    format!("/local/domain/{}", domid.0)
}

/// libxl's own directory of a domain.
pub(crate) fn libxl(domid: DomId) -> String {
    format!("/libxl/{}", domid.0)
}

/// libxl's note of a domain's kind.
pub(crate) fn kind(domid: DomId) -> String {
    format!("{}/type", libxl(domid))
}

/// The directory by UUID.
pub(crate) fn vm(uuid: Uuid) -> String {
    format!("/vm/{uuid}")
}

/// The back end's directory of the console.
fn console_back(domid: DomId) -> String {
    format!("/local/domain/0/backend/console/{}/0", domid.0)
}

/// Removes a node with all below it, if it is there.
pub(crate) fn remove(client: &mut Client, path: &str) -> Result<(), ClientError> {
    match client.rm(path) {
        Err(error) if error.is(XsError::ENOENT) => Ok(()),
        other => other,
    }
}

/// Names in a directory, none if it is not there.
pub(crate) fn names(client: &mut Client, path: &str) -> Result<Vec<String>, ClientError> {
    match client.directory(path) {
        Err(error) if error.is(XsError::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

fn make(client: &mut Client, path: &str, value: &str, perms: &[Perm]) -> Result<(), ClientError> {
    client.write(path, value)?;
    client.set_perms(path, perms)
}

/// A new domain: its directories with the right permissions, and its name. Whatever was left of an
/// earlier one with the same number goes.
pub(crate) fn make_domain(
    client: &mut Client,
    domid: DomId,
    uuid: Uuid,
    name: &str,
) -> Result<(), ClientError> {
    client.transaction(|client| {
        let (dom, vm, libxl) = (domain(domid), vm(uuid), libxl(domid));
        let toolstacks = [Perm::none(DomId(0))];
        let readable = [Perm::none(DomId(0)), Perm::read(domid)];
        let own = [Perm::none(domid)];
        for (path, perms) in [
            (&dom, &readable[..]),
            (&vm, &readable),
            (&libxl, &toolstacks),
        ] {
            remove(client, path)?;
            make(client, path, "", perms)?;
        }
        client.write(&format!("{dom}/vm"), &vm)?;
        client.write(&format!("{dom}/name"), name)?;
        for name in ["cpu", "memory", "device", "control"] {
            make(client, &format!("{dom}/{name}"), "", &readable)?;
        }
        make(client, &format!("{dom}/device/suspend"), "", &readable)?;
        let guests = [
            "device/suspend/event-channel",
            "control/shutdown",
            "control/feature-poweroff",
            "control/feature-reboot",
            "control/feature-suspend",
            "control/sysrq",
            "data",
            "drivers",
            "feature",
            "attr",
            "error",
        ];
        for name in guests {
            make(client, &format!("{dom}/{name}"), "", &own)?;
        }
        for name in ["multiprocessor-suspend", "xs_reset_watches"] {
            client.write(&format!("{dom}/control/platform-feature-{name}"), "1")?;
        }
        client.write(&format!("{vm}/name"), name)?;
        client.write(&format!("{vm}/uuid"), uuid.to_string())
    })
}

/// What is known once the domain is built.
pub(crate) fn describe(
    client: &mut Client,
    domid: DomId,
    uuid: Uuid,
    spec: &DomainSpec,
    ports: Ports,
    rings: Rings,
) -> Result<(), ClientError> {
    client.transaction(|client| {
        let (dom, vm, libxl) = (domain(domid), vm(uuid), libxl(domid));
        let mut put = |path: String, value: String| client.write(&path, value);
        put(
            format!("{dom}/memory/static-max"),
            (spec.max_memory_mib * 1024).to_string(),
        )?;
        put(
            format!("{dom}/memory/target"),
            (spec.memory_mib * 1024).to_string(),
        )?;
        put(format!("{dom}/memory/videoram"), "0".into())?;
        put(format!("{dom}/domid"), domid.0.to_string())?;
        put(format!("{dom}/store/port"), ports.store.0.to_string())?;
        put(format!("{dom}/store/ring-ref"), rings.store.to_string())?;
        for vcpu in 0..spec.max_vcpus {
            let state = if vcpu < spec.vcpus {
                "online"
            } else {
                "offline"
            };
            put(format!("{dom}/cpu/{vcpu}/availability"), state.into())?;
        }
        if spec.domain_type == DomainType::Pv {
            put(format!("{vm}/image/ostype"), "linux".into())?;
            let path = |path: &Option<std::path::PathBuf>| {
                path.as_ref()
                    .map(|path| path.to_string_lossy().into_owned())
            };
            let texts = [
                ("kernel", path(&spec.kernel)),
                ("ramdisk", path(&spec.ramdisk)),
                ("cmdline", spec.cmdline.clone()),
            ];
            for (name, text) in texts {
                if let Some(text) = text {
                    put(format!("{vm}/image/{name}"), text)?;
                }
            }
        }
        put(format!("{vm}/start_time"), now())?;
        put(format!("{libxl}/type"), spec.domain_type.to_string())?;
        put(format!("{libxl}/dm-version"), "qemu_xen".into())
    })
}

/// Seconds since 1970, with hundredths as libxl writes them.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    format!("{}.{:02}", since.as_secs(), since.subsec_millis() / 10)
}

/// The console, which is a device but has its front end's nodes elsewhere.
pub(crate) fn make_console(
    client: &mut Client,
    domid: DomId,
    port: u32,
    frame: u64,
) -> Result<(), ClientError> {
    let front = format!("{}/console", domain(domid));
    let back = console_back(domid);
    let libxl = format!("{}/device/console/0", libxl(domid));
    let of_backend = [Perm::none(DomId(0)), Perm::read(domid)];
    let of_guest = [Perm::none(domid), Perm::read(DomId(0))];
    client.transaction(|client| {
        make(client, &front, "", &of_backend)?;
        client.write(&format!("{front}/backend"), &back)?;
        make(client, &format!("{front}/backend-id"), "0", &of_guest)?;
        let values = [
            ("limit", CONSOLE_LIMIT.to_string()),
            ("type", "xenconsoled".to_owned()),
            ("output", "pty".to_owned()),
            ("tty", String::new()),
            ("port", port.to_string()),
            ("ring-ref", frame.to_string()),
        ];
        for (name, value) in values {
            client.write(&format!("{front}/{name}"), value)?;
        }
        remove(client, &back)?;
        make(client, &back, "", &of_backend)?;
        for dir in [&back, &libxl] {
            client.write(&format!("{dir}/frontend"), &front)?;
            if dir == &libxl {
                client.write(&format!("{dir}/backend"), &back)?;
            }
            let values = [
                ("frontend-id", domid.0.to_string()),
                ("online", "1".to_owned()),
                ("state", "1".to_owned()),
                ("protocol", "vt100".to_owned()),
            ];
            for (name, value) in values {
                client.write(&format!("{dir}/{name}"), value)?;
            }
        }
        Ok(())
    })
}

/// Removes all of a domain's nodes; its devices are gone by now, and so is it.
///
/// As libxl does, one after the other: xenstored ends no transaction that removes nodes of a domain it
/// knows to be gone (`ENOMEM`, of its accounts). What is interrupted is done again.
pub(crate) fn forget(
    client: &mut Client,
    domid: DomId,
    uuid: Option<Uuid>,
) -> Result<(), ClientError> {
    let console = console_back(domid);
    let dom = domain(domid);
    let vm_path = client.read_text(&format!("{dom}/vm"))?;
    // Only what is a directory of one domain, whoever wrote the node.
    let vm_path = vm_path.filter(|path| is_vm_path(path));
    for path in [vm_path, uuid.map(vm)].into_iter().flatten() {
        remove(client, &path)?;
    }
    remove(client, &dom)?;
    remove(client, &libxl(domid))?;
    remove(client, &console)?;
    // Another domain may get its console just now.
    client.transaction(|client| {
        for path in parents(&console) {
            if names(client, path)?.is_empty() {
                remove(client, path)?;
            }
        }
        Ok(())
    })
}

/// `/vm/` and a UUID.
fn is_vm_path(path: &str) -> bool {
    path.strip_prefix("/vm/")
        .is_some_and(|rest| Uuid::try_parse(rest).is_ok())
}

/// The directories of back ends above a device, the innermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at]).take(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_domains_are_removed() {
        assert!(is_vm_path("/vm/c22b8a31-5d3c-4130-b892-7bb4fbfaf9c5"));
        assert!(!is_vm_path("/vm/") && !is_vm_path("/vm") && !is_vm_path("/local/domain/0"));
        let above: Vec<&str> = parents("/local/domain/0/backend/console/3/0").collect();
        assert_eq!(above[0], "/local/domain/0/backend/console/3");
        assert_eq!(above[2], "/local/domain/0/backend");
    }
}
