//! macvtap interfaces.

use pv_netdev::{FrameInfo, NicSpec, Offloads, Request, open};

use crate::common::{exists, in_namespace, ip, large_segment, plain, recv_for, send};

const A: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 0xa];
const B: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 0xb];

#[test]
fn two_on_one_parent() {
    in_namespace(|| {
        ip("link add parent type veth peer name other");
        ip("link set parent up");
        ip("link set other up");
        let spec: NicSpec = "macvtap=parent,mac=00:16:3e:00:00:0a".parse().unwrap();
        let a = open(&spec, &Request::vif(9, 0).queues(2)).unwrap();
        assert_eq!(a.descriptors.len(), 2);
        let spec: NicSpec = "macvtap=parent,mac=00:16:3e:00:00:0b,name=mb"
            .parse()
            .unwrap();
        let b = open(&spec, &Request::vif(9, 1)).unwrap();
        assert_eq!(b.description.interface.as_deref(), Some("mb"));
        let (mut a, kept_a) = a.into_links();
        let (mut b, kept_b) = b.into_links();

        let frame = plain(B, A, 333);
        send(&mut *a[1], &FrameInfo::default(), &frame);
        assert_eq!(recv_for(&mut *b[0], B).1, frame);
        b[0].accept(Offloads::ALL).unwrap();
        let (info, frame) = large_segment(B, A, 28_960);
        send(&mut *a[0], &info, &frame);
        let (received, bytes) = recv_for(&mut *b[0], B);
        assert_eq!(
            (bytes == frame, received.gso.map(|gso| gso.size)),
            (true, Some(1448))
        );

        drop((a, b, kept_a));
        assert!(!exists("vif9.0") && exists("mb"));
        drop(kept_b);
        assert!(!exists("mb"));

        let spec: NicSpec = "macvtap=nowhere".parse().unwrap();
        let error = open(&spec, &Request::vif(9, 0)).unwrap_err();
        assert_eq!(error.to_string(), "There is no interface nowhere");
    });
}
