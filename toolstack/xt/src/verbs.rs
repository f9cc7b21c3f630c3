//! The names of commands: prefixes, and `xl`'s that are not there yet.

use crate::status::{Failure, Status};

/// Commands that `xl` of Xen 4.17 to 4.22 has (`xl help`, `tools/xl/xl_cmdtable.c`) and `xt` has not.
pub const NOT_YET: &[&str] = &[
    "button-press",
    "claims",
    "cpupool-cpu-add",
    "cpupool-cpu-remove",
    "cpupool-create",
    "cpupool-destroy",
    "cpupool-list",
    "cpupool-migrate",
    "cpupool-numa-split",
    "cpupool-rename",
    "devd",
    "dt-overlay",
    "getenforce",
    "loadpolicy",
    "migrate",
    "migrate-receive",
    "pci-assignable-add",
    "pci-assignable-list",
    "pci-assignable-remove",
    "pci-attach",
    "pci-detach",
    "pci-list",
    "psr-cat-set",
    "psr-cat-show",
    "psr-cmt-attach",
    "psr-cmt-detach",
    "psr-cmt-show",
    "psr-hwinfo",
    "psr-mba-set",
    "psr-mba-show",
    "qemu-monitor-command",
    "remus",
    "restore",
    "resume",
    "save",
    "sched-credit",
    "sched-rtds",
    "set-parameters",
    "setenforce",
    "sharing",
    "suspend",
    "usb-list",
    "usbctrl-attach",
    "usbctrl-detach",
    "usbdev-attach",
    "usbdev-detach",
    "vdispl-attach",
    "vdispl-detach",
    "vdispl-list",
    "vkb-attach",
    "vkb-detach",
    "vkb-list",
    "vncviewer",
    "vsnd-attach",
    "vsnd-detach",
    "vsnd-list",
    "vtpm-attach",
    "vtpm-detach",
    "vtpm-list",
    "xenstore-quota-get",
    "xenstore-quota-set",
];

/// Our own commands. To ask clap for them takes as long as all the rest of `xt list`.
const OWN: &[&str] = &[
    "create",
    "config-update",
    "list",
    "destroy",
    "shutdown",
    "reboot",
    "pause",
    "unpause",
    "console",
    "dump-core",
    "cd-insert",
    "cd-eject",
    "mem-max",
    "mem-set",
    "vcpu-list",
    "vcpu-pin",
    "vcpu-set",
    "vm-list",
    "info",
    "sched-credit2",
    "domid",
    "domname",
    "rename",
    "trigger",
    "sysrq",
    "debug-keys",
    "dmesg",
    "top",
    "network-attach",
    "network-list",
    "network-detach",
    "channel-list",
    "block-attach",
    "block-list",
    "block-detach",
    "uptime",
    "supervise",
    "completions",
    "man",
    "help",
];

/// What a command's name or prefix stands for, as `xl` looks it up: itself if it is one, else the only
/// name it begins, `xl`'s that are not there yet among them.
///
/// # Errors
/// None of ours.
pub fn resolve(name: &str) -> Result<String, Failure> {
    if OWN.contains(&name) {
        return Ok(name.to_owned());
    }
    let all = OWN.iter().chain(NOT_YET).copied();
    let mut found: Vec<&str> = match NOT_YET.contains(&name) {
        true => vec![name],
        false => all.filter(|known| known.starts_with(name)).collect(),
    };
    found.sort_unstable();
    match found[..] {
        [only] if NOT_YET.contains(&only) => Err(Failure::new(
            Status::NotYet,
            format!("xl's command {only} is not there yet; xt help lists those that are"),
        )),
        [only] => Ok(only.to_owned()),
        [] => Err(Failure::plain(format!(
            "There is no command {name:?}; xt help lists them"
        ))),
        _ => Err(Failure::plain(format!(
            "{name:?} may be one of {}; write more of it",
            found.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn unambiguous_prefixes_are_enough() {
        assert_eq!(resolve("list").unwrap(), "list");
        assert_eq!(resolve("li").unwrap(), "list");
        assert_eq!(resolve("vcpu-l").unwrap(), "vcpu-list");
        assert_eq!(resolve("network-a").unwrap(), "network-attach");
        // A whole name that begins another one.
        assert_eq!(resolve("destroy").unwrap(), "destroy");
        for name in ["s", "vcpu", "dom", "pci", ""] {
            let failure = resolve(name).unwrap_err();
            assert_eq!(failure.status, Status::Failed, "{name}: {failure}");
            assert!(failure.message.contains("may be one of"), "{failure}");
        }
        assert!(
            resolve("sh")
                .unwrap_err()
                .message
                .contains("sharing, shutdown")
        );
        assert_eq!(resolve("foo").unwrap_err().status, Status::Failed);
    }

    #[test]
    fn all_our_commands_are_listed() {
        let command = Cli::command();
        let names: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(names, OWN);
    }

    #[test]
    fn xls_other_commands_are_known() {
        for name in NOT_YET {
            assert!(!OWN.contains(name), "{name}");
            assert_eq!(resolve(name).unwrap_err().status, Status::NotYet, "{name}");
        }
        assert_eq!(resolve("migrate-").unwrap_err().status, Status::NotYet);
        assert!(NOT_YET.is_sorted());
    }
}
