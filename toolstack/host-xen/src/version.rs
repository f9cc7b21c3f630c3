//! Which hypervisor this is: `HYPERVISOR_xen_version`, the calls of `version.h` that need no
//! privilege.
#![allow(unsafe_code)]

use std::fmt;
use std::io;

use xen_sys::hypercall::__HYPERVISOR_xen_version;
use xen_sys::version::{
    XEN_CAPABILITIES_INFO_LEN, XEN_EXTRAVERSION_LEN, XENVER_capabilities, XENVER_extraversion,
    XENVER_version,
};

use crate::hypercall::{Arg, Privcmd};

/// A release of Xen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XenVersion {
    /// Such as 4.
    pub major: u16,
    /// Such as 17.
    pub minor: u16,
    /// Such as `.5-pre`.
    pub extra: String,
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.major, self.minor, self.extra)
    }
}

impl Privcmd {
    /// The hypervisor's release.
    ///
    /// # Errors
    /// The driver's.
    pub fn xen_version(&self) -> io::Result<XenVersion> {
        let no_memory = [Arg::Value(XENVER_version.into()), Arg::Value(0)];
        // SAFETY: `XENVER_version` accesses no memory.
        let version = unsafe { self.hypercall(__HYPERVISOR_xen_version, &no_memory) }?;
        Ok(XenVersion {
            major: (version >> 16) as u16,
            minor: version as u16,
            extra: self.version_text::<XEN_EXTRAVERSION_LEN>(XENVER_extraversion)?,
        })
    }

    /// The kinds of guests it runs: `xen-3.0-x86_64 hvm-3.0-x86_64 ...`.
    ///
    /// # Errors
    /// The driver's.
    pub fn capabilities(&self) -> io::Result<String> {
        self.version_text::<XEN_CAPABILITIES_INFO_LEN>(XENVER_capabilities)
    }

    /// A call that writes a text of at most `LEN` bytes.
    fn version_text<const LEN: usize>(&self, cmd: u32) -> io::Result<String> {
        let buffer = self.buffer(LEN)?;
        let args = [Arg::Value(cmd.into()), Arg::Buffer(&buffer)];
        // SAFETY: the callers name calls that write `LEN` bytes, for which the buffer has room.
        unsafe { self.hypercall(__HYPERVISOR_xen_version, &args) }?;
        let bytes: [u8; LEN] = buffer.load(0);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(LEN);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}
