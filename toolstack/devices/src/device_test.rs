use std::thread;

use tempfile::NamedTempFile;
use xt_config::disk::DiskSpec;
use xt_config::vif::VifSpec;

use super::*;
use crate::testing::{GUEST, Host, LONG};
use crate::{Defaults, disk_nodes, nic_nodes};

/// What `xenstore-ls -fp` showed of a domain that `xl create` of Xen 4.17 made from the disks and
/// vifs below, sorted and without what the back ends and the scripts had added by then.
const REFERENCE: &str = include_str!("../tests/xl-4.17.txt");

const DISKS: [&str; 6] = [
    "/dev/loop0,raw,xvda,w",
    "/b.img,raw,xvdb,r,direct-io-safe",
    "/c.qcow2,qcow2,xvdc,w,no-discard",
    "/b.img,raw,hdc:cdrom,r",
    "format=raw,vdev=xvde,access=r,discard,target=/b.img",
    "vdev=hdd,cdrom,format=empty",
];

const VIFS: [&str; 3] = [
    "mac=00:16:3e:01:02:03,bridge=xenbr0,devid=0",
    "rate=10Mb/s,mtu=9000,ip=10.0.0.1,vifname=foo,devid=5,untrusted,mac=00:16:3e:17:ba:59",
    "gatewaydev=eth9,script=vif-bridge,model=e1000,mac=00:16:3e:33:60:0a,devid=2",
];

#[test]
fn nodes_values_and_permissions_are_xls() {
    let mut host = Host::new();
    let file = NamedTempFile::new().unwrap();
    let here = file.path().to_str().unwrap();
    let mut listing = Vec::new();
    for text in DISKS {
        let mut spec: DiskSpec = text.parse().unwrap();
        // The files of that machine are not on this one.
        let there = spec.target.replace(here.to_owned());
        spec.target = there.as_ref().map(|_| here.to_owned());
        let nodes = disk_nodes(&mut host.client, GUEST, &spec, &Defaults::default()).unwrap();
        attach(&mut host.client, &nodes).unwrap();
        listing.push((nodes, there.unwrap_or_default()));
    }
    for text in VIFS {
        let spec: VifSpec = text.parse().unwrap();
        let nodes = nic_nodes(&mut host.client, GUEST, &spec, &Defaults::default()).unwrap();
        attach(&mut host.client, &nodes).unwrap();
        listing.push((nodes, String::new()));
    }
    let mut ours = Vec::new();
    for (nodes, there) in &listing {
        let device = &nodes.device;
        for path in [device.front_path(), nodes.back_path(), device.libxl_path()] {
            let text = host.listing(&path).replace(here, there);
            ours.extend(text.lines().map(str::to_owned));
        }
    }
    ours.sort();
    let theirs: Vec<&str> = REFERENCE.lines().collect();
    let missing: Vec<_> = theirs
        .iter()
        .filter(|l| !ours.iter().any(|o| o == *l))
        .collect();
    let extra: Vec<_> = ours
        .iter()
        .filter(|l| !theirs.contains(&l.as_str()))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
    assert_eq!(ours.len(), theirs.len());
    // The directories above are the host's, as xl leaves them.
    for (path, perms) in [
        ("/local/domain/0/backend/vbd/2", "n0"),
        ("/local/domain/2/device/vbd", "n0,r2"),
        ("/libxl/2/device", "n0"),
    ] {
        let first = host.listing(path);
        assert!(
            first.starts_with(&format!("{path} = \"\"   ({perms})\n")),
            "{first}"
        );
    }
}

fn disk(host: &mut Host) -> DeviceNodes {
    let spec = "vdev=hdd,cdrom,format=empty".parse().unwrap();
    disk_nodes(&mut host.client, GUEST, &spec, &Defaults::default()).unwrap()
}

#[test]
fn a_device_is_made_once() {
    let mut host = Host::new();
    let nodes = disk(&mut host);
    attach(&mut host.client, &nodes).unwrap();
    host.client
        .write(&format!("{}/state", nodes.back_path()), "4")
        .unwrap();
    let again = attach(&mut host.client, &nodes).unwrap_err();
    assert_eq!(
        again.to_string(),
        "There is a device vbd/5696 of domain 2 already."
    );
    let state = host.read(&format!("{}/state", nodes.back_path()));
    assert_eq!(state.as_deref(), Some("4"), "nothing has changed");
}

#[test]
fn the_back_ends_answer_is_awaited() {
    let mut host = Host::new();
    let nodes = disk(&mut host);
    attach(&mut host.client, &nodes).unwrap();
    let brief = Duration::from_millis(20);
    let late = wait_ready(&mut host.client, &nodes.device, brief).unwrap_err();
    assert!(
        matches!(
            late,
            DeviceError::Timeout {
                who: "back end",
                ..
            }
        ),
        "{late}"
    );

    let (mut client, back) = (host.another_client(), nodes.back_path());
    let answer = {
        let back = back.clone();
        thread::spawn(move || client.write(&format!("{back}/state"), "2").unwrap())
    };
    wait_ready(&mut host.client, &nodes.device, LONG).unwrap();
    answer.join().unwrap();

    host.client
        .write(&format!("{back}/error"), "5 No such medium")
        .unwrap();
    host.client.write(&format!("{back}/state"), "6").unwrap();
    let failed = wait_ready(&mut host.client, &nodes.device, LONG).unwrap_err();
    assert!(
        failed.to_string().ends_with("failed: 5 No such medium"),
        "{failed}"
    );
    let none = wait_ready(&mut host.client, &DeviceRef::vif(GUEST.domid, 9), LONG).unwrap_err();
    assert!(matches!(none, DeviceError::Missing(_)), "{none}");
}
