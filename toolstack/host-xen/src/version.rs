//! Which hypervisor this is: `HYPERVISOR_xen_version`, the calls of `version.h` that need no
//! privilege.
#![allow(unsafe_code)]

use std::fmt;
use std::io;

use xen_sys::hypercall::__HYPERVISOR_xen_version;
use xen_sys::version::*;
use zerocopy::{FromBytes, IntoBytes};

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

/// What a hypervisor was built of and started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The change set of its source.
    pub changeset: String,
    /// Its command line.
    pub commandline: String,
    /// The compiler.
    pub compiler: String,
    /// Who compiled it.
    pub compile_by: String,
    /// Where.
    pub compile_domain: String,
    /// When.
    pub compile_date: String,
    /// Where its part of a PV guest's address space begins.
    pub virt_start: u64,
    /// The linker's build id.
    pub build_id: Vec<u8>,
}

/// Text up to a NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
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

    /// What it was built of and started with.
    ///
    /// # Errors
    /// The driver's.
    pub fn build_info(&self) -> io::Result<BuildInfo> {
        let compile: XenCompileInfo = self.version_of(XENVER_compile_info)?;
        let platform: XenPlatformParameters = self.version_of(XENVER_platform_parameters)?;
        Ok(BuildInfo {
            changeset: self.version_text::<XEN_CHANGESET_INFO_LEN>(XENVER_changeset)?,
            commandline: self.version_text::<XEN_COMMANDLINE_LEN>(XENVER_commandline)?,
            compiler: text(&compile.compiler),
            compile_by: text(&compile.compile_by),
            compile_domain: text(&compile.compile_domain),
            compile_date: text(&compile.compile_date),
            virt_start: platform.virt_start.0,
            build_id: self.build_id()?,
        })
    }

    /// The linker's build id; empty if it has none.
    fn build_id(&self) -> io::Result<Vec<u8>> {
        const ROOM: u32 = 64;
        let buffer = self.buffer(size_of::<XenBuildIdHeader>() + ROOM as usize)?;
        buffer.store(0, &ROOM);
        let args = [Arg::Value(XENVER_build_id.into()), Arg::Buffer(&buffer)];
        // SAFETY: the call writes a length and at most `ROOM` bytes behind it, for which there is room.
        match unsafe { self.hypercall(__HYPERVISOR_xen_version, &args) } {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(len) => {
                let all: [u8; ROOM as usize] = buffer.load(size_of::<XenBuildIdHeader>());
                Ok(all[..(len as usize).min(all.len())].to_vec())
            }
        }
    }

    /// A call that writes a structure.
    fn version_of<T: FromBytes + IntoBytes>(&self, cmd: u32) -> io::Result<T> {
        let buffer = self.buffer(size_of::<T>())?;
        let args = [Arg::Value(cmd.into()), Arg::Buffer(&buffer)];
        // SAFETY: the callers name calls that write a `T`, for which the buffer has room.
        unsafe { self.hypercall(__HYPERVISOR_xen_version, &args) }?;
        Ok(buffer.load(0))
    }

    /// A call that writes a text of at most `LEN` bytes.
    fn version_text<const LEN: usize>(&self, cmd: u32) -> io::Result<String> {
        let buffer = self.buffer(LEN)?;
        let args = [Arg::Value(cmd.into()), Arg::Buffer(&buffer)];
        // SAFETY: the callers name calls that write `LEN` bytes, for which the buffer has room.
        unsafe { self.hypercall(__HYPERVISOR_xen_version, &args) }?;
        let bytes: [u8; LEN] = buffer.load(0);
        Ok(text(&bytes))
    }
}
