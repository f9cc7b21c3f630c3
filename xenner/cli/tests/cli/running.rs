//! Domains without a terminal, and the commands that act on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::rig::{PATIENCE, Rig};

pub const TESTS: &[(&str, fn())] = &[
    ("how_domains_end", how_domains_end),
    ("a_crash_is_reported", a_crash_is_reported),
    ("console_bytes_arrive_whole", console_bytes_arrive_whole),
    ("commands", commands),
    ("a_name_in_use", a_name_in_use),
    ("shutdown_waits", shutdown_waits),
    ("signals", signals),
    ("the_foreground_dies", the_foreground_dies),
    ("the_domain_process_dies", the_domain_process_dies),
    (
        "a_lost_thread_ends_the_domain",
        a_lost_thread_ends_the_domain,
    ),
    ("detached", detached),
    ("restarts", restarts),
    ("preserve", preserve),
    ("rename_restart", rename_restart),
    ("core_dumps", core_dumps),
    ("consoles", consoles),
    ("hostile_clients", hostile_clients),
    ("the_sandbox_holds", the_sandbox_holds),
];

fn how_domains_end() {
    let rig = Rig::new();
    for (how, code, message) in [
        ("poweroff", 0, ""),
        ("crash", 10, "Kernel panic"),
        ("watchdog", 11, "watchdog of domain"),
        ("suspend", 0, "suspended itself"),
    ] {
        let (out, err) = rig.expect(code, &["run", "--append", &format!("exit={how}")]);
        assert_eq!(out, format!("booted: exit={how}\r\n"));
        assert!(
            err.contains(message) && err.is_empty() == message.is_empty(),
            "{how}: {err}"
        );
        rig.assert_clean();
    }
    rig.expect(
        0,
        &["run", "--append", "exit=reboot", "--on-reboot", "destroy"],
    );
}

fn a_crash_is_reported() {
    let rig = Rig::new();
    let map = rig.path("System.map");
    std::fs::write(&map, "ffffffff81000100 T do_crash\n").unwrap();
    let report = rig.path("report.json");
    let (_, err) = rig.expect(
        10,
        &[
            "run",
            "--name",
            "web",
            "--append",
            "exit=crash",
            "--symbols",
            map.to_str().unwrap(),
            "--report",
            report.to_str().unwrap(),
        ],
    );
    assert!(
        err.starts_with("Domain web crashed: Kernel panic\n"),
        "{err}"
    );
    assert!(err.contains("rip ffffffff81000123"), "{err}");
    assert!(err.contains("[ffffffff81000123] do_crash+0x23"), "{err}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["exit_status"], 10);
    assert_eq!(report["status"], "guest-crashed");
    assert!(report["stats"]["vcpus"].is_array(), "{report}");
    assert_eq!(
        report["crash"]["vcpus"][0]["backtrace"][0]["symbol"],
        "do_crash+0x23"
    );
}

fn console_bytes_arrive_whole() {
    let rig = Rig::new();
    let (out, _) = rig.expect(0, &["run", "--append", "flood exit=poweroff"]);
    assert_eq!(out.lines().count(), 200_001);
    assert!(out.ends_with("line 199999\r\n"));
}

fn commands() {
    let rig = Rig::new();
    let domain = rig.start("web", &["--memory", "64M", "--vcpus", "2"]);
    let list = || -> serde_json::Value {
        serde_json::from_str(&rig.expect(0, &["list", "--json"]).0).unwrap()
    };
    let info = &list()[0];
    assert_eq!(info["name"], "web");
    assert_eq!(info["memory_mib"], 64);
    assert_eq!(info["vcpus"], 2);
    assert_eq!(info["state"], "running");
    let (table, _) = rig.expect(0, &["list"]);
    let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        [words[0], words[2], words[3], words[4], words[5]],
        ["web", "64", "2", "r-----", "3.0"]
    );

    rig.expect(0, &["pause", "web"]);
    assert_eq!(list()[0]["state"], "paused");
    rig.expect(0, &["unpause", "web"]);
    assert_eq!(list()[0]["state"], "running");

    rig.expect(0, &["sysrq", "web", "h"]);
    assert!(rig.expect(9, &["sysrq", "web", "z"]).1.contains("no key z"));
    let stats: serde_json::Value =
        serde_json::from_str(&rig.expect(0, &["stats", "--json", "web"]).0).unwrap();
    assert_eq!(stats["counters"]["console.out_bytes"], 42);
    let (stats, _) = rig.expect(0, &["stats", "web"]);
    let has = |name, value| {
        let mut lines = stats.lines().map(str::split_whitespace);
        lines.any(|words| words.eq([name, value]))
    };
    assert!(has("console.out_bytes", "42"), "{stats}");
    assert!(has("vbd.xvda.state", "connected"), "{stats}");

    let core = rig.path("core");
    let (out, _) = rig.expect(0, &["dump-core", "web", core.to_str().unwrap()]);
    assert!(out.contains("64 MiB"), "{out}");
    assert!(std::fs::read(&core).unwrap().starts_with(b"\x7fELF"));
    assert_eq!(
        list()[0]["state"],
        "running",
        "the domain goes on after a dump"
    );
    rig.expect(1, &["dump-core", "web", "/nonexistent/core"]);

    rig.expect(0, &["destroy", "web"]);
    rig.assert_clean();
    let (_, err) = domain.end(12);
    assert!(err.contains("Domain web was destroyed"), "{err}");
}

fn a_name_in_use() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    let (_, err) = rig.expect(6, &["run", "--name", "web"]);
    assert!(
        err.contains("runs already (process ") && err.contains("xenner destroy web"),
        "{err}"
    );
    let other = rig.start("other", &[]);
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
    rig.expect(0, &["run", "--name", "web", "--append", "exit=poweroff"]);
    rig.expect(0, &["destroy", "other"]);
    other.end(12);
}

fn shutdown_waits() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    rig.expect(0, &["shutdown", "--wait", "web"]);
    rig.assert_clean();
    domain.end(0);

    let deaf = rig.start("deaf", &["--append", "deaf"]);
    let (_, err) = rig.expect(9, &["shutdown", "--wait", "--timeout", "1", "deaf"]);
    assert!(err.contains("still there after 1 seconds"), "{err}");
    rig.expect(0, &["destroy", "deaf"]);
    deaf.end(12);
}

fn signals() {
    let rig = Rig::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let domain = rig.start("polite", &["--on-poweroff", "restart"]);
        domain.signal(signal);
        domain.end(0);
        rig.assert_clean();
    }
    let mut deaf = rig.start("deaf", &["--append", "deaf"]);
    deaf.signal(Signal::SIGINT);
    assert!(deaf.message().contains("Asked deaf to shut down"));
    deaf.signal(Signal::SIGINT);
    deaf.end(12);
    rig.assert_clean();

    // The domain's own process takes the same signals.
    let mut deaf = rig.start("deaf", &["--append", "deaf"]);
    let pid = std::fs::read_to_string(rig.run_dir().join("deaf/pid")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(deaf.message().contains("Asked deaf to shut down"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    deaf.end(12);
    rig.assert_clean();
}

fn the_foreground_dies() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &["--append", "deaf"]);
    domain.signal(Signal::SIGKILL);
    domain.child.wait().unwrap();
    rig.await_gone(&rig.run_dir().join("web"));
}

fn the_domain_process_dies() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &[]);
    domain.type_in(b"k");
    let (_, err) = domain.end(1);
    assert!(
        err.contains("killed by SIGABRT") && err.contains("bug in xenner"),
        "{err}"
    );
    rig.assert_clean();
}

fn a_lost_thread_ends_the_domain() {
    let rig = Rig::new();
    let (_, err) = rig.expect(1, &["run", "--append", "panic"]);
    assert!(
        err.contains("processor was lost") && err.contains("bug in xenner"),
        "{err}"
    );
    rig.assert_clean();
}

fn detached() {
    let rig = Rig::new();
    let (_, err) = rig.expect(0, &["run", "--detach", "--name", "web"]);
    assert!(err.contains("Domain web runs"), "{err}");
    rig.expect(6, &["run", "--detach", "--name", "web"]);
    rig.expect(0, &["shutdown", "--wait", "web"]);
    rig.assert_clean();
    rig.expect(4, &["run", "--detach", "--append", "build=image"]);
    rig.assert_clean();
}

fn restarts() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &["--memory", "64M"]);
    rig.expect(0, &["reboot", "web"]);
    assert!(domain.message().contains("Domain web starts again"));
    assert!(domain.line().starts_with("booted"));
    let list: serde_json::Value =
        serde_json::from_str(&rig.expect(0, &["list", "--json"]).0).unwrap();
    assert_eq!(list[0]["restarts"], 1);
    rig.expect(0, &["shutdown", "--wait", "web"]);
    domain.end(0);

    let (out, err) = rig.expect(
        10,
        &["run", "--on-crash", "restart", "--append", "exit=crash"],
    );
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(err.contains("not started again"), "{err}");
    rig.assert_clean();
}

fn preserve() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &["--on-crash", "preserve"]);
    domain.type_in(b"c");
    while !domain
        .message()
        .contains("Domain web is kept for inspection")
    {}
    let list: serde_json::Value =
        serde_json::from_str(&rig.expect(0, &["list", "--json"]).0).unwrap();
    assert_eq!(list[0]["state"], "crashed");
    let core = rig.path("core");
    rig.expect(0, &["dump-core", "web", core.to_str().unwrap()]);
    assert!(
        rig.expect(9, &["pause", "web"])
            .1
            .contains("kept for inspection")
    );
    rig.expect(0, &["destroy", "web"]);
    rig.assert_clean();
    domain.end(10);
}

fn rename_restart() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &["--on-crash", "rename-restart"]);
    domain.type_in(b"c");
    while !domain.message().contains("is kept for inspection") {}
    assert!(domain.line().starts_with("booted"));
    let list = || -> Vec<(String, String)> {
        let text = rig.expect(0, &["list", "--json"]).0;
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        list.iter()
            .map(|info| (text(&info["name"]), text(&info["state"])))
            .collect()
    };
    let both = list();
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(both[0], ("web".into(), "running".into()));
    assert!(
        both[1].0.starts_with("web-2") && both[1].1 == "crashed",
        "{both:?}"
    );
    rig.expect(0, &["shutdown", "--wait", "web"]);
    assert_eq!(list(), both[1..]);
    rig.expect(0, &["destroy", &both[1].0]);
    rig.assert_clean();
    domain.end(0);
}

fn core_dumps() {
    let rig = Rig::new();
    let dir = rig.path("cores");
    let options = [
        "--core-dir",
        dir.to_str().unwrap(),
        "--append",
        "exit=crash",
        "--name",
        "web",
    ];
    let run = |action| [&["run", "--on-crash", action][..], &options].concat();
    let (_, err) = rig.expect(10, &run("coredump-destroy"));
    let path = err
        .lines()
        .find_map(|line| line.strip_prefix("xenner: Core file: "))
        .unwrap();
    assert!(std::fs::read(path).unwrap().starts_with(b"\x7fELF"));
    assert!(
        path.starts_with(dir.to_str().unwrap()) && path.contains("/web-2"),
        "{path}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "a file").unwrap();
    let (_, err) = rig.expect(3, &run("coredump-destroy"));
    assert!(err.contains("--core-dir"), "{err}");
    rig.assert_clean();
}

fn consoles() {
    let rig = Rig::new();
    let log = rig.path("log");
    let domain = rig.start("web", &["--console", &format!("file:{}", log.display())]);
    rig.expect(0, &["shutdown", "--wait", "web"]);
    domain.end(0);
    assert_eq!(std::fs::read(&log).unwrap(), b"booted: \r\n");

    let socket = rig.path("s");
    let domain = rig.start(
        "web",
        &["--console", &format!("socket:{}", socket.display())],
    );
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"q").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "booted: \r\n");
    domain.end(0);
    assert!(!socket.exists());

    let domain = rig.start("web", &["--console", "pty"]);
    let path = domain.first.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(path.starts_with("/dev/pts/"), "{path}");
    assert_eq!(
        std::fs::read_link(rig.run_dir().join("web/console"))
            .unwrap()
            .to_str(),
        Some(&*path)
    );
    let mut tty = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut buf = [0; 10];
    tty.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"booted: \r\n");
    tty.write_all(b"q").unwrap();
    domain.end(0);
    rig.assert_clean();
}

/// Clients that say nothing, too much, nonsense, or do not read, hold up neither the domain nor
/// other clients.
fn hostile_clients() {
    let rig = Rig::new();
    let domain = rig.start("web", &["--append", "x"]);
    let connect = || {
        let stream = UnixStream::connect(rig.run_dir().join("web/control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let ask = |request: &[u8]| {
        let mut stream = connect();
        stream.write_all(request).ok();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok();
        line
    };
    for request in [
        &b"\n"[..],
        b"{}\n",
        b"{\"version\":2,\"command\":\"pause\"}\n",
        b"{\"version\":1,\"command\":\"fly\"}\n",
        b"\xff\xfe\n",
        &[b'['; 4096],
        &[b'x'; 8192],
        b"{\"version\":1,\"command\":\"dump-core\"}\n",
    ] {
        let answer = ask(request);
        assert!(
            answer.contains("\"error\"") || request.len() > 4095,
            "{answer}"
        );
    }
    assert!(ask(b"{\"version\":2,\"command\":\"info\"}\n").contains("version 1"));

    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    let mut deaf = connect();
    deaf.write_all(b"{\"version\":1,\"command\":\"console\",\"keyboard\":false}\n")
        .unwrap();
    rig.expect(0, &["list"]);
    rig.expect(0, &["pause", "web"]);
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
    rig.assert_clean();
    drop((silent, deaf));

    // More than may be at a time: the surplus is told so, and places are free again afterwards.
    let domain = rig.start("web", &[]);
    let connect = || UnixStream::connect(rig.run_dir().join("web/control.sock")).unwrap();
    let crowd: Vec<_> = (0..80).map(|_| connect()).collect();
    let mut line = String::new();
    BufReader::new(connect()).read_line(&mut line).unwrap();
    assert!(line.contains("clients are connected already"), "{line}");
    drop(crowd);
    let deadline = std::time::Instant::now() + PATIENCE;
    while rig.output(&["destroy", "web"]).status.code() != Some(0) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    domain.end(12);
}

fn the_sandbox_holds() {
    let rig = Rig::new();
    let (_, err) = rig.expect(1, &["run", "--append", "evil"]);
    assert!(
        err.contains("refused system call 0041"),
        "socket is 41: {err}"
    );
    rig.assert_clean();
}
