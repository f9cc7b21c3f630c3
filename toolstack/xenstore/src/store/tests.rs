use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GUEST: Identity = Identity::guest(DomId(3));

fn path(text: &str) -> Path {
    Path::absolute(text).unwrap()
}

/// A store where domain 3 owns `/g`.
fn store() -> Store {
    let mut store = Store::default();
    let own = Perms::new(Perm::none(DomId(3)), &[]);
    store.host().mkdir(&path("/g")).unwrap();
    store.host().set_perms(&path("/g"), own).unwrap();
    store.take_changes();
    store
}

fn changes(store: &mut Store) -> Vec<(String, bool)> {
    let changes = store.take_changes();
    changes
        .into_iter()
        .map(|change| (change.path.to_string(), change.exact))
        .collect()
}

#[test]
fn missing_parents_are_created_and_the_node_alone_is_news() {
    let mut store = store();
    store.host().write(&path("/a/b/c"), b"x").unwrap();
    assert_eq!(store.node("/a/b").unwrap().value, b"");
    assert_eq!(store.node("/a/b/c").unwrap().value, b"x");
    assert_eq!(changes(&mut store), [("/a/b/c".to_owned(), false)]);
    store.host().mkdir(&path("/a/b")).unwrap();
    assert_eq!(changes(&mut store), []);
    store.check().unwrap();
}

#[test]
fn removal_takes_descendants_first_and_tells_their_own_watches_only() {
    let mut store = store();
    store.host().write(&path("/a/b/c"), b"x").unwrap();
    store.take_changes();
    store.host().rm(&path("/a")).unwrap();
    let expected = [("/a/b/c", true), ("/a/b", true), ("/a", false)];
    assert_eq!(
        changes(&mut store),
        expected.map(|(path, exact)| (path.to_owned(), exact))
    );
    assert_eq!(store.host().rm(&path("/a")), Ok(()));
    assert_eq!(store.host().rm(&path("/a/b")), Err(XsError::ENOENT));
    assert_eq!(store.host().rm(&Path::root()), Err(XsError::EINVAL));
    store.check().unwrap();
}

#[test]
fn children_are_listed_oldest_first() {
    let mut store = store();
    for name in ["/d/z", "/d/a", "/d/m"] {
        store.host().mkdir(&path(name)).unwrap();
    }
    store.host().rm(&path("/d/a")).unwrap();
    store.host().mkdir(&path("/d/a")).unwrap();
    let names: Vec<&str> = store
        .node("/d")
        .unwrap()
        .children
        .iter()
        .map(|n| &**n)
        .collect();
    assert_eq!(names, ["z", "m", "a"]);
}

#[test]
fn guests_own_what_they_create_and_see_errors_only_where_they_may_look() {
    let mut store = store();
    let mut guest = store.session(GUEST, None);
    guest.write(&path("/g/x/y"), b"1").unwrap();
    assert_eq!(guest.write(&path("/x"), b"1"), Err(XsError::EACCES));
    assert_eq!(guest.read(&path("/nope")), Err(XsError::EACCES));
    assert_eq!(guest.read(&path("/g/nope")), Err(XsError::ENOENT));
    assert_eq!(store.node("/g/x").unwrap().perms.owner(), DomId(3));
    // The host's nodes below a guest's are the guest's.
    store.host().write(&path("/g/h"), b"").unwrap();
    assert_eq!(store.entries_of(DomId(3)), 4);
    store.check().unwrap();
}

#[test]
fn only_the_owner_sets_permissions_and_keeps_the_owner() {
    let mut store = store();
    store.host().write(&path("/g/n"), b"").unwrap();
    let other = Identity::guest(DomId(4));
    let list = |texts: &[&str]| Perms::parse(texts.iter().map(|text| text.as_bytes())).unwrap();
    let node = path("/g/n");
    assert_eq!(
        store
            .session(GUEST, None)
            .set_perms(&node, list(&["n3", "b4"])),
        Ok(())
    );
    assert_eq!(
        store.session(other, None).set_perms(&node, list(&["n4"])),
        Err(XsError::EACCES)
    );
    assert_eq!(
        store.session(GUEST, None).set_perms(&node, list(&["n4"])),
        Err(XsError::EPERM)
    );
    let many = list(&["n3", "r1", "r2", "r4", "r5", "r6"]);
    assert_eq!(
        store.session(GUEST, None).set_perms(&node, many.clone()),
        Err(XsError::ENOSPC)
    );
    assert_eq!(store.host().set_perms(&node, many), Ok(()));
    assert_eq!(store.host().set_perms(&node, list(&["n4"])), Ok(()));
    assert_eq!(store.entries_of(DomId(4)), 1);
    store.check().unwrap();
}

#[test]
fn a_guest_cannot_own_more_nodes_than_its_quota() {
    let mut store = store();
    let mut made = 1;
    let error = loop {
        match store
            .session(GUEST, None)
            .mkdir(&path(&format!("/g/n{}/m{made}", made / 10)))
        {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error, store.entries_of(DomId(3))), (XsError::ENOSPC, 1000));
    assert_eq!(store.host().mkdir(&path("/g/host")), Ok(()));
    store.session(GUEST, None).rm(&path("/g/n1")).unwrap();
    assert_eq!(store.session(GUEST, None).mkdir(&path("/g/again")), Ok(()));
    store.check().unwrap();
}

#[test]
fn transactions_count_against_the_quota_at_their_end_too() {
    let mut store = store();
    // Separate directories: no conflict, only the quota can refuse.
    for dir in ["/s0", "/s1"] {
        store.host().mkdir(&path(dir)).unwrap();
        store
            .host()
            .set_perms(&path(dir), Perms::new(Perm::none(DomId(3)), &[]))
            .unwrap();
    }
    let mut both = [Transaction::default(), Transaction::default()];
    for (side, tx) in both.iter_mut().enumerate() {
        for i in 0..600 {
            store
                .session(GUEST, Some(tx))
                .mkdir(&path(&format!("/s{side}/n{}/{i}", i / 50)))
                .unwrap();
        }
    }
    let [first, second] = both;
    assert_eq!(store.commit(GUEST, first), Ok(()));
    assert_eq!(store.commit(GUEST, second), Err(XsError::ENOSPC));
    store.check().unwrap();
}

#[test]
fn a_transaction_touches_a_bounded_number_of_nodes() {
    let mut store = store();
    let mut tx = Transaction::default();
    let touched = (0..)
        .take_while(|i| {
            let node = path(&format!("/g/n{i}"));
            store.session(GUEST, Some(&mut tx)).read(&node) == Err(XsError::ENOENT)
        })
        .count();
    // The parent counts as well.
    assert_eq!(touched, 1023);
}

#[test]
fn node_size_counts_value_children_and_permissions() {
    let mut store = store();
    let node = path("/g/n");
    let mut write = |len: usize| store.session(GUEST, None).write(&node, &vec![b'x'; len]);
    // 24 bytes of header, 8 for one permission; 2048 itself is too much.
    assert_eq!(write(2048 - 32), Err(XsError::ENOSPC));
    assert_eq!(write(2048 - 33), Ok(()));
    let child = store.session(GUEST, None).mkdir(&path("/g/n/c"));
    assert_eq!(child, Err(XsError::ENOSPC));
    assert_eq!(store.host().mkdir(&path("/g/n/c")), Ok(()));
}

#[test]
fn a_dead_domain_leaves_nothing_to_its_successor() {
    let mut store = store();
    store
        .session(GUEST, None)
        .write(&path("/g/x/y"), b"")
        .unwrap();
    store.host().write(&path("/h"), b"").unwrap();
    let shared = Perms::new(
        Perm::none(DOM0),
        &[Perm::read(DomId(3)), Perm::read(DomId(4))],
    );
    store.host().set_perms(&path("/h"), shared).unwrap();
    store.take_changes();
    store.forget_domain(DomId(3));
    assert!(store.node("/g").is_none());
    assert_eq!(store.node("/h").unwrap().perms.to_wire(), b"n0\0r4\0");
    assert_eq!(store.entries_of(DomId(3)), 0);
    assert_eq!(changes(&mut store).last(), Some(&("/g".to_owned(), false)));
    store.check().unwrap();
}

#[test]
fn watchers_see_what_they_can_read_or_could_or_whose_parent_they_can() {
    let mut store = store();
    let own = |domid| Perms::new(Perm::none(DomId(domid)), &[]);
    store.host().write(&path("/g/n"), b"").unwrap();
    store.host().set_perms(&path("/g"), own(0)).unwrap();
    store.host().set_perms(&path("/g/n"), own(0)).unwrap();
    let taken = store.take_changes().pop().unwrap();
    assert!(store.may_see(&taken, &GUEST), "it could before");
    store.host().write(&path("/g/n"), b"").unwrap();
    let [hidden] = <[Change; 1]>::try_from(store.take_changes()).unwrap();
    assert!(!store.may_see(&hidden, &GUEST));
    assert!(store.may_see(&hidden, &Identity::host()));
    store.host().set_perms(&path("/g"), own(3)).unwrap();
    assert!(store.may_see(&hidden, &GUEST), "it can read the parent");
}

mod transactions {
    use super::*;

    #[test]
    fn isolated_until_committed_and_fired_once_per_node() {
        let mut store = store();
        let mut tx = Transaction::default();
        let mut inside = store.session(GUEST, Some(&mut tx));
        inside.write(&path("/g/a"), b"1").unwrap();
        inside.write(&path("/g/a"), b"2").unwrap();
        assert_eq!(inside.read(&path("/g/a")), Ok(b"2".to_vec()));
        assert!(store.node("/g/a").is_none());
        assert_eq!(changes(&mut store), []);
        assert_eq!(store.commit(GUEST, tx), Ok(()));
        assert_eq!(changes(&mut store), [("/g/a".to_owned(), false)]);
        assert_eq!(store.node("/g/a").unwrap().value, b"2");
        store.check().unwrap();
    }

    /// What another does between a transaction's access and its end.
    fn outcome(
        touch: impl FnOnce(&mut Session<'_>),
        meanwhile: impl FnOnce(&mut Session<'_>),
    ) -> Result<(), XsError> {
        let mut store = store();
        for name in ["/g/a", "/g/b/c"] {
            store.host().write(&path(name), b"0").unwrap();
        }
        let mut tx = Transaction::default();
        touch(&mut store.session(Identity::host(), Some(&mut tx)));
        meanwhile(&mut store.host());
        let result = store.commit(Identity::host(), tx);
        store.check().unwrap();
        result
    }

    #[test]
    fn conflicts_are_changes_of_touched_nodes() {
        let read = |name: &'static str| move |s: &mut Session<'_>| drop(s.read(&path(name)));
        let write =
            |name: &'static str| move |s: &mut Session<'_>| s.write(&path(name), b"1").unwrap();
        let rm = |name: &'static str| move |s: &mut Session<'_>| s.rm(&path(name)).unwrap();
        let again = Err(XsError::EAGAIN);

        assert_eq!(outcome(read("/g/a"), read("/g/a")), Ok(()));
        assert_eq!(outcome(read("/g/a"), write("/g/b/c")), Ok(()));
        assert_eq!(outcome(write("/g/a"), write("/g/b/c")), Ok(()));
        assert_eq!(outcome(write("/g/a"), write("/g/b/d")), Ok(()));
        assert_eq!(outcome(read("/g/a"), write("/g/a")), again);
        assert_eq!(outcome(write("/g/a"), write("/g/a")), again);
        assert_eq!(outcome(read("/g/new"), write("/g/new")), again);
        assert_eq!(outcome(read("/g/a"), rm("/g/a")), again);
        assert_eq!(outcome(write("/g/b/x"), rm("/g/b")), again);
        assert_eq!(outcome(rm("/g/b"), write("/g/b/x")), again);
        // Both add a child to the same directory.
        assert_eq!(outcome(write("/g/x"), write("/g/y")), again);
    }

    #[test]
    fn reads_before_the_first_access_see_the_present() {
        let mut store = store();
        let mut tx = Transaction::default();
        store.host().write(&path("/g/a"), b"new").unwrap();
        let value = store.session(GUEST, Some(&mut tx)).read(&path("/g/a"));
        assert_eq!(value, Ok(b"new".to_vec()));
        assert_eq!(store.commit(GUEST, tx), Ok(()));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Read(&'static str),
    List(&'static str),
    Write(&'static str, u8),
    Mkdir(&'static str),
    Rm(&'static str),
}

#[derive(Debug, Clone)]
enum Step {
    Do(usize, Op),
    Begin(usize),
    End(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let name = prop::sample::select(vec![
        "/g", "/g/a", "/g/a/x", "/g/a/y", "/g/b", "/g/b/x", "/h",
    ]);
    (name, any::<u8>(), 0..5).prop_map(|(name, value, kind)| match kind {
        0 => Op::Read(name),
        1 => Op::List(name),
        2 => Op::Write(name, value),
        3 => Op::Mkdir(name),
        _ => Op::Rm(name),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, op()).prop_map(|(who, op)| Step::Do(who, op)),
        1 => (1..4usize).prop_map(Step::Begin),
        2 => (1..4usize, any::<bool>()).prop_map(|(who, keep)| Step::End(who, keep)),
    ]
}

/// The obvious store: a map of values, one level of listing, no transactions.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<String, Vec<u8>>);

impl Model {
    fn has(&self, path: &str) -> bool {
        path == "/" || self.0.contains_key(path)
    }

    fn create(&mut self, name: &str) {
        for ancestor in path(name).lineage().filter(|ancestor| *ancestor != "/") {
            self.0.entry(ancestor.to_owned()).or_default();
        }
    }

    fn apply(&mut self, op: &Op) -> Result<Vec<u8>, XsError> {
        match *op {
            Op::Read(name) => self.0.get(name).cloned().ok_or(XsError::ENOENT),
            Op::List(name) if !self.has(name) => Err(XsError::ENOENT),
            Op::List(name) => {
                let below = format!("{name}/");
                let children = self.0.keys().filter_map(|key| key.strip_prefix(&below));
                let children = children.filter(|rest| !rest.contains('/'));
                Ok(children.collect::<Vec<_>>().join(",").into_bytes())
            }
            Op::Write(name, value) => {
                self.create(name);
                self.0.insert(name.to_owned(), vec![value]);
                Ok(Vec::new())
            }
            Op::Mkdir(name) => {
                self.create(name);
                Ok(Vec::new())
            }
            Op::Rm(name) if !self.has(path(name).parent_str().unwrap()) => Err(XsError::ENOENT),
            Op::Rm(name) => {
                self.0
                    .retain(|key, _| key != name && !key.starts_with(&format!("{name}/")));
                Ok(Vec::new())
            }
        }
    }
}

fn apply(session: &mut Session<'_>, op: &Op) -> Result<Vec<u8>, XsError> {
    let done = |()| Vec::new();
    match *op {
        Op::Read(name) => session.read(&path(name)),
        Op::List(name) => session.node(&path(name)).map(|node| {
            let mut names = node.children.clone();
            names.sort();
            names.join(",").into_bytes()
        }),
        Op::Write(name, value) => session.write(&path(name), &[value]).map(done),
        Op::Mkdir(name) => session.mkdir(&path(name)).map(done),
        Op::Rm(name) => session.rm(&path(name)).map(done),
    }
}

type Log = Vec<(Op, Result<Vec<u8>, XsError>)>;

proptest! {
    /// A transaction that commits could have happened all at once at its end:
    /// replayed there on the model, every answer is the same.
    #[test]
    fn committed_transactions_are_serial(steps in prop::collection::vec(step(), 1..80)) {
        let mut store = Store::default();
        let mut model = Model::default();
        model.apply(&Op::Mkdir("/tool/xenstored")).unwrap();
        let mut open: BTreeMap<usize, (Transaction, Log)> = BTreeMap::new();
        let host = Identity::host();
        for step in steps {
            match step {
                Step::Begin(who) => {
                    open.insert(who, (Transaction::default(), Log::new()));
                }
                Step::Do(who, op) => match open.get_mut(&who) {
                    Some((tx, log)) => {
                        let result = apply(&mut store.session(host, Some(tx)), &op);
                        log.push((op, result));
                    }
                    None => prop_assert_eq!(apply(&mut store.host(), &op), model.apply(&op)),
                },
                Step::End(who, keep) => {
                    let Some((tx, log)) = open.remove(&who) else { continue };
                    if keep && store.commit(host, tx).is_ok() {
                        for (op, result) in log {
                            prop_assert_eq!(model.apply(&op), result, "{:?}", op);
                        }
                    }
                }
            }
            store.check().unwrap();
            let values: BTreeMap<String, Vec<u8>> = store
                .nodes
                .iter()
                .filter(|(path, _)| path.parent_str().is_some())
                .map(|(path, node)| (path.to_string(), node.value.clone()))
                .collect();
            prop_assert_eq!(&values, &model.0);
        }
    }

    /// Without anybody else, every transaction commits.
    #[test]
    fn an_undisturbed_transaction_commits(
        before in prop::collection::vec(op(), 0..20),
        inside in prop::collection::vec(op(), 0..20),
    ) {
        let mut store = Store::default();
        for op in &before {
            let _ = apply(&mut store.host(), op);
        }
        let mut tx = Transaction::default();
        for op in &inside {
            let _ = apply(&mut store.session(Identity::host(), Some(&mut tx)), op);
        }
        prop_assert_eq!(store.commit(Identity::host(), tx), Ok(()));
        store.check().unwrap();
    }
}
