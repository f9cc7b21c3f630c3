use xt_config::{Document, HVM_KEYS, keys};

use super::*;

fn spec(text: &str) -> DomainSpec {
    let text = format!("name = 'full'\ntype = 'hvm'\n{text}");
    let document: Document = xt_config::parse(&text, "g.cfg").unwrap();
    let keys = [keys::SPEC_KEYS, HVM_KEYS].concat();
    DomainSpec::from_document(&document, &keys).unwrap().value
}

fn line(text: &str, confined: Option<&Confined>) -> Result<String> {
    let spec = spec(&format!(
        "bios_path_override = '/bios'\nbios = 'seabios'\n{text}"
    ));
    let hvm = spec.hvm.as_deref().unwrap();
    let plan = Plan::new(&spec, hvm).unwrap();
    let nics: Vec<Nic> = (0..)
        .zip(&spec.vifs)
        .map(|(devid, nic)| Nic {
            spec: nic.clone(),
            devid,
            mac: nic.mac.unwrap().to_string(),
        })
        .collect();
    let words = arguments(DomId(9), &spec, hvm, &plan, &nics, confined)?;
    Ok(words.join(" "))
}

/// What `xl -vvv create` 4.17 says of the same file, but for the monitor's socket.
#[test]
fn the_same_as_libxl() {
    let ours = line(
        "memory = 192\nmaxmem = 384\nvcpus = 2\nmaxvcpus = 4\nboot = 'dc'\nvga = 'stdvga'\n\
         videoram = 16\nvnc = 1\nusb = 1\nusbdevice = [ 'tablet' ]\n\
         serial = [ 'pty', 'file:/run/s2.log' ]\n\
         disk = [ '/run/d.img,raw,hda,rw', '/run/d2.img,qcow2,xvdb,rw', \
         '/run/c.iso,raw,hdc,cdrom' ]\n\
         vif = [ 'mac=00:16:3e:01:02:03,bridge=xenbr0', \
         'mac=00:16:3e:01:02:04,bridge=xenbr0,type=vif' ]\n\
         soundhw = 'ac97'\nkeymap = 'en-us'\nmmio_hole = 512\n",
        None,
    )
    .unwrap();
    let xl = "-xen-domid 9 -no-shutdown \
        -chardev socket,id=libxl-cmd,fd=0,server=on,wait=off -mon chardev=libxl-cmd,mode=control \
        -chardev socket,id=libxenstat-cmd,path=/run/xen/qmp-libxenstat-9,server=on,wait=off \
        -mon chardev=libxenstat-cmd,mode=control -nodefaults -no-user-config -name full \
        -vnc 127.0.0.1:0,to=99 -display none -k en-us -device VGA,vgamem_mb=16 \
        -serial pty -serial file:/run/s2.log -boot order=dc -usb \
        -usbdevice tablet -device ac97 -smp 2,maxcpus=4 \
        -device rtl8139,id=nic0,netdev=net0,mac=00:16:3e:01:02:03 \
        -netdev type=tap,id=net0,ifname=vif9.0-emu,br=xenbr0,script=no,downscript=no \
        -machine xenfv,suppress-vmdesc=on,max-ram-below-4g=3758096384 -m 368 \
        -drive file=/run/d.img,if=ide,index=0,media=disk,format=raw,cache=writeback \
        -drive file=/run/d2.img,if=ide,index=1,media=disk,format=qcow2,cache=writeback \
        -drive if=none,readonly=on,id=ide-5632,file=/run/c.iso,format=raw \
        -device ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0";
    assert_eq!(ours, xl);
}

#[test]
fn a_kernel_given_directly_and_no_display() {
    let text = "kernel = '/k'\nramdisk = '/r'\nextra = 'quiet a,b'\nmemory = 256\n\
        nographic = 1\nvnc = 0\nvga = 'none'\n";
    let ours = line(text, None).unwrap();
    let wanted = "-vnc none -display none -nographic -kernel /k -initrd /r -append quiet a,b \
        -boot order=cda -net none -machine xenfv,suppress-vmdesc=on -m 256";
    assert!(ours.ends_with(wanted), "{ours}");
}

#[test]
fn a_confined_device_model() {
    let confined = Confined {
        uid: 7,
        gid: 8,
        root: "/run/xen/qemu-root-9".into(),
    };
    let ours = line("memory = 256\nvga = 'none'\n", Some(&confined)).unwrap();
    let wanted = "-xen-domid-restrict -chroot /run/xen/qemu-root-9 -runas 7:8 ";
    assert!(ours.contains(wanted), "{ours}");
    assert!(!ours.contains("vga") && !ours.contains("VGA"), "{ours}");
}

#[test]
fn disks_where_they_fit() {
    let disks =
        |more: &str, list: &str| line(&format!("memory = 256\n{more}disk = [{list}]\n"), None);
    let ours = disks("", "'/a,raw,sdb,w', '/c,raw,xvdf,w', '/d,raw,hdb,w'").unwrap();
    assert!(
        ours.contains("file=/a,if=scsi,bus=0,unit=1,format=raw"),
        "{ours}"
    );
    assert!(ours.contains("file=/d,if=ide,index=1,"), "{ours}");
    assert!(!ours.contains("/c"), "{ours}");
    let ours = disks(
        "hdtype = 'ahci'\n",
        "'/a,raw,hda,w', '/c.iso,raw,hdd,cdrom', ',raw,hdc,cdrom'",
    )
    .unwrap();
    assert!(
        ours.contains("-device ahci,id=ahci0 -drive file=/a,if=none,id=ahcidisk-0,"),
        "{ours}"
    );
    assert!(
        ours.contains("ide-hd,bus=ahci0.0,unit=0,drive=ahcidisk-0"),
        "{ours}"
    );
    assert!(
        ours.contains("id=ide-5696,file=/c.iso,format=raw"),
        "{ours}"
    );
    assert!(
        ours.contains("-drive if=none,readonly=on,id=ide-5632 -device"),
        "{ours}"
    );
    let error = disks("", "'/a,raw,hda,ro'").unwrap_err().to_string();
    assert!(
        error.contains("hda cannot be emulated: an emulated IDE disk"),
        "{error}"
    );
}

#[test]
fn usb_of_three_versions() {
    let usb = |text: &str| line(&format!("memory = 256\n{text}\n"), None).unwrap();
    assert!(!usb("usb = 0").contains("usb"));
    assert!(usb("usbdevice = 'tablet'").contains("-usb -usbdevice tablet"));
    assert!(usb("usbversion = 2").contains("firstport=4,bus=pci.0,addr=0x1d.0x2"));
    assert!(
        usb("usbversion = 3\nusbdevice = 'tablet'")
            .contains("nec-usb-xhci,id=xhci -usbdevice tablet")
    );
}

#[test]
fn vnc_as_it_is_asked_for() {
    let vnc = |text: &str| line(&format!("memory = 256\n{text}\n"), None).unwrap();
    assert!(vnc("vnc = 0").contains("-vnc none"));
    let ours = vnc("vnclisten = '0.0.0.0:3'\nvncpasswd = 'x'\nvncunused = 0");
    assert!(
        ours.contains("-vnc 0.0.0.0:3,password=on -display"),
        "{ours}"
    );
    assert!(vnc("vncdisplay = 5").contains("-vnc 127.0.0.1:5,to=99"));
}
