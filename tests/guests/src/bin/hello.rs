//! The smallest guest: says hello, looks once at every group of the ABI, and powers off.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    xenner_guests::explain("hello");
}

#[cfg(target_os = "none")]
xenner_guests::guest!(guest::main);

#[cfg(target_os = "none")]
mod guest {
    use xenner_guests::{attempt, boot, println, report, trap::Outcome};

    pub fn main() {
        println!("Hello from a Xen PV guest");
        let info = boot::start_info();
        report::yes(
            "start_info.magic",
            info.magic.starts_with(b"xen-3.0-x86_64"),
        );
        report::eq("start_info.flags", info.flags, 0);
        let trap = attempt!("ud2");
        report::see("trap.ud2", Outcome(trap));
        report::finish();
        boot::shutdown_as_asked();
    }
}
