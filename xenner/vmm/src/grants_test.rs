use std::collections::BTreeMap;

use xen_sys::DomId;
use xen_sys::addr::{Maddr, Mfn};
use xen_sys::grant_table::*;
use xenner_core::Physical;
use xenner_core::fake::Fake;
use xenner_core::grant::grant_table_op;

use super::*;

/// The core's fake machine behind a lock, with real pages for two of its frames.
struct FakeMemory {
    fake: Mutex<Fake>,
    pages: BTreeMap<u64, NonNull<u8>>,
}

// SAFETY: the pages are leaked memory, used through `RawPage` only.
unsafe impl Send for FakeMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for FakeMemory {}

impl FakeMemory {
    fn with<R>(&self, f: impl FnOnce(&mut Fake) -> R) -> R {
        f(&mut self.fake.lock().unwrap())
    }
}

impl Physical for &'static FakeMemory {
    fn is_ram(&self, mfn: Mfn) -> bool {
        self.with(|f| f.m.is_ram(mfn))
    }
    fn load64(&self, at: Maddr) -> u64 {
        self.with(|f| f.m.load64(at))
    }
    fn store64(&self, at: Maddr, value: u64) {
        self.with(|f| f.m.store64(at, value));
    }
    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.with(|f| f.m.cmpxchg64(at, old, new))
    }
    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32> {
        self.with(|f| f.m.cmpxchg32(at, old, new))
    }
    fn load32(&self, at: Maddr) -> u32 {
        self.with(|f| f.m.load32(at))
    }
    fn store32(&self, at: Maddr, value: u32) {
        self.with(|f| f.m.store32(at, value));
    }
    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64 {
        self.with(|f| f.m.fetch_or64(at, bits))
    }
    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64 {
        self.with(|f| f.m.fetch_and64(at, bits))
    }
    fn store8(&self, at: Maddr, value: u8) {
        self.with(|f| f.m.store8(at, value));
    }
    fn load8(&self, at: Maddr) -> u8 {
        self.with(|f| f.m.load8(at))
    }
    fn read_frame(&self, from: Maddr, to: &mut [u8]) {
        self.with(|f| f.m.read_frame(from, to));
    }
    fn write_frame(&self, to: Maddr, from: &[u8]) {
        self.with(|f| f.m.write_frame(to, from));
    }
}

impl HostMemory for &'static FakeMemory {
    fn host_address(&self, mfn: Mfn) -> Option<NonNull<u8>> {
        self.pages.get(&mfn.0).copied()
    }
}

const FRAME: u64 = Fake::RAM + 20;
const OTHER: u64 = Fake::RAM + 21;
const IN_USE: u16 = GTF_reading | GTF_writing;

/// A guest with a grant table of one frame, and the host's view of it.
struct Guest {
    memory: &'static FakeMemory,
    entries: Mfn,
    grants: Grants<&'static FakeMemory>,
}

impl Guest {
    fn new() -> Self {
        let mut fake = Fake::new();
        let op = GnttabSetupTable {
            dom: xen_sys::xen::DOMID_SELF,
            nr_frames: 1,
            frame_list: xen_sys::GuestHandle(Fake::LIST.0),
            ..Default::default()
        };
        fake.poke(Fake::ARG, &op);
        let setup = u64::from(GNTTABOP_setup_table);
        fake.call(|m, d, v| grant_table_op(m, d, v, setup, Fake::ARG, 1))
            .unwrap();
        let entries = Mfn(fake.peek(Fake::LIST));
        let config = fake.d.config;
        let page = || {
            let page = Box::leak(Box::new([0u64; PAGE_SIZE / 8]));
            NonNull::new(page.as_mut_ptr().cast()).unwrap()
        };
        let memory = Box::leak(Box::new(FakeMemory {
            fake: Mutex::new(fake),
            pages: [(FRAME, page()), (OTHER, page())].into(),
        }));
        let memory = &*memory;
        let grants = Grants::new(memory, config);
        Self {
            memory,
            entries,
            grants,
        }
    }

    fn entry(&self, gref: u32) -> Maddr {
        self.entries.addr().offset(u64::from(gref) * 8)
    }

    fn grant(&self, gref: u32, flags: u16, domid: DomId, frame: u64) {
        let header = u64::from(flags) | u64::from(domid.0) << 16;
        self.memory.store64(self.entry(gref), header | frame << 32);
    }

    fn use_bits(&self, gref: u32) -> u16 {
        self.memory.load32(self.entry(gref)) as u16 & IN_USE
    }

    fn status(&self, gref: u32, access: Access) -> i16 {
        match self.grants.map(GrantRef(gref), access) {
            Err(GrantError::Refused { status, .. }) => status,
            Err(other) => panic!("{other}"),
            Ok(_) => GNTST_okay,
        }
    }
}

#[test]
fn an_entry_is_in_use_until_its_last_page_goes() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access, DomId(0), FRAME);
    let map = |access| guest.grants.map(GrantRef(8), access).unwrap();
    let writer = map(Access::ReadWrite);
    assert_eq!(guest.use_bits(8), IN_USE);
    let reader = map(Access::Read);
    let second = map(Access::ReadWrite);
    drop(writer);
    assert_eq!(guest.use_bits(8), IN_USE);
    drop(second);
    assert_eq!(guest.use_bits(8), GTF_reading);
    drop(reader);
    assert_eq!(guest.use_bits(8), 0);
}

#[test]
fn a_page_is_the_frame_itself() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access, DomId(0), FRAME);
    guest.grant(9, GTF_permit_access, DomId(0), OTHER);
    let one = guest.grants.map(GrantRef(8), Access::ReadWrite).unwrap();
    let again = guest.grants.map(GrantRef(8), Access::Read).unwrap();
    let other = guest.grants.map(GrantRef(9), Access::Read).unwrap();
    one.write(100, b"frame");
    let mut seen = [0; 5];
    again.read(100, &mut seen);
    assert_eq!(&seen, b"frame");
    assert_eq!(one.as_ptr(), again.as_ptr());
    other.read(100, &mut seen);
    assert_eq!(seen, [0; 5]);
    assert_eq!(one.len(), PAGE_SIZE);
}

#[test]
fn what_is_not_granted_is_refused_and_left_alone() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access | GTF_readonly, DomId(0), FRAME);
    guest.grant(9, GTF_permit_access, DomId(3), FRAME);
    guest.grant(10, GTF_permit_access, DomId(0), Fake::HEAP);
    guest.grant(11, GTF_permit_access, DomId(0), 0xffff_ffff);
    guest.grant(12, GTF_accept_transfer, DomId(0), FRAME);
    use Access::{Read, ReadWrite};
    assert_eq!(guest.status(8, ReadWrite), GNTST_general_error);
    assert_eq!(guest.status(9, Read), GNTST_general_error);
    assert_eq!(guest.status(10, Read), GNTST_bad_page);
    assert_eq!(guest.status(11, ReadWrite), GNTST_bad_page);
    assert_eq!(guest.status(12, Read), GNTST_general_error);
    assert_eq!(guest.status(512, Read), GNTST_bad_gntref);
    assert_eq!(guest.status(u32::MAX, Read), GNTST_bad_gntref);
    for gref in 8..13 {
        assert_eq!(guest.use_bits(gref), 0, "{gref}");
    }
    assert_eq!(guest.status(8, Read), GNTST_okay);
}

#[test]
fn a_refused_writer_leaves_a_reader_its_use() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access | GTF_readonly, DomId(0), FRAME);
    let reader = guest.grants.map(GrantRef(8), Access::Read).unwrap();
    assert_eq!(guest.status(8, Access::ReadWrite), GNTST_general_error);
    assert_eq!(guest.use_bits(8), GTF_reading);
    drop(reader);
    assert_eq!(guest.use_bits(8), 0);
}

#[test]
fn a_frame_without_a_page_is_given_back() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access, DomId(0), Fake::RAM + 30);
    let error = guest.grants.map(GrantRef(8), Access::ReadWrite).err();
    assert!(matches!(error, Some(GrantError::Host { .. })), "{error:?}");
    assert_eq!(guest.use_bits(8), 0);
}

#[test]
fn a_guest_that_takes_an_entry_back_early_does_not_upset_the_count() {
    let guest = Guest::new();
    guest.grant(8, GTF_permit_access, DomId(0), FRAME);
    let page = guest.grants.map(GrantRef(8), Access::ReadWrite).unwrap();
    // No kernel may, a hostile one does: clears the entry and grants another frame by it.
    guest.grant(8, GTF_permit_access, DomId(0), OTHER);
    let second = guest.grants.map(GrantRef(8), Access::Read).unwrap();
    assert_ne!(page.as_ptr(), second.as_ptr());
    page.write(0, b"still there");
    drop(page);
    assert_eq!(guest.use_bits(8), GTF_reading);
    drop(second);
    assert_eq!(guest.use_bits(8), 0);
}
