//! Hypercalls with arguments that no sane guest passes.

use xenner_guests::abi::*;
use xenner_guests::boot;
use xenner_guests::hypercall::{HYPERVISOR, NON_CANONICAL, UNMAPPED, call1, call2, call5};
use xenner_guests::memory::Page;
use xenner_guests::report::see;

/// Calls that would end or stop the domain by themselves, or return elsewhere.
fn skipped(nr: u64, cmd: u64) -> bool {
    let sched = nr == __HYPERVISOR_sched_op || nr == __HYPERVISOR_sched_op_compat;
    nr == __HYPERVISOR_iret
        || nr == __HYPERVISOR_multicall
        || sched && cmd != u64::from(SCHEDOP_yield)
        || nr == __HYPERVISOR_vcpu_op
            && [VCPUOP_down, VCPUOP_send_nmi].map(u64::from).contains(&cmd)
        || nr == __HYPERVISOR_event_channel_op
            && [EVTCHNOP_reset, EVTCHNOP_close]
                .map(u64::from)
                .contains(&cmd)
}

/// Every call and command with every kind of bad pointer in each place a pointer can be.
pub fn bad_pointers() {
    let read_only = Page::new();
    read_only.read_only();
    let (last, hole) = (Page::new(), Page::new());
    hole.unmap();
    let pointers = [
        0,
        1,
        UNMAPPED,
        HYPERVISOR,
        HYPERVISOR_VIRT_START,
        HYPERVISOR_VIRT_END - 8,
        HYPERVISOR_VIRT_START - 8,
        NON_CANONICAL,
        0x0000_7fff_ffff_fff8,
        u64::MAX,
        u64::MAX - 7,
        last.0 + 4092,
        read_only.0,
    ];
    for nr in 0..64 {
        for cmd in (0..44).filter(|cmd| !skipped(nr, *cmd)) {
            for pointer in pointers {
                call5(nr, cmd, pointer, 1, 0, DOMID_SELF);
                call5(nr, cmd, 0, pointer, pointer, DOMID_SELF);
                if !skipped(nr, pointer) {
                    call5(nr, pointer, 1, pointer, DOMID_SELF, 0);
                }
            }
        }
        restore();
    }
    see("hostile.bad_pointers", "survived");
}

/// Puts back what such calls may have changed under the guest's feet.
fn restore() {
    xenner_guests::trap::reset();
    call2(__HYPERVISOR_set_gdt, 0, 0);
    call2(__HYPERVISOR_fpu_taskswitch, 0, 0);
    call1(__HYPERVISOR_set_timer_op, 0);
    for register in 0..8 {
        call2(__HYPERVISOR_set_debugreg, register, 0);
    }
}

/// A generator of test words; its seed is `seed=N`.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let mut words = boot::command_line().split_ascii_whitespace();
        let seed = words.find_map(|word| word.strip_prefix("seed=")?.parse::<u64>().ok());
        Random(seed.unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number of the sizes that interfaces trip over.
    fn word(&mut self, page: Page) -> u64 {
        let raw = self.next();
        match raw >> 60 {
            0..=3 => raw & 0x3f,
            4 => raw & 0xffff,
            5 => raw & 0xffff_ffff,
            6 => raw | 0xffff_8000_0000_0000,
            7 => page.mfn().wrapping_add(raw & 3),
            8 => u64::from(DOMID_SELF.0),
            9..=13 => page.0 + (raw & 0xff8),
            14 => u64::MAX - (raw & 0xff),
            _ => raw,
        }
    }
}

fn fill(random: &mut Random, page: Page) {
    // The calls may have taken its mapping away.
    page.writable();
    for index in 0..512 {
        let word = random.word(page);
        page.write(index, word);
    }
}

/// Calls whose effects would end this experiment soon rather than teach something.
fn ends_experiment(nr: u64) -> bool {
    [
        __HYPERVISOR_set_trap_table,
        __HYPERVISOR_set_callbacks,
        __HYPERVISOR_callback_op,
        __HYPERVISOR_iret,
        __HYPERVISOR_multicall,
        __HYPERVISOR_sched_op,
        __HYPERVISOR_sched_op_compat,
    ]
    .contains(&nr)
}

/// Fifty thousand calls with arguments drawn by lot, structures included.
pub fn random_calls() {
    let mut random = Random::new();
    let page = Page::new();
    for round in 0..50_000 {
        if round % 8 == 0 {
            fill(&mut random, page);
        }
        let (nr, cmd) = (random.next() % 64, random.word(page));
        if ends_experiment(nr) || skipped(nr, cmd) {
            continue;
        }
        let args = [(); 4].map(|()| random.word(page));
        call5(nr, cmd, args[0], args[1], args[2], args[3]);
        if round % 1024 == 0 {
            restore();
        }
    }
    see("hostile.random_calls", "survived");
}

/// The same, in batches.
pub fn random_multicalls() {
    let mut random = Random::new();
    let page = Page::new();
    for _ in 0..5_000 {
        fill(&mut random, page);
        let mut calls = [MulticallEntry::default(); 8];
        for call in &mut calls {
            let (nr, cmd) = (random.next() % 64, random.word(page));
            call.op = if ends_experiment(nr) || skipped(nr, cmd) {
                63
            } else {
                nr
            };
            call.args = [(); 6].map(|()| random.word(page));
            call.args[0] = cmd;
        }
        call2(__HYPERVISOR_multicall, &mut calls, 8);
    }
    restore();
    see("hostile.random_multicalls", "survived");
}

/// A second vCPU from contexts drawn by lot.
pub fn vcpu_garbage() {
    let mut random = Random::new();
    let pages = [Page::new(), Page::new()];
    for _ in 0..2_000 {
        for page in pages {
            fill(&mut random, page);
        }
        let context = [0u64; size_of::<VcpuGuestContext>() / 8].map(|_| random.word(pages[0]));
        call5(__HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, &context, 0, 0);
        call5(__HYPERVISOR_vcpu_op, VCPUOP_up, 1, 0, 0, 0);
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    }
    see("hostile.vcpu_garbage", "survived");
}
