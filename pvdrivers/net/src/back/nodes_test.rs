use super::*;

fn nodes(pairs: &[(&str, &str)]) -> Nodes {
    let pairs = pairs.iter();
    Nodes(
        pairs
            .map(|(k, v)| (k.to_string(), v.as_bytes().to_vec()))
            .collect(),
    )
}

const PLAIN: [(&str, &str); 4] = [
    ("request-rx-copy", "1"),
    ("tx-ring-ref", "8"),
    ("rx-ring-ref", "9"),
    ("event-channel", "5"),
];

fn read(more: &[(&str, &str)]) -> Result<FrontNodes, DeviceError> {
    FrontNodes::read(&nodes(&[&PLAIN, more].concat()), 4)
}

#[test]
fn missing_nodes_are_the_oldest_front_end() {
    let front = read(&[]).unwrap();
    assert_eq!(
        front,
        FrontNodes {
            queues: vec![QueueNodes {
                tx_ring: GrantRef(8),
                rx_ring: GrantRef(9),
                tx_port: EvtchnPort(5),
                rx_port: None,
            }],
            rx_notify: false,
            sg: false,
            accepts: Offloads {
                csum: true,
                tso4: false,
                tso6: false
            },
            csum_v6: false,
            multicast_control: false,
        }
    );
}

#[test]
fn a_modern_front_end() {
    let front = read(&[
        ("multi-queue-num-queues", "2"),
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-ipv6-csum-offload", "1"),
        ("feature-rx-notify", "1"),
        ("request-multicast-control", "1"),
        ("queue-0/tx-ring-ref", "10"),
        ("queue-0/rx-ring-ref", "11"),
        ("queue-0/event-channel-tx", "1"),
        ("queue-0/event-channel-rx", "2"),
        ("queue-1/tx-ring-ref", "12"),
        ("queue-1/rx-ring-ref", "13"),
        ("queue-1/event-channel", "3"),
    ])
    .unwrap();
    assert!(front.sg && front.rx_notify && front.csum_v6 && front.multicast_control);
    assert!(front.accepts.csum && front.accepts.tso4 && front.accepts.tso6);
    let ports = front.queues.iter().map(|q| (q.tx_port, q.rx_port));
    let expected = [(EvtchnPort(1), Some(EvtchnPort(2))), (EvtchnPort(3), None)];
    assert!(ports.eq(expected));
}

#[test]
fn large_segments_need_pieces_and_blank_checksums() {
    let v4 = [("feature-sg", "1"), ("feature-gso-tcpv4", "1")];
    assert!(read(&v4).unwrap().accepts.tso4);
    assert!(!read(&v4[1..]).unwrap().accepts.tso4);
    let summed = [&v4[..], &[("feature-no-csum-offload", "1")]].concat();
    assert_eq!(read(&summed).unwrap().accepts, Offloads::default());
    let v6 = [("feature-sg", "1"), ("feature-gso-tcpv6", "1")];
    assert!(!read(&v6).unwrap().accepts.tso6);
}

#[test]
fn nonsense_is_refused() {
    for count in ["0", "5", "4294967297", "99999999999999999999999"] {
        let result = read(&[("multi-queue-num-queues", count)]);
        // What is no number at all is as if it were missing.
        assert_eq!(result.is_err(), count.len() < 20, "{count}");
    }
    let directory = read(&[("multi-queue-num-queues", "2")]).unwrap_err();
    assert!(directory.0.contains("queue-0/"), "{directory}");
    for (missing, (key, _)) in PLAIN.iter().enumerate() {
        let mut some = PLAIN.to_vec();
        some.remove(missing);
        assert!(FrontNodes::read(&nodes(&some), 4).is_err(), "{missing}");
        for value in ["", "x", "-1", "4294967296"] {
            some.push((key, value));
            assert!(
                FrontNodes::read(&nodes(&some), 4).is_err()
                    || missing == 0 && value == "4294967296"
            );
            some.pop();
        }
    }
}

#[test]
fn numbers_are_read_as_the_kernel_does() {
    for (text, number) in [
        ("7", Some(7)),
        (" 7\n", Some(7)),
        ("7x", Some(7)),
        ("x7", None),
        ("", None),
        ("-7", None),
    ] {
        assert_eq!(unsigned(&nodes(&[("k", text)]), "k"), number, "{text:?}");
    }
}

#[test]
fn the_toolstacks_nodes() {
    let back = BackNodes::read(&nodes(&[
        ("mac", "00:16:3e:0a:Bc:01"),
        ("rate", "20000,50000"),
        ("mtu", "9000"),
        ("link", "down"),
    ]));
    assert_eq!(
        back,
        BackNodes {
            mac: Some([0, 0x16, 0x3e, 0x0a, 0xbc, 1]),
            rate: Some(Rate {
                bytes: 20_000,
                usecs: 50_000
            }),
            mtu: 9000,
            link_down: true,
        }
    );
    for rate in ["20000", "x,1", "1,x", "1,0", "0,1", "1,1,"] {
        assert_eq!(
            BackNodes::read(&nodes(&[("rate", rate)])).rate,
            None,
            "{rate}"
        );
    }
    for mac in [
        "",
        "00:16:3e:0a:bc",
        "00:16:3e:0a:bc:01:02",
        "00:16:3e:0a:bc:1ff",
    ] {
        assert_eq!(BackNodes::read(&nodes(&[("mac", mac)])).mac, None, "{mac}");
    }
    let none = BackNodes::read(&Nodes::default());
    assert_eq!((none.mtu, none.link_down), (1500, false));
}
