//! Devices of a running toolstack: their nodes by [`xt_devices`], and the scripts in between, as libxl
//! runs them.
//!
//! A back end gets its device when the script has said where it is: `block add` writes
//! `physical-device`, `vif-bridge online` puts the interface into the bridge.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pv_netdev::{NetdevError, Script};
use xen_sys::DomId;
use xt_devices::{DeviceNodes, DeviceRef, Mode};
use xt_host::{HostError, Result};
use xt_xenstore::client::Client;

use crate::{hvm, store};

/// How long a back end has for each step; libxl gives devices 10 s. Scripts have 40 s, as there.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Attaches a device and waits until its back end is ready for the guest.
pub(crate) fn attach(client: &mut Client, nodes: &DeviceNodes) -> Result<()> {
    xt_devices::attach(client, nodes).map_err(refused)?;
    let started = start(client, nodes);
    if started.is_err() {
        // What went wrong is worth more than what goes wrong then.
        let _ = detach(client, &nodes.device, Mode::Force);
    }
    started
}

fn start(client: &mut Client, nodes: &DeviceNodes) -> Result<()> {
    xt_devices::wait_ready(client, &nodes.device, LIMIT).map_err(refused)?;
    // Devices that another domain serves are that one's affair.
    if nodes.backend == DomId(0) && nodes.backend_kind != "qdisk" {
        run_script(client, &nodes.device, &nodes.back_path(), Event::Add)?;
    }
    Ok(())
}

/// Detaches a device. The script comes once the back end has closed.
pub(crate) fn detach(client: &mut Client, device: &DeviceRef, mode: Mode) -> Result<()> {
    let mut ran = Ok(());
    let script = |client: &mut Client, back: &str| {
        let own = back.starts_with("/local/domain/0/backend/") && !back.contains("/qdisk/");
        if own {
            ran = run_script(client, device, back, Event::Remove);
        }
    };
    let limit = xt_devices::detach::LIMIT;
    let detached = xt_devices::detach::detach_with(client, device, mode, limit, script);
    detached.map_err(refused)?;
    ran
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Add,
    Remove,
}

/// A device's state is told to its script by these.
struct Named {
    is_disk: bool,
    path: String,
    vif: Option<String>,
    /// The emulated card of the interface has one of its own.
    tap: Option<String>,
}

impl Named {
    fn read(client: &mut Client, device: &DeviceRef, back: &str) -> Result<Self> {
        let own = "/local/domain/0/";
        let is_disk = device.kind == "vbd";
        let vif = match is_disk {
            true => None,
            false => {
                let given = store(client.read_text(&format!("{back}/vifname")))?;
                Some(given.unwrap_or_else(|| format!("vif{}.{}", device.domid.0, device.devid)))
            }
        };
        let kind = store(client.read_text(&format!("{back}/type")))?;
        let emulated = !is_disk && kind.as_deref() == Some("vif_ioemu");
        let tap = hvm::arguments::tap_name(device.domid, device.devid);
        Ok(Self {
            is_disk,
            path: back.strip_prefix(own).unwrap_or(back).to_owned(),
            vif,
            tap: emulated.then_some(tap),
        })
    }

    /// The emulated card's interface comes last, and goes first if it is still there.
    fn run(&self, client: &mut Client, script: &str, event: Event) -> Result<()> {
        let Some(tap) = &self.tap else {
            return self.run_one(client, script, event, None);
        };
        let renamed = self.vif.as_ref().map(|vif| format!("{vif}-emu"));
        let names = [Some(tap), renamed.as_ref()];
        let mut names = names.into_iter().flatten();
        let there = names.any(|name| Path::new("/sys/class/net").join(name).exists());
        match event {
            Event::Add => {
                self.run_one(client, script, event, None)?;
                self.run_one(client, script, event, Some(tap))
            }
            Event::Remove => {
                let gone = match there {
                    true => self.run_one(client, script, event, Some(tap)),
                    false => Ok(()),
                };
                self.run_one(client, script, event, None).and(gone)
            }
        }
    }

    fn run_one(
        &self,
        client: &mut Client,
        script: &str,
        event: Event,
        tap: Option<&str>,
    ) -> Result<()> {
        let word = match (self.is_disk || tap.is_some(), event) {
            (true, Event::Add) => "add",
            (true, Event::Remove) => "remove",
            (false, Event::Add) => "online",
            (false, Event::Remove) => "offline",
        };
        let mut variables = BTreeMap::from([
            ("script", script),
            ("XENBUS_TYPE", if self.is_disk { "vbd" } else { "vif" }),
            ("XENBUS_PATH", &self.path),
            ("XENBUS_BASE_PATH", "backend"),
        ]);
        let mut arguments = vec![word.to_owned()];
        if let Some(vif) = &self.vif {
            let kind = if tap.is_some() { "tap" } else { "vif" };
            arguments.push(format!("type_if={kind}"));
            variables.extend([("vif", vif.as_str()), ("netdev", "")]);
        }
        if let Some(tap) = tap {
            variables.insert("INTERFACE", tap);
        }
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let run = Script {
            path: script.into(),
            arguments,
            variables: variables.into_iter().map(own).collect(),
        };
        let (status, said) = match run.run() {
            Ok(()) => return Ok(()),
            Err(NetdevError::Script { status, said, .. }) => (status, said),
            Err(error) => {
                let what = format!("Cannot run the hotplug script {script:?}");
                return Err(HostError::failed(what, error));
            }
        };
        let told = client.read_text(&format!("/local/domain/0/{}/hotplug-error", self.path));
        let told = told.ok().flatten().filter(|text| !text.is_empty());
        let why = match told.unwrap_or(said) {
            nothing if nothing.is_empty() => "it gives no reason".to_owned(),
            why => why,
        };
        Err(HostError::Refused(format!(
            "The hotplug script {script:?} failed at {word} ({status}): {why}"
        )))
    }
}

fn run_script(client: &mut Client, device: &DeviceRef, back: &str, event: Event) -> Result<()> {
    let Some(script) = store(client.read_text(&format!("{back}/script")))? else {
        return Ok(());
    };
    Named::read(client, device, back)?.run(client, &script, event)
}

/// Removes all devices of a domain that is dead: the scripts run for each. What one of them complains of,
/// such as a script that has nothing to undo, does not keep it.
pub(crate) fn detach_all(client: &mut Client, domid: DomId) -> Result<Option<HostError>> {
    let devices = xt_devices::list::devices(client, domid).map_err(refused)?;
    let mut complaint = None;
    for device in &devices {
        if let Err(error) = detach(client, device, Mode::Force) {
            complaint = Some(error);
        }
    }
    xt_devices::detach::forget_all(client, domid).map_err(refused)?;
    Ok(complaint)
}

/// What a device's refusal means.
pub(crate) fn refused(error: xt_devices::DeviceError) -> HostError {
    use xt_devices::DeviceError as E;
    match error {
        E::Store(source) => HostError::failed("Cannot change devices in xenstore", source),
        E::Spec(text) => HostError::Config(text),
        E::Timeout { .. } => HostError::TimedOut(error.to_string()),
        E::Exists(_) | E::Missing(_) | E::Failed { .. } => HostError::Refused(error.to_string()),
        E::Backend(_) => HostError::Config(error.to_string()),
    }
}
