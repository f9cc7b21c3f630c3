//! Counters of all back ends of this host: those served here, and the kernel's, under the same names.

mod kernel;
mod socket;
mod table;

use std::path::Path;

use anyhow::Result;
use pv_stats::DeviceStats;
use pv_stats::prometheus::Exposition;
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

/// The counters as metrics in the text format of Prometheus.
pub fn metrics(devices: &[DeviceReport]) -> String {
    let mut metrics = Exposition::default();
    for device in devices {
        let domid = device.domid.to_string();
        let labels = [("domid", domid.as_str()), ("backend", &device.backend)];
        metrics.device(&labels, &device.stats);
    }
    metrics.text()
}

#[cfg(test)]
mod tests {
    use pv_stats::QueueStats;
    use pv_stats::prometheus::strict::parse;

    use super::*;

    #[test]
    fn devices_as_metrics() {
        let mut queue = QueueStats::default();
        queue.counters.insert("read_bytes".into(), 4096);
        let device = |domid, backend: &str| DeviceReport {
            domid,
            backend: backend.into(),
            error: None,
            stats: DeviceStats {
                kind: "vbd".into(),
                devid: 51712,
                queues: vec![queue.clone()],
                ..DeviceStats::default()
            },
        };
        let text = metrics(&[device(3, "kernel"), device(4, "xt-backend")]);
        let read = parse(&text).unwrap();
        let labels = [("domid", "3"), ("backend", "kernel"), ("device", "51712")];
        assert_eq!(read.value("xen_device_read_bytes_total", &labels), 4096.0);
    }
}
