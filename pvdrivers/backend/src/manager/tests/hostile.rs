//! Front ends that lie, and ones that flood.

use std::sync::atomic::{AtomicBool, Ordering};

use XenbusState::{Closed, InitWait, Initialised, Initialising};

use super::*;

#[test]
fn nonsense_in_the_state_is_no_front_end() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    let path = format!("{}/state", front(&id));
    for nonsense in [
        &b"x"[..],
        b"",
        b"99999999999999999999",
        b"\xff\xff",
        &[b'4'; 4000],
    ] {
        rig.create(&id);
        rig.connect(&id);
        rig.store.write(&path, nonsense).unwrap();
        rig.expect(&id, Closed);
        rig.record(&id, |record| assert!(!record.connected));
        rig.say(&id, Initialising);
    }
}

#[test]
fn thousands_of_nodes_close_the_device() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.expect(&id, InitWait);
    for i in 0..1100 {
        rig.store
            .write(&format!("{}/junk/{i}", front(&id)), "")
            .unwrap();
    }
    rig.say(&id, Initialised);
    rig.expect(&id, XenbusState::Closing);
    let error = rig.control.device(&id).unwrap().error.unwrap();
    assert!(error.contains("more than 1024 nodes"), "{error}");
    rig.record(&id, |record| assert_eq!(record.connects, 0));
}

#[test]
fn deep_trees_are_cut() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    let deep = "/x".repeat(400);
    rig.store
        .write(&format!("{}{deep}", front(&id)), "1")
        .unwrap();
    let big = format!("{}/big", front(&id));
    rig.store.write(&big, vec![b'9'; 3000]).unwrap();
    rig.connect(&id);
    rig.record(&id, |record| {
        assert!(record.front.0.contains_key("x/x/x"));
        assert!(!record.front.0.contains_key("x/x/x/x"));
        assert_eq!(record.front.number::<u64>("big"), None);
    });
}

#[test]
fn a_back_end_whose_front_end_is_elsewhere_is_refused() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    let back = back(&id);
    rig.store
        .write(&format!("{back}/frontend"), "/local/domain/2/device/vbd/0")
        .unwrap();
    rig.store.write(&format!("{back}/state"), "1").unwrap();
    rig.expect(&id, Closed);
    let error = rig.back(&id, "error").unwrap();
    assert!(error.contains("not in its domain's directory"), "{error}");
}

/// One guest writes as fast as it can, states and nodes; another one's devices come and go.
#[test]
fn a_flood_does_not_keep_others_from_their_turn() {
    let mut rig = Rig::new();
    let flooder = id(1, 0);
    rig.create(&flooder);
    rig.expect(&flooder, InitWait);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (mut store, stop) = (local_client(&rig.service), Arc::clone(&stop));
        let front = front(&flooder);
        thread::spawn(move || {
            let states = ["3", "4", "1", "5", "6", "1", "4", "x"];
            let mut count = 0u64;
            for state in states.iter().cycle() {
                store.write(&format!("{front}/state"), state).unwrap();
                store
                    .write(&format!("{front}/n{}", count % 64), state)
                    .unwrap();
                count += 1;
                if stop.load(Ordering::Relaxed) {
                    return count;
                }
            }
            count
        })
    };
    for round in 0..20 {
        let id = id(2, round);
        rig.create(&id);
        rig.connect(&id);
        rig.ask_detach(&id);
        rig.say(&id, Closed);
        rig.expect(&id, Closed);
        rig.store.rm(&back(&id)).unwrap();
        rig.expect_gone(&id);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 100, "that was no flood");
    // The flooder's device works once it behaves.
    rig.say(&flooder, Closed);
    rig.expect(&flooder, Closed);
    rig.say(&flooder, Initialising);
    rig.connect(&flooder);
}
