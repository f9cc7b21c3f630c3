//! Device models that end before their domains.
//!
//! Nobody answers such a domain's accesses to devices any more: it stands still for ever. So it is ended as
//! if it had crashed, and whoever carries out its `on_crash` does so. A thread for each device model waits
//! for its end and does nothing else.

use std::collections::BTreeMap;

use rustix::process::Pid;
use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::{XEN_DOMINF_dying, XEN_DOMINF_shutdown};
use xen_sys::sched::SHUTDOWN_crash;
use xt_host_xen::Control;

use super::process;
use crate::{Dirs, journal, userdata};

/// Those that are watched.
#[derive(Debug)]
pub(crate) struct DeviceModels {
    dirs: Dirs,
    watched: BTreeMap<i32, DomId>,
}

impl DeviceModels {
    pub(crate) fn new(dirs: Dirs) -> Self {
        Self {
            dirs,
            watched: BTreeMap::new(),
        }
    }

    /// Begins to watch those that are new.
    pub(crate) fn look(&mut self) {
        let there: BTreeMap<i32, (Pid, DomId)> = process::all()
            .map(|(pid, domid)| (pid.as_raw_nonzero().get(), (pid, domid)))
            .collect();
        // A number may come again for another one.
        self.watched
            .retain(|number, domid| there.get(number).is_some_and(|(_, now)| now == domid));
        for (number, (pid, domid)) in there {
            if self.watched.insert(number, domid).is_none() {
                let dirs = self.dirs.clone();
                std::thread::spawn(move || {
                    if process::wait(pid).is_ok() {
                        ended(&dirs, domid);
                    }
                });
            }
        }
    }
}

/// Ends the domain of a device model that is gone, unless it is ending anyhow, or is not ours.
fn ended(dirs: &Dirs, domid: DomId) {
    let Ok(control) = Control::open() else { return };
    let Ok(Some(info)) = control.domain_info(domid) else {
        return;
    };
    let uuid = Uuid::from_bytes(info.handle);
    let ending = info.flags & (XEN_DOMINF_dying | XEN_DOMINF_shutdown) != 0;
    let taken_apart = journal::is_at_work(&dirs.journal, uuid);
    if ending || taken_apart || !userdata::is_ours(&dirs.userdata, domid, uuid) {
        return;
    }
    if control.shut_domain_down(domid, SHUTDOWN_crash).is_ok() {
        eprintln!(
            "xt: The device model of domain {} has ended, and so has the domain; its log in \
             /var/log/xen may say why",
            domid.0
        );
    }
}
