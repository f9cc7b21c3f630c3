//! Serves all devices of one host process: finds them in xenstore, takes each through the
//! handshake, and closes it when its front end, its domain or the toolstack wants so.
//!
//! One thread does everything, in rounds: note which devices something happened to, then visit each
//! of them once. A visit reads where both ends stand and makes at most one step (`step`); what
//! was noted meanwhile is for the next round. So nothing depends on the order of events, lost ones
//! included, and a guest that floods xenstore gets no more than its turns (`pace`).
//!
//! A driver that takes long, to open a remote medium say, holds up the others meanwhile.

mod device;
mod pace;
mod step;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use thiserror::Error;
use xen_sys::DomId;
use xt_xenstore::client::{Client, ClientError, WatchEvent};

use crate::control::{Command, Control, Shared};
use crate::driver::{DeviceId, Driver, Nodes};
use crate::host::Host;
use device::{Desk, Device, Outcome};

/// Events noted before devices get their turn again.
const EVENTS_A_ROUND: usize = 1024;

/// The token of the watches on domains that come and go.
const DOMAINS: &str = "domains";

/// What a manager serves.
#[derive(Clone, Debug)]
pub struct ManagerSpec {
    /// The domain it runs in: 0, or a driver domain's.
    pub own: DomId,
    /// Kinds of devices, as in `/local/domain/<own>/backend/<kind>`: `vbd`, `qdisk`, `vif`.
    pub kinds: Vec<String>,
    /// The toolstack runs the programs named by `script` nodes: they write `hotplug-status`, and no
    /// device connects before it is `connected`. Otherwise the manager writes it, as nothing is to
    /// be waited for.
    pub hotplug_scripts: bool,
}

/// A manager cannot go on; everything is disconnected.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// Xenstore is gone.
    #[error("Back ends have lost their xenstore.")]
    Store(#[from] ClientError),
    /// The operating system refuses.
    #[error("Back ends cannot wait for events.")]
    Wait(#[from] io::Error),
}

/// Serves the devices of one host process; see the module.
pub struct Manager<H: Host> {
    store: Client,
    kinds: Vec<String>,
    desk: Desk<H>,
    devices: BTreeMap<DeviceId, Device<H>>,
    /// Devices to visit, and when.
    due: BTreeMap<DeviceId, Instant>,
    /// Kinds whose directories are to be read again.
    rescan: BTreeSet<String>,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
}

impl<H: Host> Manager<H> {
    /// A manager of what `spec` names, and the handle on it. `factory` makes the driver of a device
    /// from the nodes the toolstack wrote to the back end's directory; `None`: the device is served
    /// by somebody else.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn new(
        store: Client,
        host: H,
        spec: ManagerSpec,
        factory: impl Fn(&DeviceId, &Nodes) -> Option<Box<dyn Driver<H>>> + Send + 'static,
    ) -> Result<(Self, Control), ManagerError> {
        let (control, shared, commands) = Control::new()?;
        let mut manager = Self {
            store,
            kinds: spec.kinds,
            desk: Desk {
                own: spec.own,
                host,
                factory: Box::new(factory),
                hotplug_scripts: spec.hotplug_scripts,
                control: control.clone(),
                shared: Arc::clone(&shared),
                lives: 0,
            },
            devices: BTreeMap::new(),
            due: BTreeMap::new(),
            rescan: BTreeSet::new(),
            shared,
            commands,
        };
        for kind in &manager.kinds {
            let root = store::kind_path(manager.desk.own, kind);
            manager.store.watch(&root, &format!("back/{kind}"))?;
        }
        for special in ["@introduceDomain", "@releaseDomain"] {
            manager.store.watch(special, DOMAINS)?;
        }
        Ok((manager, control))
    }

    /// Serves until [`Control::stop`].
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn run(mut self) -> Result<(), ManagerError> {
        loop {
            let more = self.take_events()?;
            if !self.take_commands() {
                return Ok(());
            }
            // Both may leave events in the client, which no poll would tell of: look again first.
            if !self.rescan.is_empty() {
                self.scan()?;
            } else if self.next_visit().is_some_and(|at| at <= Instant::now()) {
                self.visit_all()?;
            } else if !more {
                self.wait()?;
            }
        }
    }

    fn next_visit(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    fn wait(&self) -> io::Result<()> {
        let left = self
            .next_visit()
            .map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.store.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.as_fd(), PollFlags::POLLIN),
        ];
        match nix::poll::poll(&mut fds, timeout) {
            Err(error) if error != Errno::EINTR => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Notes what xenstore tells; whether it may have more to tell.
    fn take_events(&mut self) -> Result<bool, ClientError> {
        for _ in 0..EVENTS_A_ROUND {
            match self.store.try_event()? {
                Some(event) => self.note(&event)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn note(&mut self, event: &WatchEvent) -> Result<(), ClientError> {
        if event.token == DOMAINS {
            return self.check_domains();
        }
        if let Some(kind) = event.token.strip_prefix("back/") {
            let root = store::kind_path(self.desk.own, kind);
            let below = event.path.strip_prefix(&root).unwrap_or_default();
            match store::parse_below(kind, below) {
                Some((id, node)) => {
                    if let Some(device) = self.devices.get_mut(&id) {
                        device.note_back(node);
                    }
                    self.mark(id);
                }
                None => {
                    self.rescan.insert(kind.to_owned());
                }
            }
        } else if let Some(id) = event.token.strip_prefix("front/").and_then(store::parse_id)
            && let Some(device) = self.devices.get_mut(&id)
        {
            device.note_front(&event.path);
            self.mark(id);
        }
        Ok(())
    }

    fn mark(&mut self, id: DeviceId) {
        // One that has to wait for its turn goes on waiting.
        self.due.entry(id).or_insert_with(Instant::now);
    }

    /// Domains have come or gone: whose?
    fn check_domains(&mut self) -> Result<(), ClientError> {
        let domids: BTreeSet<DomId> = self.devices.keys().map(|id| id.domid).collect();
        for domid in domids {
            let here = self.store.is_introduced(domid)?;
            let of_domain = |(id, _): &(&DeviceId, &mut Device<H>)| id.domid == domid;
            let mut changed = Vec::new();
            for (id, device) in self.devices.iter_mut().filter(of_domain) {
                if device.set_domain(here) {
                    changed.push(id.clone());
                }
            }
            changed.into_iter().for_each(|id| self.mark(id));
        }
        Ok(())
    }

    /// Looks for devices that are new, and marks all known ones, some of which may be gone.
    fn scan(&mut self) -> Result<(), ClientError> {
        for kind in std::mem::take(&mut self.rescan) {
            let known = self.devices.keys().filter(|id| id.kind == kind);
            let mut ids: Vec<DeviceId> = known.cloned().collect();
            ids.extend(store::list_devices(&mut self.store, self.desk.own, &kind)?);
            ids.into_iter().for_each(|id| self.mark(id));
        }
        Ok(())
    }

    /// Does what other threads ask; false: stop.
    fn take_commands(&mut self) -> bool {
        self.shared.clear();
        while let Ok(command) = self.commands.try_recv() {
            let id = match command {
                Command::Stop => return false,
                Command::Detach { id, force } => {
                    let device = self.devices.get_mut(&id);
                    device.map(|device| device.ask_detach(force)).map(|()| id)
                }
                Command::Changed(id) => {
                    let device = self.devices.get_mut(&id);
                    device.map(Device::ask_changed).map(|()| id)
                }
                Command::Failed { id, life, error } => {
                    let device = self.devices.get_mut(&id);
                    device
                        .map(|device| device.note_failure(life, error))
                        .map(|()| id)
                }
            };
            if let Some(id) = id {
                self.mark(id);
            }
        }
        true
    }

    fn visit_all(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let ready = self.due.iter().filter(|(_, at)| **at <= now);
        for id in ready.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.due.remove(&id);
            self.visit(id, now)?;
        }
        Ok(())
    }

    fn visit(&mut self, id: DeviceId, now: Instant) -> Result<(), ClientError> {
        let device = self
            .devices
            .entry(id.clone())
            .or_insert_with(|| Device::new(id.clone(), self.desk.own, now));
        if let Err(at) = device.pace.turn(now) {
            self.due.insert(id, at);
            return Ok(());
        }
        match device.visit(&mut self.store, &mut self.desk)? {
            Outcome::Rest => {}
            Outcome::Again => self.mark(id),
            Outcome::Gone => {
                self.devices.remove(&id);
                self.shared.remove(&id);
            }
            Outcome::Renewed => {
                self.devices.remove(&id);
                self.shared.remove(&id);
                self.mark(id);
            }
        }
        Ok(())
    }
}

impl<H: Host> Drop for Manager<H> {
    fn drop(&mut self) {
        for device in self.devices.values_mut() {
            device.disconnect();
        }
        self.shared.end();
    }
}

#[cfg(test)]
mod tests;
