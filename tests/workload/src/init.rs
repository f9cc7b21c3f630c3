//! Process 1: sets the scene, does what the kernel's command line asks for by
//! `xenner.test=WORD[,WORD...]`, in order, and ends the machine.
//!
//! | word | what |
//! |---|---|
//! | `checks` | runs all checks |
//! | `bench` | runs the benchmark |
//! | `devices` | measures what `xenner.disk=` and `xenner.nic=` name |
//! | `compute` | computes when a line is typed, until the line `end` |
//! | `shell` | a shell on the console (needs busybox), ends with it |
//! | `poweroff`, `reboot`, `halt` | ends the machine so |
//! | `crash` | makes the kernel panic |
//!
//! Without an ending word the machine is powered off.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::waitpid;

use crate::{bench, modules};

/// Does it all; process 1 must not return.
pub fn main() -> ! {
    let boot = bench::since_boot();
    println!("init: up");
    mount_all();
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if let Err(error) = modules::load(&command_line) {
        println!("init: cannot load a module: {error}");
    }
    for word in words(&command_line) {
        perform(word, boot, &command_line);
    }
    end(RebootMode::RB_POWER_OFF)
}

fn words(command_line: &str) -> impl Iterator<Item = &str> {
    let option = command_line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("xenner.test="));
    option.unwrap_or("checks").split(',')
}

fn mount_all() {
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, target) in mounts {
        let made = fs::create_dir_all(target).map_err(|e| e.to_string());
        let flags = MsFlags::empty();
        let mounted = made.and_then(|()| {
            mount(Some(kind), target, Some(kind), flags, None::<&str>).map_err(|e| e.to_string())
        });
        if let Err(error) = mounted {
            println!("init: cannot mount {target}: {error}");
        }
    }
}

/// What the command line says of the devices to measure.
fn devices(command_line: &str) -> impl Iterator<Item = &str> {
    command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("xenner."))
        .filter(|word| word.starts_with("disk=") || word.starts_with("nic="))
}

fn perform(word: &str, boot: Duration, command_line: &str) {
    match word {
        "checks" | "compute" => run(Command::new("/proc/self/exe").arg(word)),
        "bench" => {
            println!("bench: boot {}", boot.as_nanos());
            run(Command::new("/proc/self/exe").arg(word));
        }
        "devices" => run(Command::new("/proc/self/exe")
            .arg(word)
            .args(devices(command_line))),
        "shell" => shell(),
        "poweroff" => end(RebootMode::RB_POWER_OFF),
        "reboot" => end(RebootMode::RB_AUTOBOOT),
        "halt" => end(RebootMode::RB_HALT_SYSTEM),
        "crash" => crash(),
        other => println!("init: unknown word {other:?} in xenner.test="),
    }
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => println!("init: {command:?} ended with {status}"),
        Err(error) => println!("init: cannot run {command:?}: {error}"),
    }
}

/// A shell that owns the console: a session leader of its own, for Ctrl-C.
fn shell() {
    let consoles = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = consoles.split_whitespace().last().unwrap_or("console");
    let terminal = || {
        fs::File::options()
            .read(true)
            .write(true)
            .open(format!("/dev/{name}"))
    };
    let (Ok(input), Ok(output), Ok(errors)) = (terminal(), terminal(), terminal()) else {
        println!("init: cannot open /dev/{name}");
        return;
    };
    println!("A shell on {name}; `exit` ends the machine.");
    run(Command::new("/bin/busybox")
        .args(["setsid", "-c", "/bin/busybox", "sh", "-i"])
        .env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin")
        .env("HOME", "/root")
        .env("TERM", "linux")
        .current_dir("/root")
        .stdin(input)
        .stdout(output)
        .stderr(errors));
}

fn crash() {
    for (file, value) in [
        ("/proc/sys/kernel/sysrq", "1"),
        ("/proc/sysrq-trigger", "c"),
    ] {
        if let Err(error) = fs::write(file, value) {
            println!("init: cannot write {file}: {error}");
        }
    }
}

fn end(mode: RebootMode) -> ! {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::sync() };
    // The infallible success type means: this returns only an error.
    let Err(error) = reboot(mode);
    println!("init: reboot: {error}");
    loop {
        // Collect what is left; init must stay.
        if waitpid(None, None).is_err() {
            nix::unistd::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{devices, words};

    #[test]
    fn words_come_from_the_command_line() {
        let list = |line| words(line).collect::<Vec<_>>();
        assert_eq!(
            list("console=hvc0 xenner.test=bench,reboot quiet"),
            ["bench", "reboot"]
        );
        assert_eq!(list("console=hvc0"), ["checks"]);
    }

    #[test]
    fn devices_come_from_the_command_line() {
        let line = "xenner.disk=/dev/xvda quiet xenner.test=devices xenner.nic=eth0,10.0.0.2/24,10.0.0.1:5001";
        let found: Vec<_> = devices(line).collect();
        assert_eq!(
            found,
            ["disk=/dev/xvda", "nic=eth0,10.0.0.2/24,10.0.0.1:5001"]
        );
    }
}
