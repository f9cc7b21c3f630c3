//! Serving devices, until told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use pv_backend::{Control, DeviceId, Driver, Manager, ManagerSpec, Nodes};
use xen_sys::DomId;
use xt_host_xen::XenHost;
use xt_xenstore::client::Client;

use crate::card::Card;
use crate::claim::claim;
use crate::cli::{Kind, ServeArgs};
use crate::stats::{DeviceReport, StatsSocket};
use crate::watch::{Scope, watch};
use crate::{disk, ready};

/// Serves; `run_dir` is where locks and sockets are.
///
/// # Errors
/// This cannot be done here, or xenstore has gone.
pub fn serve(args: &ServeArgs, run_dir: &Path) -> Result<ExitCode> {
    let signals = block_signals()?;
    let host = XenHost::open()?;
    let mut store = Client::connect_default()?;
    let own = own_domid(&mut store)?;
    let domid = args.domid.map(DomId);
    for kind in &args.kinds {
        refuse_kernel(*kind, Path::new("/sys"))?;
    }
    // Held until the end.
    let _claims = args
        .kinds
        .iter()
        .map(|kind| claim(run_dir, kind.name(), domid))
        .collect::<Result<Vec<_>>>()?;

    // Only a toolstack in the same domain runs scripts for its devices.
    let scripts = own == DomId(0);
    let kinds: Vec<String> = args
        .kinds
        .iter()
        .map(|kind| kind.name().to_owned())
        .collect();
    let names = kinds.join(", ");
    let spec = ManagerSpec {
        own,
        kinds: kinds.clone(),
        hotplug_scripts: scripts,
    };
    let journals = run_dir.to_owned();
    let factory = move |id: &DeviceId, _: &Nodes| make_driver(id, domid, scripts, &journals);
    let (manager, control) = Manager::new(store, host, spec, factory)?;
    let socket = args.stats_socket.clone();
    let socket = socket.unwrap_or_else(|| default_socket(run_dir, domid));
    let told = control.clone();
    let _stats = StatsSocket::listen(&socket, move || reports(&told))?;
    stop_on_signal(signals, control.clone());
    let scope = Scope {
        own,
        kinds,
        domid,
        once: args.once,
    };
    watch(scope, control)?;
    let whose = domid.map_or("all domains".to_owned(), |domid| format!("domain {domid}"));
    tracing::info!("Serving {names} of {whose}");
    ready::tell("READY=1").context("Cannot tell that this serves now")?;
    manager.run()?;
    tracing::info!("Stopped");
    Ok(ExitCode::SUCCESS)
}

/// Where the counters are told unless the user says.
pub fn default_socket(run_dir: &Path, domid: Option<DomId>) -> PathBuf {
    let name = domid.map_or("all".to_owned(), |domid| format!("domain-{domid}"));
    run_dir.join(format!("{name}.sock"))
}

/// This domain's number, which the toolstack tells each domain in xenstore.
pub fn own_domid(store: &mut Client) -> Result<DomId> {
    let text = store.read_text("domid")?;
    let text =
        text.context("Xenstore does not tell this domain's number: there is no node domid")?;
    let domid = text.trim().parse();
    Ok(DomId(
        domid.with_context(|| format!("Node domid is {text:?}"))?,
    ))
}

/// A kind that a driver of the kernel serves cannot be served here.
fn refuse_kernel(kind: Kind, sys: &Path) -> Result<()> {
    if let Some((driver, module)) = kind.kernel_driver()
        && sys.join("bus/xen-backend/drivers").join(driver).exists()
    {
        bail!(
            "The kernel serves {} devices here already: rmmod {module}, and keep it from being loaded",
            kind.name()
        );
    }
    Ok(())
}

fn make_driver(
    id: &DeviceId,
    domid: Option<DomId>,
    scripts: bool,
    run_dir: &Path,
) -> Option<Box<dyn Driver<XenHost>>> {
    if domid.is_some_and(|domid| domid != id.domid) {
        return None;
    }
    match id.kind.as_str() {
        "qdisk" => Some(Box::new(disk::driver(id, run_dir))),
        "vif" => Some(Box::new(Card::new(id.clone(), scripts))),
        _ => None,
    }
}

fn reports(control: &Control) -> Vec<DeviceReport> {
    let devices = control.devices().into_iter();
    let report = |device: pv_backend::DeviceEntry| {
        let mut stats = device
            .stats
            .map(|source| source.stats())
            .unwrap_or_default();
        if stats.kind.is_empty() {
            // Not open: what is known without its driver.
            stats.kind = if device.id.kind == "vif" {
                "vif"
            } else {
                "vbd"
            }
            .into();
            stats.devid = device.id.devid;
        }
        stats.state = format!("{:?}", device.state).to_lowercase();
        DeviceReport {
            domid: device.id.domid.0,
            backend: "xt-backend".into(),
            error: device.error,
            stats,
        }
    };
    devices.map(report).collect()
}

/// The signals that end the service. Before any thread, so that none is interrupted by them.
pub fn block_signals() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("Cannot block signals")?;
    Ok(signals)
}

fn stop_on_signal(signals: SigSet, control: Control) {
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            tracing::info!(
                "{signal}: answering what is in flight, then leaving the rings as they are"
            );
            control.stop();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_back_end_is_in_the_way() {
        let sys = tempfile::tempdir().unwrap();
        refuse_kernel(Kind::Vif, sys.path()).unwrap();
        std::fs::create_dir_all(sys.path().join("bus/xen-backend/drivers/vif")).unwrap();
        let error = refuse_kernel(Kind::Vif, sys.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("rmmod xen-netback"), "{error}");
        refuse_kernel(Kind::Qdisk, sys.path()).unwrap();
    }
}
