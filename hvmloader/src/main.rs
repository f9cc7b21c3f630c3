//! The image. See the library for what it does and `bare` for how it touches
//! the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("hvmloader is what Xen starts in an HVM domain: build it for x86_64-unknown-none.");
    std::process::exit(1);
}
