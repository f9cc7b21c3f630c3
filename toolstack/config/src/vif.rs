//! Network interfaces: the strings of `vif = [ … ]`.
//!
//! Facts: `xl-network-configuration(5)`; where it leaves something open, what `xl create -n` of Xen
//! 4.17 makes of it. Other than `xl`, which skips what it does not understand, every such
//! parameter is an error here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{SpecError, nearest, quote};
use crate::libxl::NicColo;

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VifSpec {
    /// Address in the guest; `None` asks for one in Xen's range.
    pub mac: Option<MacAddress>,
    /// Bridge to attach it to.
    pub bridge: Option<String>,
    /// Host interface for the routing script.
    pub gatewaydev: Option<String>,
    /// HVM guests: whether there is an emulated one too.
    pub nic_type: Option<NicType>,
    /// HVM guests: what is emulated.
    pub model: Option<String>,
    /// Name of the interface on the host.
    pub vifname: Option<String>,
    /// Script that configures it.
    pub script: Option<String>,
    /// Addresses, for the script.
    pub ip: Option<String>,
    /// Name or number of the domain of the back end; `None` is this one.
    pub backend: Option<String>,
    /// Limit of what the guest sends.
    pub rate: Option<RateSpec>,
    /// Device number; `None` is the index in the list.
    pub devid: Option<u32>,
    /// Maximum transmission unit in bytes.
    pub mtu: Option<u32>,
    /// VLAN, for the script.
    pub vlan: Option<String>,
    /// Whether the guest should trust the back end; `None` is the default, yes.
    pub trusted: Option<bool>,
    /// Parameters of COLO replication, by the names of `xl-network-configuration(5)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub colo: BTreeMap<String, String>,
}

/// How an HVM guest sees the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicType {
    /// Emulated and paravirtualised.
    Ioemu,
    /// Paravirtualised only.
    Vif,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = SpecError;

    /// Six groups of one or two hexadecimal digits with colons between them.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let group = |text: &str| {
            let digits =
                (1..=2).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(group).collect();
        bytes
            .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
            .map(MacAddress)
            .ok_or_else(|| {
                SpecError::new(
                    0..text.len(),
                    format!("{} is no Ethernet address.", quote(text)),
                )
                .help("Write six pairs of hexadecimal digits: 00:16:3e:12:34:56")
            })
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

/// A credit-based rate limit: so many bytes each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// Bytes that may be sent in one interval.
    pub bytes_per_interval: u64,
    /// The interval in microseconds.
    pub interval_us: u32,
}

const DEFAULT_INTERVAL_US: u32 = 50_000;

impl FromStr for RateSpec {
    type Err = SpecError;

    /// `RATE/s` or `RATE/s@INTERVAL`: 10Mb/s, 250KB/s, 1MB/s@20ms. An interval without unit is in
    /// seconds, as `xl` reads it.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (rate, interval) = match text.split_once('@') {
            Some((rate, interval)) => (rate, Some(interval)),
            None => (text, None),
        };
        let refuse = |range: Range<usize>, what: &str| {
            SpecError::new(range, what).help("Examples: 10Mb/s, 250KB/s, 1MB/s@20ms.")
        };
        let per_second = bytes_per_second(rate)
            .ok_or_else(|| refuse(0..rate.len(), "This is no rate from 1B/s to 4294967295B/s."))?;
        let interval_us = match interval {
            None => DEFAULT_INTERVAL_US,
            Some(interval) => microseconds(interval).ok_or_else(|| {
                refuse(
                    rate.len() + 1..text.len(),
                    "This is no interval from 1us to 4294967295us.",
                )
            })?,
        };
        let bytes_per_interval = u64::from(per_second) * u64::from(interval_us) / 1_000_000;
        if bytes_per_interval == 0 {
            return Err(refuse(
                0..text.len(),
                "The rate leaves no byte for an interval.",
            ));
        }
        Ok(RateSpec {
            bytes_per_interval,
            interval_us,
        })
    }
}

/// A number in front of a unit. No sign, no fraction.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text.get(..digits)?.parse().ok()?, text.get(digits..)?))
}

fn bytes_per_second(text: &str) -> Option<u32> {
    let (count, unit) = number(text)?;
    let factor = match unit.get(..1)? {
        "G" => 1_000_000_000,
        "M" => 1_000_000,
        "K" => 1_000,
        _ => 1,
    };
    let divisor = match unit.trim_start_matches(['G', 'M', 'K']) {
        "B/s" => 1,
        "b/s" => 8,
        _ => return None,
    };
    if unit.len() > 4 {
        return None; // More than one of G, M, K.
    }
    let bytes = count.checked_mul(factor)? / divisor;
    u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

fn microseconds(text: &str) -> Option<u32> {
    let (count, unit) = number(text)?;
    let factor = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" | "" => 1_000_000,
        _ => return None,
    };
    u32::try_from(count.checked_mul(factor)?)
        .ok()
        .filter(|us| *us > 0)
}

const KEYS: &[&str] = &[
    "mac",
    "bridge",
    "gatewaydev",
    "type",
    "model",
    "vifname",
    "script",
    "ip",
    "backend",
    "rate",
    "devid",
    "mtu",
    "vlan",
    "trusted",
    "untrusted",
];

/// The device numbers of a list, to find one that is there twice.
#[derive(Default)]
pub(crate) struct Seen {
    devids: BTreeSet<u32>,
    place: u32,
}

impl Seen {
    /// Adds the next interface of the list, which was read from `text`. Returns its number: its
    /// place in the list, if it names none.
    pub(crate) fn add(&mut self, vif: &VifSpec, text: &str) -> Result<u32, SpecError> {
        let devid = vif.devid.unwrap_or(self.place);
        self.place += 1;
        if self.devids.insert(devid) {
            return Ok(devid);
        }
        let message = format!("There is a vif with devid {devid} already.");
        Err(SpecError::new(0..text.len(), message)
            .help("Give one of the two another devid, or none to both."))
    }
}

impl FromStr for VifSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec = VifSpec::default();
        let mut position = 0;
        for parameter in text.split(',') {
            let trimmed = parameter.trim_start_matches([' ', '\t']);
            let start = position + parameter.len() - trimmed.len();
            position += parameter.len() + 1;
            if !trimmed.is_empty() {
                spec.parameter(trimmed).map_err(|error| SpecError {
                    range: error.range.start + start..error.range.end + start,
                    ..error
                })?;
            }
        }
        Ok(spec)
    }
}

impl VifSpec {
    fn parameter(&mut self, text: &str) -> Result<(), SpecError> {
        match text {
            "trusted" => self.trusted = Some(true),
            "untrusted" => self.trusted = Some(false),
            _ => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                if !text.contains('=') || !self.set(key, value).map_err(|e| behind(key, e))? {
                    return Err(unknown(key));
                }
            }
        }
        Ok(())
    }

    /// Whether there is such a key.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, SpecError> {
        let text = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "mac" => self.mac = Some(value.parse()?),
            "bridge" => self.bridge = text,
            "gatewaydev" | "netdev" => self.gatewaydev = text,
            "type" => self.nic_type = Some(nic_type(value)?),
            "model" => self.model = text,
            "vifname" => self.vifname = text,
            "script" => self.script = text,
            "ip" => self.ip = text,
            "backend" => self.backend = text,
            "rate" => self.rate = Some(value.parse()?),
            "devid" => self.devid = Some(integer(value, 0, 65_535)?),
            "mtu" => self.mtu = Some(integer(value, 68, 65_535)?),
            "vlan" => self.vlan = text,
            _ if NicColo::name(key).is_some() => {
                self.colo.insert(key.to_owned(), value.to_owned());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Moves an error in a value behind its `key=`.
fn behind(key: &str, error: SpecError) -> SpecError {
    let offset = key.len() + 1;
    SpecError {
        range: error.range.start + offset..error.range.end + offset,
        ..error
    }
}

fn nic_type(value: &str) -> Result<NicType, SpecError> {
    match value {
        "ioemu" => Ok(NicType::Ioemu),
        "vif" => Ok(NicType::Vif),
        _ => Err(SpecError::new(
            0..value.len(),
            format!("{} is no type of a vif.", quote(value)),
        )
        .help("Known: ioemu, vif.")),
    }
}

fn integer(value: &str, least: u32, most: u32) -> Result<u32, SpecError> {
    let number = crate::document::integer(value).and_then(|n| u32::try_from(n).ok());
    number
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| {
            SpecError::new(0..value.len(), format!("{} is out of range.", quote(value)))
                .help(format!("Choose a number from {least} to {most}."))
        })
}

fn unknown(key: &str) -> SpecError {
    let error = SpecError::new(
        0..key.len(),
        format!("A vif has no parameter {}.", quote(key)),
    );
    match nearest(key, KEYS.iter().copied()) {
        Some(near) => error.help(format!("Did you mean {near}?")),
        None => error.help(format!("Known: {}.", KEYS.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_man_page() {
        assert_eq!("".parse(), Ok(VifSpec::default()));
        let expected = VifSpec {
            mac: Some(MacAddress([0x00, 0x16, 0x3e, 0x74, 0x3d, 0x76])),
            model: Some("rtl8139".into()),
            bridge: Some("xenbr0".into()),
            ..VifSpec::default()
        };
        assert_eq!(
            "mac=00:16:3E:74:3d:76,model=rtl8139,bridge=xenbr0".parse(),
            Ok(expected)
        );
    }

    #[test]
    fn every_parameter() {
        let text = "type=vif, vifname=v0,script=vif-route,ip=10.0.0.1 10.0.0.2,backend=dom1,devid=3,\
                    mtu=9000,gatewaydev=eth0,untrusted,vlan=5,rate=1MB/s@20ms,,";
        let spec: VifSpec = text.parse().unwrap();
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "mac": null, "bridge": null, "gatewaydev": "eth0", "nic_type": "vif", "model": null,
                "vifname": "v0", "script": "vif-route", "ip": "10.0.0.1 10.0.0.2",
                "backend": "dom1", "rate": {"bytes_per_interval": 20000, "interval_us": 20000},
                "devid": 3, "mtu": 9000, "vlan": "5", "trusted": false
            })
        );
        assert_eq!(serde_json::from_value::<VifSpec>(json).unwrap(), spec);
    }

    #[test]
    fn rates_as_xl_reads_them() {
        for (text, bytes_per_interval, interval_us) in [
            ("10Mb/s", 62_500, 50_000),
            ("250KB/s", 12_500, 50_000),
            ("1MB/s@20ms", 20_000, 20_000),
            ("1GB/s", 50_000_000, 50_000),
            ("1Gb/s@1s", 125_000_000, 1_000_000),
            ("10MB/s@50us", 500, 50),
            ("10MB/s@20", 200_000_000, 20_000_000),
            ("100B/s@50ms", 5, 50_000),
            ("1MB/s@2000000000us", 2_000_000_000, 2_000_000_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(RateSpec {
                    bytes_per_interval,
                    interval_us
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn rates_refused() {
        for text in [
            "",
            "10",
            "10MB",
            "10MB/s@",
            "0MB/s",
            "10mb/s",
            "10 MB/s",
            "4294967296B/s",
            "9999999999GB/s",
            "10Mb/s@20ms@5",
            "1MB/s@0ms",
            "1MB/s@4294967296us",
            "1.5MB/s",
            "-1MB/s",
            "100b/s",
            "1MKB/s",
            "éB/s",
            "1é/s",
        ] {
            assert!(text.parse::<RateSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn refused_with_the_place() {
        for (text, at, help) in [
            ("bridge=a, mac=00:16:3e", "00:16:3e", "Write six pairs"),
            (
                "mac=00:16:3e:00:00:0g",
                "00:16:3e:00:00:0g",
                "Write six pairs",
            ),
            (
                "mac=001:6:3e:00:00:00",
                "001:6:3e:00:00:00",
                "Write six pairs",
            ),
            ("brigde=a", "brigde", "Did you mean bridge?"),
            ("mtu=x", "x", "Choose a number from 68"),
            ("devid=-1", "-1", "Choose a number"),
            ("type=bad", "bad", "Known: ioemu, vif."),
            ("trusted=1", "trusted", "Did you mean trusted?"),
            ("mac=00:16:3e:00:00:01,foo", "foo", "Known: mac"),
            ("rate=1MB/s@x", "x", "Examples"),
        ] {
            let error = text.parse::<VifSpec>().expect_err(text);
            assert_eq!(&text[error.range.clone()], at, "{text}");
            assert!(
                error.help.as_ref().is_some_and(|h| h.starts_with(help)),
                "{text}: {error:?}"
            );
        }
    }
}
