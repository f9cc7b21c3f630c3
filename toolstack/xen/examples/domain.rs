//! A domain from a configuration, and what can be done with it, for a try without `xt`.
//!
//! `domain create FILE`, `domain destroy|shutdown|info DOMID`, `domain list`

use std::process::ExitCode;

use xen_sys::DomId;
use xt_config::{DomainSpec, keys};
use xt_host::{CreateOptions, Host, HostError};
use xt_xen::XenHost;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<(), HostError> {
    let host = XenHost::open()?;
    let number = |text: &str| {
        let number = text.parse().map(DomId);
        number.map_err(|_| HostError::Config(format!("{text:?} is no number")))
    };
    match args {
        ["create", file] => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| HostError::failed(*file, error))?;
            let document = xt_config::parse(&text, file);
            let document = document.map_err(|error| HostError::Config(error.to_string()))?;
            let spec = DomainSpec::from_document(&document, keys::SPEC_KEYS);
            let spec = spec.map_err(|error| HostError::Config(error.to_string()))?;
            let options = CreateOptions {
                source: text,
                ..Default::default()
            };
            let created = host.create(&spec.value, &options)?;
            created.warnings.iter().for_each(|line| eprintln!("{line}"));
            println!("{}", created.domid.0);
        }
        ["dump", domid, file] => {
            let out = std::fs::File::create(file);
            let out = out.map_err(|error| HostError::failed(*file, error))?;
            host.dump_core(number(domid)?, out, file.as_ref(), false)?;
        }
        ["destroy", domid] => host.destroy(number(domid)?)?,
        ["shutdown", domid] => host.shutdown(number(domid)?)?,
        ["info", domid] => println!("{:#?}", host.domain(number(domid)?)?),
        ["host"] => println!("{:#?}", host.info()?),
        ["list"] => {
            for domain in host.list()? {
                println!(
                    "{} {} {}",
                    domain.domid,
                    domain.name,
                    domain.state.letters()
                );
            }
        }
        _ => return Err(HostError::Config("create FILE, destroy DOMID ...".into())),
    }
    Ok(())
}
