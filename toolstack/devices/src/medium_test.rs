use std::time::Duration;

use super::*;
use crate::device::attach;
use crate::testing::{GUEST, Host, LONG};
use crate::{Defaults, disk_nodes};

fn make(host: &mut Host, text: &str) -> DeviceRef {
    let spec = text.parse().unwrap();
    let nodes = disk_nodes(&mut host.client, GUEST, &spec, &Defaults::default()).unwrap();
    attach(&mut host.client, &nodes).unwrap();
    nodes.device
}

#[test]
fn media_come_and_go() {
    let mut host = Host::new();
    let drive = make(&mut host, "vdev=hdd,cdrom,format=empty");
    let paths = [
        "/local/domain/0/backend/qdisk/2/5696/params",
        "/libxl/2/device/vbd/5696/params",
    ];
    cd_insert(&mut host.client, &drive, DiskFormat::Raw, "/a.iso").unwrap();
    for path in paths {
        assert_eq!(host.read(path).as_deref(), Some("aio:/a.iso"));
    }
    cd_eject(&mut host.client, &drive).unwrap();
    for path in paths {
        assert_eq!(host.read(path).as_deref(), Some(""));
    }
    let disk = make(&mut host, "/x,raw,xvda,w,script=block-x");
    let error = cd_eject(&mut host.client, &disk).unwrap_err();
    assert!(error.to_string().contains("is no CD-ROM drive"), "{error}");
    let phy = make(&mut host, "/x,raw,hdc,cdrom,script=block-x");
    assert!(cd_insert(&mut host.client, &phy, DiskFormat::Qcow2, "/a").is_err());
    cd_insert(&mut host.client, &phy, DiskFormat::Raw, "/b.iso").unwrap();
    let path = "/local/domain/0/backend/vbd/2/5632/params";
    assert_eq!(host.read(path).as_deref(), Some("/b.iso"));
}

#[test]
fn resizing_makes_the_back_end_look() {
    let mut host = Host::new();
    let disk = make(&mut host, "/x,raw,xvda,w,script=block-x");
    let mut watcher = host.another_client();
    let back = "/local/domain/0/backend/vbd/2/51712";
    watcher.watch(back, "w").unwrap();
    watcher.next_event(Some(LONG)).unwrap().unwrap();
    resize(&mut host.client, &disk).unwrap();
    let event = watcher.next_event(Some(LONG)).unwrap().unwrap();
    assert_eq!(event.path, format!("{back}/params"));
    assert_eq!(watcher.next_event(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(host.read(&event.path).as_deref(), Some("/x"));
    assert!(resize(&mut host.client, &DeviceRef::vbd(GUEST.domid, 1)).is_err());
}
