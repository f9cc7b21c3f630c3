//! Reads the text format as strictly as it is specified, for tests: what passes here, any reader
//! takes.

use std::collections::{BTreeMap, BTreeSet};

/// A line with a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, with the suffix of a histogram's line.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// What a text has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    /// All samples, in their order.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// The only sample of that name with those labels among others.
    ///
    /// # Panics
    /// If there is none, or several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| {
                let has = |(label, value): &(&str, &str)| {
                    sample.labels.get(*label).is_some_and(|own| own == value)
                };
                sample.name == name && labels.iter().all(has)
            })
            .collect();
        match found[..] {
            [sample] => sample.value,
            _ => panic!("{} samples of {name} {labels:?}", found.len()),
        }
    }
}

/// Reads a text.
///
/// # Errors
/// The line that breaks a rule, and which.
pub fn parse(text: &str) -> Result<Metrics, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("The last line has no end".into());
    }
    let mut metrics = Metrics::default();
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        let wrong = |why: &str| format!("{why}: {line:?}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or(wrong("No help"))?;
            check_name(name, true).map_err(|why| wrong(&why))?;
            unescape(help, false).map_err(|why| wrong(&why))?;
            if !helped.insert(name.to_owned()) {
                return Err(wrong("A second help"));
            }
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, sort) = rest.split_once(' ').ok_or(wrong("No type"))?;
            if !["counter", "gauge", "histogram"].contains(&sort) || name != family {
                return Err(wrong("A type that does not fit"));
            }
            if metrics.types.insert(name.into(), sort.into()).is_some() {
                return Err(wrong("A second type"));
            }
            if sort == "counter" && !name.ends_with("_total") {
                return Err(wrong("A counter without _total"));
            }
        } else if line.starts_with('#') || line.is_empty() {
            return Err(wrong("A line that says nothing"));
        } else {
            let sample = sample(line).map_err(|why| wrong(&why))?;
            let sort = metrics.types.get(&family).map(String::as_str);
            let suffixes: &[&str] = match sort {
                Some("histogram") => &["_bucket", "_sum", "_count"],
                Some(_) => &[""],
                None => return Err(wrong("A sample without a type")),
            };
            let fits = |suffix: &&str| sample.name == format!("{family}{suffix}");
            if !suffixes.iter().any(fits) {
                return Err(wrong("A sample outside of its metric's block"));
            }
            metrics.samples.push(sample);
        }
    }
    check_unique(&metrics)?;
    check_histograms(&metrics)?;
    Ok(metrics)
}

fn check_name(name: &str, colon: bool) -> Result<(), String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':');
    let rest = |c: char| first(c) || c.is_ascii_digit();
    if name.starts_with(first) && name.chars().all(rest) {
        return Ok(());
    }
    Err(format!("{name:?} is no name"))
}

/// Undoes escapes: `\\` and `\n`, and `\"` within quotes.
fn unescape(text: &str, quoted: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quoted => '"',
                other => return Err(format!("An escape of {other:?}")),
            },
            c => c,
        });
    }
    Ok(plain)
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("No value")?;
    let (name, mut rest) = line.split_at(end);
    check_name(name, true)?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = rest.split_once("=\"").ok_or("A label without a value")?;
            check_name(label, false)?;
            let end = closing_quote(behind).ok_or("A quote that does not end")?;
            let value = unescape(&behind[..end], true)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("Two labels {label}"));
            }
            rest = &behind[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').ok_or("Labels that do not end")?;
    }
    let value = rest.strip_prefix(' ').ok_or("No space before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        // Rust reads more spellings than Go, such as "inf".
        value if value.starts_with(|c: char| c.is_ascii_digit() || c == '-') => value
            .parse()
            .map_err(|_| format!("{value:?} is no value"))?,
        value => return Err(format!("{value:?} is no value")),
    };
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn check_unique(metrics: &Metrics) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for sample in &metrics.samples {
        if !seen.insert((&sample.name, &sample.labels)) {
            return Err(format!("Twice: {} {:?}", sample.name, sample.labels));
        }
    }
    Ok(())
}

/// Buckets ascend, do not lose counts, end with +Inf, and have as many as `_count` says.
fn check_histograms(metrics: &Metrics) -> Result<(), String> {
    type Key = (String, BTreeMap<String, String>);
    let mut buckets: BTreeMap<Key, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts: BTreeMap<Key, f64> = BTreeMap::new();
    let mut sums = BTreeSet::new();
    let of = |sample: &Sample, suffix: &str| {
        let name = sample.name.strip_suffix(suffix)?;
        let histogram = metrics
            .types
            .get(name)
            .is_some_and(|sort| sort == "histogram");
        histogram.then(|| name.to_owned())
    };
    for sample in &metrics.samples {
        let mut labels = sample.labels.clone();
        if let Some(name) = of(sample, "_bucket") {
            let le = labels.remove("le").ok_or(format!("{name}: no le"))?;
            let le = match le.as_str() {
                "+Inf" => f64::INFINITY,
                le => le.parse().map_err(|_| format!("{name}: le {le}"))?,
            };
            let all = buckets.entry((name, labels)).or_default();
            all.push((le, sample.value));
        } else if let Some(name) = of(sample, "_count") {
            counts.insert((name, labels), sample.value);
        } else if let Some(name) = of(sample, "_sum") {
            sums.insert((name, labels));
        }
    }
    for (key, buckets) in &buckets {
        let ascends = buckets
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let (last, all) = buckets[buckets.len() - 1];
        let whole = last == f64::INFINITY && counts.get(key) == Some(&all) && sums.contains(key);
        if !ascends || !whole {
            return Err(format!("{key:?}: wrong buckets {buckets:?}"));
        }
    }
    match counts.len() == buckets.len() && sums.len() == buckets.len() {
        true => Ok(()),
        false => Err("A histogram without buckets".into()),
    }
}
