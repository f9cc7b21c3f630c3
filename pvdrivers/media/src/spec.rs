//! What the user asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the content of a medium is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The bytes as they are; a file or a block device.
    #[default]
    Raw,
    /// QEMU's format, versions 2 and 3.
    Qcow2,
    /// Microsoft's Virtual Hard Disk: fixed for reading and writing, dynamic and differencing for
    /// reading.
    Vhd,
    /// VMware's, for reading.
    Vmdk,
    /// A Network Block Device; the target is an URI. Targets that begin with `nbd:` or `nbd+unix:`
    /// are this whatever the format says.
    Nbd,
    /// Found out by looking, which only a read-only medium may ask for: a guest that can write to
    /// a raw disk could make it look like an image that refers to any file of the host.
    Probe,
}

impl Format {
    /// The name used in messages and specifications.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Nbd => "nbd",
            Self::Probe => "probe",
        }
    }
}

/// A virtual disk as asked for. Begin with [`MediumSpec::new`] and change what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumSpec {
    /// Layout.
    pub format: Format,
    /// File, block device or URI.
    pub target: PathBuf,
    /// Never written to.
    pub readonly: bool,
    /// Bypass the host's page cache where size and alignment of a request permit
    /// (`direct-io-safe`).
    pub direct_io: bool,
    /// The same for block devices only, as Xen's kernel back end serves them. Meant for hosts where
    /// the guest's memory is this process's own.
    pub direct_devices: bool,
    /// Offer discard where the medium can; it gives space back to the host.
    pub discard: bool,
    /// Others may have the medium open for writing at the same time (`w!`): no locks are taken.
    pub shared: bool,
    /// Logical sector size in bytes, 512 or 4096; `None` is the device's, or 512.
    pub sector_size: Option<u32>,
    /// How long a Network Block Device whose connection is lost is looked for, before all requests
    /// fail; zero: not at all.
    pub reconnect: Duration,
}

/// As long as a server's machine takes to start again, and less than a guest's patience (Linux
/// complains of tasks that wait for 120 s).
const RECONNECT: Duration = Duration::from_secs(100);

impl MediumSpec {
    /// A writable medium with discard and without direct I/O.
    pub fn new(format: Format, target: impl Into<PathBuf>) -> Self {
        Self {
            format,
            target: target.into(),
            readonly: false,
            direct_io: false,
            direct_devices: false,
            discard: true,
            shared: false,
            sector_size: None,
            reconnect: RECONNECT,
        }
    }

    /// The same, never written to.
    pub fn readonly(mut self) -> Self {
        self.readonly = true;
        self
    }

    /// The same, by direct I/O where it holds.
    pub fn direct_io(mut self) -> Self {
        self.direct_io = true;
        self
    }

    /// The URI, if the target is one of a Network Block Device.
    pub(crate) fn nbd_uri(&self) -> Option<&str> {
        let text = self.target.to_str()?;
        // Those with TLS are known, to be refused as what they are.
        let schemes = ["nbd:", "nbd+unix:", "nbds:", "nbds+unix:"];
        let is_nbd = schemes.iter().any(|scheme| text.starts_with(scheme));
        (is_nbd || self.format == Format::Nbd).then_some(text)
    }
}

/// A path in an image, which is relative to the image's folder.
pub(crate) fn beside(image: &Path, reference: &Path) -> PathBuf {
    match image.parent() {
        Some(folder) => folder.join(reference),
        None => reference.to_owned(),
    }
}
