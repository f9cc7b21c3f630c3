use super::strict::parse;
use super::*;
use crate::{Histogram, QueueStats};

const WEB: Labels = &[("domain", "web"), ("uuid", "u-1")];

fn disk() -> DeviceStats {
    let latency = Histogram::default();
    for ns in [
        5,
        1023,
        1024,
        150_000,
        2_000_000_000,
        u64::from(u32::MAX) << 10,
    ] {
        latency.record(ns);
    }
    let mut queue = QueueStats::default();
    queue.counters.insert("read_requests".into(), u64::MAX);
    queue.counters.insert("notifications_sent".into(), 7);
    queue.gauges.insert("in_flight".into(), 3);
    let latency = latency.snapshot();
    queue.histograms.insert("read_latency_ns".into(), latency);
    DeviceStats {
        kind: "vbd".into(),
        devid: 51712,
        name: "xvda".into(),
        state: "connected".into(),
        queues: vec![queue.clone(), queue],
    }
}

#[test]
fn a_device_looks_as_documented() {
    let mut metrics = Exposition::default();
    metrics.device(WEB, &disk());
    let text = metrics.text();
    let device = r#"domain="web",uuid="u-1",kind="vbd",device="xvda",devid="51712""#;
    for line in [
        "# HELP xen_device_read_requests_total Reads answered with success".to_owned(),
        "# TYPE xen_device_read_requests_total counter".to_owned(),
        format!("xen_device_read_requests_total{{{device},queue=\"1\"}} 18446744073709551615"),
        format!("xen_device_in_flight{{{device},queue=\"0\"}} 3"),
        format!("xen_device_connected{{{device}}} 1"),
        "# TYPE xen_device_read_latency_seconds histogram".to_owned(),
        format!(
            "xen_device_read_latency_seconds_bucket{{{device},queue=\"0\",le=\"0.000001023\"}} 2"
        ),
        format!("xen_device_read_latency_seconds_bucket{{{device},queue=\"0\",le=\"+Inf\"}} 6"),
        format!("xen_device_read_latency_seconds_sum{{{device},queue=\"0\"}} 4400.046662132"),
        format!("xen_device_read_latency_seconds_count{{{device},queue=\"0\"}} 6"),
    ] {
        assert!(text.lines().any(|own| own == line), "no {line}\n{text}");
    }
}

#[test]
fn a_strict_reader_takes_it() {
    let mut metrics = Exposition::default();
    assert_eq!(parse(&metrics.text()).unwrap().samples, []);
    metrics.device(WEB, &disk());
    let mut card = disk();
    card.kind = "vif".into();
    metrics.device(WEB, &card);
    metrics.device(&[("domain", "db")], &disk());
    metrics.histogram("bare_ns", "No labels", &[], &HistogramSnapshot::default());
    let read = parse(&metrics.text()).unwrap();
    let labels = [("domain", "web"), ("kind", "vif"), ("queue", "1")];
    let sent = read.value("xen_device_notifications_sent_total", &labels);
    assert_eq!(sent, 7.0);
    assert_eq!(read.value("bare_seconds_count", &[]), 0.0);
    assert_eq!(read.types["xen_device_in_flight"], "gauge");
}

#[test]
fn any_text_is_escaped() {
    let evil = "a\"b\\c\nd\u{7}é} 1\n# TYPE x gauge";
    let mut metrics = Exposition::default();
    metrics.counter(evil, evil, &[(evil, evil)], 1);
    metrics.gauge("", evil, &[("9", "")], 2);
    let read = parse(&metrics.text()).unwrap();
    assert_eq!(read.samples.len(), 2);
    assert!(read.samples[1].labels.values().any(|value| value == evil));
    assert_eq!(read.value("_", &[("_9", "")]), 2.0);
}

#[test]
fn nothing_comes_twice() {
    let mut metrics = Exposition::default();
    metrics.counter("a.b", "One", WEB, 1);
    metrics.counter("a_b", "Two", WEB, 2);
    metrics.gauge("a_b_total", "Of another type", WEB, 3);
    let read = parse(&metrics.text()).unwrap();
    assert_eq!(read.value("a_b_total", &[]), 2.0);
    // Two devices that call themselves the same are told apart by their numbers.
    let mut other = disk();
    other.devid = 51728;
    metrics.device(WEB, &disk());
    metrics.device(WEB, &other);
    parse(&metrics.text()).unwrap();
}

#[test]
fn the_strict_reader_is_strict() {
    let gauge = "# HELP a A\n# TYPE a gauge\n";
    for wrong in [
        format!("{gauge}a 1"),
        format!("{gauge}a 1\na 2\n"),
        format!("{gauge}a{{b=\"\\x\"}} 1\n"),
        format!("{gauge}a{{b=\"c\" 1\n"),
        format!("{gauge}a{{b=\"c\",b=\"d\"}} 1\n"),
        format!("{gauge}a{{b:c=\"d\"}} 1\n"),
        format!("{gauge}a inf\n"),
        format!("{gauge}a  1\n"),
        format!("{gauge}b 1\n"),
        format!("{gauge}# HELP b B\n# TYPE b gauge\nb 1\na 1\n"),
        format!("{gauge}{gauge}a 1\n"),
        "# TYPE a gauge\na 1\n".into(),
        "a 1\n".into(),
        "# HELP a A\n# TYPE a counter\na 1\n".into(),
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n".into(),
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n".into(),
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n".into(),
    ] {
        assert!(parse(&wrong).is_err(), "{wrong}");
    }
    parse(&format!("{gauge}a{{b=\"c\\\\\\\"\\n\"}} -1.5e3\n")).unwrap();
}
