//! Network cards as the user asks for them.

use std::fmt::Write as _;
use std::ops::Range;

use pv_netdev::spec::TapSpec;
use pv_netdev::vif::XlVif;
use pv_netdev::{Description, MacAddress, NetdevSpec, NicSpec};
use serde::{Deserialize, Serialize};
use xenner_vmm::shelf::DeviceNodes;
use xt_config::vif::{RateSpec, VifSpec};

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its number.
    pub devid: u32,
    /// The guest's address.
    pub mac: MacAddress,
    /// What it is plugged into.
    pub netdev: NicSpec,
    /// Limit of what the guest sends.
    pub rate: Option<RateSpec>,
    /// Whether the guest should trust the back end; `None` says nothing of it.
    pub trusted: Option<bool>,
}

/// The kinds of `--nic`; anything else is xl's syntax.
const KINDS: [&str; 6] = ["user", "tap", "bridge", "macvtap", "unix", "fd"];

/// Reads `--nic` and the arguments of `network-attach`: a kind with its options, or xl's syntax.
/// `taken` are the numbers there are already.
pub fn parse(text: &str, taken: &[u32]) -> Result<Nic, String> {
    let first = text.split([',', '=', ':']).next().unwrap_or(text);
    if !KINDS.contains(&first) {
        let vif: VifSpec = text.parse().map_err(|error: xt_config::SpecError| {
            located(text, error.range, &error.message, error.help.as_deref())
        })?;
        let devid = vif.devid.or_else(|| free(taken)).ok_or(NO_NUMBER)?;
        return of_vif(&vif, devid);
    }
    let netdev: NicSpec = text
        .parse()
        .map_err(|error: pv_netdev::SpecError| error.located(text).to_string())?;
    Ok(Nic {
        devid: free(taken).ok_or(NO_NUMBER)?,
        mac: netdev.mac.unwrap_or_else(some_mac),
        netdev,
        rate: None,
        trusted: None,
    })
}

const NO_NUMBER: &str = "There is no number left for another network card";

fn free(taken: &[u32]) -> Option<u32> {
    (0..256).find(|devid| !taken.contains(devid))
}

/// The message with the text and a mark below the place.
pub fn located(text: &str, range: Range<usize>, message: &str, help: Option<&str>) -> String {
    let error = pv_netdev::SpecError {
        range,
        message: message.to_owned(),
        help: help.map(str::to_owned),
    };
    error.located(text).to_string()
}

/// A card of an xl.cfg. One that names no network is on xl's default bridge, where that is there and
/// may be used, else on a network of its own that needs no root.
pub fn of_vif(vif: &VifSpec, devid: u32) -> Result<Nic, String> {
    let default = match default_bridge() {
        Some(bridge) => NetdevSpec::Tap(TapSpec {
            bridge: Some(bridge),
            ..TapSpec::default()
        }),
        None => NetdevSpec::default(),
    };
    let fields = XlVif {
        mac: vif.mac.map(|mac| MacAddress(mac.0)),
        mtu: vif.mtu,
        bridge: vif.bridge.as_deref(),
        script: vif.script.as_deref(),
        vifname: vif.vifname.as_deref(),
        gatewaydev: vif.gatewaydev.as_deref(),
        ip: vif.ip.as_deref(),
        vlan: vif.vlan.as_deref(),
        backend: vif.backend.as_deref(),
    };
    let netdev = fields.spec(&default);
    let netdev = netdev.map_err(|error| format!("Network card {devid}: {error}"))?;
    Ok(Nic {
        devid,
        mac: netdev.mac.unwrap_or_else(some_mac),
        netdev,
        rate: vif.rate,
        trusted: vif.trusted,
    })
}

/// xl's default bridge, where it is there and may be used.
fn default_bridge() -> Option<String> {
    const XENBR0: &str = "xenbr0";
    let device = std::path::Path::new("/sys/class/net").join(XENBR0);
    let usable = device.join("bridge").exists() && nix::unistd::geteuid().is_root();
    usable.then(|| XENBR0.to_owned())
}

/// An address in Xen's range.
fn some_mac() -> MacAddress {
    let random = uuid::Uuid::new_v4();
    let [a, b, c, ..] = *random.as_bytes();
    MacAddress([0x00, 0x16, 0x3e, a & 0x7f, b, c])
}

/// What xenstore says of it, as libxl writes it.
pub fn nodes(nic: &Nic, description: &Description) -> DeviceNodes {
    let node = |name: &str, value: String| (name.to_owned(), value);
    let mac = description.mac.unwrap_or(nic.mac).to_string();
    let mut front = vec![
        node("handle", nic.devid.to_string()),
        node("mac", mac.clone()),
        node("mtu", description.mtu.to_string()),
    ];
    if let Some(trusted) = nic.trusted {
        front.push(node("trusted", u8::from(trusted).to_string()));
    }
    let mut back = vec![
        node("handle", nic.devid.to_string()),
        node("mac", mac),
        node("mtu", description.mtu.to_string()),
        node("type", "vif".to_owned()),
        node("kind", kind(&nic.netdev).to_owned()),
    ];
    if let Some(rate) = nic.rate {
        let value = format!("{},{}", rate.bytes_per_interval, rate.interval_us);
        back.push(node("rate", value));
    }
    if let Some(name) = &description.interface {
        back.push(node("vifname", name.clone()));
    }
    if let NetdevSpec::Tap(TapSpec {
        bridge: Some(bridge),
        ..
    }) = &nic.netdev.netdev
    {
        back.push(node("bridge", bridge.clone()));
    }
    DeviceNodes { front, back }
}

fn kind(nic: &NicSpec) -> &'static str {
    match nic.netdev {
        NetdevSpec::User(_) => "user",
        NetdevSpec::Tap(_) => "tap",
        NetdevSpec::Macvtap(_) => "macvtap",
        NetdevSpec::Unix(_) => "unix",
        NetdevSpec::Fd(_) => "fd",
    }
}

/// For people: what it is plugged into.
pub fn text(nodes: &DeviceNodes) -> String {
    let get = |key: &str| {
        let found = nodes.back.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    };
    let mut text = get("kind").unwrap_or("?").to_owned();
    for (key, before) in [("vifname", " "), ("bridge", " on ")] {
        if let Some(value) = get(key) {
            let _ = write!(text, "{before}{value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_xl_syntax_are_told_apart() {
        let nic = parse("user,mac=00:16:3e:01:02:03", &[0]).unwrap();
        assert_eq!((nic.devid, nic.mac.0), (1, [0, 0x16, 0x3e, 1, 2, 3]));
        assert!(matches!(nic.netdev.netdev, NetdevSpec::User(_)));
        let nic = parse("mac=00:16:3e:01:02:03,bridge=br9,rate=10Mb/s,mtu=9000", &[]).unwrap();
        assert_eq!((nic.devid, nic.netdev.mtu), (0, Some(9000)));
        assert_eq!(nic.rate.unwrap().bytes_per_interval, 62_500);
        let NetdevSpec::Tap(tap) = nic.netdev.netdev else {
            panic!("a tap");
        };
        assert_eq!((tap.bridge.as_deref(), tap.create), (Some("br9"), false));
        let error = parse("mac=1", &[]).unwrap_err();
        assert!(error.contains("\n  | mac=1\n  |     ^"), "{error}");
        assert!(
            parse("user,nonsense", &[])
                .unwrap_err()
                .contains("nonsense")
        );
    }

    #[test]
    fn every_card_has_an_address_of_its_own() {
        let macs = [
            parse("user", &[]).unwrap().mac,
            parse("user", &[]).unwrap().mac,
        ];
        assert_ne!(macs[0], macs[1]);
        assert!(
            macs.iter()
                .all(|mac| mac.0[..3] == [0, 0x16, 0x3e] && mac.is_station())
        );
    }
}
