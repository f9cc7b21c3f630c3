//! Creating a domain, in order.

use std::fs::File;
use std::path::Path;
use std::sync::PoisonError;

use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::{XEN_DOMCTL_CDF_hap, XEN_DOMCTL_CDF_hvm, XEN_X86_EMU_LAPIC};
use xen_sys::sysctl::{
    XEN_SYSCTL_PHYSCAP_gnttab_v2, XEN_SYSCTL_PHYSCAP_hap, XEN_SYSCTL_PHYSCAP_hvm,
    XEN_SYSCTL_PHYSCAP_pv, XenSysctlPhysinfo,
};
use xt_config::{DomainSpec, DomainType};
use xt_devices::{Defaults, Guest};
use xt_host::{CreateOptions, Created, HostError, Result};
use xt_host_xen::control::Release;
use xt_host_xen::domctl::NewDomain;
use xt_xenstore::client::Client;

use crate::build::{self, Files};
use crate::hvm::{self, Hvm, Plan};
use crate::journal::Entry;
use crate::{XenHost, failed, hotplug, lock, nodes, store, userdata};

/// libxl's: ports 0 to 1023.
const MAX_EVENT_CHANNELS: u32 = 1024;
/// libxl's for hosts whose memory 32-bit frame numbers reach.
const GRANT_FRAMES: u32 = 64;
/// libxl's.
const MAPTRACK_FRAMES: u32 = 1024;

impl XenHost {
    /// Builds a domain and starts it; nothing is left of it if that fails.
    pub(crate) fn create_domain(
        &self,
        spec: &DomainSpec,
        options: &CreateOptions,
    ) -> Result<Created> {
        let _held = lock::take(&self.dirs.creation)?;
        // Before anything is made: what is wrong with files is found here.
        let plan = spec.hvm.as_deref().map(|hvm| Plan::new(spec, hvm));
        let plan = plan.transpose()?;
        let hvm = spec.hvm.as_deref().zip(plan.as_ref());
        let hvm = hvm.map(|(spec, plan)| Hvm { spec, plan });
        if let Some(hvm) = hvm {
            hvm::create::check(spec, hvm)?;
        }
        let files = Files::read(spec, hvm, self.dirs.kernels.as_deref())?;
        let physinfo = self
            .control
            .physinfo()
            .map_err(failed("Cannot ask Xen what it can do"))?;
        let uuid = spec.uuid.unwrap_or_else(Uuid::new_v4);
        let new = new_domain(spec, uuid, &physinfo, self.control.release())?;
        // What cannot be cleared is no reason not to make another; whoever opened the host was told.
        let _ = self.clean_up();

        let (mut entry, domid) = self.reserve(spec, uuid, &new)?;
        match self.fill(domid, uuid, spec, hvm, options, &files) {
            Ok(warnings) => {
                if options.uncommitted {
                    let held = self.uncommitted.lock();
                    *held.unwrap_or_else(PoisonError::into_inner) = Some(entry);
                } else {
                    entry.done().map_err(failed("Cannot close the journal"))?;
                }
                Ok(Created { domid, warnings })
            }
            Err(error) => {
                // The cause is what the user has to know; what is left is tried again by the next.
                if self.take_apart(domid, uuid).is_ok() {
                    entry.domid = None;
                    let _ = entry.done();
                }
                Err(error)
            }
        }
    }

    /// Makes the domain and its name, one command at a time, so that no two get one name.
    fn reserve(&self, spec: &DomainSpec, uuid: Uuid, new: &NewDomain) -> Result<(Entry, DomId)> {
        let _lock = lock_names(&self.dirs.journal)?;
        let mut client = self.client();
        if named(&mut client, &spec.name)?.is_some() {
            let name = spec.name.clone();
            return Err(HostError::NameInUse { name });
        }
        let taken =
            |info: &xen_sys::domctl::XenDomctlGetdomaininfo| info.handle == *uuid.as_bytes();
        let domains = self
            .control
            .domains()
            .map_err(failed("Cannot list the domains"))?;
        if domains.iter().any(taken) {
            return Err(HostError::Config(format!(
                "A domain with the UUID {uuid} is there already; leave uuid out to get a new one."
            )));
        }
        let unwritten = || failed("Cannot write the journal");
        let mut entry = Entry::begin(&self.dirs.journal, uuid, None).map_err(unwritten())?;
        let created = self.control.create_domain(new, None);
        let domid = match created.map_err(failed("Xen does not make the domain")) {
            Ok(domid) => domid,
            Err(error) => {
                let _ = entry.done();
                return Err(error);
            }
        };
        let noted = entry.set_domid(domid).map_err(unwritten());
        let made =
            noted.and_then(|()| store(nodes::make_domain(&mut client, domid, uuid, &spec.name)));
        drop(client);
        if let Err(error) = made {
            if self.take_apart(domid, uuid).is_ok() {
                let _ = entry.done();
            }
            return Err(error);
        }
        Ok((entry, domid))
    }

    /// Everything that a domain with a name still lacks. Answers what its owner should know.
    fn fill(
        &self,
        domid: DomId,
        uuid: Uuid,
        spec: &DomainSpec,
        hvm: Option<Hvm<'_>>,
        options: &CreateOptions,
        files: &Files,
    ) -> Result<Vec<String>> {
        let (ports, rings, tables) = build::build(&self.control, domid, spec, hvm, files)?;
        self.apply_settings(domid, &options.libxl)?;
        let mut client = self.client();
        store(nodes::describe(
            &mut client,
            domid,
            uuid,
            spec,
            ports,
            rings,
        ))?;
        if let Some(Hvm { spec, plan }) = hvm {
            let described = hvm::nodes::describe(&mut client, domid, uuid, spec, plan, &tables);
            store(described)?;
        }
        store(client.introduce(domid, rings.store, ports.store.0))?;
        let guest = Guest {
            domid,
            kind: spec.domain_type,
        };
        let made = nodes::make_console(&mut client, domid, ports.console.0, rings.console);
        store(made)?;
        let mut warnings = Vec::new();
        match hvm {
            Some(hvm) => warnings.extend(hvm::create::devices(&mut client, guest, spec, hvm)?),
            None => devices(&mut client, guest, spec)?,
        }
        let macs = macs(&mut client, domid)?;
        drop(client);
        let dir = &self.dirs.userdata;
        userdata::keep_configuration(dir, domid, uuid, spec, &options.libxl, &macs)
            .map_err(failed("Cannot keep the configuration"))?;
        if !options.source.is_empty() {
            userdata::keep(dir, domid, uuid, userdata::XL, options.source.as_bytes())
                .map_err(failed("Cannot keep the configuration"))?;
        }
        if !options.paused {
            self.control
                .unpause_domain(domid)
                .map_err(failed("Cannot start the domain"))?;
        }
        Ok(warnings)
    }
}

/// Disks, and then interfaces.
fn devices(client: &mut Client, guest: Guest, spec: &DomainSpec) -> Result<()> {
    let defaults = Defaults::default();
    for disk in &spec.disks {
        let nodes = xt_devices::disk_nodes(client, guest, disk, &defaults);
        hotplug::attach(client, &nodes.map_err(hotplug::refused)?)?;
    }
    for nic in &spec.vifs {
        let nodes = xt_devices::nic_nodes(client, guest, nic, &defaults);
        hotplug::attach(client, &nodes.map_err(hotplug::refused)?)?;
    }
    Ok(())
}

/// The addresses of a domain's interfaces, by their numbers.
fn macs(client: &mut Client, domid: DomId) -> Result<Vec<(u32, String)>> {
    let list = xt_devices::network_list(client, domid).map_err(hotplug::refused)?;
    Ok(list.into_iter().map(|nic| (nic.devid, nic.mac)).collect())
}

/// Only one command at a time gives names.
pub(crate) fn lock_names(dir: &Path) -> Result<Flock<File>> {
    let open = || {
        std::fs::create_dir_all(dir)?;
        File::create(dir.join("names.lock"))
    };
    let what = "Cannot lock the names of domains";
    let file = open().map_err(failed(what))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed(what)(errno.into()))
}

/// The domain of that name.
pub(crate) fn named(client: &mut Client, name: &str) -> Result<Option<DomId>> {
    for domid in store(nodes::names(client, "/local/domain"))? {
        let there = store(client.read_text(&format!("/local/domain/{domid}/name")))?;
        if there.as_deref() == Some(name) {
            return Ok(domid.parse().ok().map(DomId));
        }
    }
    Ok(None)
}

/// What the hypervisor is told of the domain, as libxl does.
fn new_domain(
    spec: &DomainSpec,
    uuid: Uuid,
    host: &XenSysctlPhysinfo,
    release: Release,
) -> Result<NewDomain> {
    let lacks = |capability, what: &str| match host.capabilities & capability {
        0 => Err(HostError::Config(format!("This Xen cannot run {what}."))),
        _ => Ok(()),
    };
    let (flags, emulation_flags) = match spec.domain_type {
        DomainType::Pv => {
            lacks(XEN_SYSCTL_PHYSCAP_pv, "PV domains: set type=\"pvh\"")?;
            (0, 0)
        }
        DomainType::Pvh => {
            lacks(XEN_SYSCTL_PHYSCAP_hvm, "PVH domains: set type=\"pv\"")?;
            let paging = match host.capabilities & XEN_SYSCTL_PHYSCAP_hap {
                0 => 0,
                _ => XEN_DOMCTL_CDF_hap,
            };
            (XEN_DOMCTL_CDF_hvm | paging, XEN_X86_EMU_LAPIC)
        }
        DomainType::Hvm => {
            lacks(XEN_SYSCTL_PHYSCAP_hvm, "HVM domains: set type=\"pv\"")?;
            hvm::build::flags(spec.hvm.as_deref(), host, release)?
        }
    };
    let newest = match host.capabilities & XEN_SYSCTL_PHYSCAP_gnttab_v2 {
        0 => 1,
        _ => 2,
    };
    Ok(NewDomain {
        handle: *uuid.as_bytes(),
        flags,
        max_vcpus: spec.max_vcpus,
        max_evtchn_port: spec.max_event_channels.unwrap_or(MAX_EVENT_CHANNELS) - 1,
        max_grant_frames: Some(spec.max_grant_frames.unwrap_or(GRANT_FRAMES)),
        max_maptrack_frames: Some(spec.max_maptrack_frames.unwrap_or(MAPTRACK_FRAMES)),
        max_grant_version: spec.max_grant_version.unwrap_or(newest),
        emulation_flags,
        ..Default::default()
    })
}
