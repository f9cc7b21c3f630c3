//! The service as a program sees it: socket, clients, guests.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_ring::{SharedPage, WordPage};
use tempfile::TempDir;
use xt_xenstore::DomId;
use xt_xenstore::client::{Client, ClientError, WatchEvent};
use xt_xenstore::perms::{Identity, Perm};
use xt_xenstore::server::Server;
use xt_xenstore::service::{GuestPort, Handle, spawn};
use xt_xenstore::unix::{UnixError, UnixServer};
use xt_xenstore::wire::{Decoder, Message, MsgType, XsError};

/// Longer than anything here takes; reached only by a failure.
const LONG: Duration = Duration::from_secs(20);

struct Rig {
    dir: TempDir,
    service: Handle,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixServer::bind(&dir.path().join("socket")).unwrap();
        let service = spawn(Server::default(), socket).unwrap();
        Rig { dir, service }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn guest_client(&self, domid: u16) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let who = Identity::guest(DomId(domid));
        self.service
            .call(move |service| service.add_stream(theirs, who))
            .unwrap()
            .unwrap();
        Client::from_stream(ours)
    }
}

fn next(client: &mut Client) -> (String, String) {
    let WatchEvent { path, token } = client.next_event(Some(LONG)).unwrap().unwrap();
    (path, token)
}

fn event(path: &str, token: &str) -> (String, String) {
    (path.to_owned(), token.to_owned())
}

#[test]
fn the_socket_is_the_owners_alone_and_goes_with_the_service() {
    let rig = Rig::new();
    assert_eq!(
        fs::metadata(rig.socket()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let socket = rig.socket();
    assert!(matches!(
        UnixServer::bind(&socket),
        Err(UnixError::InUse(_))
    ));
    rig.service.stop().unwrap();
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(rig.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dead_servers_socket_is_replaced_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let first = UnixServer::bind(&path).unwrap();
    // A successor's socket outlives us.
    fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    drop(first);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    drop(successor);

    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(
        UnixServer::bind(&file),
        Err(UnixError::NotASocket(_))
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let missing = dir.path().join("no/such/dir");
    assert!(matches!(
        UnixServer::bind(&missing),
        Err(UnixError::Io { .. })
    ));
}

#[test]
fn a_client_reads_writes_lists_and_sets_permissions() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.write("/a/b", "1").unwrap();
    client.write("/a/bin", [0u8, 255]).unwrap();
    assert_eq!(client.read("/a/bin").unwrap(), [0, 255]);
    assert_eq!(client.read_text("/a/b").unwrap().as_deref(), Some("1"));
    assert_eq!(client.read_text("/a/none").unwrap(), None);
    // More than go out at once, and some that are not there.
    let paths: Vec<String> = ["/a/b", "/a/none"]
        .repeat(100)
        .iter()
        .map(|&path| path.into())
        .collect();
    let values: Vec<Option<String>> = [Some("1".to_owned()), None]
        .into_iter()
        .cycle()
        .take(200)
        .collect();
    assert_eq!(client.read_texts(&paths).unwrap(), values);
    assert_eq!(client.read_texts(&[]).unwrap(), []);
    assert_eq!(client.directory("/a").unwrap(), ["b", "bin"]);
    assert_eq!(client.directory("/a/b").unwrap(), [""; 0]);
    client
        .set_perms("/a", &[Perm::none(DomId(0)), Perm::both(DomId(5))])
        .unwrap();
    assert_eq!(client.perms("/a").unwrap().to_wire(), b"n0\0b5\0");
    client.rm("/a").unwrap();
    let error = client.read("/a").unwrap_err();
    assert!(error.is(XsError::ENOENT));
    assert_eq!(
        error.to_string(),
        "Xenstore refuses READ of \"/a\": ENOENT."
    );
    assert_eq!(client.domain_path(DomId(9)).unwrap(), "/local/domain/9");
    assert_eq!(client.control(&["check"]).unwrap(), "OK");
    let long = client.write("/a", vec![0; 5000]).unwrap_err();
    assert!(matches!(long, ClientError::Wire(_)));
}

#[test]
fn watches_wake_other_clients() {
    let rig = Rig::new();
    let (mut watcher, mut writer) = (rig.client(), rig.client());
    watcher.watch("/w", "tok").unwrap();
    assert_eq!(next(&mut watcher), event("/w", "tok"));
    assert_eq!(watcher.next_event(Some(Duration::ZERO)).unwrap(), None);
    writer.write("/w/x", "1").unwrap();
    assert_eq!(next(&mut watcher), event("/w/x", "tok"));
    writer.write("/w/x", "2").unwrap();
    // A reply on the way does not lose the event.
    assert_eq!(watcher.read("/w/x").unwrap(), b"2");
    assert_eq!(next(&mut watcher), event("/w/x", "tok"));
    writer.write("/w/x", "3").unwrap();
    watcher.unwatch("/w", "tok").unwrap();
    assert_eq!(watcher.next_event(Some(Duration::ZERO)).unwrap(), None);
    assert!(
        watcher
            .unwatch("/w", "tok")
            .unwrap_err()
            .is(XsError::ENOENT)
    );
}

#[test]
fn transactions_start_over_on_conflict_and_vanish_on_error() {
    let rig = Rig::new();
    let (mut one, mut other) = (rig.client(), rig.client());
    one.write("/counter", "1").unwrap();
    let mut tries = 0;
    one.transaction(|tx| {
        tries += 1;
        let old: u32 = tx.read_text("/counter")?.unwrap().parse().unwrap();
        if tries == 1 {
            other.write("/counter", "10")?;
        }
        tx.write("/counter", (old + 1).to_string())
    })
    .unwrap();
    assert_eq!((tries, one.read("/counter").unwrap()), (2, b"11".to_vec()));

    let failed = one.transaction(|tx| {
        tx.write("/counter", "0")?;
        tx.read("/no/such")
    });
    assert!(failed.unwrap_err().is(XsError::ENOENT));
    assert_eq!(one.read("/counter").unwrap(), b"11");

    let endless = one.transaction(|tx| {
        tx.read("/counter")?;
        other.write("/counter", "0")
    });
    assert!(matches!(endless, Err(ClientError::Conflicts)));
}

/// Reads so many whole messages.
fn drain(mut stream: UnixStream, count: usize) {
    let (mut left, mut decoder, mut buf) = (count, Decoder::default(), [0; 4096]);
    stream.set_read_timeout(Some(LONG)).unwrap();
    while left > 0 {
        let got = stream.read(&mut buf).unwrap();
        assert!(got > 0, "{left} of {count} replies are missing");
        let mut bytes = &buf[..got];
        while !bytes.is_empty() {
            bytes = &bytes[decoder.feed(bytes)..];
            while decoder.next_message().unwrap().is_some() {
                left -= 1;
            }
        }
    }
}

#[test]
fn a_noisy_client_does_not_starve_a_quiet_one() {
    let rig = Rig::new();
    let mut noisy = UnixStream::connect(rig.socket()).unwrap();
    noisy.set_nonblocking(true).unwrap();
    let payload = b"/\0".to_vec();
    let request = Message {
        kind: MsgType::DIRECTORY,
        req_id: 0,
        tx_id: 0,
        payload,
    };
    let (one, mut sent) = (request.to_bytes().unwrap(), 0);
    // It never reads: server and kernel hold what they will, then stop.
    let flood = one.repeat(1000);
    while let Ok(count) = noisy.write(&flood) {
        sent += count;
        let rest = (one.len() - sent % one.len()) % one.len();
        noisy.set_nonblocking(false).unwrap();
        noisy.write_all(&one[one.len() - rest..]).unwrap();
        noisy.set_nonblocking(true).unwrap();
        sent += rest;
        if sent > 64 * 1024 * 1024 {
            panic!("The server reads on and on.");
        }
    }
    let mut quiet = rig.client();
    for _ in 0..100 {
        quiet.write("/q", "1").unwrap();
    }
    // Once it reads, all it asked is answered.
    noisy.set_nonblocking(false).unwrap();
    drain(noisy, sent / one.len());
}

#[test]
fn a_hostile_length_costs_the_sender_its_connection() {
    let rig = Rig::new();
    let mut hostile = UnixStream::connect(rig.socket()).unwrap();
    hostile
        .write_all(&[11u32, 0, 0, u32::MAX].map(u32::to_ne_bytes).concat())
        .unwrap();
    assert_eq!(hostile.read(&mut [0; 16]).unwrap(), 0);
    rig.client().write("/alive", "1").unwrap();
}

#[test]
fn guests_over_streams_are_unprivileged() {
    let rig = Rig::new();
    let mut guest = rig.guest_client(3);
    assert!(guest.write("name", "x").unwrap_err().is(XsError::EACCES));
    let mut host = rig.client();
    host.mkdir("/local/domain/3/data").unwrap();
    host.set_perms("/local/domain/3/data", &[Perm::none(DomId(3))])
        .unwrap();
    guest.write("data/x", "1").unwrap();
    assert_eq!(
        host.perms("/local/domain/3/data/x").unwrap().owner(),
        DomId(3)
    );
    guest.watch("data", "t").unwrap();
    assert_eq!(next(&mut guest), event("data", "t"));
    host.rm("/local/domain/3/data/x").unwrap();
    assert_eq!(next(&mut guest), event("data/x", "t"));
}

#[test]
fn back_ends_in_the_process_have_their_own_client() {
    let rig = Rig::new();
    let mut local = rig
        .service
        .call(|service| service.local_client())
        .unwrap()
        .unwrap();
    local.write("/local/domain/0/backend/vbd", "").unwrap();
    assert_eq!(
        rig.client().directory("/local/domain/0").unwrap(),
        ["backend"]
    );
}

/// A guest with its side of the rings and its event channel.
struct Guest {
    page: Arc<WordPage>,
    bell: EventFd,
    notified: Receiver<()>,
    broken: Receiver<String>,
    input: Decoder,
}

const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

impl Guest {
    fn add(rig: &Rig, domid: u16) -> Guest {
        let page = Arc::new(WordPage::new());
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let (notify, notified) = mpsc::channel();
        let (tell, broken) = mpsc::channel();
        let port = GuestPort {
            page: Box::new(page.clone()),
            doorbell: bell.as_fd().try_clone_to_owned().unwrap(),
            notify: Box::new(move || notify.send(()).unwrap_or_default()),
            broken: Box::new(move |closed| tell.send(closed.to_string()).unwrap_or_default()),
        };
        rig.service
            .call(move |service| service.add_guest(DomId(domid), port))
            .unwrap()
            .unwrap();
        Guest {
            page,
            bell,
            notified,
            broken,
            input: Decoder::default(),
        }
    }

    fn send(&self, kind: MsgType, payload: &[u8]) {
        let message = Message {
            kind,
            req_id: 1,
            tx_id: 0,
            payload: payload.to_vec(),
        };
        let mut prod = self.page.load_u32(REQ_PROD);
        for byte in message.to_bytes().unwrap() {
            self.page.write((prod % 1024) as usize, &[byte]);
            prod = prod.wrapping_add(1);
        }
        self.page.store_u32(REQ_PROD, prod);
        self.bell.write(1).unwrap();
    }

    /// The next message's payload; waits for the event channel.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            let mut cons = self.page.load_u32(RSP_CONS);
            while cons != self.page.load_u32(RSP_PROD) {
                let mut byte = [0];
                self.page.read(1024 + (cons % 1024) as usize, &mut byte);
                self.input.feed(&byte);
                cons = cons.wrapping_add(1);
                self.page.store_u32(RSP_CONS, cons);
                if let Some(message) = self.input.next_message().unwrap() {
                    return message.payload;
                }
            }
            self.notified.recv_timeout(LONG).unwrap();
        }
    }
}

#[test]
fn a_guest_talks_through_its_page() {
    let rig = Rig::new();
    let mut host = rig.client();
    host.watch("@introduceDomain", "t").unwrap();
    assert_eq!(next(&mut host), event("@introduceDomain", "t"));
    let mut guest = Guest::add(&rig, 3);
    assert_eq!(next(&mut host), event("@introduceDomain", "t"));

    let shutdown = "/local/domain/3/control/shutdown";
    host.write(shutdown, "").unwrap();
    host.set_perms(shutdown, &[Perm::none(DomId(3))]).unwrap();
    guest.send(MsgType::WATCH, b"control/shutdown\0s\0");
    assert_eq!(guest.receive(), b"OK\0");
    assert_eq!(guest.receive(), b"control/shutdown\0s\0");
    // A host's write reaches the guest, the guest's answer the host.
    host.watch(shutdown, "h").unwrap();
    assert_eq!(next(&mut host), event(shutdown, "h"));
    host.write(shutdown, "poweroff").unwrap();
    assert_eq!(next(&mut host), event(shutdown, "h"));
    assert_eq!(guest.receive(), b"control/shutdown\0s\0");
    guest.send(MsgType::READ, b"control/shutdown\0");
    assert_eq!(guest.receive(), b"poweroff");
    guest.send(MsgType::WRITE, b"control/shutdown\0");
    assert_eq!(next(&mut host), event(shutdown, "h"));
    assert_eq!(host.read(shutdown).unwrap(), b"");

    host.watch("@releaseDomain", "r").unwrap();
    assert_eq!(next(&mut host), event("@releaseDomain", "r"));
    rig.service
        .call(|service| service.remove_guest(DomId(3)))
        .unwrap();
    assert_eq!(next(&mut host), event(shutdown, "h"));
    assert_eq!(next(&mut host), event("@releaseDomain", "r"));
}

#[test]
fn a_guest_with_broken_indices_is_dropped_alone() {
    let rig = Rig::new();
    let (bad, mut good) = (Guest::add(&rig, 3), Guest::add(&rig, 4));
    bad.page.store_u32(REQ_PROD, 5000);
    bad.bell.write(1).unwrap();
    let why = bad.broken.recv_timeout(LONG).unwrap();
    assert_eq!(
        why,
        "Xenstore ring of the domain is broken: producer 5000, consumer 0."
    );
    good.send(MsgType::GET_DOMAIN_PATH, b"4\0");
    assert_eq!(good.receive(), b"/local/domain/4\0");
}
