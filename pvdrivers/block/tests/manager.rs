//! The whole way: a toolstack writes to a xenstore, the manager of back ends takes the device
//! through the handshake, a front end finds its disk.

mod common;

use std::thread;
use std::time::Duration;

use common::*;
use pv_backend::loopback::LoopbackHost;
use pv_backend::{DeviceId, Driver, Manager, ManagerSpec, Nodes};
use pv_block::back::{Settings, VbdDriver};
use pv_block::front::{
    BackFeatures, Command, DiskInfo, FrontQueue, LentPage, Offer, QueueNodes, Segments, publish,
};
use pv_block::loopback::RamDisk;
use pv_block::wire::Abi;
use pv_ring::{Access, PageRun, SharedPage};
use pv_xenbus::XenbusState;
use xen_sys::DomId;
use xt_xenstore::client::Client;
use xt_xenstore::server::Server;
use xt_xenstore::service;
use xt_xenstore::unix::UnixServer;

const BACK: &str = "/local/domain/0/backend/vbd/1/51712";
const FRONT: &str = "/local/domain/1/device/vbd/51712";

/// Longer than anything here takes; reached only by a failure.
const LONG: Duration = Duration::from_secs(60);

fn toolstack_makes_the_device(store: &mut Client) {
    store
        .transaction(|store| {
            store.write(FRONT, "")?;
            store.write(&format!("{FRONT}/backend"), BACK)?;
            store.write(&format!("{FRONT}/state"), "1")?;
            store.write(&format!("{BACK}/frontend"), FRONT)?;
            store.write(&format!("{BACK}/online"), "1")?;
            store.write(&format!("{BACK}/mode"), "w")?;
            store.write(&format!("{BACK}/params"), "ram")?;
            store.write(&format!("{BACK}/dev"), "xvda")?;
            store.write(&format!("{BACK}/state"), "1")
        })
        .unwrap();
}

/// What the front end reads of the back end.
fn number(store: &mut Client, name: &str) -> Option<u64> {
    let text = store.read_text(&format!("{BACK}/{name}")).unwrap()?;
    text.parse().ok()
}

#[test]
fn a_front_end_finds_its_disk_in_xenstore() {
    let service = service::spawn(Server::default(), UnixServer::unbound()).unwrap();
    let client = || {
        service
            .call(|service| service.local_client())
            .unwrap()
            .unwrap()
    };
    let mut store = client();
    let (host, disk) = (host(), RamDisk::new(INFO));
    let medium = disk.clone();
    let factory = move |id: &DeviceId, _: &Nodes| -> Option<Box<dyn Driver<LoopbackHost>>> {
        let medium = medium.clone();
        let open = Box::new(move |_: &Nodes| Ok(Some(medium.clone())));
        Some(Box::new(VbdDriver::new(
            id.clone(),
            Settings::default(),
            open,
        )))
    };
    let spec = ManagerSpec {
        own: DomId(0),
        kinds: vec!["vbd".to_owned()],
        hotplug_scripts: false,
    };
    let (manager, control) = Manager::new(client(), host.clone(), spec, factory).unwrap();
    let running = thread::spawn(move || manager.run());
    let id = DeviceId {
        kind: "vbd".to_owned(),
        domid: LoopbackHost::GUEST,
        devid: 51712,
    };
    let expect = |state: XenbusState| {
        let came = control.wait_for(&id, LONG, |device| device.is_some_and(|d| d.state == state));
        assert!(came, "no {state}: {control:?}");
    };

    toolstack_makes_the_device(&mut store);
    expect(XenbusState::InitWait);
    let features = BackFeatures::read(|name| number(&mut store, name));
    assert_eq!((features.max_queues, features.max_ring_page_order), (4, 4));
    let ring = host.alloc();
    let lent = LentPage::new(host.clone(), ring.clone(), Access::ReadWrite).unwrap();
    let (port, channel) = host.alloc_port().unwrap();
    let pages = PageRun::new(vec![ring]).unwrap();
    let mut queue = FrontQueue::<_, _, 32>::new(pages, channel, Abi::default()).unwrap();
    let offer = Offer {
        abi: Abi::default(),
        persistent: features.persistent,
        queues: &[QueueNodes {
            ring: &[lent.gref()],
            port,
        }],
    };
    publish(&offer, |name, value| {
        store.write(&format!("{FRONT}/{name}"), value)
    })
    .unwrap();
    let state = format!("{FRONT}/state");
    store
        .write(&state, XenbusState::Initialised.as_str())
        .unwrap();
    expect(XenbusState::Connected);
    let info = DiskInfo::read(|name| number(&mut store, name));
    assert_eq!((info.sectors, info.max_indirect_segments), (SECTORS, 256));
    store
        .write(&state, XenbusState::Connected.as_str())
        .unwrap();

    let page = LentPage::new(host.clone(), host.alloc(), Access::ReadWrite).unwrap();
    page.page().write(0, &[5; 4096]);
    let segments = [segment(&page, 0, 7)];
    let write = Command::Write(8, Segments::Direct(&segments));
    queue.submit(&write, 1).unwrap();
    queue.publish().unwrap();
    assert_eq!(queue.wait().unwrap().result, Ok(()));
    assert_eq!(disk.data()[4096..8192], [5; 4096]);

    // The disk grows; the toolstack says so by any change in the back end's directory.
    disk.resize(SECTORS * 2);
    store.write(&format!("{BACK}/grown"), "1").unwrap();
    while number(&mut store, "sectors") != Some(SECTORS * 2) {
        thread::yield_now();
    }

    store.write(&state, XenbusState::Closing.as_str()).unwrap();
    expect(XenbusState::Closing);
    store.write(&state, XenbusState::Closed.as_str()).unwrap();
    expect(XenbusState::Closed);
    assert_eq!(host.mappings(), 0, "all is unmapped before it says so");
    control.stop();
    running.join().unwrap().unwrap();
}
