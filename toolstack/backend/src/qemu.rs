//! The command line `libxl` gives to a PV guest's device model, as far as it matters here.
//!
//! `libxl` starts what `device_model_override` names, QEMU unless told otherwise, for each guest that
//! has a disk with `backendtype=qdisk` (`libxl_dm.c`). It is told the domain, and where to listen
//! for the monitor's protocol:
//! `-xen-domid 3 -chardev socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-3,server=on,wait=off
//! -mon chardev=libxl-cmd,mode=control ... -machine xenpv`. The rest describes QEMU's own things.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use xen_sys::DomId;

/// The first argument by which `libxl`'s command line is known: none of ours begins so.
pub const MARK: &str = "-xen-domid";

/// What a device model is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The guest.
    pub domid: DomId,
    /// Its name.
    pub name: String,
    /// Sockets to answer the monitor's protocol on.
    pub monitors: Vec<PathBuf>,
}

impl ModelSpec {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// They are not for a PV guest, or ask for what cannot be left out.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut values = BTreeMap::new();
        let mut monitors = Vec::new();
        let mut sockets = BTreeMap::new();
        let mut left = arguments.iter().peekable();
        while let Some(name) = left.next() {
            let value = left.next_if(|next| !next.starts_with('-'));
            let value = value.map_or("", String::as_str);
            match name.as_str() {
                "-chardev" => sockets.extend(socket(value)),
                "-mon" => monitors.extend(property(value, "chardev")),
                _ => drop(values.insert(name.as_str(), value)),
            }
        }
        let machine = values.get("-machine").or_else(|| values.get("-M"));
        let machine = machine.copied().unwrap_or("xenpv");
        if machine != "xenpv" && !machine.starts_with("xenpv,") {
            bail!(
                "Cannot be the device model of a machine {machine:?}, only of PV guests: take \
                 device_model_override out of the configuration of HVM guests"
            );
        }
        let domid = values.get(MARK).and_then(|domid| domid.parse().ok());
        let domid = DomId(domid.with_context(|| format!("Option {MARK} needs a domain's number"))?);
        let name = values.get("-name").copied().unwrap_or_default();
        Ok(Self {
            domid,
            name: name.to_owned(),
            monitors: monitors
                .iter()
                .filter_map(|id| sockets.remove(*id))
                .collect(),
        })
    }
}

/// `NAME=VALUE` in a list.
fn property<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut all = list.split(',');
    all.find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
}

/// Identifier and path of a character device that is a UNIX socket.
fn socket(list: &str) -> Option<(&str, PathBuf)> {
    let path = list
        .starts_with("socket,")
        .then(|| property(list, "path"))?;
    Some((property(list, "id")?, path?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<ModelSpec> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        ModelSpec::parse(&arguments)
    }

    #[test]
    fn what_libxl_4_17_says_is_understood() {
        let spec = parse(
            "-xen-domid 3 -no-shutdown \
             -chardev socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-3,server=on,wait=off \
             -mon chardev=libxl-cmd,mode=control \
             -chardev socket,id=libxenstat-cmd,path=/var/run/xen/qmp-libxenstat-3,server=on,wait=off \
             -mon chardev=libxenstat-cmd,mode=control -nodefaults -no-user-config -xen-attach \
             -name web -vnc none -display none -nographic -machine xenpv -m 256",
        )
        .unwrap();
        assert_eq!((spec.domid, spec.name.as_str()), (DomId(3), "web"));
        let monitors = ["/var/run/xen/qmp-libxl-3", "/var/run/xen/qmp-libxenstat-3"];
        assert_eq!(spec.monitors, monitors.map(PathBuf::from));
    }

    #[test]
    fn what_a_driver_domain_starts_is_understood() {
        let spec = parse("-xen-domid 7 -xen-attach -name domain-7 -nographic -M xenpv").unwrap();
        assert_eq!((spec.domid, spec.monitors.len()), (DomId(7), 0));
    }

    #[test]
    fn other_machines_are_refused() {
        let error = parse("-xen-domid 3 -machine xenfv,suppress-vmdesc=on").unwrap_err();
        assert!(error.to_string().contains("only of PV guests"), "{error}");
        assert!(parse("-xen-domid").is_err());
        assert!(parse("-xen-domid x -M xenpv").is_err());
    }
}
