use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::perms::DomId;
use crate::wire::{Decoder, Message, MsgType};

const PAGE: usize = 4096;

/// A page both sides hold; reads and writes can be made to fail.
#[derive(Debug, Clone)]
struct FakePage(Rc<RefCell<Option<Box<[u8; PAGE]>>>>);

impl FakePage {
    fn new() -> FakePage {
        FakePage(Rc::new(RefCell::new(Some(Box::new([0; PAGE])))))
    }

    fn vanish(&self) {
        *self.0.borrow_mut() = None;
    }
}

impl SharedPage for FakePage {
    fn load(&self, offset: usize) -> Result<u32, PageError> {
        let mut word = [0; 4];
        self.read(offset, &mut word)?;
        Ok(u32::from_ne_bytes(word))
    }

    fn store(&self, offset: usize, value: u32) -> Result<(), PageError> {
        self.write(offset, &value.to_ne_bytes())
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), PageError> {
        let page = self.0.borrow();
        to.copy_from_slice(&page.as_ref().ok_or(PageError)?[offset..][..to.len()]);
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), PageError> {
        let mut page = self.0.borrow_mut();
        page.as_mut().ok_or(PageError)?[offset..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// The guest's side of the rings.
struct Guest {
    page: FakePage,
    input: Decoder,
}

impl Guest {
    /// Writes as many bytes as fit; returns how many.
    fn send(&self, bytes: &[u8]) -> usize {
        let (cons, mut prod) = (
            self.page.load(REQ_CONS).unwrap(),
            self.page.load(REQ_PROD).unwrap(),
        );
        let room = (SIZE - prod.wrapping_sub(cons)) as usize;
        let count = room.min(bytes.len());
        for byte in &bytes[..count] {
            self.page
                .write(REQ + (prod % SIZE) as usize, &[*byte])
                .unwrap();
            prod = prod.wrapping_add(1);
        }
        self.page.store(REQ_PROD, prod).unwrap();
        count
    }

    /// Reads all there is; returns whole messages.
    fn receive(&mut self) -> Vec<Message> {
        let (mut cons, prod) = (
            self.page.load(RSP_CONS).unwrap(),
            self.page.load(RSP_PROD).unwrap(),
        );
        let mut messages = Vec::new();
        while cons != prod {
            let mut byte = [0];
            self.page
                .read(RSP + (cons % SIZE) as usize, &mut byte)
                .unwrap();
            self.input.feed(&byte);
            messages.extend(self.input.next_message().unwrap());
            cons = cons.wrapping_add(1);
        }
        self.page.store(RSP_CONS, cons).unwrap();
        messages
    }
}

/// A server and a guest whose ring indices start at `index`.
fn rig(index: u32) -> (Server, GuestRing<FakePage>, Guest) {
    let page = FakePage::new();
    for field in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        page.store(field, index).unwrap();
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
        let prod = guest.page.load(REQ_PROD).unwrap();
        if SIZE - prod.wrapping_sub(guest.page.load(REQ_CONS).unwrap()) < 18 {
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
        guest.page.store(field, value).unwrap();
        let closed = ring.pump(&mut server).unwrap_err();
        assert!(
            matches!(closed, Closed::Channel(ChannelError::RingIndex { .. })),
            "{closed}"
        );
        assert_eq!(guest.page.load(ERROR), Ok(XENSTORE_ERROR_RINGIDX));
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
    assert_eq!(guest.page.load(ERROR), Ok(XENSTORE_ERROR_PROTO));
}

#[test]
fn our_own_indices_are_never_believed_back() {
    let (mut server, mut ring, mut guest) = rig(0);
    guest.send(&get_domain_path());
    ring.pump(&mut server).unwrap();
    guest.receive();
    guest.page.store(REQ_CONS, 7).unwrap();
    let prod = guest.page.load(RSP_PROD).unwrap();
    guest.page.store(RSP_PROD, prod.wrapping_add(500)).unwrap();
    let request = get_domain_path();
    guest.page.write(REQ + 18, &request).unwrap();
    guest.page.store(REQ_PROD, 36).unwrap();
    ring.pump(&mut server).unwrap();
    assert_eq!(guest.page.load(REQ_CONS), Ok(36));
    assert_eq!(guest.receive().len(), 1);
}

#[test]
fn a_guest_may_start_over() {
    let (mut server, mut ring, mut guest) = rig(500);
    let features = guest.page.load(SERVER_FEATURES).unwrap();
    assert_eq!(
        features,
        XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
    );
    guest.send(&get_domain_path()[..7]);
    ring.pump(&mut server).unwrap();
    guest.page.store(CONNECTION, XENSTORE_RECONNECT).unwrap();
    ring.pump(&mut server).unwrap();
    assert!(ring.take_notify());
    assert_eq!(guest.page.load(CONNECTION), Ok(XENSTORE_CONNECTED));
    assert_eq!(guest.page.load(REQ_PROD), Ok(0));
    guest.send(&get_domain_path());
    ring.pump(&mut server).unwrap();
    assert_eq!(guest.receive().len(), 1);
}

#[test]
fn a_page_that_vanishes_ends_the_connection() {
    let (mut server, mut ring, guest) = rig(0);
    guest.page.vanish();
    let closed = ring.pump(&mut server).unwrap_err();
    assert!(matches!(closed, Closed::Channel(ChannelError::Page)));
    assert!(!server.is_connected(ring.conn()));
}
