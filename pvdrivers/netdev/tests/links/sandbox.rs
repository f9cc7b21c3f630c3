//! The links need no more system calls than they say.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use pv_netdev::{
    Description, FrameInfo, Link, NicSpec, Offloads, Request, SET_OFFLOAD, SYSTEM_CALLS, open,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::common::{in_namespace, large_segment, plain, recv, recv_for, send, wait};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn number(name: &str) -> i64 {
    match name {
        "readv" => libc::SYS_readv,
        "writev" => libc::SYS_writev,
        "recvmsg" => libc::SYS_recvmsg,
        "sendmsg" => libc::SYS_sendmsg,
        "recvfrom" => libc::SYS_recvfrom,
        "sendto" => libc::SYS_sendto,
        other => panic!("{other} is new"),
    }
}

/// Refuses this thread all system calls but the links' and those of any thread.
fn confine() {
    let any = [
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_close,
        libc::SYS_futex,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_mprotect,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_exit,
        libc::SYS_gettid,
        libc::SYS_write, // A test's own failure.
        libc::SYS_fcntl, // Debug assertions of the standard library look whether a descriptor is open.
        libc::SYS_clock_gettime,
        libc::SYS_sched_yield,
    ];
    let own = SYSTEM_CALLS.map(number);
    let ioctl = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SET_OFFLOAD);
    let ioctl = SeccompRule::new(vec![ioctl.unwrap()]).unwrap();
    let calls = any.into_iter().chain(own).map(|call| (call, vec![]));
    let mut rules: BTreeMap<i64, Vec<_>> = calls.collect();
    rules.insert(libc::SYS_ioctl, vec![ioctl]);
    let refuse = SeccompAction::Errno(libc::EACCES as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// The link of a descriptor, as another process would make it of the description it is told.
fn links(text: &str, devid: u32) -> Vec<Box<dyn Link>> {
    let spec: NicSpec = text.parse().unwrap();
    let mut opened = open(&spec, &Request::vif(5, devid)).unwrap();
    opened.attachment.take_chores().forget(); // All goes with the namespace.
    let told = serde_json::to_string(&opened.description).unwrap();
    let description: Description = serde_json::from_str(&told).unwrap();
    let fds = opened.descriptors.into_iter();
    fds.map(|fd| description.link(fd)).collect()
}

#[test]
fn links_work_with_the_calls_they_name() {
    in_namespace(|| {
        let mut a = links("bridge=xb0,create", 0);
        let mut b = links("bridge=xb0,create", 1);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream = links(&format!("fd={}", ours.as_raw_fd()), 2).remove(0);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 20 * 60_004];
            theirs.read_exact(&mut all).map(|()| theirs)
        });
        confine();
        let forbidden = std::fs::File::open("/dev/null").unwrap_err();
        assert_eq!(
            forbidden.raw_os_error(),
            Some(libc::EACCES),
            "the filter is on"
        );

        b[0].accept(Offloads::ALL).unwrap();
        let (info, frame) = large_segment(B, A, 28_960);
        send(&mut *a[0], &info, &frame);
        assert!(recv_for(&mut *b[0], B).1 == frame);

        for _ in 0..20 {
            send(&mut *stream, &FrameInfo::default(), &plain(B, A, 60_000));
        }
        while stream.blocked() {
            wait(&*stream, nix::poll::PollFlags::POLLOUT);
            stream.flush().unwrap();
        }
        let mut peer = reader.join().unwrap().unwrap();
        let frame = plain(A, B, 100);
        let bytes = [&100_u32.to_be_bytes()[..], &frame].concat();
        std::io::Write::write_all(&mut peer, &bytes).unwrap();
        assert_eq!(recv(&mut *stream).1, frame);
    });
}
