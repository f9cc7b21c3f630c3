//! Each thing that can happen to a device, one at a time.

use XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising};

use super::*;

#[test]
fn a_device_connects_closes_and_connects_again() {
    let mut rig = Rig::new();
    let id = id(1, 51712);
    rig.create(&id);
    rig.expect(&id, InitWait);
    assert_eq!(rig.back(&id, "feature-x").as_deref(), Some("1"));
    assert_eq!(
        rig.back(&id, "hotplug-status").as_deref(),
        Some("connected")
    );
    for life in 1..=3 {
        rig.connect(&id);
        assert_eq!(rig.back(&id, "state").as_deref(), Some("4"));
        assert_eq!(rig.back(&id, "sectors").as_deref(), Some("8"));
        rig.record(&id, |record| {
            assert_eq!(record.front.number("ring-ref"), Some(8));
            assert_eq!((record.connects, record.connected), (life, true));
        });
        rig.say(&id, Closing);
        rig.expect(&id, Closing);
        rig.record(&id, |r| {
            assert!(r.connected, "a disk in use is written to until closed")
        });
        rig.say(&id, Closed);
        rig.expect(&id, Closed);
        rig.record(&id, |record| assert!(!record.connected));
        rig.say(&id, Initialising);
    }
    rig.expect(&id, InitWait);
    rig.record(&id, |record| {
        assert_eq!(record.opened, 1);
        assert!(record.changed.is_empty(), "what we publish is no change");
    });
    let entry = rig.control.device(&id).unwrap();
    assert_eq!(entry.stats.unwrap().stats().name, "vbd/1/51712");
}

#[test]
fn a_front_end_that_died_without_a_word_is_served_anew() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    rig.say(&id, Initialising);
    rig.connect(&id);
    rig.record(&id, |record| assert_eq!(record.connects, 2));
}

/// A kexec, a crash, a boot loader: whatever state the old front end had said last, the new one begins
/// with the first.
#[test]
fn a_front_end_that_starts_anew_at_any_state_is_served() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    let mut connects = 0;
    for reached in [Initialising, Initialised, Connected, Closing, Closed] {
        if reached != Initialising {
            rig.connect(&id);
            connects += 1;
        }
        // An end that did not wait for ours to see it, and one that did.
        for wait in [false, true] {
            rig.say(&id, reached);
            if wait && matches!(reached, Closing | Closed) {
                rig.expect(&id, reached);
            }
            rig.say(&id, Initialising);
            rig.connect(&id);
            connects += 1;
            rig.record(&id, |record| {
                assert!(record.connected && record.wrong.is_empty(), "{reached}");
                assert_eq!(record.connects, connects, "{reached}");
            });
        }
        rig.say(&id, Initialising);
    }
}

#[test]
fn a_toolstack_detaches_in_order() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    rig.ask_detach(&id);
    rig.expect(&id, Closing);
    rig.record(&id, |record| assert!(record.connected));
    rig.say(&id, Closed);
    rig.expect(&id, Closed);
    assert_eq!(rig.back(&id, "state").as_deref(), Some("6"));
    // What is detached does not come back.
    rig.say(&id, Initialising);
    rig.control.changed(&id);
    rig.store.rm(&back(&id)).unwrap();
    rig.expect_gone(&id);
    rig.record(&id, |record| assert_eq!(record.opened, 1));
    assert_eq!(rig.back(&id, "state"), None);
}

#[test]
fn a_device_nobody_uses_is_detached_at_once() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.expect(&id, InitWait);
    rig.ask_detach(&id);
    rig.expect(&id, Closed);
}

#[test]
fn force_removes_the_front_end_first() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    rig.store.rm(&front(&id)).unwrap();
    rig.expect(&id, Closed);
    rig.record(&id, |record| assert!(!record.connected));
}

#[test]
fn removed_from_under_it_a_device_is_not_brought_back() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    rig.store.rm("/local/domain/0/backend/vbd/1").unwrap();
    rig.expect_gone(&id);
    assert_eq!(rig.back(&id, "state"), None);
    // Another one of the same name.
    rig.create(&id);
    rig.connect(&id);
    rig.record(&id, |record| assert_eq!(record.opened, 2));
}

#[test]
fn a_device_made_anew_in_one_go_starts_over() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    let (back, front) = (back(&id), front(&id));
    rig.store
        .transaction(|store| {
            store.rm(&back)?;
            store.write(&format!("{front}/state"), "1")?;
            store.write(&format!("{back}/frontend"), &front)?;
            store.write(&format!("{back}/state"), "1")
        })
        .unwrap();
    rig.connect(&id);
    rig.record(&id, |record| {
        assert_eq!((record.opened, record.connects), (2, 2))
    });
}

#[test]
fn a_domain_that_is_gone_takes_its_devices_along() {
    let mut rig = Rig::new();
    let (dead, alive) = (id(1, 0), id(2, 0));
    for id in [&dead, &alive] {
        let domid = id.domid;
        rig.service
            .call(move |s| s.server.introduce(domid))
            .unwrap();
        rig.create(id);
        rig.connect(id);
    }
    rig.service.call(|s| s.server.release(DomId(1))).unwrap();
    rig.expect(&dead, Closed);
    assert_eq!(rig.control.device(&alive).unwrap().state, Connected);
}

#[test]
fn a_restarted_manager_takes_over_what_it_finds() {
    let mut rig = Rig::new();
    let (connected, waiting, closed, late) = (id(1, 0), id(1, 1), id(1, 2), id(1, 3));
    for id in [&connected, &waiting, &closed, &late] {
        rig.create(id);
    }
    rig.connect(&connected);
    rig.expect(&waiting, InitWait);
    rig.connect(&closed);
    rig.say(&closed, Closed);
    rig.expect(&closed, Closed);
    rig.expect(&late, InitWait);
    rig.stop();
    rig.record(&connected, |record| assert!(!record.connected));
    assert_eq!(rig.back(&connected, "state").as_deref(), Some("4"));
    rig.say(&late, Initialised);

    rig.restart();
    rig.expect(&connected, Connected);
    rig.expect(&late, Connected);
    rig.expect(&waiting, InitWait);
    rig.expect(&closed, Closed);
    rig.say(&closed, Initialising);
    rig.connect(&closed);
    rig.connect(&waiting);
}

#[test]
fn errors_are_told_and_another_try_is_possible() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.record(&id, |record| record.refuse_connect = true);
    rig.create(&id);
    rig.expect(&id, InitWait);
    rig.say(&id, Initialised);
    rig.expect(&id, Closing);
    let path = "/local/domain/0/error/backend/vbd/1/0/error";
    let told = Some("5 No such ring");
    assert_eq!(rig.back(&id, "error").as_deref(), told);
    rig.say(&id, Closed);
    rig.expect(&id, Closed);
    assert_eq!(rig.store.read_text(path).unwrap().as_deref(), told);
    let entry = rig.control.device(&id).unwrap();
    assert_eq!(entry.error.as_deref(), Some("No such ring"));

    rig.record(&id, |record| record.refuse_connect = false);
    rig.say(&id, Initialising);
    rig.connect(&id);
    assert_eq!(rig.back(&id, "error"), None);
    assert_eq!(rig.store.read_text(path).unwrap(), None);
    assert_eq!(rig.control.device(&id).unwrap().error, None);
}

#[test]
fn a_medium_that_cannot_be_opened_closes_the_device() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.record(&id, |record| record.refuse_open = true);
    rig.create(&id);
    rig.expect(&id, Closed);
    assert_eq!(rig.back(&id, "error").as_deref(), Some("5 No such medium"));
    rig.record(&id, |record| assert_eq!(record.opened, 1, "tried once"));
}

#[test]
fn a_queue_that_breaks_closes_the_device() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    let reporter = rig.record(&id, |record| record.reporter.clone().unwrap());
    let reporter = thread::spawn(move || {
        reporter.failed(DeviceError("Ring is broken".to_owned()));
        reporter
    });
    rig.expect(&id, Closing);
    rig.say(&id, Closed);
    rig.expect(&id, Closed);
    rig.say(&id, Initialising);
    rig.connect(&id);
    // A report from a former life is none on this one.
    reporter
        .join()
        .unwrap()
        .failed(DeviceError("Late".to_owned()));
    rig.say(&id, Closed);
    rig.expect(&id, Closed);
    assert_eq!(rig.control.device(&id).unwrap().error, None);
}

#[test]
fn drivers_hear_of_changes_by_the_toolstack_and_of_nudges() {
    let mut rig = Rig::new();
    let id = id(1, 0);
    rig.create(&id);
    rig.connect(&id);
    // The same value again is news too: the medium below may have grown.
    for value in ["aio:/disk", "aio:/other"] {
        let before = rig.record(&id, |record| record.changed.len());
        rig.store
            .write(&format!("{}/params", back(&id)), value)
            .unwrap();
        rig.wait_for_change(&id, before);
        let seen = rig.record(&id, |r| {
            r.changed
                .last()
                .and_then(|n| n.text("params").map(str::to_owned))
        });
        assert_eq!(seen.as_deref(), Some(value));
    }
    let before = rig.record(&id, |record| record.changed.len());
    rig.control.changed(&id);
    rig.wait_for_change(&id, before);

    // What the driver then says is published, and the state with it.
    let path = format!("{}/state", back(&id));
    rig.store.watch(&path, "state").unwrap();
    rig.store.next_event(Some(LONG)).unwrap().unwrap();
    rig.store
        .write(&format!("{}/size", back(&id)), "16")
        .unwrap();
    rig.store
        .next_event(Some(LONG))
        .unwrap()
        .expect("the state again");
    assert_eq!(rig.back(&id, "sectors").as_deref(), Some("16"));
    assert_eq!(rig.back(&id, "state").as_deref(), Some("4"));
}

impl Rig {
    /// Until [`Driver::changed`] has been called again.
    pub(super) fn wait_for_change(&mut self, id: &DeviceId, before: usize) {
        let deadline = std::time::Instant::now() + LONG;
        while self.record(id, |record| record.changed.len()) == before {
            assert!(std::time::Instant::now() < deadline, "no change");
            // Each request is a turn of the server, in which the manager gets its events.
            self.back(id, "state");
        }
    }
}

#[test]
fn other_threads_can_detach() {
    let mut rig = Rig::new();
    let (orderly, forced) = (id(1, 0), id(1, 1));
    for id in [&orderly, &forced] {
        rig.create(id);
        rig.connect(id);
    }
    rig.control.detach(&orderly, false);
    rig.expect(&orderly, Closing);
    rig.say(&orderly, Closed);
    rig.expect(&orderly, Closed);
    rig.control.detach(&forced, true);
    rig.expect(&forced, Closed);
    rig.record(&forced, |record| assert!(!record.connected));
    assert_eq!(rig.back(&forced, "online").as_deref(), Some("0"));
    assert_eq!(rig.control.devices().len(), 2);
    rig.stop();
    assert!(rig.control.devices().is_empty());
}

#[test]
fn a_device_waits_for_the_toolstacks_script() {
    let mut rig = Rig::with_scripts(true);
    let id = id(1, 0);
    let script = format!("{}/script", back(&id));
    rig.store.write(&script, "/etc/xen/scripts/block").unwrap();
    rig.create(&id);
    rig.expect(&id, InitWait);
    assert_eq!(
        rig.back(&id, "hotplug-status"),
        None,
        "that is the script's"
    );
    rig.say(&id, Initialised);
    rig.control.changed(&id);
    let path = format!("{}/hotplug-status", back(&id));
    rig.store.write(&path, "busy").unwrap();
    rig.record(&id, |record| assert_eq!(record.connects, 0));
    rig.store.write(&path, "connected").unwrap();
    rig.expect(&id, Connected);
}

#[test]
fn what_others_serve_is_left_alone() {
    let mut rig = Rig::new();
    let (other, ours) = (id(1, 0), id(1, 1));
    rig.store
        .write(&format!("{}/type", back(&other)), "elsewhere")
        .unwrap();
    rig.create(&other);
    rig.create(&ours);
    rig.connect(&ours);
    rig.say(&other, Initialised);
    rig.say(&ours, Closed);
    rig.expect(&ours, Closed);
    assert_eq!(rig.back(&other, "state").as_deref(), Some("1"));
    assert_eq!(rig.control.devices().len(), 1);
}
