//! Being what `libxl` starts in QEMU's place for a PV guest (`device_model_override`).
//!
//! This process answers the monitor's protocol and keeps a second one running that serves the
//! guest's disks. A worker that is killed or falls over is started anew and takes the rings over
//! where they stand; the guest notices a pause. `libxl` ends this process, by its number, when it
//! destroys the guest; the worker then ends with it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pv_stats::DeviceStats;
use xen_sys::DomId;
use xt_xenstore::client::Client;

use crate::journal;
use crate::qemu::ModelSpec;
use crate::qmp::{BlockDevice, Disks, Monitor};
use crate::ready;
use crate::serve::{block_signals, default_socket, own_domid};
use crate::stats::{DeviceReport, ask};

/// For a worker to begin serving; `libxl` waits as long for us.
const START: Duration = Duration::from_secs(60);
/// A worker that lives shorter than this is not started anew more than [`TRIES`] times in a row.
const SOUND: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;

/// What this process waits for.
enum Event {
    /// The worker of this number serves.
    Ready(u32),
    /// It has ended.
    Ended(u32, ExitStatus),
    /// A signal to end.
    Stop(Signal),
}

/// Is the device model of a guest until that is destroyed.
///
/// # Errors
/// The worker cannot serve.
pub fn run(spec: &ModelSpec, run_dir: &Path) -> Result<ExitCode> {
    let signals = block_signals()?;
    let mut store = Client::connect_default()?;
    let own = own_domid(&mut store)?;
    let disks = disks(own, spec.domid, default_socket(run_dir, Some(spec.domid)))?;
    let monitors = spec.monitors.iter();
    let _monitors = monitors
        .map(|path| Monitor::listen(path, disks.clone()))
        .collect::<Result<Vec<_>>>()?;
    let (events, incoming) = mpsc::channel();
    let stop = events.clone();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let _ = stop.send(Event::Stop(signal));
        }
    });
    let mut worker = Worker::start(spec.domid, 0, &events)?;
    worker.await_ready(&incoming)?;
    // What libxl waits for.
    store.write(&format!("device-model/{}/state", spec.domid), "running")?;
    tracing::info!("Device model of domain {} ({:?})", spec.domid, spec.name);
    let mut tries = 0;
    loop {
        match incoming.recv()? {
            Event::Stop(signal) => {
                tracing::info!("{signal}: ending");
                worker.end(&incoming);
                journal::forget(run_dir, "qdisk", spec.domid);
                return Ok(ExitCode::SUCCESS);
            }
            Event::Ended(number, status) if number == worker.number => {
                if !store.is_introduced(xt_xenstore::DomId(spec.domid.0))? {
                    journal::forget(run_dir, "qdisk", spec.domid);
                    return Ok(ExitCode::SUCCESS);
                }
                // One that was told to stop is no sign of trouble.
                let short = !status.success() && worker.since.elapsed() < SOUND;
                tries = if short { tries + 1 } else { 0 };
                if tries >= TRIES {
                    bail!("The worker ends again and again: {status}");
                }
                tracing::warn!("The worker has ended ({status}); starting it anew");
                worker = Worker::start(spec.domid, number + 1, &events)?;
            }
            Event::Ready(_) | Event::Ended(..) => {}
        }
    }
}

/// The process that serves.
struct Worker {
    number: u32,
    pid: Pid,
    since: Instant,
}

impl Worker {
    /// Starts it. This must be the main thread, with whose end the worker ends.
    fn start(domid: DomId, number: u32, events: &Sender<Event>) -> Result<Self> {
        let name = format!("xt-backend/{}/{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name)?;
        let notify = UnixDatagram::bind_addr(&address).context("Cannot listen for the worker")?;
        notify.set_read_timeout(Some(START))?;
        // This very program, even if another version has taken its path.
        let mut child = Command::new("/proc/self/exe")
            .arg0("xt-backend")
            .args(["--kinds", "qdisk", "--supervised", "--domid"])
            .arg(domid.to_string())
            .env(ready::VARIABLE, format!("@{name}"))
            .spawn()
            .context("Cannot start the worker")?;
        let pid = Pid::from_raw(child.id() as i32);
        let told = events.clone();
        thread::spawn(move || {
            if notify.recv(&mut [0; 64]).is_ok() {
                let _ = told.send(Event::Ready(number));
            }
        });
        let told = events.clone();
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = told.send(Event::Ended(number, status));
            }
        });
        Ok(Self {
            number,
            pid,
            since: Instant::now(),
        })
    }

    /// Waits until it serves.
    fn await_ready(&self, events: &Receiver<Event>) -> Result<()> {
        loop {
            let left = START.saturating_sub(self.since.elapsed());
            match events.recv_timeout(left) {
                Ok(Event::Ready(number)) if number == self.number => return Ok(()),
                Ok(Event::Ended(number, status)) if number == self.number => {
                    bail!("The worker could not serve ({status}); what it said is above");
                }
                Ok(Event::Stop(signal)) => {
                    self.end(events);
                    bail!("{signal} came while the worker started");
                }
                Ok(Event::Ready(_) | Event::Ended(..)) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.end(events);
                    bail!("The worker did not serve within {} s", START.as_secs());
                }
                Err(RecvTimeoutError::Disconnected) => bail!("Nobody tells of the worker"),
            }
        }
    }

    /// Lets it answer what is in flight and end.
    fn end(&self, events: &Receiver<Event>) {
        // It has not been waited for, or its end would have been told: the number is its own.
        let _ = kill(self.pid, Signal::SIGTERM);
        while let Ok(event) = events.recv() {
            if matches!(event, Event::Ended(number, _) if number == self.number) {
                return;
            }
        }
    }
}

/// The guest's disks with their counters, as the worker tells them.
fn disks(own: DomId, domid: DomId, socket: PathBuf) -> Result<Disks> {
    let store = Mutex::new(Client::connect_default()?);
    Ok(Arc::new(move || {
        let devices = ask(&socket).unwrap_or_else(|error| {
            tracing::debug!("No counters: {error:#}");
            Vec::new()
        });
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = devices.iter().filter(|device| device.stats.kind == "vbd");
        let disk = |device: &DeviceReport| {
            let devid = device.stats.devid;
            let node = format!("/local/domain/{own}/backend/qdisk/{domid}/{devid}/params");
            let params = store.read_text(&node).ok().flatten();
            block_device(&device.stats, &params.unwrap_or_default())
        };
        devices.map(disk).collect()
    }))
}

/// `libxenstat` finds the disk by what follows the first slash in `params`, slash included.
fn block_device(stats: &DeviceStats, params: &str) -> BlockDevice {
    let sum = |name| {
        let queues = stats.queues.iter();
        queues.filter_map(|queue| queue.counters.get(name)).sum()
    };
    let path = params.find('/').map_or(params, |slash| &params[slash..]);
    BlockDevice {
        name: match stats.name.as_str() {
            "" => stats.devid.to_string(),
            name => name.to_owned(),
        },
        file: path.to_owned(),
        read_operations: sum("read_requests"),
        read_bytes: sum("read_bytes"),
        write_operations: sum("write_requests"),
        write_bytes: sum("write_bytes"),
        flush_operations: sum("flush_requests"),
    }
}

#[cfg(test)]
mod tests {
    use pv_stats::QueueStats;

    use super::*;

    #[test]
    fn counters_of_all_queues_are_added() {
        let mut queue = QueueStats::default();
        queue.counters.insert("read_bytes".into(), 4096);
        let stats = DeviceStats {
            devid: 51712,
            name: "xvda".into(),
            queues: vec![queue.clone(), queue],
            ..Default::default()
        };
        let device = block_device(&stats, "aio:/disks/web.img");
        assert_eq!((device.read_bytes, device.write_bytes), (8192, 0));
        assert_eq!(
            (device.name.as_str(), device.file.as_str()),
            ("xvda", "/disks/web.img")
        );
    }
}
