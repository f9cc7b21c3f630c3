use std::rc::Rc;

use pv_ring::WordPage;

use super::*;
use crate::perms::DomId;
use crate::wire::{Decoder, Message, MsgType};

/// The guest's side of the rings.
struct Guest {
    page: Rc<WordPage>,
    input: Decoder,
}

impl Guest {
    /// Writes as many bytes as fit; returns how many.
    fn send(&self, bytes: &[u8]) -> usize {
        let (cons, mut prod) = (self.page.load_u32(REQ_CONS), self.page.load_u32(REQ_PROD));
        let room = (SIZE - prod.wrapping_sub(cons)) as usize;
        let count = room.min(bytes.len());
        for byte in &bytes[..count] {
            self.page.write(REQ + (prod % SIZE) as usize, &[*byte]);
            prod = prod.wrapping_add(1);
        }
        self.page.store_u32(REQ_PROD, prod);
        count
    }

    /// Reads all there is; returns whole messages.
    fn receive(&mut self) -> Vec<Message> {
        let (mut cons, prod) = (self.page.load_u32(RSP_CONS), self.page.load_u32(RSP_PROD));
        let mut messages = Vec::new();
        while cons != prod {
            let mut byte = [0];
            self.page.read(RSP + (cons % SIZE) as usize, &mut byte);
            self.input.feed(&byte);
            messages.extend(self.input.next_message().unwrap());
            cons = cons.wrapping_add(1);
        }
        self.page.store_u32(RSP_CONS, cons);
        messages
    }
}

/// A server and a guest whose ring indices start at `index`.
fn rig(index: u32) -> (Server, GuestRing<Rc<WordPage>>, Guest) {
    let page = Rc::new(WordPage::new());
    for field in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        page.store_u32(field, index);
    }
    let mut server = Server::default();
    let who = Identity::guest(DomId(3));
    server.introduce(DomId(3));
    let ring = GuestRing::connect(&mut server, who, page.clone()).unwrap();
    (
        server,
        ring,
        Guest {
            page,
            input: Decoder::default(),
        },
    )
}

fn get_domain_path() -> Vec<u8> {
    let payload = b"3\0".to_vec();
    let request = Message {
        kind: MsgType::GET_DOMAIN_PATH,
        req_id: 1,
        tx_id: 0,
        payload,
    };
    request.to_bytes().unwrap()
}

#[test]
fn requests_and_replies_pass_where_indices_wrap() {
    for index in [0, 1000, u32::MAX - 10, u32::MAX - 1030] {
        let (mut server, mut ring, mut guest) = rig(index);
        for _ in 0..100 {
            assert_eq!(guest.send(&get_domain_path()), 18);
            ring.pump(&mut server).unwrap();
            assert!(ring.take_notify());
            let replies = guest.receive();
            assert_eq!(replies.len(), 1);
            assert_eq!(replies[0].payload, b"/local/domain/3\0");
        }
        ring.pump(&mut server).unwrap();
        assert!(!ring.take_notify());
    }
}

#[test]
fn a_message_larger_than_the_ring_passes_in_pieces() {
    let (mut server, mut ring, mut guest) = rig(0);
    server.update(|store| {
        use crate::perms::{Perm, Perms};
        let home = crate::path::Path::absolute("/local/domain/3").unwrap();
        store.host().mkdir(&home).unwrap();
        store
            .host()
            .set_perms(&home, Perms::new(Perm::none(DomId(3)), &[]))
            .unwrap();
    });
    let payload = [b"big\0".to_vec(), vec![b'x'; 1900]].concat();
    let write = Message {
        kind: MsgType::WRITE,
        req_id: 1,
        tx_id: 0,
        payload,
    };
    let read = Message {
        kind: MsgType::READ,
        req_id: 2,
        tx_id: 0,
        payload: b"big\0".to_vec(),
    };
    let bytes = [write.to_bytes().unwrap(), read.to_bytes().unwrap()].concat();
    let (mut sent, mut replies) = (0, Vec::new());
    while replies.len() < 2 {
        sent += guest.send(&bytes[sent..]);
        ring.pump(&mut server).unwrap();
        replies.extend(guest.receive());
    }
    assert_eq!(replies[1].payload, vec![b'x'; 1900]);
}

#[test]
fn a_guest_that_does_not_read_is_not_served_further() {
    let (mut server, mut ring, guest) = rig(0);
    let one = get_domain_path();
    let mut taken = 0;
    for _ in 0..100_000 {
        // Whole requests only; what does not fit is not sent.
        let prod = guest.page.load_u32(REQ_PROD);
        if SIZE - prod.wrapping_sub(guest.page.load_u32(REQ_CONS)) < 18 {
            break;
        }
        taken += guest.send(&one);
        while ring.pump(&mut server).unwrap() == Turn::More {}
    }
    assert!(taken < 64 * 1024 + 8192, "{taken}");
}

#[test]
fn impossible_indices_end_the_connection_and_are_reported() {
    for (field, value) in [(REQ_PROD, 1025), (REQ_PROD, u32::MAX), (RSP_CONS, 1)] {
        let (mut server, mut ring, guest) = rig(0);
        guest.send(&get_domain_path());
        guest.page.store_u32(field, value);
        let closed = ring.pump(&mut server).unwrap_err();
        assert!(
            matches!(closed, Closed::Channel(ChannelError::RingIndex { .. })),
            "{closed}"
        );
        assert_eq!(guest.page.load_u32(ERROR), XENSTORE_ERROR_RINGIDX);
        assert!(ring.take_notify() && ring.is_broken());
        assert!(!server.is_connected(ring.conn()));
        assert_eq!(ring.pump(&mut server).unwrap(), Turn::Idle);
    }
}

#[test]
fn a_hostile_length_ends_the_connection_and_is_reported() {
    let (mut server, mut ring, guest) = rig(0);
    guest.send(&[2u32, 0, 0, u32::MAX].map(u32::to_ne_bytes).concat());
    assert!(matches!(ring.pump(&mut server), Err(Closed::Wire(_))));
    assert_eq!(guest.page.load_u32(ERROR), XENSTORE_ERROR_PROTO);
}

#[test]
fn our_own_indices_are_never_believed_back() {
    let (mut server, mut ring, mut guest) = rig(0);
    guest.send(&get_domain_path());
    ring.pump(&mut server).unwrap();
    guest.receive();
    guest.page.store_u32(REQ_CONS, 7);
    let prod = guest.page.load_u32(RSP_PROD);
    guest.page.store_u32(RSP_PROD, prod.wrapping_add(500));
    let request = get_domain_path();
    guest.page.write(REQ + 18, &request);
    guest.page.store_u32(REQ_PROD, 36);
    ring.pump(&mut server).unwrap();
    assert_eq!(guest.page.load_u32(REQ_CONS), 36);
    assert_eq!(guest.receive().len(), 1);
}

#[test]
fn a_guest_may_start_over() {
    let (mut server, mut ring, mut guest) = rig(500);
    let features = guest.page.load_u32(SERVER_FEATURES);
    assert_eq!(
        features,
        XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
    );
    guest.send(&get_domain_path()[..7]);
    ring.pump(&mut server).unwrap();
    guest.page.store_u32(CONNECTION, XENSTORE_RECONNECT);
    ring.pump(&mut server).unwrap();
    assert!(ring.take_notify());
    assert_eq!(guest.page.load_u32(CONNECTION), XENSTORE_CONNECTED);
    assert_eq!(guest.page.load_u32(REQ_PROD), 0);
    guest.send(&get_domain_path());
    ring.pump(&mut server).unwrap();
    assert_eq!(guest.receive().len(), 1);
}

#[test]
fn a_page_too_small_is_refused() {
    let mut server = Server::default();
    let who = Identity::guest(DomId(3));
    let small = WordPage::<512>::zeroed();
    assert!(matches!(
        GuestRing::connect(&mut server, who, &small),
        Err(RingError::TooSmall { .. })
    ));
}
