//! The modes, by subject.

use xenner_guests::{boot, println, report};

mod calls;
mod frames;
mod rings;
mod stacks;
mod storms;

const MODES: &[(&str, fn())] = &[
    ("bad-pointers", calls::bad_pointers),
    ("bad-frames", frames::bad_frames),
    ("random-calls", calls::random_calls),
    ("random-multicalls", calls::random_multicalls),
    ("vcpu-garbage", calls::vcpu_garbage),
    ("console-ring", rings::console),
    ("xenstore-ring", rings::xenstore),
    ("hypercall-storm", storms::hypercalls),
    ("event-storm", storms::events),
    ("timer-storm", storms::timers),
    ("fault-storm", storms::faults),
    ("flush-storm", storms::flushes),
    ("hypervisor-range", frames::hypervisor_range),
    ("foreign-frames", frames::foreign_frames),
    ("balloon-all", frames::balloon_all),
    ("root-without-kernel", frames::root_without_kernel),
    ("kernel-unmapped", frames::kernel_unmapped),
    ("iret-selectors", stacks::iret_selectors),
    ("iret-non-canonical", stacks::iret_non_canonical),
    ("iret-bad-stack", stacks::iret_bad_stack),
    ("stack-unmapped", stacks::stack_unmapped),
    ("stack-hypervisor", stacks::stack_hypervisor),
    ("stack-non-canonical", stacks::stack_non_canonical),
    ("handler-unmapped", stacks::handler_unmapped),
    ("handler-hypervisor", stacks::handler_hypervisor),
    ("no-handlers", stacks::no_handlers),
    ("upcall-unmapped", stacks::upcall_unmapped),
    ("user-stack-hypervisor", stacks::user_stack_hypervisor),
];

xenner_guests::guest!(main);

fn main() {
    let mut words = boot::command_line().split_ascii_whitespace();
    let Some(asked) = words.find_map(|word| word.strip_prefix("mode=")) else {
        MODES.iter().for_each(|(name, _)| println!("mode={name}"));
        return;
    };
    let Some((name, run)) = MODES.iter().find(|(name, _)| *name == asked) else {
        return println!("no mode {asked}");
    };
    println!("hostile: {name}");
    run();
    report::finish();
}
