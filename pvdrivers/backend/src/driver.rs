//! What a kind of device does at each step of the handshake.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pv_stats::Source;
use xen_sys::DomId;

use crate::Host;

/// Which device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// `vbd` or `vif`, as in the back end's path.
    pub kind: String,
    /// The front end's domain.
    pub domid: DomId,
    /// The device's number.
    pub devid: u32,
}

/// The nodes below a directory of xenstore, by relative path (`queue-0/ring-ref0`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(pub BTreeMap<String, Vec<u8>>);

impl Nodes {
    /// A node's value as text; `None` if there is no such node or it is no text.
    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(path)?).ok()
    }

    /// A node's value as a number in decimal; `None` if there is no such node or it is none.
    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        let text = self.text(path)?;
        // `parse` would take a sign.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.domid.0, self.devid)
    }
}

/// What to write to the back end's own directory, in one transaction with the next state.
pub type Publish = Vec<(String, String)>;

/// A device cannot go on: it is closed, its `error` node and the log say why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

/// One device's back end. Its manager calls it from one thread, in the order of the handshake; its
/// queues run on threads of their own.
pub trait Driver<H: Host>: Send {
    /// The toolstack has made the device: opens what it is on. What it returns is published with
    /// state `InitWait`.
    ///
    /// # Errors
    /// The device is unusable.
    fn open(&mut self, back: &Nodes, reporter: Reporter) -> Result<Publish, DeviceError>;

    /// The front end has said where its rings are (`Initialised`, or `Connected`): maps them and
    /// starts. What it returns is published with state `Connected`. Everything in `front` is the
    /// guest's, and hostile.
    ///
    /// # Errors
    /// The front end asked for what cannot be.
    fn connect(&mut self, host: &H, front: &Nodes) -> Result<Publish, DeviceError>;

    /// The front end has closed or is gone: answers what is in flight as far as that makes sense,
    /// stops, unmaps everything. Called at any time, more than once; `connect` may follow.
    fn disconnect(&mut self);

    /// A node of the back end's or the front end's directory has changed.
    ///
    /// # Errors
    /// The device cannot go on.
    fn changed(&mut self, back: &Nodes, front: &Nodes) -> Result<Publish, DeviceError>;

    /// Its counters.
    fn stats(&self) -> Arc<dyn Source>;
}

/// How a queue's thread tells the manager that its device cannot go on.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(DeviceError) + Send + Sync>);

impl Reporter {
    /// One that calls `tell`, from any thread.
    pub fn new(tell: impl Fn(DeviceError) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The device is to be closed because of this.
    pub fn failed(&self, error: DeviceError) {
        (self.0)(error);
    }
}
