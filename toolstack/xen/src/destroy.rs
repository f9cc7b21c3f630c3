//! Taking a domain apart: everything that belongs to it goes, whoever made it.

use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::{XEN_DOMINF_dying, XEN_DOMINF_paused};
use xt_host::{HostError, Result};

use crate::journal::{self, Entry};
use crate::{XenHost, failed, hotplug, hvm, nodes, store, userdata};

impl XenHost {
    /// Ends a domain.
    pub(crate) fn destroy_domain(&self, domid: DomId) -> Result<()> {
        if domid == DomId(0) {
            return Err(HostError::Refused(
                "Domain 0 is this system itself; use poweroff(8).".into(),
            ));
        }
        let uuid_there = || {
            let info = self.control.domain_info(domid);
            let info = info.map_err(failed("Cannot ask Xen about the domain"))?;
            Ok::<_, HostError>(info.map(|info| Uuid::from_bytes(info.handle)))
        };
        let uuid = uuid_there()?.ok_or_else(|| HostError::NoSuchDomain(domid.0.to_string()));
        // What else cannot be cleared is no reason to keep this one.
        let _ = self.clean_up();
        let uuid = uuid?;
        if uuid_there()? != Some(uuid) {
            // It was half a domain, which is gone now.
            return Ok(());
        }
        let begun = match self.take_uncommitted(domid) {
            Some(entry) => Ok(entry),
            None => Entry::begin(&self.dirs.journal, uuid, Some(domid)),
        };
        let entry = match begun {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                return Err(HostError::Refused(format!(
                    "Another command is making or ending domain {}; try again when it is done.",
                    domid.0
                )));
            }
            other => other.map_err(failed("Cannot write the journal"))?,
        };
        let complaint = self.take_apart(domid, uuid)?;
        entry.done().map_err(failed("Cannot close the journal"))?;
        complaint.map_or(Ok(()), Err)
    }

    /// Removes all there is of a domain, in libxl's order: it stands still, its device model and
    /// its devices go, then its memory, then its nodes and files. What is not there is no error: this is
    /// also how half a domain ends.
    ///
    /// Of a device whose script failed nothing is left that another attempt could find: that is a
    /// complaint. On an error something is left, but as much as possible is gone.
    pub(crate) fn take_apart(&self, domid: DomId, uuid: Uuid) -> Result<Option<HostError>> {
        let there = || {
            let info = self.control.domain_info(domid);
            let info = info.map_err(failed("Cannot ask Xen about the domain"))?;
            Ok(info.is_some_and(|info| info.handle == *uuid.as_bytes()))
        };
        if there()? {
            self.control
                .pause_domain(domid)
                .map_err(failed("Cannot stop the domain"))?;
        }
        let mut client = self.client();
        let model = hvm::create::end(&mut client, domid);
        let devices = hotplug::detach_all(&mut client, domid);
        if there()? {
            self.control
                .destroy_domain(domid)
                .map_err(failed("Cannot end the domain"))?;
        }
        store(nodes::forget(&mut client, domid, Some(uuid)))?;
        userdata::forget(&self.dirs.userdata, domid, uuid)
            .map_err(failed("Cannot remove the domain's files"))?;
        model?;
        devices
    }

    /// Ends what commands that were killed have left half made or half taken apart. Creating and
    /// destroying begin with this. A domain that runs is whole, whatever the journal says: it is built,
    /// and taken apart, paused.
    ///
    /// # Errors
    /// Something of it is left; the next attempt may have more luck. What can be cleared is, nevertheless.
    pub fn clean_up(&self) -> Result<()> {
        let unread = "Cannot read the journal";
        let mut first = Ok(());
        for entry in journal::abandoned(&self.dirs.journal).map_err(failed(unread))? {
            let cleared = self.clear(entry);
            first = first.and(cleared);
        }
        first
    }

    /// Ends one domain that nobody works on any more.
    fn clear(&self, entry: Entry) -> Result<()> {
        let uuid = entry.uuid;
        let domains = self
            .control
            .domains()
            .map_err(failed("Cannot list the domains"))?;
        let made = domains.iter().find(|info| info.handle == *uuid.as_bytes());
        let domid = made.map(|info| info.domain).or(entry.domid);
        // Its number may be another's by now: then that one's nodes are not touched.
        let others = |domid: DomId| {
            let mut domains = domains.iter();
            domains.any(|info| info.domain == domid && info.handle != *uuid.as_bytes())
        };
        let runs =
            made.is_some_and(|info| info.flags & (XEN_DOMINF_paused | XEN_DOMINF_dying) == 0);
        let complaint = match domid {
            Some(domid) if !runs && !others(domid) => self.take_apart(domid, uuid)?,
            _ => None,
        };
        entry.done().map_err(failed("Cannot close the journal"))?;
        complaint.map_or(Ok(()), Err)
    }
}
