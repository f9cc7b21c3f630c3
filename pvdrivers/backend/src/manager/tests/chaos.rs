//! Random orders of everything.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    /// The toolstack makes the device, or makes it anew.
    Create,
    /// The front end says a state, or nonsense.
    Front(&'static str),
    FrontNode(u8),
    RemoveFront,
    AskDetach,
    /// `libxl` with force: no front end, then as above.
    Force,
    RemoveBack,
    BackState(&'static str),
    BackNode,
    Introduce,
    Release,
    /// Other threads.
    Detach(bool),
    Changed,
    Broken,
    Refuse {
        open: bool,
        connect: bool,
    },
    Restart,
    /// Lets the manager catch up.
    Settle,
}

fn act() -> impl Strategy<Value = Act> {
    let state = prop::sample::select(vec!["0", "1", "2", "3", "4", "5", "6", "7", "8", "x", ""]);
    let handshake = prop::sample::select(vec!["1", "3", "4", "5", "6"]);
    prop_oneof![
        4 => Just(Act::Create),
        12 => handshake.prop_map(Act::Front),
        3 => state.prop_map(Act::Front),
        2 => any::<u8>().prop_map(Act::FrontNode),
        1 => Just(Act::RemoveFront),
        2 => Just(Act::AskDetach),
        1 => Just(Act::Force),
        1 => Just(Act::RemoveBack),
        1 => prop::sample::select(vec!["1", "5", "6"]).prop_map(Act::BackState),
        1 => Just(Act::BackNode),
        1 => Just(Act::Introduce),
        1 => Just(Act::Release),
        1 => any::<bool>().prop_map(Act::Detach),
        1 => Just(Act::Changed),
        1 => Just(Act::Broken),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(open, connect)| Act::Refuse { open, connect }),
        1 => Just(Act::Restart),
        8 => Just(Act::Settle),
    ]
}

impl Rig {
    fn act(&mut self, id: &DeviceId, act: &Act) {
        let (back, front) = (back(id), front(id));
        match *act {
            Act::Create => self.create(id),
            Act::Front(state) => self.if_there(&front, |store| {
                store.write(&format!("{front}/state"), state)
            }),
            Act::FrontNode(n) => self.if_there(&front, |store| {
                store.write(&format!("{front}/queue-{n}/ring-ref"), "7")
            }),
            Act::RemoveFront => store::remove(&mut self.store, &front).unwrap(),
            Act::AskDetach => self.if_there(&format!("{back}/state"), |store| {
                store.write(&format!("{back}/online"), "0")?;
                store.write(&format!("{back}/state"), "5")
            }),
            Act::Force => {
                self.act(id, &Act::RemoveFront);
                self.act(id, &Act::AskDetach);
            }
            Act::RemoveBack => store::remove(&mut self.store, &back).unwrap(),
            Act::BackState(state) => self.if_there(&format!("{back}/state"), |store| {
                store.write(&format!("{back}/state"), state)
            }),
            Act::BackNode => self.if_there(&format!("{back}/state"), |store| {
                store.write(&format!("{back}/size"), "32")
            }),
            Act::Introduce => {
                let domid = id.domid;
                self.service
                    .call(move |s| s.server.introduce(domid))
                    .unwrap();
            }
            Act::Release => {
                let domid = id.domid;
                self.service.call(move |s| s.server.release(domid)).unwrap();
            }
            Act::Detach(force) => self.control.detach(id, force),
            Act::Changed => self.control.changed(id),
            Act::Broken => {
                if let Some(reporter) = self.record(id, |record| record.reporter.clone()) {
                    reporter.failed(DeviceError("Broken".to_owned()));
                }
            }
            Act::Refuse { open, connect } => self.record(id, |record| {
                (record.refuse_open, record.refuse_connect) = (open, connect);
            }),
            Act::Restart => self.restart(),
            Act::Settle => {
                let brief = Duration::from_millis(3);
                self.control.wait_for(id, brief, |_| false);
            }
        }
    }

    /// Until the manager has taken all commands so far: one may hit a device that is made anew
    /// meanwhile.
    fn catch_up(&mut self, sentinel: &DeviceId) {
        self.expect(sentinel, XenbusState::InitWait);
        let before = self.record(sentinel, |record| record.changed.len());
        self.control.changed(sentinel);
        self.wait_for_change(sentinel, before);
    }

    fn if_there(
        &mut self,
        path: &str,
        mut change: impl FnMut(&mut Client) -> Result<(), ClientError>,
    ) {
        self.store
            .transaction(|store| match store.read_text(path)? {
                Some(_) => change(store),
                None => Ok(()),
            })
            .unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_a_device_can_be_detached_and_used_again(
        acts in prop::collection::vec((0u32..2, act()), 1..60)
    ) {
        let mut rig = Rig::new();
        let sentinel = id(9, 9);
        rig.create(&sentinel);
        for (device, act) in &acts {
            rig.act(&id(1, *device), act);
        }
        rig.catch_up(&sentinel);
        for device in 0..2 {
            let id = id(1, device);
            // The toolstack's way to the end, with a front end that closes when asked to.
            rig.act(&id, &Act::AskDetach);
            rig.act(&id, &Act::Front("6"));
            let closed = |entry: Option<&DeviceEntry>| entry.is_none_or(|e| e.state == XenbusState::Closed);
            prop_assert!(rig.control.wait_for(&id, LONG, closed), "{:?}", rig.control);
            rig.act(&id, &Act::RemoveBack);
            rig.act(&id, &Act::RemoveFront);
            prop_assert!(rig.control.wait_for(&id, LONG, |e| e.is_none()), "{:?}", rig.control);
            prop_assert_eq!(rig.back(&id, "state"), None);
            rig.record(&id, |record| {
                assert!(!record.connected && record.wrong.is_empty(), "{:?}", record.wrong);
                (record.refuse_open, record.refuse_connect) = (false, false);
            });
            rig.act(&id, &Act::Introduce);
            rig.create(&id);
            rig.connect(&id);
        }
    }
}
