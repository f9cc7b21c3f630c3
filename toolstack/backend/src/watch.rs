//! What is to be watched besides the devices: the end of the domain that is served, the end of the
//! last device, and, in a driver domain, devices that nobody needs any more.

use std::thread;

use anyhow::Result;
use pv_backend::Control;
use xen_sys::DomId;
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::wire::XsError;

/// What is served.
#[derive(Clone, Debug)]
pub struct Scope {
    /// This domain.
    pub own: DomId,
    /// Kinds of devices.
    pub kinds: Vec<String>,
    /// Of one domain only.
    pub domid: Option<DomId>,
    /// End with the last device.
    pub once: bool,
}

/// Watches in a thread of its own, over its own connection.
///
/// # Errors
/// Xenstore's.
pub fn watch(scope: Scope, control: Control) -> Result<()> {
    let mut store = Client::connect_default()?;
    store.watch("@releaseDomain", "domains")?;
    for kind in &scope.kinds {
        store.watch(&kind_path(scope.own, kind), "devices")?;
    }
    thread::spawn(move || {
        if let Err(error) = follow(&mut store, &scope) {
            tracing::error!("Not watching xenstore any more: {error}");
        }
        control.stop();
    });
    Ok(())
}

/// Returns when what is served has ended.
fn follow(store: &mut Client, scope: &Scope) -> Result<(), ClientError> {
    let mut any = false;
    loop {
        let Some(event) = store.next_event(None)? else {
            continue;
        };
        if let Some(domid) = scope.domid
            && event.token == "domains"
            && !store.is_introduced(xt_xenstore::DomId(domid.0))?
        {
            tracing::info!("Domain {domid} has ended");
            return Ok(());
        }
        if scope.own != DomId(0) && event.path.ends_with("/state") {
            tidy(store, &event.path)?;
        }
        if scope.once {
            let left = count(store, scope)?;
            any |= left > 0;
            if any && left == 0 {
                tracing::info!("The last device has gone");
                return Ok(());
            }
        }
    }
}

/// In a driver domain the toolstack cannot remove a back end's directory and waits for it to go
/// (`libxl_device.c`): a device that has closed for good.
fn tidy(store: &mut Client, state: &str) -> Result<(), ClientError> {
    let Some(dir) = state.strip_suffix("/state") else {
        return Ok(());
    };
    let closed = store.read_text(state)?.as_deref() == Some("6");
    if closed && store.read_text(&format!("{dir}/online"))?.as_deref() == Some("0") {
        match store.rm(dir) {
            Err(error) if !error.is(XsError::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Devices there are.
fn count(store: &mut Client, scope: &Scope) -> Result<usize, ClientError> {
    let mut devices = 0;
    for kind in &scope.kinds {
        let root = kind_path(scope.own, kind);
        let domids = match scope.domid {
            Some(domid) => vec![domid.to_string()],
            None => children(store, &root)?,
        };
        for domid in domids {
            devices += children(store, &format!("{root}/{domid}"))?.len();
        }
    }
    Ok(devices)
}

fn children(store: &mut Client, path: &str) -> Result<Vec<String>, ClientError> {
    match store.directory(path) {
        Err(error) if error.is(XsError::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

fn kind_path(own: DomId, kind: &str) -> String {
    format!("/local/domain/{own}/backend/{kind}")
}
