//! Requests of the host and of two guests to the xenstore server.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use xt_xenstore::DomId;
use xt_xenstore::perms::Identity;
use xt_xenstore::server::Server;
use xt_xenstore::store::Quotas;
use xt_xenstore::wire::{Message, MsgType};

/// A request; paths and types come from small sets so that requests meet.
#[derive(Arbitrary, Debug)]
struct Request {
    connection: u8,
    kind: u8,
    transaction: u8,
    path: u8,
    rest: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Request(Request),
    /// A message as raw as it can be.
    Raw {
        connection: u8,
        kind: u32,
        transaction: u32,
        payload: Vec<u8>,
    },
    Introduce(u8),
    Shutdown(u8),
    Release(u8),
    Reset(u8),
    /// Drops a connection and connects anew.
    Reconnect(u8),
}

const PATHS: &[&str] = &[
    "/",
    "/local",
    "/local/domain/1",
    "/local/domain/1/a",
    "a",
    "a/b",
    "/local/domain/2/a",
    "/tool",
    "@introduceDomain",
    "@releaseDomain",
    "data",
    "/local/domain/1/a/b/c/d",
    "1",
    "2",
    "65535",
    "",
];

const WHO: [Identity; 3] = [
    Identity::host(),
    Identity::guest(DomId(1)),
    Identity::guest(DomId(2)),
];

fuzz_target!(|steps: Vec<Step>| {
    let quotas = Quotas {
        entries: 20,
        node_size: 256,
        perms: 4,
        watches: 4,
        transactions: 3,
        transaction_nodes: 8,
    };
    let mut server = Server::new(quotas);
    let mut connections = WHO.map(|who| server.connect(who));
    for (number, step) in steps.into_iter().take(200).enumerate() {
        let domid = |which: u8| DomId(u16::from(which % 3));
        let (at, message) = match step {
            Step::Request(request) => {
                let path = PATHS[usize::from(request.path) % PATHS.len()];
                let payload = [path.as_bytes(), &[0], &request.rest].concat();
                let kind = u32::from(request.kind % 24);
                (
                    request.connection,
                    message(number, kind, u32::from(request.transaction % 5), payload),
                )
            }
            Step::Raw {
                connection,
                kind,
                transaction,
                payload,
            } => (connection, message(number, kind, transaction, payload)),
            Step::Introduce(which) => {
                server.introduce(domid(which));
                continue;
            }
            Step::Shutdown(which) => {
                server.domain_shutdown(domid(which));
                continue;
            }
            Step::Release(which) => {
                server.release(domid(which));
                continue;
            }
            Step::Reset(which) => {
                server.reset(connections[usize::from(which % 3)]);
                continue;
            }
            Step::Reconnect(which) => {
                let which = usize::from(which % 3);
                server.disconnect(connections[which]);
                connections[which] = server.connect(WHO[which]);
                continue;
            }
        };
        let id = connections[usize::from(at % 3)];
        let connected = server.is_connected(id);
        server.handle(id, &message);
        let replies = drain(&mut server, &connections, id);
        // RELEASE of the own domain takes the connection, and the reply, along.
        if connected && server.is_connected(id) {
            let mine = replies.iter().filter(|r| r.kind != MsgType::WATCH_EVENT);
            let mine: Vec<_> = mine.collect();
            assert_eq!(mine.len(), 1, "{message:?}: {mine:?}");
            assert_eq!(
                (mine[0].req_id, mine[0].tx_id),
                (message.req_id, message.tx_id)
            );
            assert!(mine[0].kind == message.kind || mine[0].kind == MsgType::ERROR);
        }
        server.take_events().for_each(drop);
    }
});

fn message(number: usize, kind: u32, tx_id: u32, mut payload: Vec<u8>) -> Message {
    payload.truncate(4096);
    Message {
        kind: MsgType(kind),
        req_id: number as u32,
        tx_id,
        payload,
    }
}

/// Takes all that waits, and returns what waited for `id`.
fn drain(
    server: &mut Server,
    connections: &[xt_xenstore::server::ConnId],
    id: xt_xenstore::server::ConnId,
) -> Vec<Message> {
    let mut mine = Vec::new();
    for connection in connections {
        while server.has_output(*connection) {
            let message = server
                .take_message(*connection)
                .expect("output is whole messages");
            assert!(message.payload.len() <= 4096);
            if *connection == id {
                mine.push(message);
            }
        }
    }
    mine
}
