//! Guests that `xl` creates, on a real Xen, with disks that `xt-backend` serves.

mod guest;

use std::time::Duration;

use guest::{Guest, Rig};

/// For anything in dom0, under emulation and with the host busy.
const DOM0: Duration = Duration::from_secs(600);

/// 8 MiB that differ in every line.
const PATTERN: &str = "seq -w 1 1048576";

/// Prints the process that serves the guest: of the two, the one that `libxl` does not know.
const WORKER: &str = "known=$(xenstore-read /local/domain/$(xl domid disks)/image/device-model-pid); \
     for pid in $(pidof xt-backend); do [ $pid = $known ] || echo $pid; done";

#[test]
fn guests_that_xl_creates() {
    let mut rig = Rig::boot();
    disks(&mut rig);
    cards(&mut rig);
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_driver_domain_serves() {
    a_domain_of_its_own(&mut Rig::boot());
}

/// By `device_model_override`, nothing else being set up.
fn disks(rig: &mut Rig) {
    rig.must(
        "cp /guest/image.qcow2 /disks; \
         for size in a:16 b:8 kernel:8; do \
           dd if=/dev/zero of=/disks/${size%:*}.img bs=1M count=${size#*:} 2>&1 || exit; \
         done; losetup /dev/loop0 /disks/kernel.img",
        DOM0,
    );
    let mut guest = rig.create(
        "disks",
        "device_model_version = \"qemu-xen\"\n\
         device_model_override = \"/usr/bin/xt-backend\"\n\
         disk = [ \"format=raw, vdev=xvda, access=rw, backendtype=qdisk, target=/disks/a.img\",\n\
                  \"format=raw, vdev=xvdc, access=rw, backendtype=phy, script=block-plain, target=/dev/loop0\",\n\
                  \"format=qcow2, vdev=xvdd, access=rw, backendtype=qdisk, target=/disks/image.qcow2\" ]",
    );

    what_is_written_is_in_the_file(&mut guest);
    an_image_is_a_disk(&mut guest);
    counters_are_told(&mut guest);
    disks_come_and_go(&mut guest);
    a_worker_that_is_killed_is_replaced(&mut guest);
    a_worker_that_is_told_to_stop_loses_nothing(&mut guest);
    a_worker_that_is_killed_loses_nothing(&mut guest);

    guest.destroy();
    let left = rig.run(
        "pidof xt-backend || \
         ls -d /run/xt-backend/*.sock /run/xt-backend/journal/* /run/xen/qmp* 2>/dev/null | grep .",
        DOM0,
    );
    assert_ne!(
        left.status, 0,
        "everything ends with the guest: {}",
        left.text
    );
}

/// By a service for all guests, after netback is gone.
fn cards(rig: &mut Rig) {
    let refused = rig.run("xt-backend --kinds vif", DOM0);
    assert!(
        refused.text.contains("rmmod xen-netback"),
        "{}",
        refused.text
    );
    rig.must(
        "rmmod xen_netback; \
         xt-backend --kinds qdisk,vif >/tmp/xt-backend.log 2>&1 & \
         timeout 60 sh -c 'until xt-backend stats --stats-socket /run/xt-backend/all.sock; do sleep 0.1; done' 2>&1",
        DOM0,
    );
    let second = rig.run("xt-backend", DOM0);
    assert!(
        second.text.contains("serves qdisk devices already"),
        "{}",
        second.text
    );
    let mut guest = rig.create(
        "cards",
        "vcpus = 2\n\
         vif = [ \"mac=00:16:3e:00:00:01,script=vif-plain\" ]",
    );
    guest.must("ip link set eth0 up && ip addr add 10.0.0.2/24 dev eth0");
    // Linux asks for as many queues as it has virtual CPUs.
    let queues = guest.must("ls -d /sys/class/net/eth0/queues/tx-* | wc -l");
    assert_eq!(queues.trim(), "2");
    println!("{}", guest.must("ping -c 3 10.0.0.1"));

    // 3.5 MiB each way, with a checksum.
    let serve = "mkdir -p /www; seq -w 1 524288 >/www/data; httpd -h /www";
    guest.dom0(serve);
    guest.must(serve);
    let wanted = guest.dom0("md5sum </www/data");
    let received = guest.must("wget -qO- http://10.0.0.1/data | md5sum");
    assert_eq!(received, wanted, "what the guest receives");
    let sent = guest.dom0("wget -qO- http://10.0.0.2/data | md5sum");
    assert_eq!(sent, wanted, "what the guest sends");

    let table = guest.dom0("xt-backend stats");
    println!("{table}");
    assert!(table.contains("vif"), "{table}");
    let json = guest.dom0("xt-backend stats --json");
    let devices: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let mut cards = devices.as_array().expect("a list").iter();
    let card = cards
        .find(|device| device["kind"] == "vif")
        .expect("a card");
    assert_eq!(card["queues"].as_array().map(Vec::len), Some(2), "{json}");
    guest.destroy();
    let log = rig.must(
        "kill $(pidof xt-backend); \
         timeout 60 sh -c 'while pidof xt-backend; do sleep 0.1; done' >/dev/null; \
         cat /tmp/xt-backend.log; ! ls /run/xt-backend/all.*",
        DOM0,
    );
    println!("{log}");
    assert!(log.contains("Stopped"), "{log}");
}

/// A driver domain serves: nothing of the disk is in dom0.
fn a_domain_of_its_own(rig: &mut Rig) {
    let mut storage = rig.create_from(
        "storage",
        "/guest/storage",
        "memory = 448\ndriver_domain = 1",
    );
    storage.must(
        "mkdir -p /run /disks && mount -t tmpfs none /run && \
         dd if=/dev/zero of=/disks/a.img bs=1M count=8 2>&1",
    );
    storage.must(
        "( while :; do xt-backend --log debug >>/run/log 2>&1; done ) & \
         until xt-backend stats --stats-socket /run/xt-backend/all.sock 2>&1; do sleep 0.1; done",
    );
    let storage = storage.leave();
    let disk = "disk = [ \"format=raw, vdev=xvda, access=rw, backend=storage, backendtype=qdisk, \
                target=/disks/a.img\" ]";
    let mut guest = rig.create("client", disk);
    guest.must("until [ -b /dev/xvda ]; do sleep 0.1; done");
    let write = format!("{PATTERN} | dd of=/dev/xvda bs=64k iflag=fullblock oflag=direct");
    guest.must(&format!("{write} conv=fsync 2>&1"));
    let wanted = guest.dom0(&format!("{PATTERN} | md5sum"));
    let guest = guest.leave();
    let mut storage = rig.again(storage);
    let file = storage.must("head -c 8388608 /disks/a.img | md5sum");
    assert_eq!(file, wanted, "the driver domain's file");
    println!("{}", storage.must("xt-backend stats"));
    // The service is killed, and started again by whoever watches it.
    storage.must(
        "before=$(pidof xt-backend); kill -9 $before; \
         until new=$(pidof xt-backend) && [ $new != $before ]; do sleep 0.1; done",
    );
    let storage = storage.leave();
    let mut guest = rig.again(guest);
    guest.must("echo 3 >/proc/sys/vm/drop_caches");
    let read = guest.must("head -c 8388608 /dev/xvda | md5sum");
    assert_eq!(read, wanted, "what the guest reads");
    guest.destroy();
    let mut storage = rig.again(storage);
    // Only its own domain may remove the back end's directory, and libxl waits for that.
    let left = storage.domid.clone();
    let left = storage.dom0(&format!(
        "xenstore-ls /local/domain/{left}/backend/qdisk 2>/dev/null || true"
    ));
    assert!(!left.contains("params"), "{left}");
    storage.destroy();
}

/// Data written and flushed by the guest is in the host's file, and the guest reads it back.
fn what_is_written_is_in_the_file(guest: &mut Guest<'_>) {
    guest.must(&format!(
        "{PATTERN} | dd of=/dev/xvda bs=64k iflag=fullblock conv=fsync 2>&1"
    ));
    let wanted = guest.dom0(&format!("{PATTERN} | md5sum"));
    let file = guest.dom0("head -c 8388608 /disks/a.img | md5sum");
    assert_eq!(file, wanted, "the host's file");
    guest.must("echo 3 >/proc/sys/vm/drop_caches");
    let read = guest.must("head -c 8388608 /dev/xvda | md5sum");
    assert_eq!(read, wanted, "what the guest reads");
    let rest = guest.must("tail -c 8388608 /dev/xvda | md5sum");
    let zeroes = guest.dom0("head -c 8388608 /dev/zero | md5sum");
    assert_eq!(rest, zeroes, "what was never written");
}

/// A qcow2 image over a backing file: what it had is read, and what is written stays.
fn an_image_is_a_disk(guest: &mut Guest<'_>) {
    let size = guest.must("blockdev --getsize64 /dev/xvdd");
    assert_eq!(size.trim(), "8388608");
    let read = guest.must("head -n 100 /dev/xvdd | md5sum");
    let wanted = guest.dom0("head -n 100 /guest/base.raw | md5sum");
    assert_eq!(read, wanted, "the backing file's");
    guest.must("dd if=/dev/urandom of=/random bs=64k count=20 2>&1");
    guest.must("dd if=/random of=/dev/xvdd bs=64k seek=8 conv=fsync 2>&1");
    guest.must("echo 3 >/proc/sys/vm/drop_caches");
    let written = guest.must("md5sum </random");
    let read = guest.must("dd if=/dev/xvdd bs=64k skip=8 count=20 2>/dev/null | md5sum");
    assert_eq!(read, written);
}

/// `xt-backend stats` tells of our disk and of the kernel's; `xentop` finds ours by QMP.
fn counters_are_told(guest: &mut Guest<'_>) {
    guest.must("dd if=/dev/xvdc of=/dev/null bs=64k count=16 2>&1");
    let table = guest.dom0("xt-backend stats");
    println!("{table}");
    let line = |name: &str| {
        let found = table.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("no {name} in {table}"))
    };
    assert!(line("xt-backend").contains("8.0 MiB"), "{table}");
    assert!(line("kernel").contains("connected"), "{table}");

    let json = guest.dom0("xt-backend stats --json");
    let devices: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let served_by = |who: &str| {
        let mut all = devices.as_array().expect("a list").iter();
        let device = all.find(|device| device["backend"] == who);
        &device.unwrap_or_else(|| panic!("nothing of {who}: {json}"))["queues"][0]
    };
    let counter = |who: &str, name: &str| served_by(who)["counters"][name].as_u64();
    assert!(
        counter("xt-backend", "write_bytes") >= Some(8 << 20),
        "{json}"
    );
    assert!(counter("xt-backend", "flush_requests") >= Some(1), "{json}");
    assert!(counter("kernel", "read_bytes") >= Some(1 << 20), "{json}");
    let latency = &served_by("xt-backend")["histograms"]["read_latency_ns"]["sum"];
    assert!(latency.as_u64() > Some(0), "{json}");

    // It gives up on an answer after 10 ms, which an emulated machine does not always keep.
    let top = guest.dom0(
        "for try in 1 2 3 4 5 6 7 8 9 10; do \
           xentop -b -x -d 1 -i 3 >/tmp/top; grep -v BlkBack /tmp/top | grep '^VBD' && break; \
         done; cat /tmp/top",
    );
    println!("{top}");
    let ours = |line: &&str| line.starts_with("VBD ") && !line.contains("BlkBack");
    let vbd = top.lines().find(ours);
    let vbd = vbd.unwrap_or_else(|| panic!("no disk of ours in {top}"));
    let written = vbd.split_once("WSECT:").map(|(_, rest)| rest.trim());
    let written = written.and_then(|rest| rest.split_whitespace().next());
    let written: Option<u64> = written.and_then(|sectors| sectors.parse().ok());
    assert!(written >= Some(16384), "{vbd}");
}

/// `xl block-attach` and `block-detach`.
fn disks_come_and_go(guest: &mut Guest<'_>) {
    for round in 0..2 {
        guest.dom0(
            "xl block-attach disks \
             'format=raw, vdev=xvdb, access=rw, backendtype=qdisk, target=/disks/b.img'",
        );
        guest.must("until [ -b /dev/xvdb ]; do sleep 0.1; done");
        assert_eq!(
            guest.must("blockdev --getsize64 /dev/xvdb").trim(),
            "8388608"
        );
        guest.must(&format!(
            "echo round {round} | dd of=/dev/xvdb conv=fsync 2>&1"
        ));
        let file = guest.dom0("head -n 1 /disks/b.img");
        assert_eq!(file.trim(), format!("round {round}"));
        println!("{}", guest.dom0("xl block-list disks"));
        guest.dom0("xl block-detach disks xvdb");
        guest.must("while [ -b /dev/xvdb ]; do sleep 0.1; done");
        let stats = guest.dom0("xt-backend stats");
        assert!(!stats.contains("xvdb"), "{stats}");
    }
}

/// The guest sees a pause, nothing else.
fn a_worker_that_is_killed_is_replaced(guest: &mut Guest<'_>) {
    let before = guest.dom0(WORKER);
    guest.dom0(&format!("kill -9 $({WORKER})"));
    // It reads what was written before, and writes.
    guest.must("echo 3 >/proc/sys/vm/drop_caches");
    let read = guest.must("head -c 8388608 /dev/xvda | md5sum");
    let wanted = guest.dom0(&format!("{PATTERN} | md5sum"));
    assert_eq!(read, wanted);
    guest.must("echo after the kill | dd of=/dev/xvda bs=1k seek=8192 conv=fsync 2>&1");
    let file = guest.dom0("tail -c +8388609 /disks/a.img | head -n 1");
    assert_eq!(file.trim(), "after the kill");
    assert_ne!(before, guest.dom0(WORKER), "another process serves now");
    let log = guest.dom0("cat /var/log/xen/qemu-dm-disks.log");
    println!("{log}");
    assert!(log.contains("starting it anew"), "{log}");
}

/// In the midst of writing, time and again.
fn a_worker_that_is_told_to_stop_loses_nothing(guest: &mut Guest<'_>) {
    let direct = "dd of=/dev/xvda bs=16k iflag=fullblock oflag=direct conv=fsync";
    guest.start(&format!("{PATTERN} | tr 0-9 9876543210 | {direct} 2>&1"));
    for _ in 0..3 {
        let before = guest.dom0(WORKER);
        guest.dom0(&format!("kill $({WORKER})"));
        guest.dom0(&format!(
            "until new=$({WORKER}); [ \"$new\" ] && [ \"$new\" != {} ]; do sleep 0.1; done",
            before.trim()
        ));
    }
    guest.finish();
    let wanted = guest.dom0(&format!("{PATTERN} | tr 0-9 9876543210 | md5sum"));
    let file = guest.dom0("head -c 8388608 /disks/a.img | md5sum");
    assert_eq!(file, wanted, "the host's file");
}

/// Killed in the midst of writing, time and again: what the worker had taken and not answered is
/// done by the next one, and the guest notices nothing.
fn a_worker_that_is_killed_loses_nothing(guest: &mut Guest<'_>) {
    // Several writers, so that answers overtake each other; one part of the pattern each.
    let part = |n: u32| {
        format!(
            "{PATTERN} | dd bs=64k iflag=fullblock skip={at} count=32 2>/dev/null | \
             dd of=/dev/xvda bs=16k iflag=fullblock oflag=direct,seek_bytes seek={place} 2>&1",
            at = 32 * n,
            place = (2 << 20) * n,
        )
    };
    let parts: Vec<_> = (0..4)
        .map(|n| format!("( {} ) || exit 1 & p{n}=$!", part(n)))
        .collect();
    guest.start(&format!(
        "{}; for p in $p0 $p1 $p2 $p3; do wait $p || exit; done; sync",
        parts.join("; ")
    ));
    // One that falls over five times in a row is given up.
    let mut kills = 0;
    while kills < 4 && !guest.is_done() {
        guest.dom0(&format!(
            "before=$({WORKER}); kill -9 $before; \
             until new=$({WORKER}); [ \"$new\" ] && [ \"$new\" != $before ]; do sleep 0.1; done"
        ));
        kills += 1;
    }
    guest.finish();
    println!("{kills} kills");
    let wanted = guest.dom0(&format!("{PATTERN} | md5sum"));
    let file = guest.dom0("head -c 8388608 /disks/a.img | md5sum");
    assert_eq!(file, wanted, "the host's file");
    guest.must("echo 3 >/proc/sys/vm/drop_caches");
    let read = guest.must("head -c 8388608 /dev/xvda | md5sum");
    assert_eq!(read, wanted, "what the guest reads");
    let devices: serde_json::Value =
        serde_json::from_str(&guest.dom0("xt-backend stats --json")).expect("JSON");
    assert_eq!(devices[0]["state"], "connected", "{devices}");
    assert!(devices[0]["error"].is_null(), "{devices}");
    // The note of what is in flight goes with the worker's orderly end only.
    let journal = format!("ls /run/xt-backend/journal/qdisk-{}-51712-0", guest.domid);
    guest.dom0(&journal);
}
