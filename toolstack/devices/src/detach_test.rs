use std::thread::{self, JoinHandle};

use super::*;
use crate::device::{DeviceNodes, attach};
use crate::testing::{GUEST, Host, LONG};
use crate::{Defaults, nic_nodes};

const BRIEF: Duration = Duration::from_millis(30);

fn vif(host: &mut Host) -> DeviceNodes {
    let spec = "".parse().unwrap();
    let nodes = nic_nodes(&mut host.client, GUEST, &spec, &Defaults::default()).unwrap();
    attach(&mut host.client, &nodes).unwrap();
    host.client
        .write(&format!("{}/state", nodes.back_path()), "4")
        .unwrap();
    nodes
}

/// A back end that closes as soon as `ready` says so of it and the front end.
fn back_end(
    host: &Host,
    nodes: &DeviceNodes,
    ready: fn(online: &str, front: Option<&str>) -> bool,
) -> JoinHandle<()> {
    let mut client = host.another_client();
    let (back, front) = (nodes.back_path(), nodes.device.front_path());
    client.watch(&back, "back").unwrap();
    thread::spawn(move || {
        while client.next_event(Some(LONG)).unwrap().is_some() {
            let read = |client: &mut Client, path: String| client.read_text(&path).unwrap();
            let state = read(&mut client, format!("{back}/state"));
            let online = read(&mut client, format!("{back}/online")).unwrap_or_default();
            let front = read(&mut client, format!("{front}/state"));
            if state.as_deref() == Some("5") && ready(&online, front.as_deref()) {
                client.write(&format!("{back}/state"), "6").unwrap();
                return;
            }
        }
        panic!("nobody asks the back end to close");
    })
}

fn nothing_left(host: &mut Host, nodes: &DeviceNodes) {
    let (front, libxl) = (nodes.device.front_path(), nodes.device.libxl_path());
    for path in [front, libxl, nodes.back_path()] {
        assert_eq!(host.read(&path), None, "{path}");
    }
    // As libxl, it removes what is empty then.
    assert_eq!(host.read("/local/domain/0/backend"), None);
    assert_eq!(host.read("/libxl/2"), None);
    assert!(host.read("/local/domain/2/name").is_some());
}

#[test]
fn a_back_end_is_told_and_awaited() {
    let mut host = Host::new();
    let nodes = vif(&mut host);
    let back = back_end(&host, &nodes, |online, front| {
        online == "0" && front.is_some()
    });
    detach(&mut host.client, &nodes.device, Mode::Safe, LONG).unwrap();
    back.join().unwrap();
    nothing_left(&mut host, &nodes);
    let again = detach(&mut host.client, &nodes.device, Mode::Safe, LONG).unwrap_err();
    assert!(matches!(again, DeviceError::Missing(_)), "{again}");
}

#[test]
fn a_guest_that_does_not_let_go_keeps_the_device_unless_forced() {
    let mut host = Host::new();
    let nodes = vif(&mut host);
    let error = detach(&mut host.client, &nodes.device, Mode::Safe, BRIEF).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::Timeout {
                who: "front end",
                ..
            }
        ),
        "{error}"
    );
    assert!(host.read(&nodes.device.front_path()).is_some());
    for mode in [Mode::Auto, Mode::Force] {
        let back = back_end(&host, &nodes, |_, front| front.is_none());
        detach(
            &mut host.client,
            &nodes.device,
            mode,
            Duration::from_secs(1),
        )
        .unwrap();
        back.join().unwrap();
        nothing_left(&mut host, &nodes);
        vif(&mut host);
    }
}

#[test]
fn a_back_end_that_is_dead_does_not_keep_the_nodes() {
    let mut host = Host::new();
    let nodes = vif(&mut host);
    let error = detach(&mut host.client, &nodes.device, Mode::Force, BRIEF).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::Timeout {
                who: "back end",
                ..
            }
        ),
        "{error}"
    );
    nothing_left(&mut host, &nodes);
}

#[test]
fn one_that_is_closed_already_is_just_removed() {
    let mut host = Host::new();
    let nodes = vif(&mut host);
    host.client
        .write(&format!("{}/state", nodes.back_path()), "6")
        .unwrap();
    detach(&mut host.client, &nodes.device, Mode::Safe, BRIEF).unwrap();
    nothing_left(&mut host, &nodes);
}

#[test]
fn a_dead_domains_devices_are_forgotten() {
    let mut host = Host::new();
    let first = vif(&mut host);
    vif(&mut host);
    forget_all(&mut host.client, GUEST.domid).unwrap();
    nothing_left(&mut host, &first);
    forget_all(&mut host.client, GUEST.domid).unwrap();
}
