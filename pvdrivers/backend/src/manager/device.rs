//! One device: what is known of it, and the carrying out of its steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pv_xenbus::XenbusState::{self, Closed, Closing, Connected, InitWait, Initialising};
use xen_sys::DomId;
use xen_sys::errno::Errno;
use xt_xenstore::client::{Client, ClientError};

use super::pace::Pace;
use super::step::{Step, View, decide, is_live};
use super::store::{self, Published, Trouble};
use crate::control::{Command, Control, DeviceEntry, Shared};
use crate::driver::{DeviceError, DeviceId, Driver, Nodes, Reporter};
use crate::host::Host;

/// Nodes of the back end's directory that are the handshake's, not the driver's.
const HANDSHAKE: [&str; 5] = [
    "state",
    "online",
    "hotplug-status",
    "hotplug-error",
    "error",
];

type Factory<H> = dyn Fn(&DeviceId, &Nodes) -> Option<Box<dyn Driver<H>>> + Send;

/// What all devices share.
pub(super) struct Desk<H: Host> {
    pub own: DomId,
    pub host: H,
    pub factory: Box<Factory<H>>,
    pub hotplug_scripts: bool,
    pub control: Control,
    pub shared: Arc<Shared>,
    /// Lives of devices begun so far.
    pub lives: u64,
}

/// What a visit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing more to do until something happens.
    Rest,
    /// There may be more to do.
    Again,
    /// The device is no more.
    Gone,
    /// It is no more, and another one of the same name is there.
    Renewed,
}

impl From<Published> for Outcome {
    fn from(published: Published) -> Self {
        match published {
            Published::Done | Published::Moved => Outcome::Again,
            Published::Gone => Outcome::Gone,
        }
    }
}

/// Who serves the device.
enum Serving<H: Host> {
    /// Nobody yet.
    Nobody,
    /// Another program.
    Other,
    /// We; opened.
    Us(Box<dyn Driver<H>>),
}

pub(super) struct Device<H: Host> {
    id: DeviceId,
    back: String,
    /// The front end's directory; empty before the first visit.
    front: String,
    /// The state we have said last, or stand at.
    own: XenbusState,
    /// The state in xenstore, as seen in this visit.
    node: XenbusState,
    serving: Serving<H>,
    /// The driver's [`Driver::connect`] was called last.
    connected: bool,
    /// Found with a front end that is connected: the manager has been restarted.
    resumed: bool,
    closed_at: Option<XenbusState>,
    /// The domain has been there, and it is no more.
    introduced: bool,
    orphan: bool,
    life: u64,
    /// What the driver has reported.
    broken: Option<DeviceError>,
    detach: Option<bool>,
    /// Whether to look for changes of the back end's or the front end's nodes.
    look_back: bool,
    look_front: bool,
    /// Call [`Driver::changed`] even without.
    nudged: bool,
    /// The driver was opened in the last visit: events so far are mostly of the device's creation.
    fresh: bool,
    /// Names of nodes the driver has us write.
    published: BTreeSet<String>,
    /// The nodes as the driver knows them.
    seen_back: Nodes,
    seen_front: Nodes,
    error: Option<String>,
    shown: Option<(XenbusState, Option<String>, u64)>,
    pub pace: Pace,
}

impl<H: Host> Device<H> {
    pub fn new(id: DeviceId, own: DomId, now: Instant) -> Self {
        Self {
            back: store::back_path(own, &id),
            front: String::new(),
            own: Initialising,
            node: Initialising,
            serving: Serving::Nobody,
            connected: false,
            resumed: false,
            closed_at: None,
            introduced: false,
            orphan: false,
            life: 0,
            broken: None,
            detach: None,
            look_back: false,
            look_front: false,
            nudged: false,
            fresh: false,
            published: BTreeSet::new(),
            seen_back: Nodes::default(),
            seen_front: Nodes::default(),
            error: None,
            shown: None,
            pace: Pace::new(now),
            id,
        }
    }

    /// A node of the back end's directory has been written, or (empty) the directory. The same
    /// value again is news too: what the disk is on may have grown.
    pub fn note_back(&mut self, node: &str) {
        let ours = HANDSHAKE.contains(&node) || self.published.contains(node);
        if node.is_empty() || self.fresh {
            self.look_back |= !ours;
        } else {
            self.nudged |= !ours;
        }
    }

    /// Something in the front end's directory has changed.
    pub fn note_front(&mut self, path: &str) {
        let node = path.strip_prefix(self.front.as_str());
        self.look_front |= node != Some("/state");
    }

    /// Whether its domain is there; true if that is news. One that has not come yet is not gone.
    pub fn set_domain(&mut self, here: bool) -> bool {
        self.introduced |= here;
        let orphan = self.introduced && !here;
        std::mem::replace(&mut self.orphan, orphan) != orphan
    }

    pub fn ask_detach(&mut self, force: bool) {
        self.detach = Some(force || self.detach == Some(true));
    }

    pub fn ask_changed(&mut self) {
        self.nudged = true;
    }

    pub fn note_failure(&mut self, life: u64, error: DeviceError) {
        if life == self.life {
            self.broken = Some(error);
        }
    }

    /// Ends what [`Driver::connect`] began.
    pub fn disconnect(&mut self) {
        self.connected = false;
        if let Serving::Us(driver) = &mut self.serving {
            driver.disconnect();
        }
    }

    /// Makes at most one step.
    ///
    /// # Errors
    /// Xenstore's, when it is of no more use.
    pub fn visit(
        &mut self,
        store: &mut Client,
        desk: &mut Desk<H>,
    ) -> Result<Outcome, ClientError> {
        let outcome = match self.try_visit(store, desk) {
            Ok(outcome) => outcome,
            Err(Trouble::Device(error)) => self.fail(store, desk, error)?,
            // A guest that keeps writing: it has had its turn.
            Err(Trouble::Store(ClientError::Conflicts)) => Outcome::Again,
            Err(Trouble::Store(error @ ClientError::Refused { .. })) => {
                self.fail(store, desk, DeviceError(error.to_string()))?
            }
            Err(Trouble::Store(error)) => return Err(error),
        };
        if matches!(outcome, Outcome::Gone | Outcome::Renewed) {
            self.leave(store, desk)?;
        } else {
            self.show(desk);
        }
        Ok(outcome)
    }

    fn try_visit(&mut self, store: &mut Client, desk: &mut Desk<H>) -> Result<Outcome, Trouble> {
        self.fresh = false;
        let Some(node) = store::value(store, &format!("{}/state", self.back))? else {
            return Ok(Outcome::Gone);
        };
        let node = XenbusState::parse(&node);
        self.node = node;
        if self.front.is_empty() && !self.begin(store, desk, node)? {
            return Ok(Outcome::Rest);
        }
        let front = self.front_state(store)?;
        if matches!(self.serving, Serving::Other) {
            let renewed = node == Initialising && self.own != Initialising;
            self.own = node;
            return Ok(if renewed {
                Outcome::Renewed
            } else {
                Outcome::Rest
            });
        }
        if self.closed_at.is_some_and(|at| at != front) {
            self.closed_at = None;
        }
        if let Some(error) = self.broken.take() {
            return Err(error.into());
        }
        if let Some(force) = self.detach.take() {
            return self.detach(store, force, front);
        }
        let online = store::value(store, &format!("{}/online", self.back))?;
        let view = View {
            own: self.own,
            node,
            online: online.as_deref() != Some(b"0"),
            front,
            closed_at: self.closed_at,
        };
        match decide(&view) {
            Step::Stay => self.look(store),
            Step::Renew => Ok(Outcome::Renewed),
            Step::Open => self.open(store, desk, front),
            Step::Connect => self.connect(store, desk),
            Step::Closing => {
                // It may work on until it is closed, but not open again before it moves.
                self.closed_at = Some(front);
                Ok(self.enter(store, Closing, &[])?.into())
            }
            Step::Close => {
                self.disconnect();
                self.closed_at = is_live(front).then_some(front).or(match front {
                    Closed | XenbusState::Unknown => None,
                    _ => Some(front),
                });
                Ok(self.enter(store, Closed, &[])?.into())
            }
        }
    }

    fn front_state(&self, store: &mut Client) -> Result<XenbusState, ClientError> {
        if self.orphan {
            return Ok(XenbusState::Unknown);
        }
        store::state(store, &self.front)
    }

    /// Takes up a device: one that the toolstack has just made, or one that a former manager left.
    /// False: it is not complete yet.
    fn begin(
        &mut self,
        store: &mut Client,
        desk: &mut Desk<H>,
        node: XenbusState,
    ) -> Result<bool, Trouble> {
        let Some(front) = store::value(store, &format!("{}/frontend", self.back))? else {
            return Ok(false);
        };
        let front = String::from_utf8_lossy(&front).into_owned();
        let home = format!("/local/domain/{}/", self.id.domid.0);
        if !front.starts_with(&home) {
            let text = format!("Front end {front:?} is not in its domain's directory.");
            return Err(DeviceError(text).into());
        }
        store.watch(&front, &format!("front/{}", self.id))?;
        self.front = front;
        self.introduced = store.is_introduced(self.id.domid)?;
        match node {
            XenbusState::Unknown | Initialising => {}
            Closing | Closed => {
                self.own = node;
                self.closed_at = Some(self.front_state(store)?);
            }
            // Publishing again does no harm; front ends overlook it if they are connected.
            _ => self.resumed = true,
        }
        // A kernel's back end, or QEMU, may be at work on what is not ours: touch nothing.
        let nodes = store::read_nodes(store, &self.back)?;
        if (desk.factory)(&self.id, &nodes).is_none() {
            self.serving = Serving::Other;
            self.own = node;
        }
        Ok(true)
    }

    fn open(
        &mut self,
        store: &mut Client,
        desk: &mut Desk<H>,
        front: XenbusState,
    ) -> Result<Outcome, Trouble> {
        self.disconnect();
        let mut values = Vec::new();
        if !matches!(self.serving, Serving::Us(_)) {
            let nodes = store::read_nodes(store, &self.back)?;
            let Some(driver) = (desk.factory)(&self.id, &nodes) else {
                self.serving = Serving::Other;
                return Ok(Outcome::Rest);
            };
            values = self.start(desk, driver, &nodes)?;
            if !desk.hotplug_scripts {
                values.push(("hotplug-status".to_owned(), "connected".to_owned()));
            }
            self.error = None;
            store::remove(store, &format!("{}/error", self.back))?;
            store::remove(store, &store::error_path(desk.own, &self.id))?;
        }
        // To a front end that is connected already, `InitWait` would be a step back.
        let silent = std::mem::take(&mut self.resumed) && front == Connected;
        let state = if silent { Connected } else { InitWait };
        let published = self.enter(store, state, &values)?;
        match published {
            Published::Done => self.own = InitWait,
            // Nobody has read what the driver has to say.
            Published::Moved | Published::Gone => self.serving = Serving::Nobody,
        }
        Ok(published.into())
    }

    /// Begins the driver's life.
    fn start(
        &mut self,
        desk: &mut Desk<H>,
        mut driver: Box<dyn Driver<H>>,
        nodes: &Nodes,
    ) -> Result<Vec<(String, String)>, DeviceError> {
        desk.lives += 1;
        self.life = desk.lives;
        self.broken = None;
        let values = driver.open(nodes, self.reporter(&desk.control))?;
        self.seen_back = of_driver(nodes.clone());
        (self.look_back, self.nudged, self.fresh) = (false, false, true);
        self.serving = Serving::Us(driver);
        Ok(values)
    }

    fn reporter(&self, control: &Control) -> Reporter {
        let (id, life, control) = (self.id.clone(), self.life, control.clone());
        let told = AtomicBool::new(false);
        Reporter::new(move |error| {
            // The first says all.
            if !told.swap(true, Ordering::Relaxed) {
                let id = id.clone();
                control.tell(Command::Failed { id, life, error });
            }
        })
    }

    fn connect(&mut self, store: &mut Client, desk: &Desk<H>) -> Result<Outcome, Trouble> {
        if desk.hotplug_scripts && !self.hotplug_done(store)? {
            return self.look(store);
        }
        // Connected, but the state was not published, as it had moved.
        self.disconnect();
        let front = store::read_nodes(store, &self.front)?;
        let Serving::Us(driver) = &mut self.serving else {
            return Ok(Outcome::Rest);
        };
        // Even a failed attempt is to be followed by a disconnect.
        self.connected = true;
        let values = driver.connect(&desk.host, &front)?;
        self.seen_front = of_driver(front);
        self.look_front = false;
        Ok(self.enter(store, Connected, &values)?.into())
    }

    /// Whether the toolstack's script, if there is one, is through.
    fn hotplug_done(&self, store: &mut Client) -> Result<bool, ClientError> {
        let script = store::value(store, &format!("{}/script", self.back))?;
        let status = store::value(store, &format!("{}/hotplug-status", self.back))?;
        Ok(script.is_none() || status.as_deref() == Some(b"connected"))
    }

    /// Publishes and says a state.
    fn enter(
        &mut self,
        store: &mut Client,
        state: XenbusState,
        values: &[(String, String)],
    ) -> Result<Published, Trouble> {
        let published = store::publish(store, &self.back, self.node, values, state)?;
        if published != Published::Done {
            return Ok(published);
        }
        self.node = state;
        // What we wrote ourselves is no change to the driver.
        for (name, value) in values {
            let value = value.clone().into_bytes();
            self.seen_back.0.insert(name.clone(), value);
            self.published.insert(name.clone());
        }
        self.seen_back = of_driver(std::mem::take(&mut self.seen_back));
        if self.own != state {
            tracing::debug!(device = %self.id, "{} -> {state}", self.own);
        }
        self.own = state;
        Ok(Published::Done)
    }

    /// Tells the driver of nodes that have changed.
    fn look(&mut self, store: &mut Client) -> Result<Outcome, Trouble> {
        let (look_back, look_front) = (
            std::mem::take(&mut self.look_back),
            std::mem::take(&mut self.look_front) && self.connected,
        );
        let nudged = std::mem::take(&mut self.nudged);
        let Serving::Us(driver) = &mut self.serving else {
            return Ok(Outcome::Rest);
        };
        if !(look_back || look_front || nudged) {
            return Ok(Outcome::Rest);
        }
        let back = store::read_nodes(store, &self.back)?;
        let known = of_driver(back.clone());
        let mut changed = nudged || known != self.seen_back;
        self.seen_back = known;
        let mut front = Nodes::default();
        if self.connected {
            front = store::read_nodes(store, &self.front)?;
            let known = of_driver(front.clone());
            changed |= known != self.seen_front;
            self.seen_front = known;
        }
        if !changed {
            return Ok(Outcome::Rest);
        }
        let values = driver.changed(&back, &front)?;
        if values.is_empty() {
            return Ok(Outcome::Rest);
        }
        // The state is written again: that makes front ends look, at a disk's new size say.
        let published = self.enter(store, self.own, &values)?;
        self.nudged |= published == Published::Moved;
        Ok(published.into())
    }

    fn detach(
        &mut self,
        store: &mut Client,
        force: bool,
        front: XenbusState,
    ) -> Result<Outcome, Trouble> {
        let offline = [("online".to_owned(), "0".to_owned())];
        if force {
            self.disconnect();
            self.closed_at = Some(front);
            let published = self.enter(store, Closed, &offline)?;
            if published == Published::Moved {
                self.detach = Some(force);
            }
            return Ok(published.into());
        }
        // As the toolstack would: the rest follows.
        let published = store::publish(store, &self.back, self.node, &offline, Closing)?;
        if published == Published::Moved {
            self.detach = Some(force);
        }
        Ok(published.into())
    }

    /// Closes because of an error. The driver goes; if the front end comes back, a new one begins.
    fn fail(
        &mut self,
        store: &mut Client,
        desk: &Desk<H>,
        error: DeviceError,
    ) -> Result<Outcome, ClientError> {
        self.disconnect();
        self.serving = Serving::Nobody;
        self.life = 0;
        let DeviceError(text) = error;
        if self.pace.failure(Instant::now()) {
            tracing::warn!(device = %self.id, "Device closed: {text:?}");
        }
        let tried = self.publish_error(store, desk, &text);
        self.error = Some(text);
        match tried {
            Ok(outcome) => Ok(outcome),
            // Not even that: the log has said it all.
            Err(Trouble::Device(_))
            | Err(Trouble::Store(ClientError::Refused { .. } | ClientError::Conflicts)) => {
                Ok(Outcome::Rest)
            }
            Err(Trouble::Store(error)) => Err(error),
        }
    }

    fn publish_error(
        &mut self,
        store: &mut Client,
        desk: &Desk<H>,
        text: &str,
    ) -> Result<Outcome, Trouble> {
        let front = if self.front.is_empty() {
            XenbusState::Unknown
        } else {
            self.front_state(store)?
        };
        self.closed_at = Some(front);
        let state = if is_live(front) { Closing } else { Closed };
        // Linux puts the error's number first; ours have none.
        let value = format!("{} {text}", Errno::EIO.0);
        let error = [("error".to_owned(), value.clone())];
        let published = self.enter(store, state, &error)?;
        if published == Published::Done {
            let path = store::error_path(desk.own, &self.id);
            store.write(&format!("{path}/error"), &value)?;
        }
        Ok(published.into())
    }

    /// Forgets the device.
    fn leave(&mut self, store: &mut Client, desk: &Desk<H>) -> Result<(), ClientError> {
        self.disconnect();
        self.serving = Serving::Nobody;
        let tried = [
            if self.front.is_empty() {
                Ok(())
            } else {
                store.unwatch(&self.front, &format!("front/{}", self.id))
            },
            if self.error.is_some() {
                store::remove(store, &store::error_path(desk.own, &self.id))
            } else {
                Ok(())
            },
        ];
        for result in tried {
            match result {
                Ok(()) | Err(ClientError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings the entry up to date that other threads see.
    fn show(&mut self, desk: &Desk<H>) {
        if matches!(self.serving, Serving::Other) || self.front.is_empty() && self.error.is_none() {
            return;
        }
        let now = (self.own, self.error.clone(), self.life);
        if self.shown.as_ref() == Some(&now) {
            return;
        }
        let stats = match &self.serving {
            Serving::Us(driver) => Some(driver.stats()),
            _ => None,
        };
        desk.shared.show(DeviceEntry {
            id: self.id.clone(),
            state: self.own,
            error: self.error.clone(),
            stats,
        });
        self.shown = Some(now);
    }
}

/// Without the nodes of the handshake.
fn of_driver(mut nodes: Nodes) -> Nodes {
    nodes
        .0
        .retain(|name, _| !HANDSHAKE.contains(&name.as_str()));
    nodes
}
