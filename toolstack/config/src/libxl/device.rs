//! Devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::libxl::choice::{
    DiskBackend, DiskFormat, DiskSpecification, NicKind, RdmPolicy, UsbctrlType, VirtioTransport,
    VkbBackend,
};
use crate::libxl::hvm::{Sdl, Vnc};
use crate::libxl::scalar::{Defbool, DevId, structures};
use crate::vif::MacAddress;

structures! {
    /// A disk.
    Disk {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Image, block device, or what the script makes one of.
        pdev_path: Option<String>,
        /// The guest's name for it.
        vdev: Option<String>,
        /// Back end.
        backend: DiskBackend,
        /// Image format.
        format: DiskFormat,
        /// Program that makes a block device.
        script: Option<String>,
        /// 1 for media that can be taken out.
        removable: i32,
        /// 1 where the guest may write.
        readwrite: i32,
        /// 1 for a CD-ROM drive.
        is_cdrom: i32,
        /// O_DIRECT may be used.
        direct_io_safe: bool,
        /// Discard (TRIM).
        discard_enable: Defbool,
        /// Protocol.
        specification: DiskSpecification,
        /// How a virtio disk is found.
        transport: VirtioTransport,
        /// Interrupt of a virtio disk, set by libxl.
        irq: u32,
        /// Address of a virtio disk, set by libxl.
        base: u64,
        /// COLO replication.
        colo_enable: Defbool,
        /// COLO: this is the secondary.
        colo_restore_enable: Defbool,
        /// COLO: the secondary host.
        colo_host: Option<String>,
        /// COLO: its port.
        colo_port: i32,
        /// COLO: export name there.
        colo_export: Option<String>,
        /// COLO: where the secondary's writes go.
        active_disk: Option<String>,
        /// COLO: what the primary overwrote.
        hidden_disk: Option<String>,
        /// Whether the guest should trust the back end.
        trusted: Defbool,
        /// Whether a virtio disk uses grants, since Xen 4.18.
        grant_usage: Defbool,
    }

    /// A network interface.
    Nic {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// Maximum transmission unit in bytes; 0 is the default.
        mtu: i32,
        /// What is emulated.
        model: Option<String>,
        /// Address.
        mac: Option<MacAddress>,
        /// Addresses for the script.
        ip: Option<String>,
        /// Bridge.
        bridge: Option<String>,
        /// Name of the interface on the host.
        ifname: Option<String>,
        /// Script that configures it.
        script: Option<String>,
        /// How the guest sees it.
        nictype: NicKind,
        /// Bytes it may send in one interval; 0 is no limit.
        rate_bytes_per_interval: u64,
        /// The interval in microseconds.
        rate_interval_usecs: u32,
        /// Host interface for the routing script.
        gatewaydev: Option<String>,
        /// COLO replication.
        #[serde(flatten)]
        colo: NicColo,
        /// Whether the guest should trust the back end.
        trusted: Defbool,
    }

    /// A host PCI device.
    Pci {
        /// Function.
        func: u8,
        /// Device.
        dev: u8,
        /// Bus.
        bus: u8,
        /// Segment.
        domain: i32,
        /// Wanted slot and function in the guest; 0 is any.
        vdevfn: u32,
        /// Bit for each function, where there are several.
        vfunc_mask: u32,
        /// MSI is translated to INTx.
        msitranslate: bool,
        /// Power management.
        power_mgmt: bool,
        /// The guest may write all of the configuration space.
        permissive: bool,
        /// Taken from its driver.
        seize: bool,
        /// Reserved device memory.
        rdm_policy: RdmPolicy,
        /// Name in the host's list of assignable devices.
        name: Option<String>,
    }

    /// Reserved device memory.
    Rdm {
        /// Address.
        start: u64,
        /// Bytes.
        size: u64,
        /// What if it cannot be had.
        policy: RdmPolicy,
    }

    /// A host device of the device tree.
    Dtdev {
        /// Its path there.
        path: Option<String>,
    }

    /// A frame buffer.
    Vfb {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// VNC.
        vnc: Vnc,
        /// A window.
        sdl: Sdl,
        /// Keyboard layout.
        keymap: Option<String>,
    }

    /// Keyboard, pointer, touch screen.
    Vkb {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// Back end.
        backend_type: VkbBackend,
        /// Name for the back end to know it by.
        unique_id: Option<String>,
        /// No keyboard.
        feature_disable_keyboard: bool,
        /// No pointer.
        feature_disable_pointer: bool,
        /// Absolute coordinates.
        feature_abs_pointer: bool,
        /// Absolute coordinates, not scaled.
        feature_raw_pointer: bool,
        /// Touches.
        feature_multi_touch: bool,
        /// Largest x.
        width: u32,
        /// Largest y.
        height: u32,
        /// Largest x of a touch.
        multi_touch_width: u32,
        /// Largest y of a touch.
        multi_touch_height: u32,
        /// Touches at a time.
        multi_touch_num_contacts: u32,
    }

    /// A virtio device whose back end the toolstack does not start.
    Virtio {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Kind, as in a device tree: `virtio,deviceN`.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// How it is found.
        transport: VirtioTransport,
        /// Whether it uses grants.
        grant_usage: Defbool,
        /// Number.
        devid: DevId,
        /// Interrupt, set by libxl.
        irq: u32,
        /// Address, set by libxl.
        base: u64,
    }

    /// A virtual TPM.
    Vtpm {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// Which TPM.
        uuid: Option<Uuid>,
    }

    /// A shared directory (9pfs).
    P9 {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// The guest's name for it.
        tag: Option<String>,
        /// Directory.
        path: Option<String>,
        /// Whose rights count.
        security_model: Option<String>,
        /// Number.
        devid: DevId,
    }

    /// Socket calls made in the back end's domain.
    Pvcalls {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
    }

    /// A display.
    Vdispl {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// The back end allocates buffers.
        be_alloc: bool,
        /// Screens.
        connectors: Vec<Connector>,
    }

    /// A screen.
    Connector {
        /// Name for the back end to know it by.
        unique_id: Option<String>,
        /// Pixels in a line.
        width: u32,
        /// Lines.
        height: u32,
    }

    /// A console with a name.
    Channel {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// Name.
        name: Option<String>,
        /// The other end.
        #[serde(flatten)]
        connection: Option<Connection>,
    }

    /// A Unix socket.
    Socket {
        /// Path.
        path: Option<String>,
    }

    /// A USB controller.
    UsbController {
        /// Kind.
        #[serde(rename = "type")]
        kind: UsbctrlType,
        /// Number.
        devid: DevId,
        /// Version of USB: 1, 2 or 3; 0 is the default.
        version: i32,
        /// Ports; 0 is the default.
        ports: i32,
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
    }

    /// A USB device.
    UsbDevice {
        /// Number of the controller; any where not set.
        ctrl: DevId,
        /// Port of the controller; 0 is any.
        port: i32,
        /// A device of the host's.
        #[serde(rename = "type.hostdev")]
        hostdev: Option<Hostdev>,
        /// The same where the xl.cfg names no `type`. libxl takes it for a host's device, but its
        /// JSON does not have it.
        #[serde(skip)]
        untyped: Option<Hostdev>,
    }

    /// A USB device of the host's.
    Hostdev {
        /// Bus.
        hostbus: u8,
        /// Address on it.
        hostaddr: u8,
    }
}

/// The other end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connection {
    /// None given.
    #[serde(rename = "connection.unknown")]
    Unknown {},
    /// A pseudo-terminal.
    #[serde(rename = "connection.pty")]
    Pty {},
    /// A listening Unix socket.
    #[serde(rename = "connection.socket")]
    Socket(Socket),
}

/// The COLO parameters of a network interface, by name. There is no structure in them: all are
/// strings that the device model takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicColo(pub BTreeMap<&'static str, String>);

impl NicColo {
    /// Every parameter, in libxl's order, with the name that an xl.cfg has for it where that is
    /// another.
    pub const NAMES: &'static [&'static str] = &[
        "coloft_forwarddev",
        "colo_sock_mirror_id",
        "colo_sock_mirror_ip",
        "colo_sock_mirror_port",
        "colo_sock_compare_pri_in_id",
        "colo_sock_compare_pri_in_ip",
        "colo_sock_compare_pri_in_port",
        "colo_sock_compare_sec_in_id",
        "colo_sock_compare_sec_in_ip",
        "colo_sock_compare_sec_in_port",
        "colo_sock_compare_notify_id",
        "colo_sock_compare_notify_ip",
        "colo_sock_compare_notify_port",
        "colo_sock_redirector0_id",
        "colo_sock_redirector0_ip",
        "colo_sock_redirector0_port",
        "colo_sock_redirector1_id",
        "colo_sock_redirector1_ip",
        "colo_sock_redirector1_port",
        "colo_sock_redirector2_id",
        "colo_sock_redirector2_ip",
        "colo_sock_redirector2_port",
        "colo_filter_mirror_queue",
        "colo_filter_mirror_outdev",
        "colo_filter_redirector0_queue",
        "colo_filter_redirector0_indev",
        "colo_filter_redirector0_outdev",
        "colo_filter_redirector1_queue",
        "colo_filter_redirector1_indev",
        "colo_filter_redirector1_outdev",
        "colo_compare_pri_in",
        "colo_compare_sec_in",
        "colo_compare_out",
        "colo_compare_notify_dev",
        "colo_sock_sec_redirector0_id",
        "colo_sock_sec_redirector0_ip",
        "colo_sock_sec_redirector0_port",
        "colo_sock_sec_redirector1_id",
        "colo_sock_sec_redirector1_ip",
        "colo_sock_sec_redirector1_port",
        "colo_filter_sec_redirector0_queue",
        "colo_filter_sec_redirector0_indev",
        "colo_filter_sec_redirector0_outdev",
        "colo_filter_sec_redirector1_queue",
        "colo_filter_sec_redirector1_indev",
        "colo_filter_sec_redirector1_outdev",
        "colo_filter_sec_rewriter0_queue",
        "colo_checkpoint_host",
        "colo_checkpoint_port",
    ];

    /// libxl's name of what a `vif` string calls `key`.
    pub fn name(key: &str) -> Option<&'static str> {
        let wanted = if key == "forwarddev" {
            "coloft_forwarddev"
        } else {
            key
        };
        Self::NAMES
            .iter()
            .copied()
            .find(|name| *name == wanted && key != "coloft_forwarddev")
    }
}

impl crate::libxl::Field for NicColo {
    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for NicColo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let set = Self::NAMES
            .iter()
            .filter_map(|name| Some((name, self.0.get(name)?)));
        serializer.collect_map(set)
    }
}

impl<'de> Deserialize<'de> for NicColo {
    /// From a structure that it is a part of: other keys are not its business.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let known = all.into_iter().filter_map(|(key, value)| {
            let name = Self::NAMES.iter().copied().find(|name| *name == key)?;
            Some((name, value.as_str()?.to_owned()))
        });
        Ok(NicColo(known.collect()))
    }
}
