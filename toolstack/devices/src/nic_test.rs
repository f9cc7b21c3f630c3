use std::collections::HashSet;

use super::*;
use crate::device::attach;
use crate::testing::{GUEST, Host};

fn nodes(host: &mut Host, guest: Guest, text: &str) -> Result<DeviceNodes, DeviceError> {
    let spec: VifSpec = text.parse().unwrap();
    nic_nodes(&mut host.client, guest, &spec, &Defaults::default())
}

#[test]
fn numbers_and_addresses_are_given_out() {
    let mut host = Host::new();
    let mut macs = HashSet::new();
    for (text, devid) in [("", 0), ("", 1), ("devid=7", 7), ("", 8)] {
        let nodes = nodes(&mut host, GUEST, text).unwrap();
        assert_eq!(nodes.device.devid, devid);
        attach(&mut host.client, &nodes).unwrap();
        let mac = host
            .read(&format!("{}/mac", nodes.device.front_path()))
            .unwrap();
        assert!(mac.starts_with("00:16:3e:"), "{mac}");
        assert!(macs.insert(mac), "the same address twice");
    }
    for _ in 0..64 {
        let MacAddress([0x00, 0x16, 0x3e, third, ..]) = random_mac() else {
            panic!("not in Xen's range");
        };
        assert!(third < 0x80);
    }
}

#[test]
fn only_hvm_guests_have_emulated_ones() {
    let mut host = Host::new();
    let hvm = Guest {
        kind: DomainType::Hvm,
        ..GUEST
    };
    let kind = |nodes: DeviceNodes| nodes.back.into_iter().find(|(name, _)| *name == "type");
    assert_eq!(
        kind(nodes(&mut host, hvm, "").unwrap()).unwrap().1,
        "vif_ioemu"
    );
    assert_eq!(
        kind(nodes(&mut host, hvm, "type=vif").unwrap()).unwrap().1,
        "vif"
    );
    let error = nodes(&mut host, GUEST, "type=ioemu").unwrap_err();
    assert!(error.to_string().contains("Only HVM guests"), "{error}");
}
