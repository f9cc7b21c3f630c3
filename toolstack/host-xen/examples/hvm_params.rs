//! Prints all parameters of an HVM or PVH domain: what two toolstacks have made is so compared.
//!
//! `hvm_params DOMID`

use std::process::ExitCode;

use xen_sys::DomId;
use xen_sys::hvm::HVM_NR_PARAMS;
use xt_host_xen::Control;

fn main() -> ExitCode {
    let domid = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let (Some(domid), Ok(control)) = (domid, Control::open()) else {
        eprintln!("Usage: hvm_params DOMID, in a domain that controls Xen");
        return ExitCode::FAILURE;
    };
    for index in 0..HVM_NR_PARAMS {
        match control.hvm_param(DomId(domid), index) {
            Ok(value) => println!("{index} {value:#x}"),
            Err(error) => println!("{index} {error}"),
        }
    }
    ExitCode::SUCCESS
}
