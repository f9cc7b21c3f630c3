//! Attaches, lists and detaches devices of a domain through whatever xenstore there is, on a Xen
//! host beside `xl` for instance:
//!
//! ```text
//! devices disk 3 '/images/data.qcow2,qcow2,xvdb,w'
//! devices vif 3 'bridge=xenbr0'
//! devices list 3
//! devices detach 3 vbd 51728 [force]
//! ```

use std::error::Error;
use std::time::Duration;

use xen_sys::DomId;
use xt_config::DomainType;
use xt_devices::{Defaults, DeviceNodes, DeviceRef, Guest, Mode};
use xt_devices::{
    attach, block_list, detach, disk_nodes, list, network_list, nic_nodes, wait_ready,
};
use xt_xenstore::client::Client;

const WAIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut client = Client::connect_default()?;
    match words[..] {
        ["disk", domid, spec] => {
            let guest = guest(&mut client, domid)?;
            let nodes = disk_nodes(&mut client, guest, &spec.parse()?, &Defaults::default())?;
            make(&mut client, &nodes)
        }
        ["vif", domid, spec] => {
            let guest = guest(&mut client, domid)?;
            let nodes = nic_nodes(&mut client, guest, &spec.parse()?, &Defaults::default())?;
            make(&mut client, &nodes)
        }
        ["list", domid] => {
            let domid = DomId(domid.parse()?);
            println!("{}", list::block_heading());
            for entry in block_list(&mut client, domid)? {
                println!("{entry}");
            }
            println!("{}", list::network_heading());
            for entry in network_list(&mut client, domid)? {
                println!("{entry}");
            }
            Ok(())
        }
        ["detach", domid, kind, devid, ref force @ ..] => {
            let (domid, devid) = (DomId(domid.parse()?), devid.parse()?);
            let device = match kind {
                "vbd" => DeviceRef::vbd(domid, devid),
                "vif" => DeviceRef::vif(domid, devid),
                _ => return Err("A device is a vbd or a vif.".into()),
            };
            let mode = if *force == ["force"] {
                Mode::Force
            } else {
                Mode::Safe
            };
            Ok(detach(&mut client, &device, mode, WAIT)?)
        }
        _ => Err(
            "Usage: devices disk|vif DOMID SPEC | list DOMID | detach DOMID KIND DEVID [force]"
                .into(),
        ),
    }
}

fn guest(client: &mut Client, domid: &str) -> Result<Guest, Box<dyn Error>> {
    let kind = client.read_text(&format!("/libxl/{domid}/type"))?;
    let kind = match kind.as_deref() {
        Some("hvm") => DomainType::Hvm,
        Some("pvh") => DomainType::Pvh,
        _ => DomainType::Pv,
    };
    let domid = DomId(domid.parse()?);
    Ok(Guest { domid, kind })
}

fn make(client: &mut Client, nodes: &DeviceNodes) -> Result<(), Box<dyn Error>> {
    attach(client, nodes)?;
    wait_ready(client, &nodes.device, WAIT)?;
    println!("{}", nodes.device);
    Ok(())
}
