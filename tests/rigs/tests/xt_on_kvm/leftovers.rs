//! Nothing is left: neither by many domains, nor by commands that are killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::host::Host;

/// So many at once.
const DOMAINS: u32 = 20;
/// So many commands are killed.
const KILLS: u32 = 50;

#[test]
fn many_domains_leave_nothing() {
    let Some(host) = Host::new() else { return };
    for number in 0..DOMAINS {
        host.xt(&format!("create -q -p guest.cfg name='g{number}'"));
    }
    assert_eq!(host.xt("list").lines().count(), 1 + DOMAINS as usize);
    for number in 0..DOMAINS {
        host.xt(&format!("destroy g{number}"));
    }
    assert_eq!(left(&host), Vec::<String>::new());
}

/// Create and destroy are killed at moments spread over the time they take. What becomes of the
/// domain is whole or nothing: the next commands know it, or there is none.
#[test]
fn commands_are_killed() {
    let Some(host) = Host::new() else { return };
    let create = "create -q -p guest.cfg";
    let clock = Instant::now();
    host.xt(create);
    let created = clock.elapsed();
    let clock = Instant::now();
    host.xt("destroy guest");
    let destroyed = clock.elapsed();
    let mut made = 0;
    for number in 0..KILLS {
        let (line, takes) = match number % 2 {
            0 => (create, created),
            _ => {
                host.xt(create);
                ("destroy guest", destroyed)
            }
        };
        kill(&host, line, takes * number / KILLS);
        made += u32::from(settled(&host));
    }
    println!("{made} of {KILLS} times there was a domain afterwards");
}

fn kill(host: &Host, line: &str, after: Duration) {
    let mut command = host.command(line);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("xt starts");
    // The moment is what is tested.
    thread::sleep(after);
    child.kill().expect("a signal");
    child.wait().expect("an end");
}

/// Ends what there is; whether that was a domain.
fn settled(host: &Host) -> bool {
    let mut there = false;
    // A domain's process that was being started comes up, or goes, by itself.
    loop {
        let (status, _, complaint) = host.try_xt("destroy guest");
        there |= status == 0;
        if left(host).is_empty() {
            return there;
        }
        assert!(
            status == 0 || complaint.contains("guest"),
            "{status}: {complaint}"
        );
        // Nothing tells of it.
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of domains, and files of theirs.
fn left(host: &Host) -> Vec<String> {
    let run = host.path("run");
    let files = fs::read_dir(&run).into_iter().flatten().flatten();
    // The last domain's number stays, so that none has it again.
    let others = files.filter(|file| file.file_name() != ".last-id");
    let mut left: Vec<String> = others.map(|f| format!("{:?}", f.path())).collect();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let told = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut words = told.split(|byte| *byte == 0);
        if words.any(|word| OsStr::from_bytes(word) == run) {
            left.push(format!("process {:?}", process.file_name()));
        }
    }
    left
}
