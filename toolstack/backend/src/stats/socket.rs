//! The socket on which a process tells its counters: whoever connects gets one line of JSON.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::DeviceReport;

/// Longest wait for the other end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that tells counters; removed when dropped.
#[derive(Debug)]
pub struct StatsSocket(PathBuf);

impl StatsSocket {
    /// Listens at `path`, which is replaced: its former owner is gone, or the claim on the devices
    /// would have failed. `devices` tells what there is.
    ///
    /// # Errors
    /// The path cannot be had.
    pub fn listen(
        path: &Path,
        devices: impl Fn() -> Vec<DeviceReport> + Send + 'static,
    ) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("Cannot create {}", dir.display()))?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("Cannot replace {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("Cannot listen at {}", path.display()))?;
        // Counters tell what guests do: not for everybody.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("Cannot protect {}", path.display()))?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                if let Err(error) = stream.and_then(|stream| tell(stream, &devices())) {
                    tracing::debug!("Counters not told: {error}");
                }
            }
        });
        Ok(Self(path.to_owned()))
    }
}

impl Drop for StatsSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tell(mut stream: UnixStream, devices: &[DeviceReport]) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(devices)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Asks a process for its counters.
///
/// # Errors
/// Nobody answers.
pub fn ask(path: &Path) -> Result<Vec<DeviceReport>> {
    let mut stream = UnixStream::connect(path)
        .with_context(|| format!("No xt-backend answers at {}", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text)
        .with_context(|| format!("What answers at {} is no xt-backend", path.display()))
}

#[cfg(test)]
mod tests {
    use pv_stats::DeviceStats;

    use super::*;

    #[test]
    fn counters_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/all.sock");
        assert!(ask(&path).is_err());
        let device = DeviceReport {
            domid: 3,
            backend: "xt-backend".into(),
            error: None,
            stats: DeviceStats {
                kind: "vbd".into(),
                devid: 51712,
                ..Default::default()
            },
        };
        let devices = vec![device];
        let told = devices.clone();
        let socket = StatsSocket::listen(&path, move || told.clone()).unwrap();
        assert_eq!(ask(&path).unwrap(), devices);
        drop(socket);
        assert!(!path.exists());
    }
}
