//! UNIX sockets, and the pair of links.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket,
};
use pv_netdev::{FrameInfo, Link, NicSpec, Offloads, Opened, Request, open, pair};

use crate::common::{large_segment, plain, recv, recv_end, send, try_recv, try_send};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn opened(text: &str) -> Opened {
    let spec: NicSpec = text.parse().unwrap();
    open(&spec, &Request::vif(1, 0)).unwrap()
}

fn link(text: &str) -> Box<dyn Link> {
    opened(text).into_links().0.remove(0)
}

/// A link on one end of a stream, and the other end.
fn stream() -> (Box<dyn Link>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = link(&format!("fd={}", ours.as_raw_fd()));
    (link, theirs)
}

#[test]
fn a_pair_keeps_what_is_known_of_a_frame() {
    let (mut a, mut b) = pair(Offloads::ALL).unwrap();
    let (info, frame) = large_segment(B, A, 40_000);
    send(&mut *a, &info, &frame);
    assert_eq!(recv(&mut *b), (info, frame));
    drop(a);
    assert_eq!(recv_end(&mut *b).kind(), ErrorKind::UnexpectedEof);
    let error = try_send(&mut *b, &info, &plain(B, A, 60)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_pair_without_room_blocks_and_goes_on() {
    let (mut a, mut b) = pair(Offloads::NONE).unwrap();
    let (frame, info) = (plain(B, A, 1514), FrameInfo::default());
    let mut sent = 0;
    let error = loop {
        match try_send(&mut *a, &info, &frame) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(a.blocked() && sent > 0);
    for _ in 0..sent {
        assert_eq!(recv(&mut *b).1, frame);
    }
    send(&mut *a, &info, &frame);
    assert!(!a.blocked());
    assert_eq!(recv(&mut *b).1, frame);
}

#[test]
fn frames_on_a_stream_in_any_cut() {
    let (mut link, mut peer) = stream();
    let frames = [plain(A, B, 14), plain(A, B, 65_535), plain(A, B, 60)];
    let mut bytes = Vec::new();
    for frame in &frames {
        bytes.extend((frame.len() as u32).to_be_bytes());
        bytes.extend(frame);
    }
    let writer = std::thread::spawn(move || {
        for cut in bytes.chunks(1009) {
            peer.write_all(cut).unwrap();
        }
        peer
    });
    for frame in &frames {
        assert!(recv(&mut *link).1 == *frame, "{} bytes", frame.len());
    }
    drop(writer.join().unwrap());
    let error = recv_end(&mut *link);
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_stream_cuts_no_frame_when_its_socket_is_full() {
    let (mut link, mut peer) = stream();
    let frame = plain(B, A, 60_000);
    let count = 100;
    let expected = frame.clone();
    let reader = std::thread::spawn(move || {
        for _ in 0..count {
            let mut length = [0; 4];
            peer.read_exact(&mut length).unwrap();
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            peer.read_exact(&mut frame).unwrap();
            assert!(frame == expected);
        }
    });
    let mut cut = 0;
    for _ in 0..count {
        send(&mut *link, &FrameInfo::default(), &frame);
        cut += usize::from(link.blocked());
    }
    while link.blocked() {
        crate::common::wait(&*link, nix::poll::PollFlags::POLLOUT);
        link.flush().unwrap();
    }
    reader.join().unwrap();
    assert!(cut > 0, "the socket never was full");
}

#[test]
fn a_hostile_length_ends_the_stream() {
    let (mut link, mut peer) = stream();
    peer.write_all(&0xffff_fff0_u32.to_be_bytes()).unwrap();
    let error = recv_end(&mut *link);
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("4294967280"), "{error}");
}

#[test]
fn frames_that_do_not_fit_are_lost_alone() {
    let (mut link, mut peer) = stream();
    let good = plain(A, B, 100);
    for frame in [&plain(A, B, 1515)[..], &[], &[1; 13], &good] {
        peer.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        peer.write_all(frame).unwrap();
    }
    for _ in 0..3 {
        let error = try_recv(&mut *link, 1514).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
    assert_eq!(try_recv(&mut *link, 1514).unwrap().1, good);
}

#[test]
fn what_a_card_must_not_send_is_refused() {
    let (mut link, _peer) = stream();
    for length in [0, 13, 65_536] {
        let error = try_send(&mut *link, &FrameInfo::default(), &vec![0; length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{length}");
    }
    assert_eq!(
        link.accept(Offloads::ALL).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn sockets_at_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let frame = plain(B, A, 700);
    let info = FrameInfo::default();

    let listener = UnixListener::bind(at("stream")).unwrap();
    let mut ours = link(&format!("unix:{}", at("stream").display()));
    let (mut peer, _) = listener.accept().unwrap();
    send(&mut *ours, &info, &frame);
    let mut bytes = vec![0; 704];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [&700_u32.to_be_bytes()[..], &frame].concat());

    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::empty(),
        None,
    );
    let listener: OwnedFd = listener.unwrap();
    bind(
        listener.as_raw_fd(),
        &UnixAddr::new(&at("packets")).unwrap(),
    )
    .unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let mut ours = link(&format!("unix:{},type=seqpacket", at("packets").display()));
    let peer = accept(listener.as_raw_fd()).unwrap();
    send(&mut *ours, &info, &frame);
    let mut theirs = link(&format!("fd={peer}"));
    assert_eq!(recv(&mut *theirs).1, frame);
    nix::unistd::close(peer).unwrap();
    drop(theirs);
    assert_eq!(recv_end(&mut *ours).kind(), ErrorKind::UnexpectedEof);

    let peer = UnixDatagram::bind(at("datagrams")).unwrap();
    let (there, here) = (at("datagrams"), at("own"));
    let text = format!(
        "unix:{},type=dgram,local={}",
        there.display(),
        here.display()
    );
    let (mut links, attachment) = opened(&text).into_links();
    send(&mut *links[0], &info, &frame);
    let mut bytes = vec![0; 2000];
    let (length, from) = peer.recv_from(&mut bytes).unwrap();
    assert_eq!(
        (&bytes[..length], from.as_pathname()),
        (&frame[..], Some(&*here))
    );
    peer.send_to(&frame, &here).unwrap();
    assert_eq!(recv(&mut *links[0]).1, frame);
    peer.send_to(&frame, &here).unwrap();
    let error = try_recv(&mut *links[0], 699).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "a byte too few");
    drop((links, attachment));
    assert!(!here.exists());
}

#[test]
fn what_is_no_link_is_refused() {
    let refused = |text: &str| {
        let spec: NicSpec = text.parse().unwrap();
        open(&spec, &Request::vif(1, 0)).unwrap_err().to_string()
    };
    let file = tempfile::tempfile().unwrap();
    let fd = file.as_raw_fd();
    let why = format!("Descriptor {fd} is neither a tap device nor a socket of frames");
    assert_eq!(refused(&format!("fd={fd}")), why);
    assert_eq!(refused("unix:/nowhere/s"), "Cannot connect to /nowhere/s");
    let text = refused("fd=999999");
    assert!(
        text.starts_with("Descriptor 999999 cannot be used: EBADF"),
        "{text}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_on_a_stream_are_frames_or_its_end(
        parts in proptest::collection::vec((0_u32..70_000, 0_usize..200), 0..20)
    ) {
        let (mut link, mut peer) = stream();
        for (length, bytes) in parts {
            peer.write_all(&length.to_be_bytes()).unwrap();
            peer.write_all(&vec![length as u8; bytes]).unwrap();
        }
        drop(peer);
        loop {
            match try_recv(&mut *link, 1514) {
                Ok((_, frame)) => assert!((14..=1514).contains(&frame.len())),
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    crate::common::wait(&*link, nix::poll::PollFlags::POLLIN);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                    break;
                }
            }
        }
    }
}
