//! The textual form of `--nic`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::str::FromStr;

use super::{
    Family, Forward, MacvtapMode, MacvtapSpec, NetdevSpec, NicSpec, Protocol, SpecError, TapSpec,
    UnixKind, UnixSpec, UserSpec,
};
use crate::MacAddress;

const KINDS: [&str; 6] = ["user", "tap", "bridge", "macvtap", "unix", "fd"];

/// One parameter of the text: `key`, `key=value` or, the first only, `key:value`.
#[derive(Clone, Copy)]
struct Parameter<'a> {
    /// Where it begins in the text.
    start: usize,
    key: &'a str,
    value: Option<&'a str>,
}

impl<'a> Parameter<'a> {
    fn new(start: usize, text: &'a str, separators: &[char]) -> Self {
        match text.find(separators) {
            Some(at) => Self {
                start,
                key: &text[..at],
                value: Some(&text[at + 1..]),
            },
            None => Self {
                start,
                key: text,
                value: None,
            },
        }
    }

    fn key_range(&self) -> Range<usize> {
        self.start..self.start + self.key.len()
    }

    fn value_range(&self) -> Range<usize> {
        let start = self.start + self.key.len() + 1;
        start..start + self.value.unwrap_or("").len()
    }

    /// Wrong in its value.
    fn wrong(&self, message: impl Into<String>) -> SpecError {
        let range = match self.value {
            Some(_) => self.value_range(),
            None => self.key_range(),
        };
        SpecError::new(range, message)
    }

    /// Its value, which must be there and not be empty.
    fn value(&self) -> Result<&'a str, SpecError> {
        let value = self.value.filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            let message = format!("{} needs a value.", quote(self.key));
            SpecError::new(self.key_range(), message)
        })
    }

    /// Its value with single commas.
    fn text(&self) -> Result<String, SpecError> {
        Ok(self.value()?.replace(",,", ","))
    }

    /// The name of an interface.
    fn interface(&self) -> Result<String, SpecError> {
        let name = self.text()?;
        if crate::open::is_interface_name(&name) {
            return Ok(name);
        }
        let message = format!("{} is no name of an interface.", quote(&name));
        Err(self
            .wrong(message)
            .help("1 to 15 bytes without space, slash or colon."))
    }

    /// Nothing, for a key that is a switch.
    fn switch(&self) -> Result<(), SpecError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(self.wrong(format!("{} takes no value.", quote(self.key)))),
        }
    }

    fn parse<T: FromStr>(&self, what: &str) -> Result<T, SpecError>
    where
        T::Err: fmt::Display,
    {
        let value = self.value()?;
        value.parse().map_err(|error: T::Err| {
            self.wrong(format!("{} is no {what}.", quote(value)))
                .help(format!("{error}"))
        })
    }

    /// One of several words.
    fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, SpecError> {
        let value = self.value()?;
        let found = words.iter().find(|(word, _)| *word == value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("{} is no {}.", quote(value), self.key))
                .help(format!("Known: {}.", known.join(", ")))
        })
    }
}

impl SpecError {
    fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            range,
            message: message.into(),
            help: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// Shortens what a message quotes.
fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text.chars().take(LONGEST).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Cuts at single commas.
fn parameters(text: &str) -> Vec<Parameter<'_>> {
    let bytes = text.as_bytes();
    let (mut all, mut start, mut at) = (Vec::new(), 0, 0);
    while at <= bytes.len() {
        let doubled = bytes.get(at..at + 2) == Some(b",,");
        if doubled {
            at += 2;
            continue;
        }
        if at == bytes.len() || bytes[at] == b',' {
            let separators: &[char] = if all.is_empty() { &['=', ':'] } else { &['='] };
            all.push(Parameter::new(start, &text[start..at], separators));
            start = at + 1;
        }
        at += 1;
    }
    all
}

impl FromStr for NicSpec {
    type Err = SpecError;

    /// The form that the module's documentation tells.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parameters = parameters(text);
        let (first, options) = parameters.split_first().expect("one at least");
        let mut spec = NicSpec {
            netdev: kind(first)?,
            ..NicSpec::default()
        };
        let mut seen = Vec::new();
        if first.key == "bridge" {
            seen.push("bridge");
        }
        for option in options {
            if option.key.is_empty() {
                let end = text.len().min(option.start + 1);
                return Err(
                    SpecError::new(option.start..end, "An option is missing here.")
                        .help("A comma within a value is written twice."),
                );
            }
            if !repeatable(option.key) && seen.contains(&option.key) {
                let message = format!("{} is given twice.", quote(option.key));
                return Err(SpecError::new(option.key_range(), message));
            }
            seen.push(option.key);
            spec.option(option)?;
        }
        spec.check(text)?;
        Ok(spec)
    }
}

fn repeatable(key: &str) -> bool {
    ["hostfwd", "address", "gateway", "dns"].contains(&key)
}

fn kind(first: &Parameter<'_>) -> Result<NetdevSpec, SpecError> {
    Ok(match first.key {
        "user" => {
            first.switch()?;
            NetdevSpec::User(UserSpec::default())
        }
        "tap" => NetdevSpec::Tap(TapSpec {
            name: first.value.map(|_| first.interface()).transpose()?,
            ..TapSpec::default()
        }),
        "bridge" => NetdevSpec::Tap(TapSpec {
            bridge: Some(first.interface()?),
            ..TapSpec::default()
        }),
        "macvtap" => NetdevSpec::Macvtap(MacvtapSpec {
            parent: first.interface()?,
            mode: MacvtapMode::default(),
            name: None,
        }),
        "unix" => NetdevSpec::Unix(UnixSpec {
            path: first.text()?.into(),
            kind: UnixKind::default(),
            local: None,
        }),
        "fd" => NetdevSpec::Fd(descriptors(first)?),
        key => {
            let message = format!("{} is no kind of network.", quote(key));
            let error = SpecError::new(first.key_range(), message);
            return Err(error.help(match nearest(key, &KINDS) {
                Some(near) => format!("Did you mean {near}?"),
                None => format!("Known: {}.", KINDS.join(", ")),
            }));
        }
    })
}

fn descriptors(first: &Parameter<'_>) -> Result<Vec<i32>, SpecError> {
    let mut all = Vec::new();
    for number in first.value()?.split(':') {
        match number.parse() {
            Ok(fd) if fd >= 0 && !all.contains(&fd) => all.push(fd),
            _ => {
                let message = format!("{} is no descriptor of a queue.", quote(number));
                return Err(first
                    .wrong(message)
                    .help("Numbers with colons between them, each once."));
            }
        }
    }
    Ok(all)
}

/// The word nearest to a slip.
fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    let distances = words
        .iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), *known));
    let near = distances.filter(|(distance, _)| *distance <= limit).min();
    near.map(|(_, known)| known)
}

impl NicSpec {
    fn option(&mut self, option: &Parameter<'_>) -> Result<(), SpecError> {
        match option.key {
            "mac" => {
                let mac: MacAddress = option.parse("Ethernet address")?;
                if !mac.is_station() {
                    return Err(option
                        .wrong(format!("{mac} is no address of a card."))
                        .help("The first byte must be even, as in 00:16:3e:12:34:56."));
                }
                self.mac = Some(mac);
                return Ok(());
            }
            "mtu" => {
                let mtu: u32 = option.parse("number")?;
                if !(68..=65_520).contains(&mtu) {
                    return Err(option.wrong("An MTU is from 68 to 65520 bytes."));
                }
                self.mtu = Some(mtu);
                return Ok(());
            }
            _ => {}
        }
        let (kind, known): (&str, &[&str]) = match &mut self.netdev {
            NetdevSpec::User(user) => ("user", user.option(option)?),
            NetdevSpec::Tap(tap) => ("tap", tap.option(option)?),
            NetdevSpec::Macvtap(macvtap) => ("macvtap", macvtap.option(option)?),
            NetdevSpec::Unix(unix) => ("unix", unix.option(option)?),
            NetdevSpec::Fd(_) => ("fd", &["mac", "mtu"]),
        };
        if known.is_empty() {
            return Ok(());
        }
        let message = format!("{kind} has no option {}.", quote(option.key));
        let error = SpecError::new(option.key_range(), message);
        Err(error.help(match nearest(option.key, known) {
            Some(near) => format!("Did you mean {near}?"),
            None => format!("Known: {}.", known.join(", ")),
        }))
    }

    /// What options must not be together.
    fn check(&self, text: &str) -> Result<(), SpecError> {
        let wrong = |message: &str| Err(SpecError::new(0..text.len(), message));
        match &self.netdev {
            NetdevSpec::Tap(tap) if tap.create && tap.bridge.is_none() => {
                wrong("create needs bridge=: it is the bridge that is made.")
            }
            NetdevSpec::Tap(tap) if tap.create && tap.script.is_some() => {
                wrong("create and script exclude each other: the script sees to the bridge.")
            }
            NetdevSpec::Unix(unix) if unix.local.is_some() && unix.kind != UnixKind::Dgram => {
                wrong("local is for type=dgram only.")
            }
            NetdevSpec::User(user) if !user.fits_family() => {
                wrong("An address is of a family that is switched off, or a second of its family.")
            }
            _ => Ok(()),
        }
    }
}

// The options of each kind: nothing when the option was taken, otherwise all there are.

impl UserSpec {
    fn option(&mut self, option: &Parameter<'_>) -> Result<&'static [&'static str], SpecError> {
        let address = |what| option.parse::<IpAddr>(what);
        match option.key {
            "hostfwd" => self.forwards.push(forward(option)?),
            "address" => self.addresses.push(address("IP address")?),
            "gateway" => self.gateways.push(address("IP address")?),
            "dns" => self.dns.push(address("IP address")?),
            "interface" => self.interface = Some(option.interface()?),
            "hostaccess" => {
                option.switch()?;
                self.host_access = true;
            }
            "ipv4" | "ipv6" => {
                option.switch()?;
                if self.family.is_some() {
                    return Err(option.wrong("ipv4 and ipv6 exclude each other."));
                }
                let v4 = option.key == "ipv4";
                self.family = Some(if v4 { Family::Ipv4 } else { Family::Ipv6 });
            }
            _ => {
                return Ok(&[
                    "hostfwd",
                    "address",
                    "gateway",
                    "dns",
                    "interface",
                    "ipv4",
                    "ipv6",
                    "hostaccess",
                    "mac",
                    "mtu",
                ]);
            }
        }
        Ok(&[])
    }

    fn fits_family(&self) -> bool {
        let once = |all: &[IpAddr]| {
            let v4 = all.iter().filter(|address| address.is_ipv4()).count();
            v4 <= 1 && all.len() - v4 <= 1
        };
        let all = self.addresses.iter().chain(&self.gateways).chain(&self.dns);
        let forwards = self.forwards.iter().map(|forward| &forward.address);
        let mut all = all.chain(forwards);
        let off = |address: &IpAddr| match self.family {
            Some(Family::Ipv4) => address.is_ipv6(),
            Some(Family::Ipv6) => address.is_ipv4(),
            None => false,
        };
        once(&self.addresses) && once(&self.gateways) && !all.any(off)
    }
}

/// `tcp:2222:22`, `udp:0.0.0.0:53:53`, `tcp:[::1]:80:80`.
fn forward(option: &Parameter<'_>) -> Result<Forward, SpecError> {
    let value = option.value()?;
    let refuse = |message: String| {
        option
            .wrong(message)
            .help("Write hostfwd=tcp:PORT:GUESTPORT or udp:ADDRESS:PORT:GUESTPORT.")
    };
    let (protocol, rest) = value.split_once(':').unwrap_or((value, ""));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => {
            return Err(refuse(format!(
                "{} is neither tcp nor udp.",
                quote(protocol)
            )));
        }
    };
    let (rest, guest) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port != 0 && !text.starts_with('+') => Ok(port),
        _ => Err(refuse(format!("{} is no port.", quote(text)))),
    };
    let address = match address.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None if address.is_empty() => Some(Ipv4Addr::LOCALHOST.into()),
        None => address.parse().map(IpAddr::V4).ok(),
    };
    Ok(Forward {
        protocol,
        address: address.ok_or_else(|| refuse("This is no address of the host.".into()))?,
        port: port(host)?,
        guest_port: port(guest)?,
    })
}

impl TapSpec {
    fn option(&mut self, option: &Parameter<'_>) -> Result<&'static [&'static str], SpecError> {
        match option.key {
            "bridge" => self.bridge = Some(option.interface()?),
            "create" => {
                option.switch()?;
                self.create = true;
            }
            "script" => self.script = Some(option.text()?.into()),
            _ => return Ok(&["bridge", "create", "script", "mac", "mtu"]),
        }
        Ok(&[])
    }
}

impl MacvtapSpec {
    fn option(&mut self, option: &Parameter<'_>) -> Result<&'static [&'static str], SpecError> {
        match option.key {
            "mode" => {
                self.mode = option.word(&[
                    ("bridge", MacvtapMode::Bridge),
                    ("private", MacvtapMode::Private),
                    ("vepa", MacvtapMode::Vepa),
                    ("passthru", MacvtapMode::Passthru),
                ])?;
            }
            "name" => self.name = Some(option.interface()?),
            _ => return Ok(&["mode", "name", "mac", "mtu"]),
        }
        Ok(&[])
    }
}

impl UnixSpec {
    fn option(&mut self, option: &Parameter<'_>) -> Result<&'static [&'static str], SpecError> {
        match option.key {
            "type" => {
                self.kind = option.word(&[
                    ("stream", UnixKind::Stream),
                    ("seqpacket", UnixKind::Seqpacket),
                    ("dgram", UnixKind::Dgram),
                ])?;
            }
            "local" => self.local = Some(option.text()?.into()),
            _ => return Ok(&["type", "local", "mac", "mtu"]),
        }
        Ok(&[])
    }
}

#[cfg(test)]
#[path = "parse_test.rs"]
mod tests;
