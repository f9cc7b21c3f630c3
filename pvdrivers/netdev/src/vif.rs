//! What the fields of xl's `vif = [ … ]` (`xl-network-configuration(5)`) mean where there is no Xen.
//!
//! | field | here |
//! |---|---|
//! | `bridge=BR` | a tap interface on that bridge, as script vif-bridge does it; no script runs |
//! | no `bridge`, no `script` | the caller's default (xl takes the first bridge it finds, or xl.conf's) |
//! | `script=S` but vif-bridge | a tap interface, and S runs; a relative S is in `/etc/xen/scripts` |
//! | `vifname=IF` | the interface's name |
//! | `mac=`, `mtu=` | the same |
//! | `gatewaydev=`, `vlan=` | told to the script as variables; refused without one |
//! | `ip=` | told to the script; without one it has no effect, as vif-bridge's packet filter is not ours |
//! | `backend=` | refused but for domain 0: there are no driver domains |
//! | `type=`, `model=` | about emulated cards, not for us |
//! | `rate=`, `devid=`, `trusted` | the card's, not the host side's |

use std::path::Path;

use crate::{MacAddress, NetdevSpec, NicSpec, spec::TapSpec};

const SCRIPTS: &str = "/etc/xen/scripts";

/// The fields that concern the host side, as xl's configuration has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XlVif<'a> {
    /// `mac=`
    pub mac: Option<MacAddress>,
    /// `mtu=`
    pub mtu: Option<u32>,
    /// `bridge=`
    pub bridge: Option<&'a str>,
    /// `script=`
    pub script: Option<&'a str>,
    /// `vifname=`
    pub vifname: Option<&'a str>,
    /// `gatewaydev=`
    pub gatewaydev: Option<&'a str>,
    /// `ip=`
    pub ip: Option<&'a str>,
    /// `vlan=`
    pub vlan: Option<&'a str>,
    /// `backend=`
    pub backend: Option<&'a str>,
}

/// A field that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}= {why}")]
pub struct BadVif {
    /// Its key.
    pub field: &'static str,
    /// Why not.
    pub why: &'static str,
}

impl XlVif<'_> {
    /// The card asked for; `default` is where it is plugged in when nothing is said.
    ///
    /// # Errors
    /// A field that would have no effect although it is meant to.
    pub fn spec(&self, default: &NetdevSpec) -> Result<NicSpec, BadVif> {
        let refuse = |field, why| Err(BadVif { field, why });
        if self
            .backend
            .is_some_and(|name| !["0", "Domain-0"].contains(&name))
        {
            return refuse(
                "backend",
                "names a driver domain; there are none without Xen",
            );
        }
        let script = self.script.map(|script| Path::new(SCRIPTS).join(script));
        let own = script.filter(|path| path.file_name() != Some("vif-bridge".as_ref()));
        if own.is_none() {
            for (field, value) in [("gatewaydev", self.gatewaydev), ("vlan", self.vlan)] {
                if value.is_some() {
                    return refuse(field, "is for a script=, and there is none that knows it");
                }
            }
        }
        if let Some(name) = [self.bridge, self.vifname]
            .into_iter()
            .flatten()
            .find(|name| !crate::open::is_interface_name(name))
        {
            let field = if self.bridge == Some(name) {
                "bridge"
            } else {
                "vifname"
            };
            return refuse(field, "is no name of an interface: 1 to 15 bytes");
        }
        let told = [
            ("ip", self.ip),
            ("gatewaydev", self.gatewaydev),
            ("vlan", self.vlan),
        ];
        let told = told
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        let plain = self.bridge.is_none() && self.vifname.is_none() && self.script.is_none();
        let netdev = match plain {
            true => default.clone(),
            false => NetdevSpec::Tap(TapSpec {
                name: self.vifname.map(str::to_owned),
                bridge: self.bridge.map(str::to_owned),
                create: false,
                variables: if own.is_some() {
                    told.collect()
                } else {
                    Default::default()
                },
                script: own,
            }),
        };
        Ok(NicSpec {
            netdev,
            mac: self.mac,
            mtu: self.mtu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(vif: XlVif<'_>) -> TapSpec {
        match vif.spec(&NetdevSpec::default()).unwrap().netdev {
            NetdevSpec::Tap(tap) => tap,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_usual_ones() {
        let plain = XlVif {
            mac: "00:16:3e:00:00:01".parse().ok(),
            ..XlVif::default()
        };
        let spec = plain.spec(&NetdevSpec::default()).unwrap();
        assert_eq!((spec.netdev, spec.mac), (NetdevSpec::default(), plain.mac));
        let bridged = XlVif {
            bridge: Some("xenbr0"),
            vifname: Some("web"),
            script: Some("/etc/xen/scripts/vif-bridge"),
            ip: Some("10.0.0.1"),
            ..plain
        };
        let expected = TapSpec {
            name: Some("web".into()),
            bridge: Some("xenbr0".into()),
            ..TapSpec::default()
        };
        assert_eq!(tap(bridged), expected);
    }

    #[test]
    fn scripts_are_told_what_they_need() {
        let routed = tap(XlVif {
            script: Some("vif-route"),
            gatewaydev: Some("eth0"),
            ip: Some("10.0.0.1"),
            ..XlVif::default()
        });
        assert_eq!(routed.script, Some("/etc/xen/scripts/vif-route".into()));
        let told: Vec<_> = routed
            .variables
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(told, ["gatewaydev=eth0", "ip=10.0.0.1"]);
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let field = |vif: XlVif<'_>| vif.spec(&NetdevSpec::default()).unwrap_err().field;
        let none = XlVif::default();
        assert_eq!(
            field(XlVif {
                vlan: Some("7"),
                ..none
            }),
            "vlan"
        );
        assert_eq!(
            field(XlVif {
                gatewaydev: Some("e"),
                script: Some("vif-bridge"),
                ..none
            }),
            "gatewaydev"
        );
        assert_eq!(
            field(XlVif {
                backend: Some("net"),
                ..none
            }),
            "backend"
        );
        assert_eq!(
            field(XlVif {
                bridge: Some("a b"),
                ..none
            }),
            "bridge"
        );
        assert_eq!(
            field(XlVif {
                vifname: Some("sixteen-bytes-xx"),
                ..none
            }),
            "vifname"
        );
    }
}
