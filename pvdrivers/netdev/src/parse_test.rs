use super::*;

fn parsed(text: &str) -> NicSpec {
    text.parse()
        .unwrap_or_else(|e: SpecError| panic!("{}", e.located(text)))
}

/// What of the text it points at, and the message.
fn refused(text: &str) -> String {
    let error = text.parse::<NicSpec>().expect_err(text);
    format!("{}: {}", &text[error.range.clone()], error.message)
}

fn user(text: &str) -> UserSpec {
    match parsed(text).netdev {
        NetdevSpec::User(user) => user,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_is_user() {
    assert_eq!(parsed("user"), NicSpec::default());
}

#[test]
fn port_forwards() {
    let forward = |protocol, address: &str, port, guest_port| Forward {
        protocol,
        address: address.parse().unwrap(),
        port,
        guest_port,
    };
    let text = "user,hostfwd=tcp:2222:22,hostfwd=udp:0.0.0.0:53:5353,hostfwd=tcp:[::1]:80:8080";
    let expected = [
        forward(Protocol::Tcp, "127.0.0.1", 2222, 22),
        forward(Protocol::Udp, "0.0.0.0", 53, 5353),
        forward(Protocol::Tcp, "::1", 80, 8080),
    ];
    assert_eq!(user(text).forwards, expected);
    let refusals = [
        ("tpc:1:2", "\"tpc\" is neither tcp nor udp."),
        ("tcp:0:2", "\"0\" is no port."),
        ("tcp:1:+2", "\"+2\" is no port."),
        ("tcp:1:65536", "\"65536\" is no port."),
        ("tcp:2222", "\"\" is no port."),
        ("tcp", "\"\" is no port."),
        ("tcp:::1:80:80", "This is no address of the host."),
        ("tcp:localhost:80:80", "This is no address of the host."),
    ];
    for (value, message) in refusals {
        assert_eq!(
            refused(&format!("user,hostfwd={value}")),
            format!("{value}: {message}")
        );
    }
}

#[test]
fn every_kind() {
    let tap = |text| match parsed(text).netdev {
        NetdevSpec::Tap(tap) => tap,
        other => panic!("{other:?}"),
    };
    assert_eq!(tap("tap"), TapSpec::default());
    assert_eq!(tap("bridge=br0"), tap("tap,bridge=br0"));
    assert_eq!(
        tap("tap=t0,bridge=br0,create"),
        TapSpec {
            name: Some("t0".into()),
            bridge: Some("br0".into()),
            create: true,
            ..TapSpec::default()
        }
    );
    assert_eq!(
        parsed("macvtap=eth0,mode=vepa,name=m0,mac=0:16:3e:0:0:1,mtu=9000"),
        NicSpec {
            netdev: NetdevSpec::Macvtap(MacvtapSpec {
                parent: "eth0".into(),
                mode: MacvtapMode::Vepa,
                name: Some("m0".into()),
            }),
            mac: Some(MacAddress([0, 0x16, 0x3e, 0, 0, 1])),
            mtu: Some(9000),
        }
    );
    assert_eq!(
        parsed("unix:/a,,b=c:d,type=dgram,local=/e").netdev,
        NetdevSpec::Unix(UnixSpec {
            path: "/a,b=c:d".into(),
            kind: UnixKind::Dgram,
            local: Some("/e".into()),
        })
    );
    assert_eq!(parsed("fd=3:4").netdev, NetdevSpec::Fd(vec![3, 4]));
}

#[test]
fn refusals_point_at_the_place() {
    let refusals = [
        ("", ": \"\" is no kind of network."),
        ("usr", "usr: \"usr\" is no kind of network."),
        ("user=x", "x: \"user\" takes no value."),
        ("user,", ": An option is missing here."),
        ("user,bridge=b", "bridge: user has no option \"bridge\"."),
        ("user,ipv4,ipv6", "ipv6: ipv4 and ipv6 exclude each other."),
        ("user,mtu=67", "67: An MTU is from 68 to 65520 bytes."),
        ("user,mtu=1,mtu=2", "1: An MTU is from 68 to 65520 bytes."),
        ("user,mtu=1500,mtu=2", "mtu: \"mtu\" is given twice."),
        ("user,mac=1:2", "1:2: \"1:2\" is no Ethernet address."),
        (
            "user,mac=01:00:00:00:00:00",
            "01:00:00:00:00:00: 01:00:00:00:00:00 is no address of a card.",
        ),
        (
            "user,ipv4,dns=::1",
            "user,ipv4,dns=::1: An address is of a family that is switched off, or a second of its family.",
        ),
        ("bridge", "bridge: \"bridge\" needs a value."),
        ("bridge=b,bridge=c", "bridge: \"bridge\" is given twice."),
        ("bridge=a/b", "a/b: \"a/b\" is no name of an interface."),
        (
            "tap=sixteen-bytes-xx",
            "sixteen-bytes-xx: \"sixteen-bytes-xx\" is no name of an interface.",
        ),
        (
            "tap,create",
            "tap,create: create needs bridge=: it is the bridge that is made.",
        ),
        ("macvtap=e,mode=x", "x: \"x\" is no mode."),
        (
            "unix:/a,local=/b",
            "unix:/a,local=/b: local is for type=dgram only.",
        ),
        ("fd=3:3", "3:3: \"3\" is no descriptor of a queue."),
        ("fd=-1", "-1: \"-1\" is no descriptor of a queue."),
    ];
    for (text, message) in refusals {
        assert_eq!(refused(text), message, "{text}");
    }
}

#[test]
fn a_message_marks_the_place_and_helps() {
    let text = "user,hostfdw=tcp:1:2";
    let error = text.parse::<NicSpec>().unwrap_err();
    let expected = "user has no option \"hostfdw\".\n  | user,hostfdw=tcp:1:2\n  |      ^^^^^^^\n  help: Did you mean hostfwd?";
    assert_eq!(error.located(text).to_string(), expected);
}

#[test]
fn a_specification_survives_json() {
    for text in [
        "user,hostfwd=tcp:1:2,ipv4",
        "bridge=b,create",
        "macvtap=e,mode=passthru",
        "unix:/p,type=seqpacket",
        "fd=3",
    ] {
        let spec = parsed(text);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            serde_json::from_str::<NicSpec>(&json).unwrap(),
            spec,
            "{json}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken_or_refused_at_a_place(
        text in "(user|tap|bridge|macvtap|unix|fd|é)([=:,]{1,2}(hostfwd|tcp|mode|mac|ipv4|[a-z0-9é:./\\[\\]]{0,6})){0,6}"
    ) {
        if let Err(error) = text.parse::<NicSpec>() {
            assert!(text.get(error.range.clone()).is_some(), "{text}: {error:?}");
            assert!(error.located(&text).to_string().lines().count() >= 3);
        }
    }
}
