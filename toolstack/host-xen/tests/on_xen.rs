//! Both ends of everything in one domain of Xen. Elsewhere this program takes itself into rig X and
//! runs again there.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pv_backend::{Host, HostChannel};
use pv_ring::host::GrantError;
use pv_ring::{Access, EventChannel, GrantMap, SharedPage};
use xen_sys::{DomId, GrantRef};
use xenner_rigs::{RigSpec, RigX};
use xt_host_xen::gntalloc::Gntalloc;
use xt_host_xen::{Channel, OpenError, Privcmd, XenHost};

const DOM0: DomId = DomId(0);

/// The host, if this is one.
fn host() -> Option<XenHost> {
    match XenHost::open() {
        Ok(host) => Some(host),
        Err(OpenError::NotXen) => {
            println!("skipped: not on Xen; the test in_rig_x runs it there");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn in_rig_x() {
    if Path::new("/proc/xen/capabilities").exists() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let spec = RigSpec::default().program(this, "/bin/on_xen");
    let mut rig = RigX::boot(&spec).expect("rig X");
    let output = rig
        .run(
            "on_xen --test-threads=1 --nocapture",
            Duration::from_secs(120),
        )
        .expect("the rig answers");
    println!("{}", output.text);
    assert_eq!(output.status, 0);
    assert!(!output.text.contains("skipped"), "Xen was not seen there");
}

fn readable(channel: &Channel, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() == 1
}

#[test]
fn the_release_is_known() {
    let Some(_) = host() else { return };
    let privcmd = Privcmd::open().unwrap();
    let version = privcmd.xen_version().unwrap();
    assert_eq!((version.major, version.minor), (4, 17), "{version}");
    assert!(privcmd.capabilities().unwrap().contains("xen-3.0-x86_64"));
}

#[test]
fn pages_are_shared_until_they_are_unmapped() {
    let Some(host) = host() else { return };
    let own = Gntalloc::open()
        .unwrap()
        .allocate(DOM0, 3, Access::ReadWrite)
        .unwrap();
    let grants = host.grants(DOM0).unwrap();
    let mapped = grants.map_run(own.grefs(), Access::ReadWrite).unwrap();
    assert_eq!(mapped.len(), 3 * 4096);
    own.write(4094, b"abcd");
    let mut back = [0; 4];
    mapped.read(4094, &mut back);
    assert_eq!(&back, b"abcd");
    mapped.store_u32(8192, 17);
    assert_eq!(own.load_u32(8192), 17);

    // In any order, many times, and several mappings of one page.
    let second = grants.map(own.grefs()[1], Access::Read).unwrap();
    drop(mapped);
    assert_eq!(second.load_u32(0) & 0xffff, u32::from_le_bytes(*b"cd\0\0"));
    for _ in 0..1000 {
        let page = grants.map(own.grefs()[2], Access::ReadWrite).unwrap();
        page.store_u32(0, page.load_u32(0) + 1);
    }
    assert_eq!(own.load_u32(8192), 1017);
}

#[test]
fn what_is_not_granted_is_refused() {
    let Some(host) = host() else { return };
    let grants = host.grants(DOM0).unwrap();
    let gntalloc = Gntalloc::open().unwrap();
    let read_only = gntalloc.allocate(DOM0, 1, Access::Read).unwrap();
    let gref = read_only.grefs()[0];
    assert!(grants.map(gref, Access::Read).is_ok());
    let refused = [
        grants.map(gref, Access::ReadWrite),
        grants.map(GrantRef(0x00ff_ffff), Access::Read),
        grants.map_run(&[gref, GrantRef(0x00ff_ffff)], Access::Read),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, GrantError::Refused { .. }), "{error:?}");
    }
    // None of them left anything behind.
    assert!(grants.map(gref, Access::Read).is_ok());
}

#[test]
fn channels_notify_both_ways() {
    let Some(host) = host() else { return };
    let front = Channel::alloc_unbound(DOM0).unwrap();
    let back = host.bind(DOM0, front.port()).unwrap();
    for end in [&front, &back] {
        end.clear().unwrap();
        assert!(!readable(end, PollTimeout::ZERO));
    }
    for (from, to) in [(&front, &back), (&back, &front)] {
        for _ in 0..3 {
            from.notify().unwrap();
            assert!(readable(to, PollTimeout::from(5000u16)));
            assert!(to.clear().unwrap());
            assert!(!to.clear().unwrap());
            assert!(!readable(to, PollTimeout::ZERO));
        }
    }
    // A back end that died leaves a port that its successor binds to.
    let port = front.port();
    drop(back);
    let again = host.bind(DOM0, port).unwrap();
    again.clear().unwrap();
    front.notify().unwrap();
    assert!(readable(&again, PollTimeout::from(5000u16)));
    assert!(host.bind(DOM0, port).is_err(), "it is taken");
}

#[test]
fn unmapping_tells_the_other_end() {
    let Some(host) = host() else { return };
    let own = Gntalloc::open()
        .unwrap()
        .allocate(DOM0, 1, Access::ReadWrite)
        .unwrap();
    let front = Channel::alloc_unbound(DOM0).unwrap();
    let back = host.bind(DOM0, front.port()).unwrap();
    front.clear().unwrap();
    own.write(5, &[0xff]);
    let page = host
        .grants(DOM0)
        .unwrap()
        .map(own.grefs()[0], Access::ReadWrite)
        .unwrap();
    page.on_unmap(Some(5), Some(back.port())).unwrap();
    drop(page);
    assert!(readable(&front, PollTimeout::from(5000u16)));
    let mut byte = [1];
    own.read(5, &mut byte);
    assert_eq!(byte, [0]);
}
