//! Counters of all back ends of this host: those served here, and the kernel's, under the same names.

mod kernel;
mod socket;
mod table;

use std::path::Path;

use anyhow::Result;
use pv_stats::DeviceStats;
use serde::{Deserialize, Serialize};

pub use kernel::kernel_devices;
pub use socket::{StatsSocket, ask};
pub use table::table;

/// A device and who serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The front end's domain.
    pub domid: u16,
    /// `xt-backend` or `kernel`.
    pub backend: String,
    /// What went wrong last, if the device is closed because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The counters.
    #[serde(flatten)]
    pub stats: DeviceStats,
}

/// All devices of this host: of every process whose socket is in `dir`, and the kernel's.
///
/// # Errors
/// The directory cannot be read. Sockets that nobody answers on are left out.
pub fn gather(dir: &Path) -> Result<Vec<DeviceReport>> {
    let mut all = Vec::new();
    if dir.exists() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "sock")
            {
                match ask(&path) {
                    Ok(devices) => all.extend(devices),
                    Err(error) => tracing::debug!("{}: {error:#}", path.display()),
                }
            }
        }
    }
    all.extend(kernel_devices(Path::new("/sys"))?);
    all.sort_by_key(|device| (device.domid, device.stats.kind.clone(), device.stats.devid));
    Ok(all)
}
