//! Tap interfaces on bridges.

use std::os::fd::AsRawFd;

use pv_netdev::{Attachment, FrameInfo, Link, NetdevError, NicSpec, Offloads, Request, open};

use crate::common::{
    checksum_is_right, exists, in_namespace, ip, large_segment, plain, recv_for, send, try_send,
};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

struct Card {
    links: Vec<Box<dyn Link>>,
    _attachment: Attachment,
}

fn card(text: &str, devid: u32) -> Card {
    let spec: NicSpec = text.parse().unwrap();
    let opened = open(&spec, &Request::vif(7, devid)).unwrap();
    assert_eq!(opened.description.interface, Some(format!("vif7.{devid}")));
    let (links, attachment) = opened.into_links();
    Card {
        links,
        _attachment: attachment,
    }
}

#[test]
fn large_segments_survive_a_bridge_that_lives_as_long_as_its_ports() {
    in_namespace(|| {
        let mut a = card("bridge=xb0,create", 0);
        let mut b = card("bridge=xb0,create", 1);
        let bridge = std::process::Command::new("ip")
            .args(["-br", "link", "show", "xb0"])
            .output();
        let bridge = String::from_utf8(bridge.unwrap().stdout).unwrap();
        assert!(
            !bridge.contains("fe:ff:ff:ff:ff:ff"),
            "the ports' address: {bridge}"
        );
        b.links[0].accept(Offloads::ALL).unwrap();
        let (info, frame) = large_segment(B, A, 28_960);
        send(&mut *a.links[0], &info, &frame);
        let (received, bytes) = recv_for(&mut *b.links[0], B);
        assert_eq!(bytes, frame);
        assert_eq!(
            received.gso.map(|gso| (gso.v6, gso.size)),
            Some((false, 1448))
        );
        assert_eq!((received.csum_start, received.csum_offset), (Some(34), 16));

        // What takes no offloads gets segments with checksums.
        b.links[0].accept(Offloads::NONE).unwrap();
        send(&mut *a.links[0], &info, &frame);
        let mut payload = Vec::new();
        for _ in 0..20 {
            let (received, bytes) = recv_for(&mut *b.links[0], B);
            assert_eq!((received.gso, received.csum_start), (None, None));
            assert_eq!(bytes.len(), 54 + 1448);
            assert!(checksum_is_right(&bytes));
            payload.extend_from_slice(&bytes[54..]);
        }
        assert!(payload == frame[54..]);

        drop(a);
        assert!(exists("xb0") && !exists("vif7.0"));
        drop(b);
        assert!(!exists("xb0") && !exists("vif7.1"));
    });
}

#[test]
fn a_bridge_of_others_stays_and_gives_its_mtu() {
    in_namespace(|| {
        ip("link add xb1 mtu 9000 type bridge");
        ip("link set xb1 up");
        let spec: NicSpec = "bridge=xb1".parse().unwrap();
        let opened = open(&spec, &Request::vif(7, 0)).unwrap();
        assert_eq!(opened.description.mtu, 9000);
        drop(opened);
        assert!(exists("xb1") && !exists("vif7.0"));
        let spec: NicSpec = "bridge=xb2".parse().unwrap();
        let error = open(&spec, &Request::vif(7, 0)).unwrap_err();
        assert!(matches!(error, NetdevError::Missing { .. }), "{error}");
        let spec: NicSpec = "bridge=lo".parse().unwrap();
        let error = open(&spec, &Request::vif(7, 0)).unwrap_err();
        assert_eq!(error.to_string(), "lo is no bridge");
        assert!(!exists("vif7.0"), "nothing was made");
    });
}

#[test]
fn queues_of_one_interface() {
    in_namespace(|| {
        let mut a = card("bridge=xb0,create", 0);
        let spec: NicSpec = "bridge=xb0,create,mtu=4000".parse().unwrap();
        let b = open(&spec, &Request::vif(7, 1).queues(4)).unwrap();
        assert_eq!((b.descriptors.len(), b.description.mtu), (4, 4000));
        let (mut queues, _attachment) = b.into_links();
        for (i, queue) in queues.iter_mut().enumerate() {
            let frame = plain(A, B, 60 + i);
            send(&mut **queue, &FrameInfo::default(), &frame);
            assert_eq!(recv_for(&mut *a.links[0], A).1, frame);
        }
    });
}

#[test]
fn frames_come_by_the_queues_in_use_only() {
    in_namespace(|| {
        let mut a = card("bridge=xb0,create", 0);
        let spec: NicSpec = "bridge=xb0,create".parse().unwrap();
        let b = open(&spec, &Request::vif(7, 1).queues(4)).unwrap();
        let (mut queues, _attachment) = b.into_links();
        for used in 0..queues.len() {
            // Twice the same is no error.
            for _ in 0..2 {
                queues[used].set_used(true).unwrap();
            }
            for (i, queue) in queues.iter_mut().enumerate() {
                queue.set_used(i == used).unwrap();
            }
            // Of several flows, as the addresses tell them apart.
            for flow in 0..8 {
                let frame = plain(B, [2, 0, 0, 0, 1, flow], 100);
                send(&mut *a.links[0], &FrameInfo::default(), &frame);
                assert_eq!(recv_for(&mut *queues[used], B).1, frame);
            }
        }
    });
}

#[test]
fn persistent_interfaces_have_the_queues_they_were_made_with() {
    in_namespace(|| {
        ip("tuntap add dev one mode tap");
        ip("tuntap add dev many mode tap multi_queue");
        let queues = |name: &str, queues| {
            let spec: NicSpec = format!("tap={name}").parse().unwrap();
            let opened = open(&spec, &Request::vif(7, 0).queues(queues)).unwrap();
            opened.descriptors.len()
        };
        assert_eq!([queues("one", 1), queues("one", 3)], [1, 1]);
        assert_eq!([queues("many", 1), queues("many", 3)], [1, 3]);
        assert!(exists("one") && exists("many"));
    });
}

#[test]
fn a_device_handed_over_is_set_up() {
    in_namespace(|| {
        let mut a = card("bridge=xb0,create", 0);
        let spec: NicSpec = "bridge=xb0,create".parse().unwrap();
        let b = open(&spec, &Request::vif(7, 1)).unwrap();
        let spec: NicSpec = format!("fd={}", b.descriptors[0].as_raw_fd())
            .parse()
            .unwrap();
        let copy = open(&spec, &Request::vif(7, 2)).unwrap();
        assert_eq!(copy.description.interface.as_deref(), Some("vif7.1"));
        let (mut copy, _none) = copy.into_links();
        let frame = plain(A, B, 1000);
        send(&mut *copy[0], &FrameInfo::default(), &frame);
        assert_eq!(recv_for(&mut *a.links[0], A).1, frame);
        ip("link delete vif7.1");
        let error = try_send(&mut *copy[0], &FrameInfo::default(), &frame).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    });
}

/// Takes CAP_NET_ADMIN from this thread.
fn without_net_admin() {
    #[repr(C)]
    struct Header(u32, i32);
    let header = Header(0x2008_0522, 0); // _LINUX_CAPABILITY_VERSION_3, this thread
    let mut sets = [[0_u32; 3]; 2]; // effective, permitted, inheritable; low and high half
    // SAFETY: both are what capget(2) writes in this version.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) };
    sets[0][0] &= !(1 << 12);
    // SAFETY: both are what capset(2) reads.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    assert_eq!((got, set), (0, 0));
}

#[test]
fn without_the_right_the_message_says_what_to_do() {
    in_namespace(|| {
        ip("tuntap add dev mine mode tap user 0");
        ip("link set mine up");
        without_net_admin();
        let spec: NicSpec = "tap=other".parse().unwrap();
        let error = open(&spec, &Request::vif(7, 0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Making the tap interface other needs root (CAP_NET_ADMIN), or a persistent tap owned by \
             you, which root makes by: ip tuntap add dev other mode tap user root"
        );
        let spec: NicSpec = "tap=mine".parse().unwrap();
        let opened = open(&spec, &Request::vif(7, 0)).unwrap();
        assert_eq!(opened.description.interface.as_deref(), Some("mine"));
    });
}

#[test]
fn a_script_sets_the_interface_up_and_down() {
    in_namespace(|| {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (script, log) = (folder.path().join("vif-test"), folder.path().join("log"));
        let text = format!(
            "#!/bin/sh\necho \"$* $INTERFACE $bridge $mtu $mac\" >> {}\n[ \"$bridge\" != bad ] || {{ echo no such luck >&2; exit 3; }}\n",
            log.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let spec = |bridge: &str| -> NicSpec {
            let script = script.display();
            let text = format!("tap,bridge={bridge},script={script},mac=00:16:3e:00:00:01");
            text.parse().unwrap()
        };
        drop(open(&spec("b0"), &Request::vif(7, 0)).unwrap());
        let error = open(&spec("bad"), &Request::vif(7, 0))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("failed (exit status: 3): no such luck"),
            "{error}"
        );
        let said = std::fs::read_to_string(&log).unwrap();
        let with = |action, bridge| {
            format!("{action} type_if=tap vif7.0 {bridge} 1500 00:16:3e:00:00:01\n")
        };
        assert_eq!(
            said,
            with("add", "b0") + &with("remove", "b0") + &with("add", "bad")
        );
    });
}
