//! The subjects in the order they run.

use xenner_guests::{boot, report};

macro_rules! subjects {
    ($($subject:ident),+ $(,)?) => {
        $(mod $subject;)+
        const SUBJECTS: &[(&str, fn())] = &[$((stringify!($subject), $subject::run)),+];
    };
}

subjects! {
    version,
}

xenner_guests::guest!(main);

fn asked_for(subject: &str) -> bool {
    let words = boot::command_line().split_ascii_whitespace();
    let mut only = words
        .filter_map(|word| word.strip_prefix("only="))
        .peekable();
    only.peek().is_none() || only.any(|list| list.split(',').any(|name| name == subject))
}

fn main() {
    for (name, run) in SUBJECTS {
        if asked_for(name) {
            run();
        }
    }
    report::finish();
    boot::shutdown_as_asked();
}
