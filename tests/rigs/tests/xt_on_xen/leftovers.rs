//! Nothing is left behind, by many domains nor by commands that are killed.

use crate::dom0::{Dom0, SUPERVISOR, UUID};

/// How many domains come and go.
const DOMAINS: u32 = 20;

/// Somebody to be looked after all the time, so that the supervisor stays.
fn keeper(dom0: &mut Dom0) {
    dom0.must(
        "sed -e 's/\"g\"/\"keeper\"/' -e /^uuid/d -e /^disk/d -e /^vif/d /share/small.cfg >/run/keeper.cfg && \
         xt create -q /run/keeper.cfg",
    );
}

/// Memory, nodes, files, loop devices and the supervisor's files are as before.
#[test]
#[ignore = "minutes; for the nightly run"]
fn domains_come_and_go() {
    let mut dom0 = Dom0::boot(&[]);
    keeper(&mut dom0);
    let files = format!("ls /proc/$({SUPERVISOR})/fd | wc -l");
    let one = "xt create -q /share/small.cfg && xt destroy g";
    let before = dom0.state();
    // What is made once stays.
    dom0.must(one);
    dom0.settled(&before, "after one domain");
    let open = dom0.says(&files);
    for _ in 0..DOMAINS {
        dom0.must(one);
    }
    dom0.settled(&before, "after many domains");
    // It may just be reading something.
    dom0.write("files", &files);
    dom0.until(&format!("[ $(sh /share/files) -le {open} ]"));
    dom0.must("xt destroy keeper");
    dom0.unsupervised();
}

/// How many commands are killed.
fn kills() -> usize {
    match std::env::var_os("XENNER_MATRIX").is_some_and(|matrix| matrix == "full") {
        true => 50,
        false => 10,
    }
}

/// A system call of a command: its name, and how many of that name it has made by then.
type Moment = (String, usize);

/// What `strace` wrote, call by call.
fn moments(trace: &str) -> Vec<Moment> {
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    let names = trace.lines().filter_map(|line| {
        let (name, _) = line.split_once('(')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_name).then_some(name)
    });
    names
        .map(|name| {
            let count = seen.entry(name).or_default();
            *count += 1;
            (name.to_owned(), *count)
        })
        .collect()
}

/// So many of them, one out of each of as many equal parts, drawn by Knuth's generator.
fn drawn(moments: &[Moment], count: usize, random: &mut u64) -> Vec<Moment> {
    let part = |number: usize| number * moments.len() / count;
    (0..count)
        .map(|number| {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (from, to) = (part(number), part(number + 1));
            // The generator's high bits are the good ones.
            let at = from + (*random >> 33) as usize % (to - from).max(1);
            moments[at].clone()
        })
        .collect()
}

/// `xt` is killed as it enters some system call of `create` or `destroy`: the next command, whatever it
/// is, leaves no half of a domain.
#[test]
#[ignore = "minutes; for the nightly run"]
fn killed_commands_leave_nothing() {
    let mut dom0 = Dom0::boot(&[]);
    keeper(&mut dom0);
    let before = dom0.state();
    let [create, destroy] = ["xt create -q /share/small.cfg", "xt destroy g"];
    let mut random = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(1, |since| since.as_nanos() as u64);
    println!("moments from {random}");
    let mut killed = Vec::new();
    // Once for what is made once.
    dom0.must(&format!("{create} && {destroy}"));
    for command in [create, destroy] {
        dom0.must(&format!("strace -qq -o /share/trace {command}"));
        let trace = dom0.rig.shell.read("trace").expect("what strace wrote");
        let moments = moments(&String::from_utf8_lossy(&trace));
        println!("{command}: {} system calls", moments.len());
        let drawn = drawn(&moments, kills() / 2, &mut random);
        killed.extend(drawn.into_iter().map(|moment| (command, moment)));
    }
    dom0.settled(&before, "after being traced");
    for (command, (call, number)) in killed {
        let when = format!("{command} killed at {call} {number}");
        if command == destroy {
            dom0.must(create);
        }
        let status = dom0.run(&format!(
            "strace -qq -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={number} {command} >/dev/null 2>&1"
        ));
        dom0.must("xt list");
        // What is still there is whole: it runs, and is looked after.
        let left = dom0.run("xl list g >/dev/null 2>&1 && xl list g").text;
        println!("{when}: status {}, left: {}", status.status, left.trim());
        if left.contains("\ng ") {
            assert!(!left.contains("--p"), "{when}: {left}");
            dom0.must(&format!("ls /var/lib/xen/userdata-d.*.{UUID}.xt"));
            dom0.must(destroy);
        }
        dom0.settled(&before, &when);
    }
}

#[test]
fn system_calls_are_counted_by_name() {
    let trace = "execve(\"/usr/bin/xt\", [\"xt\"]) = 0\nread(3, \"\", 1) = 0\n--- SIGCHLD {si_signo=17} ---\n\
                 read(3, \"x(\", 1) = 1\n+++ exited with 0 +++\n";
    let moments = moments(trace);
    let wanted = [("execve", 1), ("read", 1), ("read", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(moments, wanted);
    assert_eq!(drawn(&moments, 3, &mut 1), wanted);
    assert_eq!(drawn(&moments, 2, &mut 1).len(), 2);
}
