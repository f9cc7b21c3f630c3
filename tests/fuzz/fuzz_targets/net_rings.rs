//! A network card whose front end writes whatever it likes into its rings and pages, whenever it
//! likes, and whose link is no better.
#![no_main]

use std::io::ErrorKind;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pv_backend::loopback::LoopbackHost;
use pv_net::back::VifSpec;
use pv_net::front::nodes::Wanted;
use pv_net::front::{Buffer, TxFrame};
use pv_net::loopback::{Card, Frame, FrontQueue, wire};
use pv_netdev::{FrameInfo, Gso, Offloads};
use pv_ring::SharedPage;
use xen_sys::GrantRef;
use xen_sys::io::netif::{NetifExtraInfo, NetifTxRequest};
use zerocopy::{FromZeros, IntoBytes};

/// A grant that may mean something.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Gref {
    /// A page that may be read.
    Page(u8),
    /// One that may be written, or a ring.
    Any(u16),
    Wild(u32),
}

/// A size or an offset.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Small(u8),
    NearPage(i8),
    Any(u16),
}

impl Word {
    fn value(self) -> u16 {
        match self {
            Word::Small(value) => value.into(),
            Word::NearPage(near) => 4096u16.wrapping_add_signed(near.into()),
            Word::Any(value) => value,
        }
    }
}

/// The headers of a page.
#[derive(Arbitrary, Debug)]
enum Headers {
    Tcp4 { total: Word, ihl: u8, offset: u8 },
    Udp6 { payload: Word, next: u8 },
    Bytes { at: Word, bytes: Vec<u8> },
}

#[derive(Arbitrary, Debug)]
enum Step {
    Tx {
        gref: Gref,
        offset: Word,
        flags: u8,
        size: Word,
    },
    Extra {
        kind: u8,
        flags: u8,
        u: [u8; 6],
    },
    /// A packet as it should be.
    Send {
        len: Word,
        cuts: Vec<u8>,
    },
    Post(Gref),
    Buffers(u8),
    Headers {
        page: u8,
        headers: Headers,
    },
    /// An index or an event index of a ring, near what it was.
    Index {
        ring: bool,
        word: u8,
        near: i8,
    },
    Word {
        ring: bool,
        word: u16,
        value: u32,
    },
    FromLink {
        len: Word,
        pages: u8,
        start: Option<Word>,
        offset: u8,
        gso: Option<(bool, u16)>,
        ip: u8,
    },
    Busy(bool),
    Fail(u8),
    Multicast(bool),
    LinkDown(bool),
    Reclaim,
    Turn,
}

#[derive(Arbitrary, Debug)]
struct Input {
    offloads: u8,
    wanted: u8,
    buffers: u8,
    filter: bool,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| run(input));

fn run(input: Input) {
    let host = LoopbackHost::new(FrontQueue::PAGES);
    let bit = |byte: u8, n: u8| byte >> n & 1 == 1;
    let offloads = Offloads {
        csum: bit(input.offloads, 0),
        tso4: bit(input.offloads, 1),
        tso6: bit(input.offloads, 2),
    };
    let wanted = Wanted {
        sg: bit(input.wanted, 0),
        gso_tcpv4: bit(input.wanted, 1),
        gso_tcpv6: bit(input.wanted, 2),
        csum: bit(input.wanted, 3),
        ipv6_csum: bit(input.wanted, 4),
        rx_notify: bit(input.wanted, 5),
        multicast_control: bit(input.wanted, 6),
    };
    let mut queue = FrontQueue::new(&host, false, input.buffers.into()).expect("descriptors");
    let (link, far) = wire(offloads);
    let mut spec = VifSpec::new(LoopbackHost::GUEST, 0);
    // No waiting here: frames without buffers are given up at once.
    spec.drain_timeout = Duration::ZERO;
    spec.filter_received = input.filter;
    spec.filter_sent = input.filter;
    let nodes = [("mac", "00:16:3e:00:00:01")];
    let mut card = Card::with(&host, spec, vec![Box::new(link)], &nodes);
    let mut stepper = card
        .connect_stepping(&wanted, &[queue.refs])
        .expect("good nodes");
    for step in input.steps.into_iter().take(200) {
        let turn = matches!(step, Step::Turn);
        act(&mut queue, &mut card, &far, step);
        if turn {
            // What the link may do to one end is bounded; what the guest does, too.
            for _ in 0..8 {
                match stepper.turn() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        assert!(!error.0.is_empty());
                        drop(stepper);
                        assert_eq!(host.mappings(), 0);
                        return;
                    }
                }
            }
        }
        while let Some(frame) = far.take() {
            check(&frame, offloads);
        }
    }
    drop(stepper);
    assert_eq!(host.mappings(), 0);
}

/// What a link may rely on.
fn check(frame: &Frame, offloads: Offloads) {
    let (len, info) = (frame.bytes.len(), &frame.info);
    assert!((14..=65_535).contains(&len));
    if let Some(start) = info.csum_start {
        assert!(offloads.csum);
        assert!(usize::from(start) + usize::from(info.csum_offset) + 2 <= len);
    }
    if let Some(gso) = info.gso {
        assert!(info.csum_start.is_some() && gso.size > 0);
        assert!(if gso.v6 { offloads.tso6 } else { offloads.tso4 });
        assert!(usize::from(gso.header_len) + usize::from(gso.size) < len);
    }
}

fn act(queue: &mut FrontQueue, card: &mut Card, far: &pv_net::loopback::Wire, step: Step) {
    let gref = |queue: &FrontQueue, gref| match gref {
        Gref::Page(page) => queue.tx_gref(page.into()),
        Gref::Any(n) => GrantRef(u32::from(n) % 600),
        Gref::Wild(n) => GrantRef(n),
    };
    match step {
        Step::Tx {
            gref: which,
            offset,
            flags,
            size,
        } => {
            let request = NetifTxRequest {
                gref: gref(queue, which),
                offset: offset.value(),
                flags: flags.into(),
                id: 0,
                size: size.value(),
            };
            let _ = queue.tx.send_raw(&request);
            let _ = queue.tx.publish();
        }
        Step::Extra { kind, flags, u } => {
            let mut slot = NetifTxRequest::new_zeroed();
            let info = NetifExtraInfo {
                kind: kind % 6,
                flags,
                u,
            };
            slot.as_mut_bytes()[..8].copy_from_slice(info.as_bytes());
            let _ = queue.tx.send_raw(&slot);
        }
        Step::Send { len, cuts } => {
            let cuts: Vec<usize> = cuts.iter().take(10).map(|cut| usize::from(*cut)).collect();
            let room = cuts.iter().sum::<usize>() + 4096;
            let bytes = vec![0x45; usize::from(len.value()).min(room)];
            let _ = queue.send(&TxFrame::default(), &bytes, &cuts, 0);
            let _ = queue.tx.publish();
        }
        Step::Post(which) => {
            let gref = gref(queue, which);
            let _ = queue.rx.post(Buffer { name: 0, gref });
            let _ = queue.rx.publish();
        }
        Step::Buffers(count) => {
            for name in 0..count {
                let _ = queue.post(name.into());
            }
            let _ = queue.rx.publish();
        }
        Step::Headers { page, headers } => write_headers(queue, page, headers),
        Step::Index { ring, word, near } => {
            let page = &queue.ring_pages[usize::from(ring)];
            let at = usize::from(word % 4) * 4;
            page.store_u32(at, page.load_u32(at).wrapping_add_signed(near.into()));
        }
        Step::Word { ring, word, value } => {
            let page = &queue.ring_pages[usize::from(ring)];
            page.store_u32(usize::from(word % 1024) * 4, value);
        }
        Step::FromLink {
            len,
            pages,
            start,
            offset,
            gso,
            ip,
        } => {
            let len = usize::from(pages % 16) * 4096 + usize::from(len.value());
            let mut bytes = vec![0; len.min(65_535)];
            if let Some(head) = bytes.get_mut(..64) {
                let v6 = ip & 1 == 1;
                head[12..15].copy_from_slice(if v6 {
                    &[0x86, 0xdd, 0x60]
                } else {
                    &[8, 0, 0x45]
                });
                head[16..18].copy_from_slice(&((len as u16).wrapping_sub(14)).to_be_bytes());
                head[20] = 6;
                head[23] = 6;
                head[0] = ip >> 1;
            }
            let info = FrameInfo {
                csum_start: start.map(Word::value),
                csum_offset: offset.into(),
                csum_valid: false,
                gso: gso.map(|(v6, size)| Gso {
                    v6,
                    size,
                    header_len: 0,
                    ecn: false,
                }),
            };
            far.push(Frame { bytes, info });
        }
        Step::Busy(busy) => far.set_busy(busy),
        Step::Fail(how) => {
            let errors = [
                None,
                Some(ErrorKind::HostUnreachable),
                Some(ErrorKind::InvalidData),
            ];
            far.fail_send(errors[usize::from(how % 2)]);
            far.fail_recv(errors[usize::from(how / 2 % 3)]);
        }
        Step::Multicast(on) => {
            let value = if on { "1" } else { "0" };
            let _ = card.change(&[], &[("request-multicast-control", value)]);
        }
        Step::LinkDown(down) => {
            let _ = card.change(&[("link", if down { "down" } else { "up" })], &[]);
        }
        Step::Reclaim => {
            let _ = queue.tx.raw_response();
            let _ = queue.rx.recv();
        }
        Step::Turn => {}
    }
}

fn write_headers(queue: &FrontQueue, page: u8, headers: Headers) {
    let page = queue.tx_page(page.into());
    match headers {
        Headers::Tcp4 { total, ihl, offset } => {
            page.write(12, &[8, 0, 0x40 | ihl & 0xf]);
            page.write(16, &total.value().to_be_bytes());
            page.write(20, &[0, 0, 64, 6]);
            page.write(14 + usize::from(ihl & 0xf) * 4 + 12, &[offset]);
        }
        Headers::Udp6 { payload, next } => {
            page.write(12, &[0x86, 0xdd, 0x60]);
            page.write(18, &payload.value().to_be_bytes());
            page.write(
                20,
                &[[17, 6, 0, 43, 44, 51, 60, next][usize::from(next % 8)]],
            );
        }
        Headers::Bytes { at, bytes } => {
            let at = usize::from(at.value()) % 4096;
            let len = bytes.len().min(4096 - at);
            page.write(at, &bytes[..len]);
        }
    }
}
