use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::*;

const SOON: Duration = Duration::from_secs(60);

/// A monitor that says these lines and ends; what it has heard is the thread's result.
fn monitor(
    lines: &'static [&'static str],
) -> (tempfile::TempDir, PathBuf, impl FnOnce() -> String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for (place, line) in lines.iter().enumerate() {
            // Nobody speaks before the greeting, and an event is no answer.
            if place > 0 && !line.contains("event") {
                reader.read_line(&mut heard).unwrap();
            }
            writeln!(stream, "{line}").unwrap();
        }
        heard
    });
    (dir, path, move || thread.join().unwrap())
}

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

#[test]
fn an_answer_is_told_from_events_and_refusals() {
    let (_dir, path, heard) = monitor(&[
        GREETING,
        r#"{"return": {}}"#,
        r#"{"event": "RESUME"}"#,
        r#"{"return": [{"label": "serial0", "filename": "pty:/dev/pts/2"}, {"label": "serial1", "filename": "file"}]}"#,
        r#"{"return": {"enabled": true, "host": "127.0.0.1", "service": "5901"}}"#,
        r#"{"error": {"class": "GenericError", "desc": "Device 'ide-1' not found"}}"#,
    ]);
    let mut monitor = Monitor::connect(&path, SOON).unwrap();
    let told = monitor.told(true).unwrap();
    assert_eq!(told.serial, [(0, "/dev/pts/2".to_owned())]);
    assert_eq!(told.vnc, Some(("127.0.0.1".into(), "5901".into())));
    let error = monitor.eject("ide-1").unwrap_err().to_string();
    assert!(error.contains("refuses eject: Device 'ide-1'"), "{error}");
    assert!(matches!(
        monitor.eject("ide-1"),
        Err(QmpError::Gone | QmpError::Io(_))
    ));
    assert!(heard().contains(r#""execute":"query-vnc""#));
}

#[test]
fn what_is_no_monitor_is_told() {
    let (_dir, path, _) = monitor(&["hello"]);
    let error = Monitor::connect(&path, SOON).unwrap_err();
    assert!(matches!(error, QmpError::Nonsense(_)), "{error}");
    let (_dir, path, _) = monitor(&[]);
    let error = Monitor::connect(&path, SOON).unwrap_err();
    assert!(matches!(error, QmpError::Gone), "{error}");
}

#[test]
fn a_medium_goes_with_its_command() {
    let (_dir, path, heard) = monitor(&[
        GREETING,
        r#"{"return": {}}"#,
        r#"{"return": {"fdset-id": 4, "fd": 11}}"#,
        r#"{"return": {}}"#,
        r#"{"return": {}}"#,
    ]);
    let mut monitor = Monitor::connect(&path, SOON).unwrap();
    let file = tempfile::tempfile().unwrap();
    monitor.insert("ide-5632", file.as_fd(), "raw").unwrap();
    let heard = heard();
    assert!(
        heard.contains("/dev/fdset/4") && heard.contains("remove-fd"),
        "{heard}"
    );
}
