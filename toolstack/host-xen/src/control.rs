//! The control interfaces, domctl and sysctl: which version the hypervisor speaks.
//!
//! They change with Xen's releases, and a hypervisor takes calls of its own version only. So the first
//! thing [`Control::open`] does is to find the one that is answered. What differs between versions is
//! said once, in [`Release`]; the calls themselves are in [`domctl`](crate::domctl) and
//! [`sysctl`](crate::sysctl).
#![allow(unsafe_code)]

use std::io;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use xen_sys::DomId;
use xen_sys::domctl::{XEN_DOMCTL_getdomaininfo, XenDomctl, XenDomctlGetdomaininfo};
use xen_sys::hypercall::{__HYPERVISOR_domctl, __HYPERVISOR_sysctl};
use xen_sys::sysctl::{XEN_SYSCTL_sched_id, XenSysctl, XenSysctlSchedId};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::device::OpenError;
use crate::hypercall::{Arg, Buffer, Privcmd};
use crate::version::XenVersion;

/// What a toolstack has to know of a release of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The minor number of its version: 17 of 4.17.
    pub minor: u16,
    /// Its `XEN_DOMCTL_INTERFACE_VERSION`.
    pub domctl: u32,
    /// Its `XEN_SYSCTL_INTERFACE_VERSION`.
    pub sysctl: u32,
}

/// All known releases, the oldest first.
pub const RELEASES: &[Release] = &[
    release(17, 0x15, 0x15),
    release(18, 0x16, 0x15),
    release(19, 0x17, 0x15),
    release(20, 0x17, 0x15),
    release(21, 0x17, 0x16),
    release(22, 0x18, 0x16),
];

const fn release(minor: u16, domctl: u32, sysctl: u32) -> Release {
    Release {
        minor,
        domctl,
        sysctl,
    }
}

/// `DOMID_ANY` of Xen 4.22's `xen.h`.
const DOMID_ANY: DomId = DomId(0x7ff5);

impl Release {
    /// Whether `createdomain` has `altp2m_opts`.
    pub const fn has_altp2m_opts(self) -> bool {
        self.domctl >= 0x17
    }

    /// What `createdomain` takes for a domain of any number.
    pub const fn any_domid(self) -> DomId {
        if self.domctl >= 0x18 {
            DOMID_ANY
        } else {
            DomId(0)
        }
    }
}

/// Why the hypervisor cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A device is missing.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The hypervisor is not one of [`RELEASES`].
    #[error(
        "Cannot control Xen {have}: its {interface} interface is of no version known here. Wanted: {}",
        wanted(interface)
    )]
    Version {
        /// The hypervisor.
        have: XenVersion,
        /// `domctl` or `sysctl`.
        interface: &'static str,
    },
    /// This domain may not.
    #[error("This domain has no right to control Xen: run this in dom0")]
    NotPrivileged(#[source] io::Error),
    /// Another failure.
    #[error("Xen does not answer")]
    Io(#[source] io::Error),
}

/// What can be had instead.
fn wanted(interface: &str) -> String {
    let one = |release: &Release| {
        let version = match interface {
            "domctl" => release.domctl,
            _ => release.sysctl,
        };
        format!("4.{} ({version:#x})", release.minor)
    };
    let all: Vec<String> = RELEASES.iter().map(one).collect();
    all.join(", ")
}

/// A hypervisor that can be controlled.
#[derive(Debug)]
pub struct Control {
    pub(crate) privcmd: Privcmd,
    pub(crate) release: Release,
    /// Where commands are put together.
    page: Mutex<Buffer>,
}

impl Control {
    /// Opens `/dev/xen/privcmd` and finds out which version of the interfaces is spoken.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn open() -> Result<Self, ControlError> {
        let privcmd = Privcmd::open()?;
        let have = privcmd.xen_version().map_err(ControlError::Io)?;
        let page = Mutex::new(privcmd.buffer(1).map_err(ControlError::Io)?);
        let mut control = Self {
            privcmd,
            release: RELEASES[0],
            page,
        };
        let interface = |interface| ControlError::Version {
            have: have.clone(),
            interface,
        };
        // The one that its version promises first: usually no second is needed.
        let mut candidates = RELEASES.to_vec();
        candidates.sort_by_key(|release| release.minor != have.minor);
        let spoken = |probe: &mut dyn FnMut(&Release) -> io::Result<()>| {
            for candidate in &candidates {
                match probe(candidate) {
                    Err(error) if is(&error, Errno::EACCES) => {}
                    Err(error) if is(&error, Errno::EPERM) => {
                        return Err(ControlError::NotPrivileged(error));
                    }
                    Err(error) => return Err(ControlError::Io(error)),
                    Ok(()) => return Ok(Some(*candidate)),
                }
            }
            Ok(None)
        };
        let domctl = spoken(&mut |release| control.probe_domctl(release.domctl))?;
        let sysctl = spoken(&mut |release| control.probe_sysctl(release.sysctl))?;
        control.release = Release {
            minor: have.minor,
            domctl: domctl.ok_or_else(|| interface("domctl"))?.domctl,
            sysctl: sysctl.ok_or_else(|| interface("sysctl"))?.sysctl,
        };
        Ok(control)
    }

    /// The way to the hypervisor.
    pub fn privcmd(&self) -> &Privcmd {
        &self.privcmd
    }

    /// What it speaks.
    pub fn release(&self) -> Release {
        self.release
    }

    fn probe_domctl(&self, version: u32) -> io::Result<()> {
        let mut info = XenDomctlGetdomaininfo::default();
        // SAFETY: the arguments have no handles.
        unsafe { self.domctl_of(version, XEN_DOMCTL_getdomaininfo, DomId(0), &mut info) }.map(drop)
    }

    fn probe_sysctl(&self, version: u32) -> io::Result<()> {
        let mut id = XenSysctlSchedId::default();
        // SAFETY: the arguments have no handles.
        unsafe { self.sysctl_of(version, XEN_SYSCTL_sched_id, &mut id) }
    }

    /// Makes a domctl; the domain that it was about.
    ///
    /// # Safety
    /// Each handle in `arguments` is null, or that of a [`Buffer`] alive with room for all that the
    /// command with these arguments reads or writes there.
    pub(crate) unsafe fn domctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        cmd: u32,
        domid: DomId,
        arguments: &mut T,
    ) -> io::Result<DomId> {
        // SAFETY: by the contract of this function.
        unsafe { self.domctl_of(self.release.domctl, cmd, domid, arguments) }
    }

    /// # Safety
    /// As for [`domctl`](Self::domctl).
    unsafe fn domctl_of<T: FromBytes + IntoBytes + Immutable>(
        &self,
        version: u32,
        cmd: u32,
        domid: DomId,
        arguments: &mut T,
    ) -> io::Result<DomId> {
        let mut command = XenDomctl::new_zeroed();
        command.cmd = cmd;
        command.interface_version = version;
        command.domain = domid;
        put(&mut command.u, arguments);
        let page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        page.store(0, &command);
        let args = [Arg::Buffer(&page)];
        // SAFETY: the structure is in the buffer, the rest by the contract of this function.
        let called = unsafe { self.privcmd.hypercall(__HYPERVISOR_domctl, &args) };
        let command: XenDomctl = page.load(0);
        get(&command.u, arguments);
        called.map(|_| command.domain)
    }

    /// Makes a sysctl.
    ///
    /// # Safety
    /// As for [`domctl`](Self::domctl).
    pub(crate) unsafe fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        cmd: u32,
        arguments: &mut T,
    ) -> io::Result<()> {
        // SAFETY: by the contract of this function.
        unsafe { self.sysctl_of(self.release.sysctl, cmd, arguments) }
    }

    /// # Safety
    /// As for [`domctl`](Self::domctl).
    unsafe fn sysctl_of<T: FromBytes + IntoBytes + Immutable>(
        &self,
        version: u32,
        cmd: u32,
        arguments: &mut T,
    ) -> io::Result<()> {
        let mut command = XenSysctl::new_zeroed();
        command.cmd = cmd;
        command.interface_version = version;
        put(&mut command.u, arguments);
        let page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        page.store(0, &command);
        let args = [Arg::Buffer(&page)];
        // SAFETY: the structure is in the buffer, the rest by the contract of this function.
        let called = unsafe { self.privcmd.hypercall(__HYPERVISOR_sysctl, &args) };
        let command: XenSysctl = page.load(0);
        get(&command.u, arguments);
        called.map(drop)
    }

    /// Makes another hypercall of the kind "command, structure"; what it returned.
    ///
    /// # Safety
    /// As for [`domctl`](Self::domctl).
    pub(crate) unsafe fn operate<T: FromBytes + IntoBytes + Immutable>(
        &self,
        hypercall: u64,
        cmd: u64,
        arguments: &mut T,
    ) -> io::Result<u64> {
        let page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        page.store(0, arguments);
        let args = [Arg::Value(cmd), Arg::Buffer(&page)];
        // SAFETY: the structure is in the buffer, the rest by the contract of this function.
        let result = unsafe { self.privcmd.hypercall(hypercall, &args) };
        *arguments = page.load(0);
        result
    }
}

/// Puts arguments into the union of a command.
fn put<T: IntoBytes + Immutable>(union: &mut [u64; 16], arguments: &T) {
    let bytes = arguments.as_bytes();
    union.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
}

fn get<T: FromBytes + IntoBytes>(union: &[u64; 16], arguments: &mut T) {
    let bytes = arguments.as_mut_bytes();
    let len = bytes.len();
    bytes.copy_from_slice(&union.as_bytes()[..len]);
}

pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

#[cfg(test)]
mod tests {
    use xen_sys::domctl::{XEN_DOMCTL_INTERFACE_VERSION, XenDomctlCreatedomainV17};
    use xen_sys::sysctl::XEN_SYSCTL_INTERFACE_VERSION;

    use super::*;

    #[test]
    fn the_oldest_release_is_that_of_the_structures() {
        assert_eq!(RELEASES[0].domctl, XEN_DOMCTL_INTERFACE_VERSION);
        assert_eq!(RELEASES[0].sysctl, XEN_SYSCTL_INTERFACE_VERSION);
        assert!(RELEASES.is_sorted_by_key(|release| (release.minor, release.domctl)));
    }

    #[test]
    fn what_differs() {
        let of = |minor| *RELEASES.iter().find(|r| r.minor == minor).unwrap();
        assert!(!of(18).has_altp2m_opts() && of(19).has_altp2m_opts());
        assert_eq!(
            (of(21).any_domid(), of(22).any_domid()),
            (DomId(0), DOMID_ANY)
        );
    }

    #[test]
    fn arguments_fit_the_union() {
        let mut union = [0; 16];
        let mut there = XenDomctlCreatedomainV17 {
            cpupool_id: 7,
            ..Default::default()
        };
        put(&mut union, &there);
        there.cpupool_id = 0;
        get(&union, &mut there);
        assert_eq!(there.cpupool_id, 7);
    }

    #[test]
    fn an_unknown_version_is_named() {
        let have = XenVersion {
            major: 4,
            minor: 99,
            extra: ".0".into(),
        };
        let interface = "domctl";
        let said = ControlError::Version { have, interface }.to_string();
        assert!(
            said.contains("Xen 4.99.0") && said.ends_with("4.22 (0x18)"),
            "{said}"
        );
    }
}
