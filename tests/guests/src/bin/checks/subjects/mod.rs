//! The subjects in the order they run.

use xenner_guests::{boot, report, trap};

mod debug;
mod descriptors;
mod events;
mod fifo;
mod grants;
mod memory;
mod misc;
mod mmu;
mod mmuext;
mod multicall;
mod privileged;
mod refused;
mod sched;
mod traps;
mod usermode;
mod vcpus;
mod version;
mod xenstore;

const SUBJECTS: &[(&str, fn())] = &[
    ("version", version::run),
    ("refused", refused::run),
    ("multicall", multicall::run),
    ("memory", memory::run),
    ("mmu", mmu::run),
    ("mmuext", mmuext::run),
    ("traps", traps::run),
    ("privileged", privileged::run),
    ("debug", debug::run),
    ("sched", sched::run),
    ("events", events::run),
    ("descriptors", descriptors::run),
    ("usermode", usermode::run),
    ("misc", misc::run),
    ("grants", grants::run),
    ("vcpus", vcpus::run),
    ("xenstore", xenstore::run),
    ("fifo", fifo::run),
];

xenner_guests::guest!(main);

fn listed(word: &str, subject: &str) -> Option<bool> {
    let mut lists = boot::command_line()
        .split_ascii_whitespace()
        .filter_map(|w| w.strip_prefix(word))
        .peekable();
    lists.peek()?;
    Some(lists.any(|list| list.split(',').any(|name| name == subject)))
}

fn asked_for(subject: &str) -> bool {
    listed("only=", subject).unwrap_or(true) && !listed("without=", subject).unwrap_or(false)
}

fn main() {
    for (name, run) in SUBJECTS {
        if asked_for(name) {
            trap::reset();
            run();
        }
    }
    report::finish();
    boot::shutdown_as_asked();
}
