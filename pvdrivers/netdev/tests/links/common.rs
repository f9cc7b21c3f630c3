//! Frames to and from links, namespaces, and Ethernet by hand.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use pv_netdev::{FrameInfo, Gso, Link};
use pv_ring::IoVec;

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Runs the test on a thread with a network of its own, in which only the loopback exists; says
/// why where that can't be.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(Errno::EPERM) => eprintln!("skipped: a network namespace needs root"),
        Err(errno) => panic!("unshare: {errno}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status();
    let status = status.expect("the program ip (package iproute2)");
    assert!(status.success(), "ip {words}");
}

/// Whether there is an interface of that name.
pub fn exists(name: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", name]).output();
    output.expect("the program ip").status.success()
}

/// Sends a frame that lies in two pieces.
pub fn try_send(link: &mut dyn Link, info: &FrameInfo, frame: &[u8]) -> io::Result<()> {
    let mut copy = frame.to_vec();
    let (first, second) = copy.split_at_mut(frame.len() / 3);
    let pieces = [IoVec::of_bytes(first), IoVec::of_bytes(second)];
    // SAFETY: `copy` outlives the call and is not used in it.
    unsafe { link.send(info, &pieces) }
}

/// Sends a frame, as soon as there is room.
pub fn send(link: &mut dyn Link, info: &FrameInfo, frame: &[u8]) {
    loop {
        match try_send(link, info, frame) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(link.blocked());
                wait(link, PollFlags::POLLOUT);
                link.flush().unwrap();
            }
            Err(error) => panic!("send: {error}"),
        }
    }
}

/// Receives a frame into two pieces with so much room.
pub fn try_recv(link: &mut dyn Link, room: usize) -> io::Result<(FrameInfo, Vec<u8>)> {
    let mut buffer = vec![0xee; room];
    let (first, second) = buffer.split_at_mut(room / 3);
    let pieces = [IoVec::of_bytes(first), IoVec::of_bytes(second)];
    // SAFETY: `buffer` outlives the call and is not used in it.
    let (length, info) = unsafe { link.recv(&pieces) }?;
    buffer.truncate(length);
    Ok((info, buffer))
}

/// Receives the next frame.
pub fn recv(link: &mut dyn Link) -> (FrameInfo, Vec<u8>) {
    loop {
        match try_recv(link, 65_536) {
            Ok(frame) => return frame,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(link, PollFlags::POLLIN);
            }
            Err(error) => panic!("recv: {error}"),
        }
    }
}

/// Waits for the link's end: the error that tells it.
pub fn recv_end(link: &mut dyn Link) -> io::Error {
    loop {
        match try_recv(link, 65_536) {
            Ok((_, frame)) => panic!("a frame of {} bytes", frame.len()),
            // Children of other tests may have a copy of the other end until they exec.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(link, PollFlags::POLLIN);
            }
            Err(error) => return error,
        }
    }
}

/// Receives the next frame for this address.
pub fn recv_for(link: &mut dyn Link, mac: [u8; 6]) -> (FrameInfo, Vec<u8>) {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let (info, frame) = recv(link);
        if frame[..6] == mac {
            return (info, frame);
        }
    }
    panic!("only frames for others");
}

/// Waits for the link's event.
pub fn wait(link: &dyn Link, events: PollFlags) {
    let fd = link.event();
    let mut polled = [PollFd::new(fd.as_fd(), events)];
    let timeout = PollTimeout::try_from(LIMIT).unwrap();
    assert!(poll(&mut polled, timeout).unwrap() > 0, "no event in time");
}

/// An Ethernet frame of an experimental protocol; `length` bytes in all.
pub fn plain(to: [u8; 6], from: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[0x88, 0xb5]].concat();
    frame.extend((frame.len()..length).map(|i| i as u8));
    frame
}

/// A large TCP segment over IPv4 whose checksum is still to be made, and what to tell of it.
pub fn large_segment(to: [u8; 6], from: [u8; 6], payload: usize) -> (FrameInfo, Vec<u8>) {
    let mut frame = [&to[..], &from, &[8, 0]].concat();
    let total = (40 + payload) as u16;
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
    let sum = !sum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    let mut tcp = vec![
        0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x10, 0, 0, 0, 0, 0,
    ];
    let length = (20 + payload) as u16;
    let partial = sum_of_pseudo(&frame[26..34], length);
    tcp[16..18].copy_from_slice(&partial.to_be_bytes());
    frame.extend(tcp);
    frame.extend((0..payload).map(|i| i as u8));
    let info = FrameInfo {
        csum_start: Some(34),
        csum_offset: 16,
        csum_valid: true,
        gso: Some(Gso {
            v6: false,
            size: 1448,
            header_len: 54,
            ecn: false,
        }),
    };
    (info, frame)
}

/// Whether the TCP checksum of an IPv4 frame is right.
pub fn checksum_is_right(frame: &[u8]) -> bool {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let tcp = &frame[34..14 + total];
    let pseudo = sum_of_pseudo(&frame[26..34], tcp.len() as u16);
    sum(&[&pseudo.to_be_bytes(), tcp]) == 0xffff
}

fn sum_of_pseudo(addresses: &[u8], length: u16) -> u16 {
    sum(&[addresses, &[0, 6], &length.to_be_bytes()])
}

/// The Internet's one's complement sum. Each part but the last has an even number of bytes.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
