use super::*;
use crate::device::attach;
use crate::testing::{GUEST, Host};
use crate::{Defaults, disk_nodes, nic_nodes};

fn make(host: &mut Host) {
    let defaults = Defaults::default();
    for text in [
        "/x,raw,xvda,w,script=block-x",
        "vdev=hdd,cdrom,format=empty",
    ] {
        let spec = text.parse().unwrap();
        let nodes = disk_nodes(&mut host.client, GUEST, &spec, &defaults).unwrap();
        attach(&mut host.client, &nodes).unwrap();
    }
    for text in ["mac=00:16:3e:01:02:03", "mac=00:16:3e:17:ba:59,devid=5"] {
        let spec = text.parse().unwrap();
        let nodes = nic_nodes(&mut host.client, GUEST, &spec, &defaults).unwrap();
        attach(&mut host.client, &nodes).unwrap();
    }
}

#[test]
fn lines_are_those_of_xl() {
    // As `xl block-list` and `xl network-list` of Xen 4.17 printed them.
    let mut host = Host::new();
    make(&mut host);
    assert_eq!(
        block_heading(),
        "Vdev  BE  handle state evt-ch ring-ref BE-path                       "
    );
    assert_eq!(
        network_heading(),
        "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                       "
    );
    let disks = block_list(&mut host.client, GUEST.domid).unwrap();
    assert_eq!(
        disks[0].to_string(),
        "51712 0   2      1     -1     -1       /local/domain/0/backend/vbd/2/51712"
    );
    let nics = network_list(&mut host.client, GUEST.domid).unwrap();
    assert_eq!(
        nics[1].to_string(),
        "5   0  00:16:3e:17:ba:59     5     1     -1    -1/-1          /local/domain/0/backend/vif/2/5"
    );
}

#[test]
fn what_the_guest_publishes_is_shown() {
    let mut host = Host::new();
    make(&mut host);
    for (path, value) in [
        ("vbd/51712/queue-0/ring-ref0", "8"),
        ("vbd/51712/queue-0/event-channel", "21"),
        ("vbd/51712/state", "4"),
        ("vbd/5696/ring-ref", "nonsense"),
        ("vif/0/tx-ring-ref", "9"),
        ("vif/0/rx-ring-ref", "10"),
    ] {
        host.client
            .write(&format!("/local/domain/2/device/{path}"), value)
            .unwrap();
    }
    let disks = block_list(&mut host.client, GUEST.domid).unwrap();
    let json = serde_json::to_value(&disks[0]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "devid": 51712, "vdev": "xvda", "backend_domid": 0, "domid": 2, "state": 4,
            "event_channel": 21, "ring_ref": 8, "backend": "/local/domain/0/backend/vbd/2/51712",
            "params": "/x", "mode": "w", "device_type": "disk"
        })
    );
    assert_eq!(
        (disks[1].ring_ref, disks[1].device_type.as_str()),
        (-1, "cdrom")
    );
    let nics = network_list(&mut host.client, GUEST.domid).unwrap();
    assert_eq!((nics[0].tx_ring_ref, nics[0].rx_ring_ref), (9, 10));
    assert_eq!(nics[0].bridge.as_deref(), Some("xenbr0"));
    assert!(block_list(&mut host.client, DomId(3)).unwrap().is_empty());
}
