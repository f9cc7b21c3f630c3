use std::collections::BTreeSet;

use clap::Parser;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, Wish};
use super::fabricated::{moments, sighting, silent};
use super::lines::{Shown, lines};
use super::meter::{Meter, Row};
use super::table::{SortKey, Table, sort, spark};
use super::*;
use crate::cli::{Cli, Command};

fn arguments(options: &[&str]) -> TopArgs {
    let words = [&["xenner", "top"], options].concat();
    match Cli::try_parse_from(words).unwrap().command {
        Command::Top(arguments) => arguments,
        _ => unreachable!("top is top"),
    }
}

/// Two domains at work, the second twice as hard, and one that does not answer.
fn rows() -> Vec<Row> {
    let (first, second) = moments();
    let mut meter = Meter::default();
    let seen = |at, work| {
        vec![
            sighting("db", at, work),
            silent("ill", at),
            sighting("web", at, 2 * work),
        ]
    };
    meter.measure(seen(first, 100));
    meter.measure(seen(second, 300))
}

fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn rates_are_of_the_time_between_two_looks() {
    let rows = rows();
    let web = &rows[2];
    // 400 units of work in 2 seconds.
    assert_eq!(web.cpu_percent, Some(200.0));
    assert_eq!(web.vcpus[0].cpu_percent, Some(200.0));
    assert_eq!(web.vcpus[1].cpu_percent, Some(0.0));
    assert_eq!(web.cpu_seconds, 6.0);
    assert_eq!((web.exits, web.hypercalls), (Some(1000.0), Some(2400.0)));
    assert_eq!(web.net_rx_bytes, Some(300_000.0));
    assert_eq!(web.net_tx_bytes, Some(20_000.0));
    assert_eq!(web.disk_read_bytes, Some(819_200.0));
    assert_eq!(web.disk_write_bytes, Some(0.0));
    let latency = web.read_latency_ns.unwrap();
    assert!((100_000..=112_500).contains(&latency.p99), "{latency:?}");
    assert_eq!(web.write_latency_ns, None);
    assert_eq!((web.online(), web.memory_mib), (1, 64));
    let disk = &web.devices[0];
    assert_eq!(disk.total.rate("read_requests"), Some(200.0));
    assert_eq!(disk.queues[0].rate("read_requests"), Some(200.0));
    assert_eq!(disk.queues[1].rate("read_requests"), Some(0.0));
    assert_eq!(disk.total.gauges["in_flight"], 3);
    assert_eq!(web.trend, [200.0]);
    let ill = &rows[1];
    assert_eq!((ill.state, ill.cpu_percent), (None, None));
    assert!(ill.trouble.is_some());
}

#[test]
fn domains_come_go_and_begin_anew() {
    let (first, second) = moments();
    let third = second + (second - first);
    let mut meter = Meter::default();
    let rows = meter.measure(vec![sighting("web", first, 100)]);
    assert_eq!(rows[0].cpu_percent, None, "one look says nothing");
    assert_eq!(rows[0].devices[0].total.rates, None);
    // Restarted: counters are those of another run.
    let mut again = sighting("web", second, 150);
    again.info.as_mut().unwrap().restarts = 1;
    let rows = meter.measure(vec![again.clone(), sighting("new", second, 7)]);
    assert_eq!((rows[0].cpu_percent, rows[1].cpu_percent), (None, None));
    // A device that is new has done all it did since; one that is gone is gone.
    let mut later = again.clone();
    later.at = third;
    let devices = &mut later.stats.as_mut().unwrap().devices;
    devices.retain(|device| device.kind == "vbd");
    devices[0].devid = 99;
    let rows = meter.measure(vec![later]);
    assert_eq!(names(&rows), ["web"]);
    assert_eq!(rows[0].cpu_percent, Some(0.0));
    assert_eq!(rows[0].disk_read_bytes, Some(150.0 * 4096.0 / 2.0));
    assert_eq!(rows[0].net_rx_bytes, Some(0.0));
    assert!(meter.measure(Vec::new()).is_empty());
    // The same moment twice is no time.
    let mut meter = Meter::default();
    meter.measure(vec![sighting("web", first, 1)]);
    let rows = meter.measure(vec![sighting("web", first, 2)]);
    assert_eq!(rows[0].cpu_percent, None);
}

#[test]
fn sorting() {
    let mut rows = rows();
    for (key, order) in [
        (SortKey::Cpu, ["web", "db", "ill"]),
        (SortKey::Name, ["db", "ill", "web"]),
        (SortKey::ReadLatency, ["db", "web", "ill"]),
        (SortKey::Memory, ["db", "web", "ill"]),
        (SortKey::Rx, ["web", "db", "ill"]),
    ] {
        sort(&mut rows, key, false);
        assert_eq!(names(&rows), order, "{key:?}");
    }
    sort(&mut rows, SortKey::Name, true);
    assert_eq!(names(&rows), ["web", "ill", "db"]);
    let round = (0..13).fold(SortKey::Cpu, |key, _| key.step(1));
    assert_eq!(round, SortKey::Cpu);
    assert_eq!(SortKey::Name.step(-1).step(1), SortKey::Name);
}

#[test]
fn bars() {
    assert_eq!(spark(&[0.0, 50.0, 100.0], 10), "▁▅█");
    assert_eq!(spark(&[0.0, 200.0, 400.0], 2), "▅█");
    assert_eq!(spark(&[], 5), "");
}

#[test]
fn a_table_fits_its_room() {
    let rows = rows();
    for room in [200, 132, 100, 80, 60, 40] {
        let table = Table::fit(&rows, Some(room));
        let head: Vec<String> = table
            .head(SortKey::Cpu)
            .into_iter()
            .map(|(title, _)| title)
            .collect();
        let wide = head.join(" ").chars().count();
        assert!(wide <= room, "{room}: {wide}");
        assert_eq!(table.line(&rows[0]).chars().count(), wide);
        assert!(
            head.iter().any(|title| title.trim() == "CPU%"),
            "{room}: {head:?}"
        );
    }
    let at_80 = Table::fit(&rows, Some(80)).head(SortKey::Cpu);
    let has = |title: &str| at_80.iter().any(|(own, _)| own.trim() == title);
    assert!(has("RDp99") && has("RX/s") && has("READ/s"), "{at_80:?}");
}

#[test]
fn plain_lines() {
    let mut rows = rows();
    sort(&mut rows, SortKey::Cpu, false);
    let text = batch::plain(&rows, &arguments(&["--batch", "-x", "-n", "-v"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAME "), "{text}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        words[..14],
        [
            "web", "r-----", "6.0", "200.0", "1", "64", "1.0k", "2.4k", "293K", "19.5K", "800K",
            "0", words[12], "-"
        ],
        "{text}"
    );
    assert!(
        lines[2].contains("vcpu 0") && lines[2].contains("cpu 200.0% exits 1.0k/s"),
        "{text}"
    );
    assert!(
        lines[4].contains("vbd  xvda") && lines[4].contains("read 200/s 800KB/s"),
        "{text}"
    );
    assert!(lines[4].contains("in flight 3 "), "{text}");
    assert!(
        lines[6].contains("vif  vif1.0") && lines[6].contains("rx 200/s"),
        "{text}"
    );
    assert!(
        text.contains("does not answer") && !text.contains('\u{1b}'),
        "{text}"
    );
    let bare = batch::plain(&rows, &arguments(&["--batch"]));
    assert_eq!(bare.lines().count(), 5, "{bare}");
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect()
}

fn press(app: &mut App, code: KeyCode) -> Wish {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_screen() {
    let mut app = App::new(&arguments(&[]));
    let empty = screen(&mut app, 100, 10);
    assert!(empty[2].contains("No domain runs"), "{empty:#?}");
    app.show(rows());
    let lines = screen(&mut app, 120, 10);
    assert!(
        lines[0].starts_with("xenner top: 3 domains, 2 running"),
        "{lines:#?}"
    );
    assert!(lines[0].contains("300.0% cpu, 128 MiB"), "{lines:#?}");
    assert!(
        lines[1].starts_with("NAME") && lines[1].contains("WRp99"),
        "{lines:#?}"
    );
    assert!(
        lines[2].starts_with("web ") && lines[3].starts_with("db "),
        "{lines:#?}"
    );
    assert!(lines[9].starts_with("every 3 s"), "{lines:#?}");
    app.complain("Cannot read".into());
    assert_eq!(screen(&mut app, 80, 10)[9], "Cannot read");
    // No size is too small.
    for (width, height) in [(1, 1), (5, 2), (0, 0), (20, 3), (300, 100)] {
        screen(&mut app, width, height);
    }
}

#[test]
fn opening_domains_and_devices() {
    let mut app = App::new(&arguments(&[]));
    app.show(rows());
    let text = |app: &mut App| screen(app, 200, 20).join("\n");
    assert!(!text(&mut app).contains("xvda"));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    let open = text(&mut app);
    for part in ["cpu trend", "vcpu 1", "xvda", "xvdb", "vif1.0"] {
        assert!(open.contains(part), "{part}: {open}");
    }
    assert!(!open.contains("queue"), "{open}");
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Right);
    assert_eq!(text(&mut app).matches("queue").count(), 2);
    // The choice follows its domain, wherever that goes.
    press(&mut app, KeyCode::Char('R'));
    assert_eq!(text(&mut app).matches("queue").count(), 2);
    press(&mut app, KeyCode::Left);
    assert!(!text(&mut app).contains("queue"));
    press(&mut app, KeyCode::Left);
    assert!(!text(&mut app).contains("xvda"));
    // It may be gone.
    app.show(Vec::new());
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    assert!(text(&mut app).contains("No domain runs"));
}

#[test]
fn what_is_chosen_stays_in_view() {
    let mut app = App::new(&arguments(&["--sort", "name"]));
    let (first, _) = moments();
    let many = (0..50).map(|at| sighting(&format!("d{at:02}"), first, 1));
    app.show(Meter::default().measure(many.collect()));
    assert!(screen(&mut app, 80, 10)[2].starts_with("d00"));
    press(&mut app, KeyCode::End);
    let lines = screen(&mut app, 80, 10);
    assert!(
        lines[8].starts_with("d49") && lines[2].starts_with("d43"),
        "{lines:#?}"
    );
    press(&mut app, KeyCode::PageUp);
    assert!(screen(&mut app, 80, 10)[2].starts_with("d42"));
    press(&mut app, KeyCode::Home);
    assert!(screen(&mut app, 80, 10)[2].starts_with("d00"));
}

#[test]
fn keys() {
    let mut app = App::new(&arguments(&[]));
    app.show(rows());
    assert_eq!(press(&mut app, KeyCode::Char(' ')), Wish::Look);
    press(&mut app, KeyCode::Char('?'));
    assert!(screen(&mut app, 100, 20).join("\n").contains("this text"));
    assert_eq!(
        press(&mut app, KeyCode::Char('q')),
        Wish::None,
        "it only closes the help"
    );
    press(&mut app, KeyCode::Char('d'));
    for c in "x".chars() {
        press(&mut app, KeyCode::Char(c));
    }
    press(&mut app, KeyCode::Enter);
    assert!(screen(&mut app, 100, 5)[4].contains("is no delay"));
    press(&mut app, KeyCode::Char('D'));
    press(&mut app, KeyCode::Char('9'));
    press(&mut app, KeyCode::Backspace);
    press(&mut app, KeyCode::Char('2'));
    assert!(screen(&mut app, 100, 5)[4].starts_with("Seconds between looks: 2_"));
    let delay = press(&mut app, KeyCode::Enter);
    assert_eq!(delay, Wish::Delay(Duration::from_secs(2)));
    press(&mut app, KeyCode::Char('<'));
    press(&mut app, KeyCode::Char('<'));
    assert!(
        screen(&mut app, 100, 8)[2].starts_with("db "),
        "sorted by name"
    );
    press(&mut app, KeyCode::Char('B'));
    assert_eq!(
        screen(&mut app, 100, 20).join("\n").matches("xvda").count(),
        2
    );
    let control =
        |app: &mut App, c| app.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(control(&mut app, 'z'), Wish::Suspend);
    assert_eq!(control(&mut app, 'c'), Wish::Quit);
    assert_eq!(press(&mut app, KeyCode::Char('Q')), Wish::Quit);
}

#[test]
fn delays() {
    assert_eq!(parse_delay("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0", "-1", "nan", "inf", "1e9", "", "3s"] {
        assert!(parse_delay(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn lines_without_anything_open() {
    let rows = rows();
    let table = Table::fit(&rows, None);
    let lines = lines(&rows, &table, Shown::default(), &BTreeSet::new());
    assert_eq!(
        lines.len(),
        4,
        "a line a domain, and why one does not answer"
    );
    assert!(lines[1].alarm && !lines[0].alarm);
}
