//! Counters as their readers meet them: metrics by HTTP and by command, and `top`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pv_stats::prometheus::strict::parse;
use xenner::top::screen::Screen;

use super::rig::{PATIENCE, Rig, Terminal};

pub const TESTS: &[(&str, fn())] = &[
    ("metrics_by_http", metrics_by_http),
    ("hostile_http", hostile_http),
    ("metrics_by_command", metrics_by_command),
    ("top_prints", top_prints),
    ("top_prints_json", top_prints_json),
    ("top_without_domains", top_without_domains),
    ("top_wants_a_terminal", top_wants_a_terminal),
    ("top_on_a_terminal", top_on_a_terminal),
    ("top_gives_the_terminal_back", top_gives_the_terminal_back),
    (
        "a_panic_gives_the_terminal_back",
        a_panic_gives_the_terminal_back,
    ),
    ("top_stops_and_goes_on", top_stops_and_goes_on),
    (
        "top_survives_the_terminal_going_away",
        top_survives_the_terminal_going_away,
    ),
];

fn connect(rig: &Rig, name: &str) -> UnixStream {
    let stream = UnixStream::connect(rig.run_dir().join(name).join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request`, and returns all that comes back.
fn http(rig: &Rig, request: &[u8]) -> String {
    let mut stream = connect(rig, "web");
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    // Bytes that the domain did not read make the end of the stream an error.
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

fn metrics_by_http() {
    let rig = Rig::new();
    let domain = rig.start("web", &["--memory", "64M"]);
    let request =
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n";
    let answer = http(&rig, request);
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", text.len())),
        "{head}"
    );
    let metrics = parse(text).unwrap();
    let web = [("domain", "web")];
    assert_eq!(
        metrics.value("xenner_domain_memory_bytes", &web),
        67_108_864.0
    );
    assert_eq!(metrics.value("xenner_console_out_bytes_total", &web), 42.0);
    let disk = [
        ("domain", "web"),
        ("device", "xvda"),
        ("kind", "vbd"),
        ("queue", "0"),
    ];
    let reads = metrics.value("xen_device_read_requests_total", &disk);
    let counted = metrics.value("xen_device_read_latency_seconds_count", &disk);
    assert_eq!(reads, counted);

    let head = http(&rig, b"HEAD /metrics HTTP/1.0\n\n");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(http(&rig, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    let curl = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--unix-socket"])
        .arg(rig.run_dir().join("web/control.sock"))
        .arg("http://localhost/metrics")
        .output();
    match curl {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        }
        Err(error) => eprintln!("skipped: curl: {error}"),
    }
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
}

fn hostile_http() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    // Nothing can be told in HTTP, whatever follows.
    let order = b"POST /metrics HTTP/1.1\r\n\r\n{\"version\":1,\"command\":\"destroy\"}\n";
    assert!(http(&rig, order).starts_with("HTTP/1.1 405 "));
    let piped = b"GET /metrics HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n";
    assert_eq!(http(&rig, piped).matches("HTTP/1.1").count(), 1);
    let mut long = b"GET /metrics HTTP/1.1\r\n".to_vec();
    for number in 0..2000 {
        long.extend(format!("X-{number}: {}\r\n", "y".repeat(50)).bytes());
    }
    let answer = http(&rig, &long);
    assert!(
        answer.starts_with("HTTP/1.1 431 ") && !answer.contains("xenner_"),
        "{answer}"
    );
    let endless = [b"GET /".to_vec(), vec![b'a'; 200_000]].concat();
    assert!(http(&rig, &endless).contains("too long"));
    // A head that never ends holds up nobody, and is cut off.
    let mut slow = connect(&rig, "web");
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    // Nor does one who does not take the answer.
    let mut deaf = connect(&rig, "web");
    deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(http(&rig, b"GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "a half request has no answer");
    rig.expect(0, &["stats", "web"]);
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
    drop(deaf);
}

fn metrics_by_command() {
    let rig = Rig::new();
    let none = rig.expect(0, &["stats", "--all", "--prometheus"]).0;
    assert_eq!(none, "");
    let domains = [rig.start("web", &[]), rig.start("db", &[])];
    let one = parse(&rig.expect(0, &["stats", "web", "--prometheus"]).0).unwrap();
    assert!(
        one.samples
            .iter()
            .all(|sample| sample.labels["domain"] == "web")
    );
    let all = parse(&rig.expect(0, &["stats", "--all", "--prometheus"]).0).unwrap();
    for name in ["web", "db"] {
        let cpu = [("domain", name), ("vcpu", "0")];
        assert_eq!(all.value("xenner_vcpu_cpu_seconds_total", &cpu), 1.5);
        let disk = [("domain", name), ("devid", "51712")];
        all.value("xen_device_read_bytes_total", &disk);
    }
    rig.expect(7, &["stats", "--prometheus", "other"]);
    for wrong in [
        &["stats"][..],
        &["stats", "--all"],
        &["stats", "--all", "--prometheus", "web"],
        &["stats", "--json", "--prometheus", "web"],
        &["top", "--iterations", "1"],
        &["top", "--json"],
        &["top", "--delay", "0"],
        &["top", "--sort", "colour"],
    ] {
        rig.expect(2, wrong);
    }
    for (name, domain) in ["web", "db"].into_iter().zip(domains) {
        rig.expect(0, &["destroy", name]);
        domain.end(12);
    }
}

fn top_prints() {
    let rig = Rig::new();
    let domain = rig.start("web", &["--memory", "64M", "--vcpus", "2"]);
    let options = [
        "top", "--batch", "-i", "2", "-d", "0.1", "--disks", "--vcpus",
    ];
    let (out, err) = rig.expect(0, &options);
    assert_eq!(err, "");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 10, "{out}");
    assert!(
        lines[0].starts_with("NAME ") && lines[5].starts_with("NAME "),
        "{out}"
    );
    let words: Vec<&str> = lines[6].split_whitespace().collect();
    assert_eq!(
        words[..6],
        ["web", "r-----", "3.0", "0.0", "2", "64"],
        "{out}"
    );
    assert!(words[12].ends_with("us"), "a latency: {out}");
    assert!(
        lines[7].contains("vcpu 0") && lines[9].contains("xvda"),
        "{out}"
    );
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
}

fn top_prints_json() {
    let rig = Rig::new();
    let mut domain = rig.start("web", &[]);
    let mut command = rig.command(&["top", "--batch", "--json", "-d", "0.1"]);
    let mut top = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(top.stdout.take().unwrap());
    let mut records = std::io::BufRead::lines(out)
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let web = &records.next().unwrap()["domains"][0];
    assert_eq!(
        (&web["name"], &web["state"]),
        (&"web".into(), &"running".into())
    );
    let (rate, disk) = (&web["disk_read_bytes"], &web["devices"][0]);
    assert!(rate.as_f64().unwrap() > 0.0, "{web}");
    assert_eq!(&disk["total"]["rates"]["read_bytes"], rate);
    assert_eq!(disk["queues"][0], disk["total"], "it has one queue");
    assert!(disk["total"]["quantiles"]["read_latency_ns"]["p999"].is_u64());
    // Domains come and go.
    let other = rig.start("db", &[]);
    let has = |record: &serde_json::Value, count: usize| {
        record["domains"].as_array().unwrap().len() == count
    };
    records.find(|record| has(record, 2)).unwrap();
    rig.expect(0, &["destroy", "db"]);
    other.end(12);
    records.find(|record| has(record, 1)).unwrap();
    domain.type_in(b"q");
    domain.end(0);
    records.find(|record| has(record, 0)).unwrap();
    // It ends with its reader.
    drop(records);
    assert!(top.wait().unwrap().success());
}

fn top_without_domains() {
    let rig = Rig::new();
    let (out, _) = rig.expect(0, &["top", "--batch", "-i", "1", "-d", "0.1"]);
    assert!(
        out.starts_with("NAME ") && out.lines().count() == 1,
        "{out}"
    );
    assert!(rig.expect(0, &["top", "--batch", "-i", "0"]).0.is_empty());
}

fn top_wants_a_terminal() {
    let rig = Rig::new();
    let (out, err) = rig.expect(8, &["top"]);
    assert_eq!(
        (out.as_str(), err.contains("top --batch")),
        ("", true),
        "{err}"
    );
}

/// `top` on a terminal, once it shows the domain.
fn top(rig: &Rig) -> Terminal {
    let mut terminal = Terminal::run(rig.command(&["top", "--delay", "0.1"]));
    terminal.expect("\x1b[?1049h");
    terminal.expect("web");
    assert!(!terminal.is_cooked());
    terminal
}

fn top_on_a_terminal() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    let mut terminal = top(&rig);
    terminal.type_in(b"B");
    terminal.expect("xvda");
    // Another size is drawn on.
    terminal.resize(30, 150);
    terminal.expect("CPU TREND");
    // Opened: the arrow chooses, Enter opens, and a sequence of the terminal is one key.
    terminal.type_in(b"\x1b[B\r");
    terminal.expect("vcpu");
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
    terminal.expect("No domain runs");
    terminal.type_in(b"q");
    terminal.expect("\x1b[?1049l");
    terminal.end(0);
}

fn top_gives_the_terminal_back() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let mut terminal = top(&rig);
        terminal.signal(signal);
        terminal.expect("\x1b[?1049l");
        terminal.end(0);
    }
    for key in [&b"\x03"[..], b"\x1b", b"Q"] {
        let mut terminal = top(&rig);
        terminal.type_in(key);
        terminal.expect("\x1b[?1049l");
        terminal.end(0);
    }
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
}

/// The first argument that makes this binary one that panics with top's screen on the terminal.
pub const PANIC: &str = "--panic-on-screen";

/// Panics, in this thread or another.
pub fn panic_on_screen() -> ExitCode {
    let _screen = Screen::open().unwrap();
    if std::env::args().nth(2).as_deref() == Some("elsewhere") {
        let thread = std::thread::spawn(|| panic!("told to"));
        thread.join().unwrap_err();
        // The terminal is back already.
        std::process::exit(101);
    }
    panic!("told to");
}

fn a_panic_gives_the_terminal_back() {
    for place in ["here", "elsewhere"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([PANIC, place]);
        let mut terminal = Terminal::run(command);
        terminal.expect("\x1b[?1049h");
        terminal.expect("\x1b[?1049l");
        terminal.expect("told to");
        terminal.end(101);
    }
}

fn top_stops_and_goes_on() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    let mut terminal = top(&rig);
    let pid = nix::unistd::Pid::from_raw(terminal.child.id() as i32);
    terminal.type_in(b"\x1a");
    terminal.expect("\x1b[?1049l");
    let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    assert!(terminal.is_cooked());
    terminal.signal(Signal::SIGCONT);
    terminal.expect("\x1b[?1049h");
    terminal.expect("web");
    assert!(!terminal.is_cooked());
    terminal.type_in(b"q");
    terminal.end(0);
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
}

fn top_survives_the_terminal_going_away() {
    let rig = Rig::new();
    let domain = rig.start("web", &[]);
    let Terminal {
        master,
        slave,
        mut child,
        ..
    } = top(&rig);
    drop((master, slave));
    await_end(&mut child);
    rig.expect(0, &["destroy", "web"]);
    domain.end(12);
    assert!(!Path::new(&rig.run_dir().join("web")).exists());
}

fn await_end(child: &mut std::process::Child) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "top goes on without a terminal");
        std::thread::sleep(Duration::from_millis(5));
    }
}
