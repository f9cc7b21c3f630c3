use super::*;
use crate::perms::{Perm, Perms};
use crate::wire::join_strings;

/// A peer whose reading can be stopped.
#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<u8>,
    from_server: Decoder,
    messages: Vec<Message>,
    stopped: bool,
    ended: bool,
}

impl Channel for Pipe {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, ChannelError> {
        let count = buf.len().min(self.to_server.len());
        for (to, from) in buf.iter_mut().zip(self.to_server.drain(..count)) {
            *to = from;
        }
        if count == 0 && self.ended {
            Err(ChannelError::Closed)
        } else {
            Ok(count)
        }
    }

    fn send(&mut self, buf: &[u8]) -> Result<usize, ChannelError> {
        if self.stopped {
            return Ok(0);
        }
        let count = self.from_server.feed(buf);
        while let Some(message) = self.from_server.next_message().unwrap() {
            self.messages.push(message);
        }
        Ok(count)
    }
}

const GUEST: DomId = DomId(3);

fn request(kind: MsgType, args: &[&[u8]]) -> Message {
    Message {
        kind,
        req_id: 5,
        tx_id: 0,
        payload: join_strings(args),
    }
}

/// A server with an introduced domain 3 that owns `/local/domain/3/data`.
fn server() -> Server {
    let mut server = Server::default();
    server.introduce(GUEST);
    server.update(|store| {
        let data = Path::known("/local/domain/3/data");
        store.host().mkdir(&data).unwrap();
        store
            .host()
            .set_perms(&data, Perms::new(Perm::none(GUEST), &[]))
            .unwrap();
    });
    server
}

fn take(server: &mut Server, id: ConnId) -> Vec<(MsgType, Vec<u8>)> {
    std::iter::from_fn(|| server.take_message(id))
        .map(|m| (m.kind, m.payload))
        .collect()
}

fn ask(server: &mut Server, id: ConnId, kind: MsgType, args: &[&[u8]]) -> Result<Vec<u8>, XsError> {
    ask_in(server, id, 0, kind, args)
}

/// Asks and returns the reply; events before it are dropped.
fn ask_in(
    server: &mut Server,
    id: ConnId,
    tx_id: u32,
    kind: MsgType,
    args: &[&[u8]],
) -> Result<Vec<u8>, XsError> {
    take(server, id);
    server.handle(
        id,
        &Message {
            tx_id,
            ..request(kind, args)
        },
    );
    let reply = server.take_message(id).unwrap();
    assert_eq!((reply.req_id, reply.tx_id), (5, tx_id));
    match reply.kind {
        MsgType::ERROR => {
            Err(XsError::from_name(reply.payload.strip_suffix(b"\0").unwrap()).unwrap())
        }
        other => {
            assert_eq!(other, kind);
            Ok(reply.payload)
        }
    }
}

fn write(server: &mut Server, id: ConnId, path: &[u8], value: &[u8]) -> Result<Vec<u8>, XsError> {
    take(server, id);
    let payload = [path, b"\0", value].concat();
    server.handle(
        id,
        &Message {
            kind: MsgType::WRITE,
            req_id: 5,
            tx_id: 0,
            payload,
        },
    );
    let reply = server.take_message(id).unwrap();
    match reply.kind {
        MsgType::ERROR => {
            Err(XsError::from_name(reply.payload.strip_suffix(b"\0").unwrap()).unwrap())
        }
        _ => Ok(reply.payload),
    }
}

fn events(server: &mut Server, id: ConnId) -> Vec<String> {
    let texts = take(server, id)
        .into_iter()
        .filter(|(kind, _)| *kind == MsgType::WATCH_EVENT);
    texts
        .map(|(_, payload)| String::from_utf8(payload).unwrap().replace('\0', " "))
        .collect()
}

#[test]
fn values_and_lists_have_the_protocols_shape() {
    let mut server = server();
    let id = server.connect(Identity::host());
    assert_eq!(
        write(&mut server, id, b"/a/b", b"v\0w"),
        Ok(b"OK\0".to_vec())
    );
    assert_eq!(
        ask(&mut server, id, MsgType::READ, &[b"/a/b"]),
        Ok(b"v\0w".to_vec())
    );
    assert_eq!(
        ask(&mut server, id, MsgType::DIRECTORY, &[b"/a"]),
        Ok(b"b\0".to_vec())
    );
    assert_eq!(
        ask(&mut server, id, MsgType::DIRECTORY, &[b"/a/b"]),
        Ok(vec![])
    );
    assert_eq!(
        ask(&mut server, id, MsgType::GET_PERMS, &[b"/a"]),
        Ok(b"n0\0".to_vec())
    );
    let path = ask(&mut server, id, MsgType::GET_DOMAIN_PATH, &[b"7"]);
    assert_eq!(path, Ok(b"/local/domain/7\0".to_vec()));
    assert_eq!(
        ask(&mut server, id, MsgType(99), &[b"/a"]),
        Err(XsError::ENOSYS)
    );
    assert_eq!(
        ask(&mut server, id, MsgType::READ, &[b"/a", b"more"]),
        Err(XsError::EINVAL)
    );
    assert_eq!(
        ask(&mut server, id, MsgType::READ, &[]),
        Err(XsError::EINVAL)
    );
}

#[test]
fn long_directories_come_in_parts() {
    let mut server = server();
    let id = server.connect(Identity::host());
    let names: Vec<String> = (0..500)
        .map(|i| format!("a-long-enough-name-{i}"))
        .collect();
    for name in &names {
        write(&mut server, id, format!("/d/{name}").as_bytes(), b"").unwrap();
    }
    assert_eq!(
        ask(&mut server, id, MsgType::DIRECTORY, &[b"/d"]),
        Err(XsError::E2BIG)
    );
    let mut list = Vec::new();
    while !list.ends_with(b"\0\0") {
        let offset = list.len().to_string();
        let args: [&[u8]; 2] = [b"/d", offset.as_bytes()];
        let part = ask(&mut server, id, MsgType::DIRECTORY_PART, &args).unwrap();
        assert!(part.len() <= XENSTORE_PAYLOAD_MAX);
        let nul = part.iter().position(|&byte| byte == 0).unwrap();
        list.extend_from_slice(&part[nul + 1..]);
    }
    let expected: String = names.iter().map(|name| format!("{name}\0")).collect();
    assert_eq!(list, [expected.as_bytes(), b"\0"].concat());
    // Offsets nobody should send.
    for offset in [&b"3"[..], b"99999999", b"18446744073709551615"] {
        assert!(ask(&mut server, id, MsgType::DIRECTORY_PART, &[b"/d", offset]).is_ok());
    }
    for offset in [&b"-1"[..], b"x", b"", b"18446744073709551616"] {
        let reply = ask(&mut server, id, MsgType::DIRECTORY_PART, &[b"/d", offset]);
        assert_eq!(reply, Err(XsError::EINVAL));
    }
}

#[test]
fn a_watch_fires_at_once_then_for_children_and_permissions() {
    let mut server = server();
    let (host, guest) = (
        server.connect(Identity::host()),
        server.connect(Identity::guest(GUEST)),
    );
    let watch = request(MsgType::WATCH, &[b"data", b"t"]);
    server.handle(guest, &watch);
    assert_eq!(
        take(&mut server, guest),
        [
            (MsgType::WATCH, b"OK\0".to_vec()),
            (MsgType::WATCH_EVENT, b"data\0t\0".to_vec())
        ]
    );
    write(&mut server, host, b"/local/domain/3/data/x", b"1").unwrap();
    assert_eq!(events(&mut server, guest), ["data/x t "]);
    let perms: [&[u8]; 2] = [b"/local/domain/3/data/x", b"n0"];
    ask(&mut server, host, MsgType::SET_PERMS, &perms).unwrap();
    assert_eq!(events(&mut server, guest), ["data/x t "]);
    ask(&mut server, host, MsgType::RM, &[b"/local/domain/3"]).unwrap();
    assert_eq!(events(&mut server, guest), ["data t "]);
    assert_eq!(
        ask(&mut server, guest, MsgType::WATCH, &[b"data", b"t"]),
        Err(XsError::EEXIST)
    );
    assert!(ask(&mut server, guest, MsgType::UNWATCH, &[b"data", b"t"]).is_ok());
    assert_eq!(
        ask(&mut server, guest, MsgType::UNWATCH, &[b"data", b"t"]),
        Err(XsError::ENOENT)
    );
    write(&mut server, host, b"/local/domain/3/data", b"1").unwrap();
    assert_eq!(events(&mut server, guest), [""; 0]);
}

#[test]
fn equal_events_wait_once() {
    let mut server = server();
    let (host, guest) = (
        server.connect(Identity::host()),
        server.connect(Identity::guest(GUEST)),
    );
    ask(&mut server, guest, MsgType::WATCH, &[b"data", b"t"]).unwrap();
    events(&mut server, guest);
    for value in [b"1", b"2", b"3"] {
        write(&mut server, host, b"/local/domain/3/data/x", value).unwrap();
    }
    write(&mut server, host, b"/local/domain/3/data/y", b"").unwrap();
    assert_eq!(events(&mut server, guest), ["data/x t ", "data/y t "]);
    write(&mut server, host, b"/local/domain/3/data/x", b"4").unwrap();
    assert_eq!(events(&mut server, guest), ["data/x t "]);
}

#[test]
fn domains_come_and_go_with_their_special_watches() {
    let mut server = server();
    let host = server.connect(Identity::host());
    let guest = server.connect(Identity::guest(GUEST));
    for name in [&b"@introduceDomain"[..], b"@releaseDomain"] {
        ask(&mut server, host, MsgType::WATCH, &[name, b"t"]).unwrap();
        ask(&mut server, guest, MsgType::WATCH, &[name, b"t"]).unwrap();
    }
    let (_, _) = (events(&mut server, host), events(&mut server, guest));
    ask(&mut server, host, MsgType::INTRODUCE, &[b"4", b"-1", b"2"]).unwrap();
    assert_eq!(events(&mut server, host), ["@introduceDomain t "]);
    let introduced = Event::Introduced {
        domid: DomId(4),
        mfn: u64::MAX,
        port: 2,
    };
    assert_eq!(server.take_events().collect::<Vec<_>>(), [introduced]);
    assert_eq!(
        ask(&mut server, host, MsgType::IS_DOMAIN_INTRODUCED, &[b"4"]),
        Ok(b"T\0".to_vec())
    );

    server.domain_shutdown(DomId(4));
    server.domain_shutdown(DomId(4));
    assert_eq!(events(&mut server, host), ["@releaseDomain t "]);
    server.domain_shutdown(DomId(4));
    assert_eq!(events(&mut server, host), [""; 0]);
    ask(&mut server, host, MsgType::RESUME, &[b"4"]).unwrap();
    server.domain_shutdown(DomId(4));
    assert_eq!(events(&mut server, host), ["@releaseDomain t "]);

    ask(&mut server, host, MsgType::RELEASE, &[b"4"]).unwrap();
    assert_eq!(
        ask(&mut server, host, MsgType::RELEASE, &[b"4"]),
        Err(XsError::ENOENT)
    );
    // An ordinary guest is not told of others.
    assert_eq!(events(&mut server, guest), [""; 0]);
    server.release(GUEST);
    assert!(!server.is_connected(guest));
    assert!(server.store().node("/local/domain/3/data").is_none());
}

#[test]
fn what_belongs_to_the_host_is_refused_to_guests() {
    let mut server = server();
    let guest = server.connect(Identity::guest(GUEST));
    let args: [&[u8]; 3] = [b"4", b"1", b"1"];
    for kind in [
        MsgType::INTRODUCE,
        MsgType::RELEASE,
        MsgType::RESUME,
        MsgType::SET_TARGET,
        MsgType::CONTROL,
        MsgType::IS_DOMAIN_INTRODUCED,
    ] {
        assert_eq!(
            ask(&mut server, guest, kind, &args),
            Err(XsError::EACCES),
            "{kind:?}"
        );
    }
    let host = server.connect(Identity::host());
    for domid in [&b"0"[..], b"32752", b"65536", b"x", b""] {
        let reply = ask(&mut server, host, MsgType::INTRODUCE, &[domid, b"1", b"1"]);
        assert_eq!(reply, Err(XsError::EINVAL), "{domid:?}");
    }
}

#[test]
fn a_target_makes_a_stub_domain_its_equal() {
    let mut server = server();
    let (host, stub) = (
        server.connect(Identity::host()),
        server.connect(Identity::guest(DomId(9))),
    );
    let path: &[u8] = b"/local/domain/3/data/x";
    assert_eq!(write(&mut server, stub, path, b""), Err(XsError::EACCES));
    assert_eq!(
        ask(&mut server, host, MsgType::SET_TARGET, &[b"9", b"3"]),
        Err(XsError::ENOENT)
    );
    server.introduce(DomId(9));
    ask(&mut server, host, MsgType::SET_TARGET, &[b"9", b"3"]).unwrap();
    assert!(write(&mut server, stub, path, b"").is_ok());
    server.release(GUEST);
    assert_eq!(write(&mut server, stub, path, b""), Err(XsError::EACCES));
}

#[test]
fn transactions_of_a_connection_are_its_own() {
    let mut server = server();
    let (a, b) = (
        server.connect(Identity::host()),
        server.connect(Identity::host()),
    );
    let id = ask(&mut server, a, MsgType::TRANSACTION_START, &[b""]).unwrap();
    assert_eq!(id, b"1\0");
    let read: [&[u8]; 1] = [b"/tool"];
    assert_eq!(
        ask_in(&mut server, b, 1, MsgType::READ, &read),
        Err(XsError::ENOENT)
    );
    assert_eq!(ask_in(&mut server, a, 1, MsgType::READ, &read), Ok(vec![]));
    let start: [&[u8]; 1] = [b""];
    let nested = ask_in(&mut server, a, 1, MsgType::TRANSACTION_START, &start);
    assert_eq!(nested, Err(XsError::EBUSY));
    write(&mut server, b, b"/tool", b"x").unwrap();
    let end: [&[u8]; 1] = [b"T"];
    assert_eq!(
        ask_in(&mut server, a, 1, MsgType::TRANSACTION_END, &end),
        Err(XsError::EAGAIN)
    );
    assert_eq!(
        ask_in(&mut server, a, 1, MsgType::TRANSACTION_END, &end),
        Err(XsError::ENOENT)
    );
    assert_eq!(
        ask_in(&mut server, a, 0, MsgType::TRANSACTION_END, &end),
        Err(XsError::ENOENT)
    );
}

#[test]
fn a_guest_has_so_many_watches_and_transactions() {
    let mut server = server();
    let guest = server.connect(Identity::guest(GUEST));
    for i in 0..128 {
        ask(
            &mut server,
            guest,
            MsgType::WATCH,
            &[b"data", i.to_string().as_bytes()],
        )
        .unwrap();
    }
    assert_eq!(
        ask(&mut server, guest, MsgType::WATCH, &[b"data", b"x"]),
        Err(XsError::E2BIG)
    );
    for _ in 0..10 {
        ask(&mut server, guest, MsgType::TRANSACTION_START, &[b""]).unwrap();
    }
    let more = ask(&mut server, guest, MsgType::TRANSACTION_START, &[b""]);
    assert_eq!(more, Err(XsError::ENOSPC));
    ask(&mut server, guest, MsgType::RESET_WATCHES, &[b""]).unwrap();
    assert!(ask(&mut server, guest, MsgType::WATCH, &[b"data", b"x"]).is_ok());
    assert!(ask(&mut server, guest, MsgType::TRANSACTION_START, &[b""]).is_ok());
}

#[test]
fn one_turn_serves_a_bounded_number_of_requests() {
    let mut server = server();
    let id = server.connect(Identity::host());
    let one = request(MsgType::READ, &[b"/tool"]).to_bytes().unwrap();
    let mut pipe = Pipe {
        to_server: one.repeat(TURN + 3).into(),
        ..Pipe::default()
    };
    assert_eq!(server.pump(id, &mut pipe).unwrap(), Turn::More);
    assert_eq!(pipe.messages.len(), TURN);
    assert_eq!(server.pump(id, &mut pipe).unwrap(), Turn::Idle);
    assert_eq!(pipe.messages.len(), TURN + 3);
    pipe.ended = true;
    assert!(matches!(
        server.pump(id, &mut pipe),
        Err(Closed::Channel(ChannelError::Closed))
    ));
    assert!(!server.is_connected(id));
}

#[test]
fn who_does_not_read_is_not_read_from() {
    let mut server = server();
    let id = server.connect(Identity::host());
    write(&mut server, id, b"/big", &[b'x'; 4000]).unwrap();
    let one = request(MsgType::READ, &[b"/big"]).to_bytes().unwrap();
    let sent = 1000;
    let mut pipe = Pipe {
        to_server: one.repeat(sent).into(),
        stopped: true,
        ..Pipe::default()
    };
    while server.pump(id, &mut pipe).unwrap() == Turn::More {}
    let held = server.conns[&id].output.bytes();
    assert!((64 * 1024..72 * 1024).contains(&held), "{held}");
    assert!(pipe.to_server.len() > one.len() * (sent - 300));
    pipe.stopped = false;
    while server.pump(id, &mut pipe).unwrap() == Turn::More {}
    assert_eq!(pipe.messages.len(), sent);
}

#[test]
fn a_flood_of_events_ends_the_connection_not_the_memory() {
    let mut server = server();
    let (host, guest) = (
        server.connect(Identity::host()),
        server.connect(Identity::guest(GUEST)),
    );
    for i in 0..100 {
        let token = format!("{i}-{}", "t".repeat(3000));
        ask(
            &mut server,
            guest,
            MsgType::WATCH,
            &[b"data", token.as_bytes()],
        )
        .unwrap();
    }
    for i in 0..1000 {
        write(
            &mut server,
            host,
            format!("/local/domain/3/data/n{i}").as_bytes(),
            b"",
        )
        .unwrap();
    }
    assert!(server.conns[&guest].output.bytes() < 9 * 1024 * 1024);
    let mut pipe = Pipe {
        stopped: true,
        ..Pipe::default()
    };
    assert!(matches!(
        server.pump(guest, &mut pipe),
        Err(Closed::Overflow)
    ));
    assert!(!server.is_connected(guest));
    assert!(write(&mut server, host, b"/local/domain/3/data/n", b"").is_ok());
}

#[test]
fn broken_framing_ends_the_connection() {
    let mut server = server();
    let id = server.connect(Identity::guest(GUEST));
    let header = [2u32, 1, 0, 4097].map(u32::to_ne_bytes).concat();
    let mut pipe = Pipe {
        to_server: header.into(),
        ..Pipe::default()
    };
    assert!(matches!(server.pump(id, &mut pipe), Err(Closed::Wire(_))));
    assert!(!server.is_connected(id));
}

#[test]
fn control_answers_the_host() {
    let mut server = server();
    let id = server.connect(Identity::host());
    let mut control = |args: &[&[u8]]| ask(&mut server, id, MsgType::CONTROL, args);
    assert_eq!(control(&[b"check"]), Ok(b"OK\0".to_vec()));
    assert!(control(&[b"help"]).unwrap().starts_with(b"check\n"));
    assert_eq!(control(&[b"quota", b"3"]), Ok(b"nodes: 1\n\0".to_vec()));
    assert_eq!(control(&[b"no-such"]), Err(XsError::EINVAL));
    assert_eq!(control(&[]), Err(XsError::EINVAL));
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a guest sends, the store stays sound, the guest stays in
        /// its place, and every request has its answer.
        #[test]
        fn any_request_is_answered(
            requests in prop::collection::vec(
                (0u32..24, 0u32..4, prop::sample::select(vec![
                    &b"data"[..], b"data/a", b"data/a/b", b"/", b"/local/domain/3", b"/tool",
                    b"@releaseDomain", b"", b"//", b"data\0n3\0r4", b"data/a\0t", b"T", b"F",
                    b"data\x005", b"\xff", b"data/a\0w3\0b0",
                ]), any::<bool>()),
                0..120,
            ),
        ) {
            let mut server = server();
            let guest = server.connect(Identity::guest(GUEST));
            let before = server.store().node("/tool").unwrap().clone();
            for (kind, tx_id, text, nul) in requests {
                let mut payload = text.to_vec();
                payload.extend(nul.then_some(0));
                server.handle(guest, &Message { kind: MsgType(kind), req_id: 1, tx_id, payload });
                let replies = take(&mut server, guest);
                let replies = replies.iter().filter(|(kind, _)| *kind != MsgType::WATCH_EVENT);
                prop_assert_eq!(replies.count(), 1);
            }
            server.store().check().unwrap();
            prop_assert_eq!(server.store().node("/tool").unwrap(), &before);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut server = server();
            let guest = server.connect(Identity::guest(GUEST));
            let mut pipe = Pipe { to_server: bytes.into(), ..Pipe::default() };
            while let Ok(Turn::More) = server.pump(guest, &mut pipe) {}
            server.store().check().unwrap();
        }
    }
}
