//! Network block devices: against the reference implementation's server, and against servers that
//! go away or lie.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Model, folder, have_qemu_img, open, path};
use pv_media::{Blocking, Disk, Format, MediumSpec, Memory, Operation, Paths, Request};

/// A server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a raw file at a socket, which this process has bound: connections wait there until the
/// server is ready.
fn serve(folder: &Path, more: &[&str]) -> (Server, String) {
    let socket = folder.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    // Socket activation: descriptor 3, and the process's own id in the environment.
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec qemu-nbd \"$@\"";
    let server = Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            "--persistent",
            "-fraw",
            "--discard=unmap",
            "-xdisk",
        ])
        .args(more)
        .arg(folder.join("disk"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .spawn()
        .unwrap();
    let uri = format!("nbd+unix:///disk?socket={}", socket.display());
    (Server(server), uri)
}

/// Without a second try.
fn spec(uri: &str) -> MediumSpec {
    MediumSpec {
        reconnect: Duration::ZERO,
        ..MediumSpec::new(Format::Nbd, uri)
    }
}

#[test]
fn a_disk_on_a_server() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![0; 8 << 20]).unwrap();
    let (_server, uri) = serve(folder.path(), &[]);
    let disk = open(&spec(&uri));
    let info = disk.info();
    assert_eq!(
        (info.sectors, info.readonly, info.flush),
        (16384, false, true)
    );
    assert!(info.discard.is_some());
    let mut model = Model::new(&disk, vec![0; 8 << 20], 6);
    model.steps(300, 400_000);
    model.io.flush().unwrap();
    model.check_all();
    assert!(fs::read(path(&folder, "disk")).unwrap() == model.bytes);
    assert!(model.io.read(8 << 20, 512).is_err());
}

#[test]
fn many_requests_of_two_queues() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![0; 8 << 20]).unwrap();
    let (_server, uri) = serve(folder.path(), &[]);
    let disk = open(&spec(&uri));
    let mut queues = [0; 2].map(|_| disk.queue::<Memory>(16).unwrap());
    let mut done = Vec::new();
    for i in 0..2048u64 {
        let queue = &mut queues[(i % 2) as usize];
        let buffers = Memory::of(&[i as u8; 4096]);
        queue.submit(Request {
            tag: i,
            operation: Operation::Write,
            offset: i * 4096,
            len: 4096,
            buffers,
        });
        queue.kick();
        queue.completed(&mut done);
    }
    while done.len() < 2048 {
        queues
            .iter_mut()
            .for_each(|queue| queue.completed(&mut done));
    }
    assert!(done.iter().all(|done| done.result.is_ok()));
    drop(queues);
    let mut io = Blocking::new(&disk).unwrap();
    io.flush().unwrap();
    let file = fs::read(path(&folder, "disk")).unwrap();
    assert!((0..2048usize).all(|i| file[i * 4096..][..4096] == [i as u8; 4096]));
}

#[test]
fn a_server_that_is_killed_is_an_error_at_once_and_later() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![7; 1 << 20]).unwrap();
    let (server, uri) = serve(folder.path(), &[]);
    let disk = open(&spec(&uri));
    let mut io = Blocking::new(&disk).unwrap();
    assert_eq!(io.read(4096, 4096).unwrap(), [7; 4096]);
    drop(server);
    for _ in 0..3 {
        assert_eq!(io.read(0, 512).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(
            io.write(0, &[1; 512]).unwrap_err().raw_os_error(),
            Some(libc::EIO)
        );
        assert_eq!(io.flush().unwrap_err().raw_os_error(), Some(libc::EIO));
    }
}

#[test]
fn what_the_server_refuses_is_told() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![0; 1 << 20]).unwrap();
    let (_server, uri) = serve(folder.path(), &["-r"]);
    let refused = |spec: &MediumSpec| Disk::open(spec, &Paths).unwrap_err().to_string();
    assert!(
        refused(&spec(&uri)).contains("access mode"),
        "{}",
        refused(&spec(&uri))
    );
    let other = uri.replace("///disk", "///other");
    assert!(
        refused(&spec(&other)).contains("no export \"other\""),
        "{}",
        refused(&spec(&other))
    );
    let disk = open(&spec(&uri).readonly());
    assert!(Blocking::new(&disk).unwrap().write(0, &[0; 512]).is_err());
    let nobody = "nbd+unix:///x?socket=/no/such/socket";
    assert!(refused(&spec(nobody)).contains("cannot be connected to"));
}

/// A server of one connection, which offers an export of 1 MiB and goes on as told.
fn fake(folder: &Path, goes_on: impl FnOnce(UnixStream) + Send + 'static) -> String {
    let socket = folder.join("fake");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut line, _) = listener.accept().unwrap();
        line.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
        let mut option = [0; 4 + 16];
        line.read_exact(&mut option).unwrap();
        let len = u32::from_be_bytes(option[16..].try_into().unwrap());
        line.read_exact(&mut vec![0; len as usize]).unwrap();
        let head = |kind: u32, len: u32| {
            [
                &0x0003_e889_0455_65a9u64.to_be_bytes()[..],
                &7u32.to_be_bytes(),
                &kind.to_be_bytes(),
                &len.to_be_bytes(),
            ]
            .concat()
        };
        line.write_all(&head(3, 12)).unwrap();
        line.write_all(
            &[
                &[0, 0],
                &(1u64 << 20).to_be_bytes()[..],
                &0b10_0101u16.to_be_bytes(),
            ]
            .concat(),
        )
        .unwrap();
        line.write_all(&head(1, 0)).unwrap();
        goes_on(line);
    });
    format!("nbd+unix:///?socket={}", socket.display())
}

/// The next request: its cookie.
fn request(line: &mut UnixStream) -> [u8; 8] {
    let mut bytes = [0; 28];
    line.read_exact(&mut bytes).unwrap();
    bytes[8..16].try_into().unwrap()
}

#[test]
fn lies_end_the_connection() {
    type Lie = fn(&mut UnixStream, [u8; 8]);
    let lies: [Lie; 4] = [
        // Not a reply.
        |line, cookie| {
            line.write_all(&[&[9; 8], &cookie[..], &[0; 512]].concat())
                .unwrap()
        },
        // A reply to what was not asked.
        |line, _| {
            line.write_all(&[&0x6744_6698u32.to_be_bytes()[..], &[0; 4], &[99; 8]].concat())
                .unwrap()
        },
        // Half of the data.
        |line, cookie| {
            line.write_all(
                &[
                    &0x6744_6698u32.to_be_bytes()[..],
                    &[0; 4],
                    &cookie,
                    &[1; 100],
                ]
                .concat(),
            )
            .unwrap()
        },
        // Nothing.
        |_, _| {},
    ];
    for lie in lies {
        let folder = folder();
        let uri = fake(folder.path(), move |mut line| {
            let cookie = request(&mut line);
            lie(&mut line, cookie);
        });
        let disk = open(&spec(&uri));
        let mut io = Blocking::new(&disk).unwrap();
        assert_eq!(io.read(0, 512).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(io.read(0, 512).unwrap_err().raw_os_error(), Some(libc::EIO));
    }
}

#[test]
fn errors_and_answers_out_of_order() {
    let folder = folder();
    let uri = fake(folder.path(), |mut line| {
        let (first, second) = (request(&mut line), request(&mut line));
        let reply = |errno: u32, cookie: [u8; 8]| {
            [
                &0x6744_6698u32.to_be_bytes()[..],
                &errno.to_be_bytes(),
                &cookie,
            ]
            .concat()
        };
        line.write_all(&reply(28, second)).unwrap();
        line.write_all(&[reply(0, first), vec![5; 512]].concat())
            .unwrap();
        // Until the client goes.
        let _ = line.read(&mut [0; 28]);
    });
    let disk = open(&spec(&uri));
    let mut queue = disk.queue::<Memory>(2).unwrap();
    for tag in 0..2 {
        let buffers = Memory::zeroed(512);
        queue.submit(Request {
            tag,
            operation: Operation::Read,
            offset: tag * 512,
            len: 512,
            buffers,
        });
    }
    let mut done = Vec::new();
    while done.len() < 2 {
        queue.completed(&mut done);
    }
    assert_eq!(
        done[0].result.as_ref().unwrap_err().raw_os_error(),
        Some(libc::ENOSPC)
    );
    assert_eq!((done[0].tag, done[1].tag), (1, 0));
    assert_eq!(done[1].buffers.bytes(), [5; 512]);
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![0; 8 << 20]).unwrap();
    let (server, uri) = serve(folder.path(), &[]);
    let disk = open(&MediumSpec::new(Format::Nbd, &*uri));
    let mut queue = disk.queue::<Memory>(16).unwrap();
    let mut done = Vec::new();
    let submit = |queue: &mut Box<dyn pv_media::Queue<Memory>>, i: u64| {
        queue.submit(Request {
            tag: i,
            operation: Operation::Write,
            offset: i * 65536,
            len: 65536,
            buffers: Memory::of(&[i as u8 + 1; 65536]),
        });
        queue.kick();
    };
    (0..64).for_each(|i| submit(&mut queue, i));
    while done.is_empty() {
        queue.completed(&mut done);
    }
    // In the midst of it.
    drop(server);
    (64..128).for_each(|i| submit(&mut queue, i));
    fs::remove_file(folder.path().join("socket")).unwrap();
    let (_server, same) = serve(folder.path(), &[]);
    assert_eq!(uri, same);
    while done.len() < 128 {
        queue.completed(&mut done);
    }
    assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
    let mut tags: Vec<_> = done.iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    assert!(tags.into_iter().eq(0..128), "each is answered once");
    drop(queue);
    let mut io = Blocking::new(&disk).unwrap();
    io.flush().unwrap();
    let file = fs::read(path(&folder, "disk")).unwrap();
    assert!((0..128usize).all(|i| file[i * 65536..][..65536] == [i as u8 + 1; 65536]));
}

#[test]
fn a_server_is_not_awaited_for_ever() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![7; 1 << 20]).unwrap();
    let (server, uri) = serve(folder.path(), &[]);
    let patient = MediumSpec {
        reconnect: Duration::from_millis(300),
        ..spec(&uri)
    };
    let disk = open(&patient);
    let mut io = Blocking::new(&disk).unwrap();
    assert_eq!(io.read(4096, 4096).unwrap(), [7; 4096]);
    drop(server);
    assert_eq!(io.read(0, 512).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(io.flush().unwrap_err().raw_os_error(), Some(libc::EIO));
    // A queue that ends while the server is sought does not wait for it.
    fs::remove_file(folder.path().join("socket")).unwrap();
    let (server, uri) = serve(folder.path(), &[]);
    let disk = open(&MediumSpec::new(Format::Nbd, &*uri));
    let mut queue = disk.queue::<Memory>(1).unwrap();
    drop(server);
    queue.submit(Request {
        tag: 0,
        operation: Operation::Read,
        offset: 0,
        len: 4096,
        buffers: Memory::zeroed(4096),
    });
    drop(queue);
}

#[test]
fn another_disk_is_not_taken_for_the_lost_one() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "disk"), vec![7; 1 << 20]).unwrap();
    let (server, uri) = serve(folder.path(), &[]);
    let patient = MediumSpec {
        reconnect: Duration::from_millis(500),
        ..spec(&uri)
    };
    let disk = open(&patient);
    let mut io = Blocking::new(&disk).unwrap();
    drop(server);
    fs::remove_file(folder.path().join("socket")).unwrap();
    fs::write(path(&folder, "disk"), vec![8; 2 << 20]).unwrap();
    let (_server, _) = serve(folder.path(), &[]);
    assert_eq!(io.read(0, 512).unwrap_err().raw_os_error(), Some(libc::EIO));
}
