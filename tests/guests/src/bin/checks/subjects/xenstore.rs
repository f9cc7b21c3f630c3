//! Xenstore as an unprivileged guest sees it: what the toolstack left there, what the daemon permits and refuses.

use core::fmt;

use pv_ring::RawPage;
use pv_xenbus::{Transaction, XenbusError, XenbusFront};
use xen_sys::io::xs_wire::*;
use xenner_guests::abi::{__HYPERVISOR_sched_op, SCHEDOP_yield};
use xenner_guests::boot::start_info;
use xenner_guests::channel::{Port, ring_page};
use xenner_guests::hypercall::call2;
use xenner_guests::report::{eq, see, skip, yes};
use xenner_guests::time::system_time;

type Store = XenbusFront<RawPage<'static>, Port>;
const NONE: Transaction = Transaction::NONE;

/// A request's result without its payload: `ok` or the error's name.
#[derive(PartialEq)]
struct Said(Option<XenbusError>);

const SUCCESS: Said = Said(None);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("ok"),
            Some(XenbusError::Store(errno)) => f.write_str(errno.name().unwrap_or("unknown error")),
            Some(_) => f.write_str("broken connection"),
        }
    }
}

fn said<T>(result: Result<T, XenbusError>) -> Said {
    Said(result.err())
}

pub fn run() {
    let info = start_info();
    let Ok(mut store) = XenbusFront::attach(ring_page(info.store_mfn.0), Port(info.store_evtchn))
    else {
        return skip("xenstore", "no ring");
    };
    toolstack_nodes(&mut store);
    own_data(&mut store);
    permissions(&mut store);
    transactions(&mut store);
    watches(&mut store);
    bad_requests(&mut store);
    privileged_requests(&mut store);
}

fn toolstack_nodes(store: &mut Store) {
    yes(
        "xenstore.domid",
        store
            .read_number(NONE, "domid")
            .is_ok_and(|domid| domid > 0),
    );
    for (check, path) in [
        ("xenstore.name", "name"),
        ("xenstore.vm", "vm"),
        ("xenstore.memory.target", "memory/target"),
        ("xenstore.memory.static_max", "memory/static-max"),
        ("xenstore.cpu_0", "cpu/0/availability"),
        ("xenstore.store.port", "store/port"),
        ("xenstore.store.ring_ref", "store/ring-ref"),
        ("xenstore.console.port", "console/port"),
        ("xenstore.console.ring_ref", "console/ring-ref"),
        ("xenstore.console.limit", "console/limit"),
        ("xenstore.console.type", "console/type"),
        ("xenstore.console.tty", "console/tty"),
        ("xenstore.control.shutdown", "control/shutdown"),
        (
            "xenstore.control.platform_feature_multiprocessor_suspend",
            "control/platform-feature-multiprocessor-suspend",
        ),
        ("xenstore.device", "device"),
        ("xenstore.data", "data"),
        ("xenstore.drivers", "drivers"),
        ("xenstore.attr", "attr"),
        ("xenstore.error", "error"),
        ("xenstore.feature", "feature"),
        ("xenstore.missing", "no/such/node"),
    ] {
        see(check, said(store.read(NONE, path)));
    }
    let online = store.read(NONE, "cpu/0/availability") == Ok(b"online");
    yes("xenstore.cpu_0.online", online);
    yes(
        "xenstore.ports",
        store.read_number(NONE, "console/port") == Ok(u64::from(start_info().console_evtchn.0)),
    );
    yes(
        "xenstore.store.port.same",
        store.read_number(NONE, "store/port") == Ok(u64::from(start_info().store_evtchn.0)),
    );
    yes(
        "xenstore.control.shutdown.empty",
        store.read(NONE, "control/shutdown") == Ok(b""),
    );
}

fn own_data(store: &mut Store) {
    eq(
        "xenstore.write",
        said(store.write(NONE, "data/test", b"value")),
        SUCCESS,
    );
    yes(
        "xenstore.read",
        store.read(NONE, "data/test") == Ok(b"value"),
    );
    eq(
        "xenstore.write.empty",
        said(store.write(NONE, "data/test", b"")),
        SUCCESS,
    );
    yes(
        "xenstore.read.empty",
        store.read(NONE, "data/test") == Ok(b""),
    );
    eq(
        "xenstore.write.binary",
        said(store.write(NONE, "data/test", &[0, 1, 255, 0])),
        SUCCESS,
    );
    yes(
        "xenstore.read.binary",
        store.read(NONE, "data/test") == Ok(&[0, 1, 255, 0]),
    );
    eq(
        "xenstore.write.deep",
        said(store.write(NONE, "data/a/b/c", b"deep")),
        SUCCESS,
    );
    yes(
        "xenstore.parents_made",
        store.read(NONE, "data/a/b") == Ok(b""),
    );
    eq(
        "xenstore.mkdir",
        said(store.mkdir(NONE, "data/dir")),
        SUCCESS,
    );
    eq(
        "xenstore.mkdir.again",
        said(store.mkdir(NONE, "data/dir")),
        SUCCESS,
    );
    let mut names = [false; 3];
    if let Ok(children) = store.directory(NONE, "data") {
        children.for_each(|name| match name {
            b"test" => names[0] = true,
            b"a" => names[1] = true,
            b"dir" => names[2] = true,
            _ => {}
        });
    }
    yes("xenstore.directory", names == [true; 3]);
    see(
        "xenstore.directory.missing",
        said(store.directory(NONE, "data/missing").map(|_| ())),
    );
    eq("xenstore.rm", said(store.rm(NONE, "data/a")), SUCCESS);
    see(
        "xenstore.rm.children_gone",
        said(store.read(NONE, "data/a/b/c")),
    );
    see("xenstore.rm.missing", said(store.rm(NONE, "data/a")));
    see(
        "xenstore.rm.missing_parent",
        said(store.rm(NONE, "data/x/y/z")),
    );
    let big = [b'x'; 2048];
    see(
        "xenstore.write.2048",
        said(store.write(NONE, "data/big", &big)),
    );
    see(
        "xenstore.write.2049",
        said(store.write(NONE, "data/big", &[b'x'; 2049])),
    );
    store.rm(NONE, "data/big").ok();
}

fn permissions(store: &mut Store) {
    see("xenstore.write.home", said(store.write(NONE, "mine", b"x")));
    see("xenstore.write.name", said(store.write(NONE, "name", b"x")));
    see(
        "xenstore.write.domid",
        said(store.write(NONE, "domid", b"1")),
    );
    see(
        "xenstore.write.device",
        said(store.write(NONE, "device/x", b"1")),
    );
    see(
        "xenstore.write.control_shutdown",
        said(store.write(NONE, "control/shutdown", b"")),
    );
    see(
        "xenstore.write.feature",
        said(store.write(NONE, "control/feature-poweroff", b"1")),
    );
    see("xenstore.read.root", said(store.read(NONE, "/")));
    see(
        "xenstore.directory.root",
        said(store.directory(NONE, "/").map(|_| ())),
    );
    see(
        "xenstore.read.dom0",
        said(store.read(NONE, "/local/domain/0/name")),
    );
    see("xenstore.read.tool", said(store.read(NONE, "/tool")));
    see(
        "xenstore.write.root",
        said(store.write(NONE, "/mine", b"x")),
    );
    see("xenstore.rm.home", said(store.rm(NONE, "name")));
    see("xenstore.rm.root", said(store.rm(NONE, "/")));
    see(
        "xenstore.get_perms",
        said(store.request(XS_GET_PERMS, NONE, &[b"data/test\0"])),
    );
    see(
        "xenstore.get_perms.foreign",
        said(store.request(XS_GET_PERMS, NONE, &[b"/local/domain/0\0"])),
    );
    see(
        "xenstore.set_perms.give_away",
        said(store.request(XS_SET_PERMS, NONE, &[b"data/test\0", b"n0\0"])),
    );
    see(
        "xenstore.set_perms.bad",
        said(store.request(XS_SET_PERMS, NONE, &[b"data/test\0", b"q0\0"])),
    );
    see(
        "xenstore.set_perms.none",
        said(store.request(XS_SET_PERMS, NONE, &[b"data/test\0"])),
    );
}

fn transactions(store: &mut Store) {
    let Ok(t) = store.transaction_start() else {
        return see("xenstore.transaction_start", "refused");
    };
    eq(
        "xenstore.transaction.write",
        said(store.write(t, "data/in", b"1")),
        SUCCESS,
    );
    see(
        "xenstore.transaction.not_outside",
        said(store.read(NONE, "data/in")),
    );
    yes(
        "xenstore.transaction.inside",
        store.read(t, "data/in") == Ok(b"1"),
    );
    eq(
        "xenstore.transaction.commit",
        said(store.transaction_end(t, true)),
        SUCCESS,
    );
    yes(
        "xenstore.transaction.outside",
        store.read(NONE, "data/in") == Ok(b"1"),
    );
    see(
        "xenstore.transaction.end_twice",
        said(store.transaction_end(t, true)),
    );
    see(
        "xenstore.transaction.read_in_ended",
        said(store.read(t, "data/in")),
    );
    if let Ok(t) = store.transaction_start() {
        store.rm(t, "data/in").ok();
        eq(
            "xenstore.transaction.abort",
            said(store.transaction_end(t, false)),
            SUCCESS,
        );
    }
    yes(
        "xenstore.transaction.aborted",
        store.read(NONE, "data/in") == Ok(b"1"),
    );
    if let Ok(t) = store.transaction_start() {
        store.read(t, "data/in").ok();
        store.write(NONE, "data/in", b"2").ok();
        store.write(t, "data/out", b"3").ok();
        see(
            "xenstore.transaction.conflict",
            said(store.transaction_end(t, true)),
        );
    }
    see(
        "xenstore.transaction.unknown",
        said(store.read(Transaction(0x7fff_fff0), "data/in")),
    );
    store.rm(NONE, "data/in").ok();
    let mut open = 0;
    let refused = loop {
        match store.transaction_start() {
            Ok(_) if open < 1000 => open += 1,
            other => break said(other),
        }
    };
    see(
        "xenstore.transaction.quota",
        format_args!("{open} then {refused}"),
    );
}

/// Whether the next event is this one; false also when none comes within two seconds.
fn next(store: &mut Store, path: &[u8], token: &[u8]) -> bool {
    let end = system_time() + 2_000_000_000;
    while system_time() < end {
        match store.poll_event() {
            Ok(Some(event)) => return event.path == path && event.token == token,
            Ok(None) => {
                call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
            }
            Err(_) => return false,
        }
    }
    false
}

fn watches(store: &mut Store) {
    eq(
        "xenstore.watch",
        said(store.watch("data/w", "token")),
        SUCCESS,
    );
    yes(
        "xenstore.watch.first_event",
        next(store, b"data/w", b"token"),
    );
    eq(
        "xenstore.watch.again",
        said(store.watch("data/w", "other")),
        SUCCESS,
    );
    yes(
        "xenstore.watch.again.event",
        next(store, b"data/w", b"other"),
    );
    see("xenstore.watch.same", said(store.watch("data/w", "token")));
    eq(
        "xenstore.unwatch.other",
        said(store.unwatch("data/w", "other")),
        SUCCESS,
    );
    store.write(NONE, "data/w", b"1").ok();
    yes("xenstore.watch.write", next(store, b"data/w", b"token"));
    store.write(NONE, "data/w/below", b"1").ok();
    yes(
        "xenstore.watch.below",
        next(store, b"data/w/below", b"token"),
    );
    store.rm(NONE, "data/w").ok();
    yes("xenstore.watch.rm", next(store, b"data/w", b"token"));
    eq(
        "xenstore.unwatch",
        said(store.unwatch("data/w", "token")),
        SUCCESS,
    );
    see(
        "xenstore.unwatch.again",
        said(store.unwatch("data/w", "token")),
    );
    see(
        "xenstore.watch.missing_node",
        said(store.watch("data/none/at/all", "t")),
    );
    yes(
        "xenstore.watch.missing_node.event",
        next(store, b"data/none/at/all", b"t"),
    );
    store.unwatch("data/none/at/all", "t").ok();
    see(
        "xenstore.watch.foreign",
        said(store.watch("/local/domain/0/x", "t")),
    );
    yes(
        "xenstore.watch.foreign.event",
        next(store, b"/local/domain/0/x", b"t"),
    );
    store.unwatch("/local/domain/0/x", "t").ok();
    see(
        "xenstore.watch.special",
        said(store.watch("@introduceDomain", "t")),
    );
    see(
        "xenstore.watch.special_unknown",
        said(store.watch("@nothing", "t")),
    );
    yes(
        "xenstore.events.none_left",
        matches!(store.poll_event(), Ok(None) | Ok(Some(_))),
    );
    while store.poll_event().is_ok_and(|event| event.is_some()) {}
    store.unwatch("@introduceDomain", "t").ok();
}

fn bad_requests(store: &mut Store) {
    for (check, path) in [
        ("xenstore.path.double_slash", "data//x"),
        ("xenstore.path.trailing_slash", "data/"),
        ("xenstore.path.space", "data/a b"),
        ("xenstore.path.empty", ""),
        ("xenstore.path.star", "data/*"),
        ("xenstore.path.dot", "data/."),
        ("xenstore.path.dots", "data/.."),
        ("xenstore.path.at", "data/@x"),
        ("xenstore.path.special", "@releaseDomain"),
    ] {
        see(check, said(store.read(NONE, path)));
    }
    let long = [b'x'; 3100];
    let path = core::str::from_utf8(&long).unwrap_or_default();
    see("xenstore.path.3100", said(store.read(NONE, path)));
    see(
        "xenstore.path.1100_relative",
        said(store.read(NONE, path.get(..1100).unwrap_or_default())),
    );
    see(
        "xenstore.path.no_nul",
        said(store.request(XS_READ, NONE, &[b"data/test"])),
    );
    see(
        "xenstore.request.nothing",
        said(store.request(XS_READ, NONE, &[])),
    );
    see(
        "xenstore.request.unknown",
        said(store.request(99, NONE, &[b"x\0"])),
    );
    see(
        "xenstore.request.watch_event",
        said(store.request(XS_WATCH_EVENT, NONE, &[b"x\0"])),
    );
    see(
        "xenstore.transaction_end.bad",
        said(store.request(XS_TRANSACTION_END, NONE, &[b"X\0"])),
    );
    see(
        "xenstore.watch.no_token",
        said(store.request(XS_WATCH, NONE, &[b"data\0"])),
    );
}

fn privileged_requests(store: &mut Store) {
    see(
        "xenstore.get_domain_path",
        said(store.request(XS_GET_DOMAIN_PATH, NONE, &[b"0\0"])),
    );
    see(
        "xenstore.get_domain_path.bad",
        said(store.request(XS_GET_DOMAIN_PATH, NONE, &[b"x\0"])),
    );
    see(
        "xenstore.is_domain_introduced",
        said(store.request(XS_IS_DOMAIN_INTRODUCED, NONE, &[b"0\0"])),
    );
    see(
        "xenstore.introduce",
        said(store.request(XS_INTRODUCE, NONE, &[b"9\0", b"1\0", b"1\0"])),
    );
    see(
        "xenstore.release",
        said(store.request(XS_RELEASE, NONE, &[b"9\0"])),
    );
    see(
        "xenstore.resume",
        said(store.request(XS_RESUME, NONE, &[b"9\0"])),
    );
    see(
        "xenstore.set_target",
        said(store.request(XS_SET_TARGET, NONE, &[b"9\0", b"1\0"])),
    );
    see(
        "xenstore.control",
        said(store.request(XS_CONTROL, NONE, &[b"help\0"])),
    );
    see(
        "xenstore.reset_watches",
        said(store.request(XS_RESET_WATCHES, NONE, &[b"\0"])),
    );
    see(
        "xenstore.directory_part",
        said(store.request(XS_DIRECTORY_PART, NONE, &[b"data\0", b"0\0"])),
    );
    see("xenstore.still_there", said(store.read(NONE, "domid")));
}
