//! Every call of the interface with arguments a guest should not make: nothing
//! panics, no memory outside the machine is touched (the fake machine asserts
//! that), and the books of owned frames balance.

use proptest::prelude::*;
use xen_sys::addr::{Maddr, Mfn, Vaddr};

use crate::fake::Fake;
use crate::{Physical, evtchn, grant, memory, misc, version};

extern crate std;

use std::vec;

/// Numbers that mean something: ports, frames, addresses, limits, domains.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20u64,
        2 => Fake::RAM..Fake::RAM + 16,
        1 => (0..Fake::MAX_PAGES + 2).prop_map(|offset| Fake::RAM + offset),
        1 => (0..Fake::HEAP_PAGES).prop_map(|offset| Fake::HEAP + offset),
        2 => (0..0x20000u64).prop_map(|offset| Fake::VIRT + offset),
        1 => (Fake::RAM..Fake::RAM + 16).prop_map(|mfn| mfn << 12 | 0x18),
        1 => Just(0x7ff0u64),
        1 => Just(0x7ff0_7ff0u64),
        1 => Just(u64::from(Fake::DOMID) << 16 | 0x7ff0),
        1 => (0..20u64, 0..20u64).prop_map(|(low, high)| low | high << 32),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
        1 => (0..64u32).prop_map(|bit| 1 << bit),
    ]
}

#[derive(Clone, Debug)]
struct Call {
    which: u8,
    cmd: u64,
    count: u64,
    words: [u64; 9],
    /// Some guest memory to write first: frame, index, value.
    scribble: (u64, u64, u64),
}

fn call() -> impl Strategy<Value = Call> {
    let cmd = prop_oneof![8 => 0..32u64, 1 => (0..32u64, 0..4u64).prop_map(|(c, s)| c | s << 6), 1 => word()];
    let scribble = (0..16u64, 0..512u64, word());
    (
        0..8u8,
        cmd,
        0..4u64,
        prop::array::uniform9(word()),
        scribble,
    )
        .prop_map(|(which, cmd, count, words, scribble)| Call {
            which,
            cmd,
            count,
            words,
            scribble,
        })
}

/// Where the guest finds its grant table.
fn grant_frame(f: &Fake) -> Maddr {
    let state = f.d.config.heap_base.0 + memory::bitmap_pages(Fake::RAM_PAGES);
    Mfn(state + 1).addr()
}

fn make(f: &mut Fake, call: &Call) {
    let (frame, index, value) = call.scribble;
    f.m.store64(Maddr(((Fake::RAM + frame) << 12) + index * 8), value);
    f.poke(Fake::ARG, &call.words);
    f.poke(Fake::LIST, &call.words);
    let (cmd, arg) = (call.cmd, Fake::ARG);
    let _ = f.call(|m, d, v| match call.which {
        0 => evtchn::event_channel_op(m, d, v, cmd, arg),
        1 => grant::grant_table_op(m, d, v, cmd, arg, call.count),
        2 | 3 => memory::memory_op(m, d, v, cmd, arg),
        4 => version::xen_version(m, d, v, cmd, arg),
        5 => misc::physdev_op(m, d, v, cmd, arg),
        6 => misc::console_io(m, d, v, cmd, call.words[0], Vaddr(call.words[1])),
        _ => {
            let port = call.words[0] as u32;
            evtchn::deliver(m, d, 0, port);
            evtchn::set_pending(m, d, 1, port);
            evtchn::send_virq(m, d, 0, call.words[1] as usize, port);
            let _ = evtchn::port_valid(d, port) && evtchn::port_pending(m, d, port);
            let gref = xen_sys::GrantRef(call.words[2] as u32);
            let remote = xen_sys::DomId(0);
            let kind = grant::Use::Copy;
            let table = grant::Layout::of(&d.config).table(m);
            let found = table.pin(m, &d.config, gref, remote, true, kind);
            table.unpin(m, gref, found.is_err());
            misc::vm_assist(m, d, v, cmd, call.words[3])
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_argument_does_harm(calls in prop::collection::vec(call(), 1..60)) {
        let mut f = Fake::new();
        grant::init_reserved(&f.m, &f.d.config, Mfn(Fake::RAM), Mfn(Fake::RAM + 1));
        let entries = grant_frame(&f);
        f.v.kernel_l4 = Mfn(Fake::RAM + 4);
        for call in &calls {
            let (_, index, value) = call.scribble;
            f.m.store64(Maddr(entries.0 + index % 16 * 8), value);
            make(&mut f, call);
        }
        let owned = (0..Fake::RAM_PAGES)
            .filter(|offset| memory::is_owned(&f.m, &f.d, Mfn(Fake::RAM + offset)))
            .count();
        prop_assert_eq!(owned as u64, memory::tot_pages(&f.d));
    }
}
