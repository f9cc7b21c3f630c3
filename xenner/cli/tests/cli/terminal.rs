//! Domains on a terminal.

use nix::sys::signal::Signal;

use super::rig::{Rig, Terminal};

pub const TESTS: &[(&str, fn())] = &[
    ("keys_reach_the_guest", keys_reach_the_guest),
    ("restored_after_a_crash", restored_after_a_crash),
    (
        "restored_when_the_domain_process_dies",
        restored_when_the_domain_process_dies,
    ),
    (
        "restored_after_a_refused_start",
        restored_after_a_refused_start,
    ),
    ("restored_by_signals", restored_by_signals),
    ("restored_while_stopped", restored_while_stopped),
    ("leaving_and_coming_back", leaving_and_coming_back),
    ("the_terminal_goes_away", the_terminal_goes_away),
];

fn boot(rig: &Rig, options: &[&str]) -> Terminal {
    let arguments = [&["run", "--name", "web"][..], options].concat();
    let mut terminal = Terminal::run(rig.command(&arguments));
    terminal.expect("booted");
    assert!(!terminal.is_cooked());
    terminal
}

fn keys_reach_the_guest() {
    let rig = Rig::new();
    let mut terminal = boot(&rig, &[]);
    terminal.type_in(b"\x03");
    terminal.expect("key 0x3");
    terminal.type_in(b"\x1a");
    terminal.expect("key 0x1a");
    terminal.type_in(b"q");
    terminal.end(0);
    rig.assert_clean();
}

fn restored_after_a_crash() {
    let rig = Rig::new();
    let mut terminal = boot(&rig, &[]);
    terminal.type_in(b"c");
    terminal.expect("Domain web crashed: Kernel panic\r\n");
    terminal.end(10);
}

fn restored_when_the_domain_process_dies() {
    let rig = Rig::new();
    let mut terminal = boot(&rig, &[]);
    terminal.type_in(b"k");
    terminal.expect("bug in xenner");
    terminal.end(1);
    rig.assert_clean();
}

fn restored_after_a_refused_start() {
    let rig = Rig::new();
    let mut terminal = Terminal::run(rig.command(&["run", "--append", "build=image"]));
    terminal.expect("was told to");
    terminal.end(4);
}

fn restored_by_signals() {
    let rig = Rig::new();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let terminal = boot(&rig, &[]);
        terminal.signal(signal);
        terminal.end(0);
        rig.assert_clean();
    }
    let mut terminal = boot(&rig, &["--append", "deaf"]);
    terminal.signal(Signal::SIGTERM);
    terminal.expect("Asked web to shut down");
    terminal.signal(Signal::SIGTERM);
    terminal.end(12);
}

fn restored_while_stopped() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let rig = Rig::new();
    let mut terminal = boot(&rig, &[]);
    terminal.signal(Signal::SIGTSTP);
    let pid = nix::unistd::Pid::from_raw(terminal.child.id() as i32);
    let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    assert!(terminal.is_cooked());
    terminal.signal(Signal::SIGCONT);
    terminal.type_in(b"x\n");
    terminal.expect("key 0x78");
    assert!(!terminal.is_cooked());
    terminal.type_in(b"q");
    terminal.end(0);
}

fn leaving_and_coming_back() {
    let rig = Rig::new();
    let mut terminal = boot(&rig, &[]);
    terminal.type_in(b"\x1d");
    terminal.expect("xenner console web");
    terminal.end(0);

    let mut watcher = Terminal::run(rig.command(&["console", "--watch", "web"]));
    watcher.expect("booted");
    let mut console = Terminal::run(rig.command(&["console", "web"]));
    console.expect("booted");
    let mut third = Terminal::run(rig.command(&["console", "web"]));
    third.expect("Somebody else has the keyboard");
    console.type_in(b"a");
    console.expect("key 0x61");
    watcher.type_in(b"b");
    watcher.expect("key 0x61");
    third.signal(Signal::SIGTERM);
    third.end(0);
    console.type_in(b"\x1d");
    console.end(0);

    let mut console = Terminal::run(rig.command(&["console", "web"]));
    console.expect("key 0x61");
    console.type_in(b"q");
    console.end(0);
    watcher.end(0);
    rig.assert_clean();
}

fn the_terminal_goes_away() {
    let rig = Rig::new();
    let Terminal {
        master,
        slave,
        mut child,
        ..
    } = boot(&rig, &["--append", "deaf"]);
    drop((master, slave));
    child.wait().unwrap();
    rig.await_gone(&rig.run_dir().join("web"));
}
