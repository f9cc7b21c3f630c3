//! A domain's whole life, and what makes none.

use std::fs::{self, File};
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use xenner_rigs::terminal::SOON;

use crate::host::{Console, Host, guest, ready, until, until_listed};

#[test]
fn a_domain_lives_its_life() {
    let Some(host) = Host::new() else { return };
    let (status, _, said) = host.try_xt("create guest.cfg");
    assert_eq!(
        (status, said.as_str()),
        (0, "Parsing config from guest.cfg\n")
    );
    let domid = host.xt("domid guest");
    assert_eq!(host.xt(&format!("domname {domid}")), "guest\n");
    let mut console = host.console("guest");
    ready(&mut console);

    // A second one of that name is none.
    let complaint = host.refused("create -q guest.cfg", 3);
    assert!(complaint.contains("is there already"), "{complaint}");

    // Work inside, standing still, memory, vCPUs.
    assert_eq!(guest(&mut console, "echo $((6 * 7))"), "42");
    let long: serde_json::Value = serde_json::from_str(&host.xt("list -l guest")).expect("JSON");
    assert_eq!(long[0]["domid"].to_string(), domid.trim());
    assert_eq!(long[0]["config"]["b_info"]["target_memkb"], 192 << 10);
    assert_eq!(host.listed("guest")[..3], [domid.trim(), "192", "2"]);
    host.xt("pause guest");
    assert_eq!(host.listed("guest")[3], "--p---");
    host.xt("unpause guest");
    host.xt("mem-set guest 128");
    until_listed(&host, "guest", 1, "128");
    host.xt("mem-set guest 192m");
    host.refused("mem-set guest 1g", 1);
    host.xt("vcpu-set guest 1");
    until(
        &mut console,
        "[ $(cat /sys/devices/system/cpu/online) = 0 ]",
    );
    assert_eq!(host.listed("guest")[2], "1");
    host.xt("vcpu-set guest 2");
    until(&mut console, "echo 1 > /sys/devices/system/cpu/cpu1/online");
    host.xt("vcpu-pin guest all 0");
    let vcpus = host.xt("vcpu-list guest");
    assert_eq!(
        vcpus
            .lines()
            .filter(|line| line.contains("  0 / all"))
            .count(),
        2,
        "{vcpus}"
    );

    disks_come_and_go(&host, &mut console);

    // The same domain again; then under another name.
    host.xt("reboot guest");
    ready(&mut console);
    host.xt("rename guest other");
    assert_eq!(host.xt("domid other"), domid);
    host.refused("domid guest", 1);

    // A crash, kept for inspection.
    console
        .terminal
        .line("echo c > /proc/sysrq-trigger")
        .expect("the console");
    console
        .terminal
        .expect("Kernel panic", SOON)
        .expect("a panic");
    until_listed(&host, "other", 3, "---sc-");
    host.xt("destroy other");
    host.refused("domid other", 1);
    let heading_only = host.xt("list");
    assert_eq!(heading_only.lines().count(), 1, "{heading_only}");
}

fn disks_come_and_go(host: &Host, console: &mut Console) {
    let image = host.path("disk.img");
    let file = File::create(&image).expect("an image");
    file.set_len(4 << 20).expect("its size");
    host.xt(&format!(
        "block-attach guest {},raw,xvdb,rw",
        image.display()
    ));
    until(console, "[ -b /dev/xvdb ]");
    let disks = host.xt("block-list guest");
    let mut lines = disks.lines();
    assert_eq!(
        lines.next(),
        Some("Vdev  BE  handle state evt-ch ring-ref BE-path                       ")
    );
    let disk: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!((disk[0], disk[1], disk[3]), ("51728", "0", "4"), "{disks}");
    guest(
        console,
        "echo written | dd of=/dev/xvdb conv=fsync 2>/dev/null",
    );
    host.xt("block-detach guest xvdb");
    until(console, "[ ! -b /dev/xvdb ]");
    let bytes = fs::read(&image).expect("the image");
    assert!(bytes.starts_with(b"written\n"));
    host.refused("block-detach guest xvdb", 1);
    let complaint = host.refused("block-attach guest bad,bad,bad", 1);
    assert!(complaint.contains("bad"), "{complaint}");
}

#[test]
fn create_leaves_the_domain_as_asked() {
    let Some(host) = Host::new() else { return };
    // Paused before its first instruction, so that its console has all it says.
    let made = host.xt("create -q -p --json guest.cfg name='first' vcpus=1 maxvcpus=1");
    assert!(made.contains("\"name\": \"first\""), "{made}");
    assert_eq!(host.listed("first")[2..5], ["1", "--p---", "0.0"]);
    let mut console = host.console("first");
    host.xt("unpause first");
    ready(&mut console);
    host.xt("shutdown -w first");
    let (status, _, _) = host.try_xt("domid first");
    assert_eq!(status, 1);

    // Nobody looks after it: it stays when it ends.
    host.xt("create -q -e guest.cfg name='second'");
    let mut console = host.console("second");
    ready(&mut console);
    let said = host.xt("shutdown -w second");
    assert!(said.contains("has been shut down, reason code 0"), "{said}");
    assert_eq!(host.listed("second")[3], "---s--");
    host.xt("destroy second");

    // In the foreground until the end.
    let mut foreground = host
        .command("create -F -q guest.cfg name='third'")
        .spawn()
        .expect("xt starts");
    let mut console = loop {
        if host.try_xt("domid third").0 == 0 {
            break host.console("third");
        }
        std::thread::yield_now();
    };
    ready(&mut console);
    console.terminal.line("poweroff -f").expect("the console");
    assert!(foreground.wait().expect("an end").success());
    assert_eq!(host.xt("list").lines().count(), 1);
}

#[test]
fn a_card_on_a_bridge_comes_and_goes() {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        assert_eq!(errno, Errno::EPERM, "unshare");
        println!("skipped: no right to make a network");
        return;
    }
    let Some(host) = Host::new() else { return };
    for arguments in ["link add xenbr0 type bridge", "link set xenbr0 up"] {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.expect("ip").success(), "ip {arguments}");
    }
    host.xt("create -q guest.cfg");
    let mut console = host.console("guest");
    ready(&mut console);
    host.xt("network-attach guest mac=00:16:3e:01:02:03 bridge=xenbr0");
    until(&mut console, "[ -d /sys/class/net/eth0 ]");
    let address = guest(&mut console, "cat /sys/class/net/eth0/address");
    assert_eq!(address, "00:16:3e:01:02:03");
    let nics = host.xt("network-list guest");
    let heading = "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                       ";
    assert_eq!(nics.lines().next(), Some(heading));
    assert!(
        nics.contains("0   0  00:16:3e:01:02:03     0     4"),
        "{nics}"
    );
    host.xt("network-detach guest 0");
    until(&mut console, "[ ! -d /sys/class/net/eth0 ]");
    host.refused("network-detach guest 0", 1);
    host.refused("network-attach guest foo=bar", 1);
}

#[test]
fn what_is_wrong_is_said_and_makes_no_domain() {
    let Some(host) = Host::new() else { return };
    let config = fs::read_to_string(host.path("guest.cfg")).expect("the configuration");
    for (name, line, place) in [
        ("unclosed.cfg", "disk = [", "unclosed.cfg:"),
        ("unknown.cfg", "memroy = 5", "unknown.cfg:10:1:"),
        ("type.cfg", "type = 'pvh'", "type.cfg:10:"),
        ("disk.cfg", "disk = ['/x,qed,xvda,w']", "disk.cfg:10:"),
    ] {
        fs::write(host.path(name), format!("{config}{line}\n")).expect("a file");
        let complaint = host.refused(&format!("create -q {name}"), 1);
        assert!(complaint.contains(place), "{name}: {complaint}");
    }
    host.refused("create -q nosuch.cfg", 3);
    host.refused("create", 6);
    host.refused("create -q guest.cfg kernel='/nosuch'", 3);
    assert_eq!(host.xt("list").lines().count(), 1);
    for (line, status) in [
        ("destroy nosuch", 1),
        ("pause nosuch", 1),
        ("console nosuch", 1),
        ("destroy", 2),
        ("list --nosuch", 2),
        ("migrate nosuch there", 4),
        ("sched-credit2", 5),
        ("dmesg", 5),
        ("s", 1),
        ("nosuch", 1),
    ] {
        host.refused(line, status);
    }
    let info = host.xt("info");
    assert!(info.starts_with("host                   : "), "{info}");
    assert!(
        info.contains("\nxen_caps               : xen-3.0-x86_64 \n"),
        "{info}"
    );
}
