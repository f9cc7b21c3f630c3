//! The manager against a real server, a scripted driver and a scripted front end.

mod chaos;
mod handshake;
mod hostile;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pv_ring::host::GrantError;
use pv_ring::{Access, EventChannel, GrantMap, HostPage, SharedPage};
use pv_stats::{DeviceStats, Source};
use pv_xenbus::XenbusState;
use xen_sys::errno::Errno;
use xen_sys::{EvtchnPort, GrantRef};
use xt_xenstore::server::Server;
use xt_xenstore::service::{self, Handle};
use xt_xenstore::unix::UnixServer;

use super::*;
use crate::control::DeviceEntry;
use crate::driver::{DeviceError, Reporter};
use crate::host::HostChannel;

/// Longer than anything here takes; reached only by a failure.
const LONG: Duration = Duration::from_secs(60);

/// A host whose guests have neither pages nor channels: scripted drivers ask for none.
#[derive(Clone)]
struct NoHost;

#[derive(Clone)]
struct NoGrants;

enum Never {}

impl Host for NoHost {
    type Grants = NoGrants;
    type Channel = Never;

    fn grants(&self, _: DomId) -> io::Result<NoGrants> {
        Ok(NoGrants)
    }

    fn bind(&self, _: DomId, _: EvtchnPort) -> io::Result<Never> {
        Err(Errno::ENOSYS.into_io())
    }
}

impl GrantMap for NoGrants {
    type Page = Never;

    fn map(&self, gref: GrantRef, _: Access) -> Result<Never, GrantError> {
        let source = Errno::ENOSYS;
        Err(GrantError::Host { gref, source })
    }
}

impl SharedPage for Never {
    fn len(&self) -> usize {
        match *self {}
    }
    fn load_u32(&self, _: usize) -> u32 {
        match *self {}
    }
    fn store_u32(&self, _: usize, _: u32) {
        match *self {}
    }
    fn read(&self, _: usize, _: &mut [u8]) {
        match *self {}
    }
    fn write(&self, _: usize, _: &[u8]) {
        match *self {}
    }
}

impl HostPage for Never {
    fn as_ptr(&self) -> NonNull<u8> {
        match *self {}
    }
}

impl EventChannel for Never {
    fn notify(&self) -> Result<(), Errno> {
        match *self {}
    }
}

impl AsFd for Never {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl HostChannel for Never {
    fn clear(&self) -> io::Result<bool> {
        match *self {}
    }
}

trait IntoIo {
    fn into_io(self) -> io::Error;
}

impl IntoIo for Errno {
    fn into_io(self) -> io::Error {
        io::Error::from_raw_os_error(self.0)
    }
}

/// What happened to the drivers of a device, and what they are to do.
#[derive(Default)]
struct Record {
    opened: usize,
    connects: usize,
    connected: bool,
    changed: Vec<Nodes>,
    front: Nodes,
    reporter: Option<Reporter>,
    refuse_open: bool,
    refuse_connect: bool,
    /// Calls in an order that may not be.
    wrong: Vec<&'static str>,
}

type Records = Arc<Mutex<BTreeMap<DeviceId, Record>>>;

struct Scripted {
    id: DeviceId,
    records: Records,
    open: bool,
}

impl Scripted {
    fn with<R>(&self, act: impl FnOnce(&mut Record) -> R) -> R {
        act(self
            .records
            .lock()
            .unwrap()
            .entry(self.id.clone())
            .or_default())
    }
}

impl Driver<NoHost> for Scripted {
    fn open(
        &mut self,
        _: &Nodes,
        reporter: Reporter,
    ) -> Result<Vec<(String, String)>, DeviceError> {
        assert!(!std::mem::replace(&mut self.open, true), "opened twice");
        self.with(|record| {
            record.opened += 1;
            record.reporter = Some(reporter);
            if record.refuse_open {
                return Err(DeviceError("No such medium".to_owned()));
            }
            Ok(vec![("feature-x".to_owned(), "1".to_owned())])
        })
    }

    fn connect(&mut self, _: &NoHost, front: &Nodes) -> Result<Vec<(String, String)>, DeviceError> {
        assert!(self.open, "not opened");
        self.with(|record| {
            if std::mem::replace(&mut record.connected, true) {
                record.wrong.push("connected twice");
            }
            record.connects += 1;
            record.front = front.clone();
            if record.refuse_connect {
                return Err(DeviceError("No such ring".to_owned()));
            }
            Ok(vec![("sectors".to_owned(), "8".to_owned())])
        })
    }

    fn disconnect(&mut self) {
        self.with(|record| record.connected = false);
    }

    fn changed(&mut self, back: &Nodes, _: &Nodes) -> Result<Vec<(String, String)>, DeviceError> {
        assert!(self.open, "not opened");
        self.with(|record| record.changed.push(back.clone()));
        let size = back.text("size").map(str::to_owned);
        Ok(size
            .map(|size| ("sectors".to_owned(), size))
            .into_iter()
            .collect())
    }

    fn stats(&self) -> Arc<dyn Source> {
        struct Zero(String);
        impl Source for Zero {
            fn stats(&self) -> DeviceStats {
                DeviceStats {
                    name: self.0.clone(),
                    ..DeviceStats::default()
                }
            }
        }
        Arc::new(Zero(self.id.to_string()))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.with(|record| {
            if record.connected {
                record.wrong.push("dropped while connected");
            }
        });
    }
}

/// A server, a manager on its thread, and a client for the rest of the world.
struct Rig {
    service: Handle,
    store: Client,
    control: Control,
    thread: Option<JoinHandle<Result<(), ManagerError>>>,
    records: Records,
    hotplug_scripts: bool,
}

impl Rig {
    fn new() -> Self {
        Self::with_scripts(false)
    }

    fn with_scripts(hotplug_scripts: bool) -> Self {
        let service = service::spawn(Server::default(), UnixServer::unbound()).unwrap();
        let store = local_client(&service);
        let records = Records::default();
        let (control, thread) = spawn(&service, &records, hotplug_scripts);
        Self {
            service,
            store,
            control,
            thread: Some(thread),
            records,
            hotplug_scripts,
        }
    }

    fn stop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    fn restart(&mut self) {
        self.stop();
        let (control, thread) = spawn(&self.service, &self.records, self.hotplug_scripts);
        (self.control, self.thread) = (control, Some(thread));
    }

    fn record<R>(&self, id: &DeviceId, look: impl FnOnce(&mut Record) -> R) -> R {
        let mut records: MutexGuard<'_, _> = self.records.lock().unwrap();
        look(records.entry(id.clone()).or_default())
    }

    /// Makes a device as a toolstack does.
    fn create(&mut self, id: &DeviceId) {
        let (back, front) = (back(id), front(id));
        self.store
            .transaction(|store| {
                store.write(&front, "")?;
                store.write(&format!("{front}/backend"), &back)?;
                store.write(&format!("{front}/state"), "1")?;
                store.write(&format!("{back}/frontend"), &front)?;
                store.write(&format!("{back}/online"), "1")?;
                store.write(&format!("{back}/params"), "aio:/disk")?;
                store.write(&format!("{back}/state"), "1")
            })
            .unwrap();
    }

    fn say(&mut self, id: &DeviceId, state: XenbusState) {
        let path = format!("{}/state", front(id));
        self.store.write(&path, state.as_str()).unwrap();
    }

    #[track_caller]
    fn expect(&self, id: &DeviceId, state: XenbusState) {
        let there = |entry: Option<&DeviceEntry>| entry.is_some_and(|entry| entry.state == state);
        let came = self.control.wait_for(id, LONG, there);
        assert!(came, "no {state}: {:?}", self.control);
    }

    #[track_caller]
    fn expect_gone(&self, id: &DeviceId) {
        let came = self.control.wait_for(id, LONG, |entry| entry.is_none());
        assert!(came, "not gone: {:?}", self.control);
    }

    /// The value of a node in the back end's directory.
    fn back(&mut self, id: &DeviceId, node: &str) -> Option<String> {
        self.store
            .read_text(&format!("{}/{node}", back(id)))
            .unwrap()
    }

    fn connect(&mut self, id: &DeviceId) {
        self.expect(id, XenbusState::InitWait);
        let path = format!("{}/ring-ref", front(id));
        self.store.write(&path, "8").unwrap();
        self.say(id, XenbusState::Initialised);
        self.expect(id, XenbusState::Connected);
        self.say(id, XenbusState::Connected);
    }

    /// As a toolstack asks for it.
    fn ask_detach(&mut self, id: &DeviceId) {
        let back = back(id);
        self.store
            .transaction(|store| {
                store.write(&format!("{back}/online"), "0")?;
                store.write(&format!("{back}/state"), "5")
            })
            .unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
        if !thread::panicking() {
            for (id, record) in self.records.lock().unwrap().iter() {
                assert!(record.wrong.is_empty(), "{id}: {:?}", record.wrong);
                assert!(!record.connected, "{id} is still connected");
            }
        }
    }
}

fn local_client(service: &Handle) -> Client {
    service
        .call(|service| service.local_client())
        .unwrap()
        .unwrap()
}

fn spawn(
    service: &Handle,
    records: &Records,
    hotplug_scripts: bool,
) -> (Control, JoinHandle<Result<(), ManagerError>>) {
    let spec = ManagerSpec {
        own: DomId(0),
        kinds: vec!["vbd".to_owned(), "qdisk".to_owned()],
        hotplug_scripts,
    };
    let records = Arc::clone(records);
    let factory = move |id: &DeviceId, back: &Nodes| -> Option<Box<dyn Driver<NoHost>>> {
        let driver = Scripted {
            id: id.clone(),
            records: Arc::clone(&records),
            open: false,
        };
        (back.text("type") != Some("elsewhere")).then(|| Box::new(driver) as _)
    };
    let (manager, control) = Manager::new(local_client(service), NoHost, spec, factory).unwrap();
    (control, thread::spawn(move || manager.run()))
}

fn id(domid: u16, devid: u32) -> DeviceId {
    DeviceId {
        kind: "vbd".to_owned(),
        domid: DomId(domid),
        devid,
    }
}

fn back(id: &DeviceId) -> String {
    store::back_path(DomId(0), id)
}

fn front(id: &DeviceId) -> String {
    format!(
        "/local/domain/{}/device/{}/{}",
        id.domid.0, id.kind, id.devid
    )
}
