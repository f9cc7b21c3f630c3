use pv_ring::host::GrantError;
use pv_ring::{EventChannel, GrantMap, HostPage, SharedPage, WaitChannel};
use xen_sys::grant_table::{GNTST_bad_gntref, GNTST_permission_denied};

use super::*;
use crate::HostChannel;

#[test]
fn both_sides_see_one_page() {
    let host = LoopbackHost::new(2);
    let (_, page) = (host.alloc(), host.alloc());
    let gref = host.grant(&page, Access::ReadWrite).unwrap();
    let grants = host.grants(LoopbackHost::GUEST).unwrap();
    let mapped = grants.map(gref, Access::ReadWrite).unwrap();
    page.store_u32(8, 7);
    assert_eq!(mapped.load_u32(8), 7);
    assert_eq!(mapped.as_ptr(), page.as_ptr());
    drop(host);
    drop(grants);
    mapped.store_u32(8, 9);
    assert_eq!(page.load_u32(8), 9);
}

#[test]
fn a_grant_ends_when_nobody_maps_it() {
    let host = LoopbackHost::new(1);
    let grants = host.grants(LoopbackHost::GUEST).unwrap();
    let gref = host.grant(&host.alloc(), Access::ReadWrite).unwrap();
    let mapped = grants.map(gref, Access::ReadWrite).unwrap();
    let again = grants.map(gref, Access::Read).unwrap();
    assert_eq!((host.end(gref), host.mappings()), (false, 2));
    drop((mapped, again));
    assert_eq!(host.mappings(), 0);
    assert!(host.end(gref) && !host.end(gref));
    let status = GNTST_bad_gntref;
    assert_eq!(
        grants.map(gref, Access::Read).unwrap_err(),
        GrantError::Refused { gref, status }
    );
}

#[test]
fn what_was_not_granted_is_not_mapped() {
    let host = LoopbackHost::new(1);
    let grants = host.grants(LoopbackHost::GUEST).unwrap();
    let gref = host.grant(&host.alloc(), Access::Read).unwrap();
    assert!(grants.map(gref, Access::Read).is_ok());
    let status = GNTST_permission_denied;
    assert_eq!(
        grants.map(gref, Access::ReadWrite).unwrap_err(),
        GrantError::Refused { gref, status }
    );
    for gref in [0, gref.0 + 1, u32::MAX] {
        assert!(grants.map(GrantRef(gref), Access::Read).is_err());
    }
    assert!(host.grants(DomId(2)).is_err());
}

#[test]
fn notifications_reach_the_other_end() {
    let host = LoopbackHost::new(1);
    let (port, guest) = host.alloc_port().unwrap();
    let end = host.bind(LoopbackHost::GUEST, port).unwrap();
    assert!(host.bind(LoopbackHost::GUEST, port).is_err());
    assert!(end.clear().unwrap(), "pending when bound");
    assert!(!end.clear().unwrap());
    guest.notify().unwrap();
    guest.notify().unwrap();
    assert!(end.clear().unwrap());
    assert!(!end.clear().unwrap());
    end.notify().unwrap();
    guest.wait().unwrap();
    drop(end);
    let end = host.bind(LoopbackHost::GUEST, port).unwrap();
    drop(guest);
    end.notify().unwrap();
    assert!(host.bind(LoopbackHost::GUEST, port).is_err());
}
