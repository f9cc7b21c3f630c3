//! The ring-0 image that runs `xenner-core` inside the guest.
//!
//! The host process loads it into the virtual machine, fills in
//! `xenner_core::image::Boot` and starts every virtual CPU at `emu_entry`.
//! From then on whatever leaves the guest's ring 3 arrives at a stub in
//! `stubs.rs`, is answered by `xenner-core` through `machine.rs`, and returns to
//! ring 3; the host is called for what only it can do (`host.rs`).
//!
//! Main path: `stubs.rs` (assembly) → `cpu.rs` (what each entry does) →
//! `xenner_core::entry`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod fast;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod stubs;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("xenner-emu runs in ring 0 of a guest: build it for x86_64-unknown-none.");
    std::process::exit(1);
}
