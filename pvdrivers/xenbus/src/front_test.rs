use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::vec;
use std::vec::Vec;

use pv_ring::{EventChannel, WordPage};

use super::*;
use crate::XenbusBack;

/// One end of an event channel between two threads. The far end being gone is an error of `wait`.
struct End {
    to: Sender<()>,
    from: Mutex<Receiver<()>>,
}

impl EventChannel for End {
    fn notify(&self) -> Result<(), Errno> {
        let _ = self.to.send(());
        Ok(())
    }
}

impl WaitChannel for End {
    fn wait(&self) -> Result<(), Errno> {
        self.from
            .lock()
            .unwrap()
            .recv()
            .map_err(|_| Errno::ENOTCONN)
    }
}

type Front<'a> = XenbusFront<&'a WordPage, End>;
type Back<'a> = XenbusBack<&'a WordPage, &'a End>;

/// Sends, waiting for the guest to read.
fn send(back: &mut Back<'_>, end: &End, header: XsdSockmsg, payload: &[u8]) -> bool {
    loop {
        match back.send(header, &[payload]) {
            Ok(true) => break,
            Ok(false) if end.wait().is_ok() => {}
            _ => return false,
        }
    }
    while !back.flush().unwrap() {
        if end.wait().is_err() {
            return false;
        }
    }
    true
}

/// A tiny daemon: a map, watches that fire on every write, no permissions.
fn serve(page: &WordPage, end: End) {
    let mut back = XenbusBack::attach(page, &end).unwrap();
    let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut watches: Vec<Vec<u8>> = vec![];
    loop {
        let Some((header, payload)) = back.recv().unwrap() else {
            if end.wait().is_err() {
                return;
            }
            continue;
        };
        let payload = payload.to_owned();
        let split = payload.iter().position(|byte| *byte == 0).unwrap();
        let (path, rest) = (payload[..split].to_vec(), &payload[split + 1..]);
        let (mut kind, mut events) = (header.kind, vec![]);
        let reply = match header.kind {
            XS_READ => match store.get(&path) {
                Some(value) => value.clone(),
                None => {
                    kind = XS_ERROR;
                    b"ENOENT\0".to_vec()
                }
            },
            XS_WRITE => {
                store.insert(path.clone(), rest.to_vec());
                events = watches
                    .iter()
                    .map(|token| [&path[..], b"\0", token].concat())
                    .collect();
                b"OK\0".to_vec()
            }
            XS_DIRECTORY => store
                .keys()
                .flat_map(|key| [key, &b"\0"[..]].concat())
                .collect(),
            XS_WATCH => {
                watches.push(rest.to_vec());
                b"OK\0".to_vec()
            }
            XS_TRANSACTION_START => b"7\0".to_vec(),
            _ => b"OK\0".to_vec(),
        };
        // Events first: the front end has to keep them while it waits for the reply.
        for event in events {
            let header = XsdSockmsg {
                kind: XS_WATCH_EVENT,
                ..Default::default()
            };
            if !send(&mut back, &end, header, &event) {
                return;
            }
        }
        if !send(&mut back, &end, XsdSockmsg { kind, ..header }, &reply) {
            return;
        }
    }
}

/// Runs `guest` against the tiny daemon.
fn with_daemon(guest: impl FnOnce(Front<'_>)) {
    let page = WordPage::new();
    let (to_host, at_host) = channel();
    let (to_guest, at_guest) = channel();
    let host = End {
        to: to_guest,
        from: Mutex::new(at_host),
    };
    let end = End {
        to: to_host,
        from: Mutex::new(at_guest),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&page, host));
        guest(XenbusFront::attach(&page, end).unwrap());
    });
}

const NONE: Transaction = Transaction::NONE;

#[test]
fn requests_are_answered() {
    with_daemon(|mut store| {
        store.write(NONE, "device/vif/0/state", b"1").unwrap();
        assert_eq!(store.read(NONE, "device/vif/0/state"), Ok(&b"1"[..]));
        store.write_number(NONE, "ring-ref", u64::MAX).unwrap();
        assert_eq!(store.read_number(NONE, "ring-ref"), Ok(u64::MAX));
        let names: Vec<_> = store
            .directory(NONE, "")
            .unwrap()
            .map(|n| n.to_vec())
            .collect();
        assert_eq!(names, [&b"device/vif/0/state"[..], b"ring-ref"]);
        assert_eq!(store.transaction_start(), Ok(Transaction(7)));
        store.transaction_end(Transaction(7), true).unwrap();
    });
}

#[test]
fn errors_are_named() {
    with_daemon(|mut store| {
        assert_eq!(
            store.read(NONE, "nothing"),
            Err(XenbusError::Store(Errno::ENOENT))
        );
        store.write(NONE, "text", b"x").unwrap();
        assert_eq!(
            store.read_number(NONE, "text"),
            Err(XenbusError::Store(Errno::EINVAL))
        );
    });
    assert_eq!(errno(b"EAGAIN\0"), Errno::EAGAIN);
    assert_eq!(errno(b"what"), Errno::EIO);
}

#[test]
fn messages_larger_than_the_ring_pass() {
    with_daemon(|mut store| {
        let value = vec![b'v'; 4000];
        store.write(NONE, "large", &value).unwrap();
        assert_eq!(store.read(NONE, "large"), Ok(&value[..]));
        let error = store.write(NONE, "larger", &[0; 4096]).unwrap_err();
        assert_eq!(error, XenbusError::TooLong(4103));
        assert_eq!(
            store.read(NONE, "large"),
            Ok(&value[..]),
            "the connection still works"
        );
    });
}

#[test]
fn events_wait_until_asked_for() {
    with_daemon(|mut store| {
        store.watch("backend", "token").unwrap();
        assert_eq!(store.poll_event(), Ok(None));
        for path in ["backend/1", "backend/2"] {
            store.write(NONE, path, b"4").unwrap();
        }
        let first = store.wait_event().unwrap();
        assert_eq!(
            first,
            Event {
                path: b"backend/1",
                token: b"token"
            }
        );
        assert_eq!(store.wait_event().unwrap().path, b"backend/2");
        assert_eq!(store.poll_event(), Ok(None));
        assert_eq!(store.events_lost(), 0);
    });
}

#[test]
fn a_reply_to_nothing_is_refused() {
    let page = WordPage::new();
    let (to, from) = channel();
    let end = End {
        to: to.clone(),
        from: Mutex::new(from),
    };
    let other = End {
        to,
        from: Mutex::new(channel().1),
    };
    let mut back = XenbusBack::attach(&page, &other).unwrap();
    let mut front = XenbusFront::attach(&page, end).unwrap();
    back.send(
        XsdSockmsg {
            kind: XS_READ,
            req_id: 99,
            ..Default::default()
        },
        &[b"x"],
    )
    .unwrap();
    let error = XenbusError::Unexpected {
        kind: XS_READ,
        req_id: 99,
    };
    assert_eq!(front.poll_event(), Err(error));
    back.send(
        XsdSockmsg {
            kind: XS_READ,
            req_id: 99,
            ..Default::default()
        },
        &[b"x"],
    )
    .unwrap();
    assert_eq!(front.read(NONE, "node"), Err(error));
    let text: String = std::format!("{error}");
    assert_eq!(text, "Unexpected xenstore message of type 2 for request 99");
}
