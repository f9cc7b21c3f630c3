//! The xenstore page of a guest that writes whatever it likes to it.
#![no_main]

use std::cell::RefCell;
use std::mem::offset_of;
use std::rc::Rc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use xen_sys::io::xs_wire::XenstoreDomainInterface;
use xt_xenstore::DomId;
use xt_xenstore::perms::Identity;
use xt_xenstore::ring::{GuestRing, PageError, SharedPage};
use xt_xenstore::server::Server;
use xt_xenstore::store::Quotas;

const PAGE: usize = 4096;
const REQ_PROD: usize = offset_of!(XenstoreDomainInterface, req_prod);
const RSP_CONS: usize = offset_of!(XenstoreDomainInterface, rsp_cons);

#[derive(Clone)]
struct Page(Rc<RefCell<[u8; PAGE]>>);

impl Page {
    fn word(&self, offset: usize) -> u32 {
        self.load(offset).unwrap_or(0)
    }
}

impl SharedPage for Page {
    fn load(&self, offset: usize) -> Result<u32, PageError> {
        let mut word = [0; 4];
        self.read(offset, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store(&self, offset: usize, value: u32) -> Result<(), PageError> {
        self.write(offset, &value.to_le_bytes())
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), PageError> {
        let page = self.0.borrow();
        to.copy_from_slice(
            page.get(offset..offset + to.len())
                .expect("a read is in the page"),
        );
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), PageError> {
        let mut page = self.0.borrow_mut();
        page.get_mut(offset..offset + from.len())
            .expect("a write is in the page")
            .copy_from_slice(from);
        Ok(())
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Puts bytes into the request ring where they belong and moves the producer.
    Send(Vec<u8>),
    /// A whole message.
    Request {
        kind: u8,
        transaction: u8,
        payload: Vec<u8>,
    },
    /// Reads some replies.
    Receive(u16),
    /// Scribbles.
    Poke { offset: u16, value: u32 },
    /// The server's turn.
    Pump,
}

fuzz_target!(|steps: Vec<Step>| {
    let page = Page(Rc::new(RefCell::new([0; PAGE])));
    let mut server = Server::new(Quotas::default());
    server.introduce(DomId(1));
    let who = Identity::guest(DomId(1));
    let mut ring = GuestRing::connect(&mut server, who, page.clone()).expect("the page is there");
    for step in steps.into_iter().take(500) {
        match step {
            Step::Send(bytes) => send(&page, &bytes),
            Step::Request {
                kind,
                transaction,
                mut payload,
            } => {
                payload.truncate(900);
                let header = [
                    u32::from(kind % 24),
                    7,
                    u32::from(transaction % 3),
                    payload.len() as u32,
                ];
                let header: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
                send(&page, &[header, payload].concat());
                pump(&mut ring, &mut server);
            }
            Step::Receive(count) => {
                let cons = page.word(RSP_CONS).wrapping_add(count.into());
                page.store(RSP_CONS, cons).expect("the page is there");
            }
            Step::Poke { offset, value } => {
                let offset = usize::from(offset) % (PAGE / 4) * 4;
                page.store(offset, value).expect("the page is there");
            }
            Step::Pump => pump(&mut ring, &mut server),
        }
    }
});

fn send(page: &Page, bytes: &[u8]) {
    let prod = page.word(REQ_PROD);
    for (index, byte) in (0u32..).zip(bytes.iter().take(1024)) {
        let at = prod.wrapping_add(index) as usize % 1024;
        page.write(at, &[*byte]).expect("the ring is in the page");
    }
    let prod = prod.wrapping_add(bytes.len().min(1024) as u32);
    page.store(REQ_PROD, prod).expect("the page is there");
}

fn pump(ring: &mut GuestRing<Page>, server: &mut Server) {
    let broken = ring.is_broken();
    let result = ring.pump(server);
    assert!(!(broken && result.is_err()), "a broken ring complains once");
    assert_eq!(ring.is_broken(), broken || result.is_err());
    ring.take_notify();
}
