//! The xenstore page of a guest that writes whatever it likes to it.
#![no_main]

use std::mem::offset_of;
use std::rc::Rc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pv_ring::{SharedPage, WordPage};
use xen_sys::addr::PAGE_SIZE;
use xen_sys::io::xs_wire::XenstoreDomainInterface;
use xt_xenstore::DomId;
use xt_xenstore::perms::Identity;
use xt_xenstore::ring::GuestRing;
use xt_xenstore::server::Server;
use xt_xenstore::store::Quotas;

const REQ_PROD: usize = offset_of!(XenstoreDomainInterface, req_prod);
const RSP_CONS: usize = offset_of!(XenstoreDomainInterface, rsp_cons);

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
    let page = Rc::new(WordPage::new());
    let mut server = Server::new(Quotas::default());
    server.introduce(DomId(1));
    let who = Identity::guest(DomId(1));
    let mut ring = GuestRing::connect(&mut server, who, page.clone()).expect("a whole page");
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
                let cons = page.load_u32(RSP_CONS).wrapping_add(count.into());
                page.store_u32(RSP_CONS, cons);
            }
            Step::Poke { offset, value } => {
                let offset = usize::from(offset) % (PAGE_SIZE / 4) * 4;
                page.store_u32(offset, value);
            }
            Step::Pump => pump(&mut ring, &mut server),
        }
    }
});

fn send(page: &WordPage, bytes: &[u8]) {
    let prod = page.load_u32(REQ_PROD);
    for (index, byte) in (0u32..).zip(bytes.iter().take(1024)) {
        let at = prod.wrapping_add(index) as usize % 1024;
        page.write(at, &[*byte]);
    }
    let prod = prod.wrapping_add(bytes.len().min(1024) as u32);
    page.store_u32(REQ_PROD, prod);
}

fn pump(ring: &mut GuestRing<Rc<WordPage>>, server: &mut Server) {
    let broken = ring.is_broken();
    let result = ring.pump(server);
    assert!(!(broken && result.is_err()), "a broken ring complains once");
    assert_eq!(ring.is_broken(), broken || result.is_err());
    ring.take_notify();
}
