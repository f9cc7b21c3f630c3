//! How fast frames pass through each kind of link, one thread, back and forth in bursts: a table.
//! Tap interfaces need root; they live in a network of their own.
//!
//! `cargo run --release -p pv-netdev --example link_speed`
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pv_netdev::{FrameInfo, Gso, Link, NicSpec, Offloads, Request, open, pair};
use pv_ring::IoVec;

const TIME: Duration = Duration::from_millis(500);
const TO: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn main() {
    println!(
        "{:<24}{:>8}{:>14}{:>12}",
        "link", "bytes", "frames/s", "MB/s"
    );
    for length in [60, 1514, 60_054] {
        let (a, b) = pair(Offloads::ALL).expect("a socket pair");
        measure("pair", a, b, length);
        let (a, b) = UnixStream::pair().expect("a socket pair");
        let [one, two] = [&a, &b].map(|end| link(&format!("fd={}", end.as_raw_fd()), 0));
        measure("stream to stream", one, two, length);
        match nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            Err(errno) => println!(
                "{:<24} skipped: no network namespace: {errno}",
                "tap to tap"
            ),
            Ok(()) => {
                let [one, two] = [0, 1].map(|devid| link("bridge=speed0,create", devid));
                measure("tap to tap on a bridge", one, two, length);
            }
        }
    }
}

fn link(text: &str, devid: u32) -> Box<dyn Link> {
    let spec: NicSpec = text.parse().expect("a specification");
    let mut opened = open(&spec, &Request::vif(1, devid)).expect("a link");
    opened.attachment.take_chores().forget(); // The namespace goes with the program.
    opened.into_links().0.remove(0)
}

/// Bursts of 16 frames from one link to the other.
fn measure(name: &str, mut from: Box<dyn Link>, mut to: Box<dyn Link>, length: usize) {
    let (info, frame) = frame(length);
    let _ = to.accept(to.offloads());
    let mut source = frame.clone();
    let mut room = vec![0; 65_536];
    let (mut frames, begin) = (0_u64, Instant::now());
    while begin.elapsed() < TIME {
        let mut sent = 0;
        while sent < 16 {
            // SAFETY: `source` outlives the call and is not used in it.
            match unsafe { from.send(&info, &[IoVec::of_bytes(&mut source)]) } {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        while sent > 0 {
            // SAFETY: `room` outlives the call and is not used in it.
            match unsafe { to.recv(&[IoVec::of_bytes(&mut room)]) } {
                Ok((count, _)) if count == length && room[..6] == TO => {
                    frames += 1;
                    sent -= 1;
                }
                Ok(_) => {} // The bridge's own.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    from.flush().expect("flush");
                    if begin.elapsed() > 4 * TIME {
                        panic!("{name}: {sent} frames of {length} bytes are lost");
                    }
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
    let rate = frames as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{name:<24}{length:>8}{rate:>14.0}{:>12.0}",
        rate * length as f64 / 1e6
    );
}

/// Short ones are of an experimental protocol, long ones TCP segments to be cut.
fn frame(length: usize) -> (FrameInfo, Vec<u8>) {
    let mut frame = vec![0; length];
    frame[..6].copy_from_slice(&TO);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    if length <= 1514 {
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        return (FrameInfo::default(), frame);
    }
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    // Some hosts' bridges look at the header's checksum.
    let words = frame[14..34].chunks_exact(2);
    let sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[46..48].copy_from_slice(&[0x50, 0x10]);
    let gso = Gso {
        v6: false,
        size: 1448,
        header_len: 54,
        ecn: false,
    };
    let info = FrameInfo {
        csum_start: Some(34),
        csum_offset: 16,
        csum_valid: true,
        gso: Some(gso),
    };
    (info, frame)
}
