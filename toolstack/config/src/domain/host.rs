//! The host, and what its `xl.conf` says.

use crate::diagnostic::ConfigErrors;
use crate::document::Document;
use crate::libxl::Bitmap;
use crate::reader::Reader;

/// What a configuration needs to know of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// CPUs; those that are offline count.
    pub cpus: u32,
    /// The CPUs of each NUMA node.
    pub nodes: Vec<Bitmap>,
    /// What the host's `xl.conf` sets.
    pub defaults: Defaults,
}

impl Host {
    /// A host with `cpus` CPUs in one node and an empty `xl.conf`.
    pub fn uniform(cpus: u32) -> Self {
        Host {
            cpus,
            nodes: vec![Bitmap::below(cpus)],
            defaults: Defaults::default(),
        }
    }

    /// libxl's bitmaps are whole bytes.
    pub(super) fn cpu_bits(&self) -> u32 {
        self.cpus.div_ceil(8) * 8
    }

    pub(super) fn all_cpus(&self) -> Bitmap {
        Bitmap::below(self.cpu_bits())
    }
}

/// What `xl.conf` sets for domains whose configuration does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `claim_mode`: memory is claimed before it is allocated.
    pub claim_mode: bool,
    /// `run_hotplug_scripts`: the toolstack runs them, not udev.
    pub run_hotplug_scripts: bool,
    /// `max_grant_frames`
    pub max_grant_frames: Option<u32>,
    /// `max_maptrack_frames`
    pub max_maptrack_frames: Option<u32>,
    /// `vif.default.script`
    pub vif_script: Option<String>,
    /// `vif.default.bridge`
    pub vif_bridge: Option<String>,
    /// `vif.default.gatewaydev`
    pub vif_gatewaydev: Option<String>,
    /// `vif.default.backend`
    pub vif_backend: Option<String>,
    /// `blkdev_start`
    pub blkdev_start: Option<String>,
    /// Where Xen's firmware is, for `firmware = "pvgrub64"`. Not in `xl.conf`, but built into xl.
    pub firmware_directory: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            claim_mode: true,
            run_hotplug_scripts: true,
            max_grant_frames: None,
            max_maptrack_frames: None,
            vif_script: None,
            vif_bridge: None,
            vif_gatewaydev: None,
            vif_backend: None,
            blkdev_start: None,
            firmware_directory: "/usr/lib/xen/boot".to_owned(),
        }
    }
}

impl Defaults {
    /// Reads an `xl.conf` as `xl.conf(5)` has it, the older names `vifscript` and `defaultbridge`
    /// included. What it has for other things than domains' configurations is passed over.
    ///
    /// # Errors
    /// A value is of the wrong type or out of range.
    pub fn from_document(document: &Document) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::of_all_keys(document);
        let default = Defaults::default();
        let mut frames = |key| {
            let number = reader.integer(key, 0..=i64::from(i32::MAX), "frames");
            number.and_then(|n| u32::try_from(n).ok())
        };
        let max_grant_frames = frames("max_grant_frames");
        let max_maptrack_frames = frames("max_maptrack_frames");
        let mut text = |key| reader.owned(key);
        let defaults = Defaults {
            max_grant_frames,
            max_maptrack_frames,
            vif_script: text("vif.default.script").or(text("vifscript")),
            vif_bridge: text("vif.default.bridge").or(text("defaultbridge")),
            vif_gatewaydev: text("vif.default.gatewaydev"),
            vif_backend: text("vif.default.backend"),
            blkdev_start: text("blkdev_start"),
            claim_mode: reader.defbool("claim_mode").unwrap_or(default.claim_mode),
            run_hotplug_scripts: reader
                .defbool("run_hotplug_scripts")
                .unwrap_or(default.run_hotplug_scripts),
            firmware_directory: default.firmware_directory,
        };
        Ok(reader.finish(Some(defaults))?.value)
    }
}
