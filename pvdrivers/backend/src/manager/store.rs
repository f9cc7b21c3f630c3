//! Paths in xenstore, and reading there with bounds: a front end's directory is the guest's.

use pv_xenbus::XenbusState;
use xen_sys::DomId;
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::wire::XsError;

use crate::driver::{DeviceError, DeviceId, Nodes};

/// Nodes read of one directory; 16 queues of 16 ring pages each are 300.
const MOST_NODES: usize = 1024;
/// Levels below the directory: `queue-0/ring-ref0` is on the second.
const MOST_LEVELS: usize = 3;

/// Why a visit failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The device's own fault, or its front end's.
    Device(DeviceError),
    /// Xenstore's.
    Store(ClientError),
}

impl From<DeviceError> for Trouble {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Store(error)
    }
}

/// The directory of our devices of a kind.
pub(super) fn kind_path(own: DomId, kind: &str) -> String {
    format!("/local/domain/{}/backend/{kind}", own.0)
}

/// A device's directory.
pub(super) fn back_path(own: DomId, id: &DeviceId) -> String {
    format!("/local/domain/{}/backend/{id}", own.0)
}

/// Where errors are kept, as Linux' `xenbus_dev_error` does.
pub(super) fn error_path(own: DomId, id: &DeviceId) -> String {
    format!("/local/domain/{}/error/backend/{id}", own.0)
}

/// The device and the node in its directory, from a path below that of its kind: `/1/51712/state`.
pub(super) fn parse_below<'a>(kind: &str, below: &'a str) -> Option<(DeviceId, &'a str)> {
    let mut parts = below.strip_prefix('/')?.splitn(3, '/');
    let id = DeviceId {
        kind: kind.to_owned(),
        domid: DomId(decimal(parts.next()?)?),
        devid: decimal(parts.next()?)?,
    };
    Some((id, parts.next().unwrap_or_default()))
}

/// From [`DeviceId`]'s text.
pub(super) fn parse_id(text: &str) -> Option<DeviceId> {
    let slash = text.find('/')?;
    let (kind, below) = text.split_at(slash);
    parse_below(kind, below).map(|(id, _)| id)
}

fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// All devices of a kind.
pub(super) fn list_devices(
    store: &mut Client,
    own: DomId,
    kind: &str,
) -> Result<Vec<DeviceId>, ClientError> {
    let root = kind_path(own, kind);
    let mut ids = Vec::new();
    for domid in children(store, &root)? {
        for devid in children(store, &format!("{root}/{domid}"))? {
            ids.extend(parse_below(kind, &format!("/{domid}/{devid}")).map(|(id, _)| id));
        }
    }
    Ok(ids)
}

/// A node's children; none if it is missing, or none of our business.
fn children(store: &mut Client, path: &str) -> Result<Vec<String>, ClientError> {
    match store.directory(path) {
        Err(error) if error.is(XsError::ENOENT) || error.is(XsError::EACCES) => Ok(Vec::new()),
        other => other,
    }
}

/// A node's value; `None` if it is missing, or none of our business.
pub(super) fn value(store: &mut Client, path: &str) -> Result<Option<Vec<u8>>, ClientError> {
    match store.read(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(XsError::ENOENT) || error.is(XsError::EACCES) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An end's state; a missing node is [`XenbusState::Unknown`].
pub(super) fn state(store: &mut Client, dir: &str) -> Result<XenbusState, ClientError> {
    let value = value(store, &format!("{dir}/state"))?;
    Ok(value.map_or(XenbusState::Unknown, |value| XenbusState::parse(&value)))
}

/// Everything below a directory.
///
/// # Errors
/// There is more than any device needs, or xenstore's.
pub(super) fn read_nodes(store: &mut Client, root: &str) -> Result<Nodes, Trouble> {
    let mut nodes = Nodes::default();
    let mut seen = 0;
    let mut left = vec![(String::new(), 0)];
    while let Some((dir, level)) = left.pop() {
        let at = if dir.is_empty() {
            root.to_owned()
        } else {
            format!("{root}/{dir}")
        };
        for name in children(store, &at)? {
            seen += 1;
            if seen > MOST_NODES {
                let text = format!("Directory {root} has more than {MOST_NODES} nodes.");
                return Err(DeviceError(text).into());
            }
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            if let Some(value) = value(store, &format!("{root}/{path}"))? {
                nodes.0.insert(path.clone(), value);
            }
            if level + 1 < MOST_LEVELS {
                left.push((path, level + 1));
            }
        }
    }
    Ok(nodes)
}

/// What came of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It is written.
    Done,
    /// The device is gone; it is not brought back.
    Gone,
    /// The toolstack has written another state meanwhile: look again.
    Moved,
}

/// Changes a device's directory in one transaction, if its state is still `known`: writes nodes,
/// then the new state.
pub(super) fn publish(
    store: &mut Client,
    dir: &str,
    known: XenbusState,
    values: &[(String, String)],
    state: XenbusState,
) -> Result<Published, ClientError> {
    let node = format!("{dir}/state");
    store.transaction(|store| {
        match value(store, &node)? {
            None => return Ok(Published::Gone),
            Some(value) if XenbusState::parse(&value) != known => return Ok(Published::Moved),
            Some(_) => {}
        }
        for (name, value) in values {
            store.write(&format!("{dir}/{name}"), value)?;
        }
        store.write(&node, state.as_str())?;
        Ok(Published::Done)
    })
}

/// Removes a node, if there is one.
pub(super) fn remove(store: &mut Client, path: &str) -> Result<(), ClientError> {
    match store.rm(path) {
        Err(error) if error.is(XsError::ENOENT) => Ok(()),
        other => other,
    }
}
