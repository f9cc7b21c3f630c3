use std::vec::Vec;

use proptest::prelude::*;
use xen_sys::GrantRef;
use xen_sys::io::blkif::{BlkifRequest, BlkifResponse};
use xen_sys::io::netif::{NetifTxRequest, NetifTxResponse};

use super::*;
use crate::WordPage;

type Front<'a> = FrontRing<&'a WordPage, NetifTxRequest, NetifTxResponse>;
type Back<'a> = BackRing<&'a WordPage, NetifTxRequest, NetifTxResponse>;

fn ends(page: &WordPage) -> (Front<'_>, Back<'_>) {
    (
        FrontRing::init(page).unwrap(),
        BackRing::attach(page).unwrap(),
    )
}

fn request(id: u16) -> NetifTxRequest {
    NetifTxRequest {
        gref: GrantRef(7),
        id,
        ..Default::default()
    }
}

fn response(id: u16) -> NetifTxResponse {
    NetifTxResponse { id, status: 0 }
}

#[test]
fn geometry_is_the_headers() {
    let page = WordPage::new();
    let blk = FrontRing::<_, BlkifRequest, BlkifResponse>::init(&page).unwrap();
    assert_eq!(blk.slots(), 32);
    assert_eq!(ends(&page).0.slots(), 256);
    let small = WordPage::<16>::zeroed();
    let error = BackRing::<_, BlkifRequest, BlkifResponse>::attach(&small).unwrap_err();
    assert_eq!(
        error,
        RingError::TooSmall {
            need: 176,
            have: 64
        }
    );
}

#[test]
fn an_idle_end_is_notified_once_per_batch() {
    let page = WordPage::new();
    let (mut front, mut back) = ends(&page);
    assert!(!back.final_check().unwrap());
    front.push(&request(1)).unwrap();
    front.push(&request(2)).unwrap();
    assert!(front.publish(), "the back end sleeps");
    front.push(&request(3)).unwrap();
    assert!(!front.publish(), "it has been notified already");

    assert!(back.final_check().unwrap(), "requests wait, no sleep");
    for id in 1..=3 {
        assert_eq!(back.pop().unwrap(), Some(request(id)));
        back.push(&response(id)).unwrap();
    }
    assert_eq!(back.pop().unwrap(), None);
    assert!(back.publish());
    assert!(!back.publish(), "nothing new");
    assert_eq!(front.pop().unwrap(), Some(response(1)));
}

#[test]
fn a_front_end_may_ask_for_several_responses_at_once() {
    let page = WordPage::new();
    let (mut front, mut back) = ends(&page);
    for id in 0..4 {
        front.push(&request(id)).unwrap();
    }
    let _ = front.publish();
    assert!(!front.final_check_for(3).unwrap());
    for (id, notify) in [(0, false), (1, false), (2, true), (3, false)] {
        back.pop().unwrap();
        back.push(&response(id)).unwrap();
        assert_eq!(back.unpublished(), 1);
        assert_eq!(back.publish(), notify, "{id}");
        assert_eq!(back.unpublished(), 0);
    }
    assert!(front.final_check_for(4).unwrap());
    assert!(!front.final_check_for(5).unwrap());
}

#[test]
fn a_full_ring_takes_no_more() {
    let page = WordPage::new();
    let (mut front, mut back) = ends(&page);
    for id in 0..256 {
        front.push(&request(id)).unwrap();
    }
    assert_eq!(front.push(&request(0)), Err(RingError::Full));
    assert_eq!(
        back.push(&response(0)),
        Err(RingError::Full),
        "no request taken yet"
    );
    let _ = front.publish();
    back.pop().unwrap();
    back.push(&response(0)).unwrap();
    let _ = back.publish();
    assert_eq!(front.free(), 0);
    front.pop().unwrap().unwrap();
    assert_eq!(front.free(), 1);
}

#[test]
fn unanswered_requests_are_taken_again_after_attach() {
    let page = WordPage::new();
    let (mut front, mut back) = ends(&page);
    for id in 1..=2 {
        front.push(&request(id)).unwrap();
    }
    let _ = front.publish();
    back.pop().unwrap();
    back.push(&response(1)).unwrap();
    let _ = back.publish();
    back.pop().unwrap();
    let mut again = Back::attach(&page).unwrap();
    assert_eq!(again.pop().unwrap(), Some(request(2)));
}

/// A back end that takes two requests, answers one of them, and is killed at some point.
#[test]
fn a_ring_is_not_taken_over_in_the_midst_of_answers() {
    for (taken, answered, published, abandoned) in [
        (0, 0, false, false),
        (2, 0, false, false),
        (2, 1, false, true),
        (2, 1, true, true),
        (2, 2, false, true),
        (2, 2, true, false),
        (1, 1, true, false),
    ] {
        let page = WordPage::new();
        let mut front = Front::init(&page).unwrap();
        let mut back = Back::attach_noting(&page).unwrap();
        for id in 0..2 {
            front.push(&request(id)).unwrap();
        }
        let _ = front.publish();
        for _ in 0..taken {
            back.pop().unwrap().unwrap();
        }
        for id in 0..answered {
            back.push(&response(id)).unwrap();
        }
        if published {
            let _ = back.publish();
        }
        let again = Back::attach_noting(&page);
        assert_eq!(again.is_err(), abandoned, "{taken} {answered} {published}");
        match again {
            Ok(mut again) => {
                let left = std::iter::from_fn(|| again.pop().unwrap()).count();
                assert_eq!(left, 2 - usize::from(answered));
            }
            Err(error) => assert_eq!(error, RingError::Abandoned),
        }
    }
}

#[test]
fn two_threads_lose_no_wake_up() {
    const COUNT: u16 = 20_000;
    let page = WordPage::new();
    let (mut front, mut back) = ends(&page);
    let (to_back, at_back) = std::sync::mpsc::channel();
    let (to_front, at_front) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut done = 0;
            while done < COUNT {
                while let Some(request) = back.pop().unwrap() {
                    back.push(&response(request.id)).unwrap();
                    done += 1;
                }
                if back.publish() {
                    to_front.send(()).unwrap();
                }
                if done < COUNT && !back.final_check().unwrap() {
                    at_back.recv().unwrap();
                }
            }
        });
        let mut sent = 0;
        let mut got = 0;
        while got < COUNT {
            while sent < COUNT && front.push(&request(sent)).is_ok() {
                sent += 1;
            }
            if front.publish() {
                // The back end may have finished already.
                let _ = to_back.send(());
            }
            while let Some(response) = front.pop().unwrap() {
                assert_eq!(response.id, got);
                got += 1;
            }
            // With nothing outstanding there is no response to wait for.
            if got < sent && !front.final_check().unwrap() {
                at_front.recv().unwrap();
            }
        }
    });
}

proptest! {
    #[test]
    fn requests_and_responses_keep_their_order(
        steps in prop::collection::vec((0..4u8, 1..300usize), 1..60),
    ) {
        let page = WordPage::new();
        let (mut front, mut back) = ends(&page);
        let (mut sent, mut taken, mut answered, mut got) = (0u16, 0u16, 0u16, 0u16);
        let mut held = Vec::new();
        for (what, count) in steps {
            for _ in 0..count {
                match what {
                    0 if front.push(&request(sent)).is_ok() => sent += 1,
                    1 => if let Some(request) = back.pop().unwrap() {
                        prop_assert_eq!(request.id, taken);
                        held.push(request.id);
                        taken += 1;
                    },
                    2 if !held.is_empty() => {
                        back.push(&response(held.remove(0))).unwrap();
                        answered += 1;
                    }
                    3 => if let Some(response) = front.pop().unwrap() {
                        prop_assert_eq!(response.id, got);
                        got += 1;
                    },
                    _ => {}
                }
            }
            let _ = (front.publish(), back.publish());
            prop_assert!(got <= answered && answered <= taken && taken <= sent);
            prop_assert!(sent - got <= 256);
        }
    }

    #[test]
    fn a_hostile_front_end_is_refused(prods in prop::collection::vec(any::<u32>(), 1..20)) {
        let page = WordPage::new();
        let (_, mut back) = ends(&page);
        for prod in prods {
            page.store_u32(SRING_REQ_PROD, prod);
            let claimed = prod.wrapping_sub(back.req_cons);
            let room = back.slots() - back.in_flight();
            prop_assert_eq!(back.waiting().is_err(), claimed > room);
            let mut taken = 0;
            while let Ok(Some(_)) = back.pop() {
                taken += 1;
            }
            prop_assert!(taken <= room && back.in_flight() <= back.slots());
        }
    }

    #[test]
    fn a_hostile_back_end_is_refused(pushed in 0..256u32, prod: u32) {
        let page = WordPage::new();
        let (mut front, _) = ends(&page);
        for _ in 0..pushed {
            front.push(&request(0)).unwrap();
        }
        let _ = front.publish();
        page.store_u32(SRING_RSP_PROD, prod);
        match front.waiting() {
            Ok(n) => prop_assert!(n == prod && prod <= pushed),
            Err(_) => prop_assert!(prod > pushed),
        }
    }

    #[test]
    fn attaching_checks_the_indices(req_prod: u32, rsp_prod: u32) {
        let page = WordPage::new();
        page.store_u32(SRING_REQ_PROD, req_prod);
        page.store_u32(SRING_RSP_PROD, rsp_prod);
        prop_assert_eq!(Back::attach(&page).is_ok(), req_prod.wrapping_sub(rsp_prod) <= 256);
    }
}
