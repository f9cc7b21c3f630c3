//! What only HVM, only PV or only PVH domains have.

use crate::libxl::choice::{
    BiosType, GfxPassthruKind, Hdtype, RdmPolicy, RdmStrategy, SmbiosType, TimerMode, VendorDevice,
    VgaKind,
};
use crate::libxl::scalar::{Bitmap, Defbool, Genid, MemKb, structures};

structures! {
    /// `libxl_domain_build_info.u.hvm`.
    HvmInfo {
        /// Path of hvmloader.
        firmware: Option<String>,
        /// Firmware.
        bios: BiosType,
        /// PAE.
        pae: Defbool,
        /// Older place of [`BuildInfo::apic`](crate::libxl::BuildInfo::apic).
        apic: Defbool,
        /// Older place of [`BuildInfo::acpi`](crate::libxl::BuildInfo::acpi).
        acpi: Defbool,
        /// ACPI S3.
        acpi_s3: Defbool,
        /// ACPI S4.
        acpi_s4: Defbool,
        /// The laptop/slate switch of Windows.
        acpi_laptop_slate: Defbool,
        /// NX.
        nx: Defbool,
        /// The usual Viridian interfaces.
        viridian: Defbool,
        /// [`Viridian`](crate::libxl::Viridian) interfaces to add, by number.
        viridian_enable: Bitmap,
        /// Those to take away.
        viridian_disable: Bitmap,
        /// Older form of the clock's offset.
        timeoffset: Option<String>,
        /// A high precision event timer.
        hpet: Defbool,
        /// Timers aligned to one another.
        vpt_align: Defbool,
        /// Hole for memory-mapped I/O below 4 GiB.
        mmio_hole_memkb: MemKb,
        /// Older place of [`BuildInfo::timer_mode`](crate::libxl::BuildInfo::timer_mode).
        timer_mode: TimerMode,
        /// Older place of [`BuildInfo::nested_hvm`](crate::libxl::BuildInfo::nested_hvm).
        nested_hvm: Defbool,
        /// Older form of [`BuildInfo::altp2m`](crate::libxl::BuildInfo::altp2m).
        altp2m: Defbool,
        /// Path of the firmware's image.
        system_firmware: Option<String>,
        /// File with further SMBIOS tables.
        smbios_firmware: Option<String>,
        /// Strings of the SMBIOS tables, since Xen 4.18.
        smbios: Vec<Smbios>,
        /// File with further ACPI tables.
        acpi_firmware: Option<String>,
        /// Disk controller.
        hdtype: Hdtype,
        /// No graphics.
        nographic: Defbool,
        /// Graphics card.
        vga: Vga,
        /// VNC.
        vnc: Vnc,
        /// Keyboard layout.
        keymap: Option<String>,
        /// A window on the host.
        sdl: Sdl,
        /// SPICE.
        spice: Spice,
        /// A graphics card of the host's.
        gfx_passthru: Defbool,
        /// Its kind.
        gfx_passthru_kind: GfxPassthruKind,
        /// The first serial line.
        serial: Option<String>,
        /// Order of boot devices: letters of `acdn`.
        boot: Option<String>,
        /// An emulated USB controller.
        usb: Defbool,
        /// Version of USB: 1, 2 or 3.
        usbversion: i32,
        /// An emulated USB device.
        usbdevice: Option<String>,
        /// A paravirtualised keyboard.
        vkb_device: Defbool,
        /// Sound card.
        soundhw: Option<String>,
        /// The Xen platform device, by which drivers find Xen.
        xen_platform_pci: Defbool,
        /// Emulated USB devices.
        usbdevice_list: Vec<String>,
        /// For Windows' update service.
        vendor_device: VendorDevice,
        /// Generation id.
        ms_vm_genid: Genid,
        /// Serial lines.
        serial_list: Vec<String>,
        /// Reserved device memory.
        rdm: RdmReserve,
        /// Where memory below may move away for it.
        rdm_mem_boundary_memkb: MemKb,
        /// Machine check capabilities; bit 0 is local machine checks.
        mca_caps: u64,
        /// Interrupts by event channels (PIRQs), since Xen 4.19.
        pirq: Defbool,
        /// Whether the platform device's memory is uncached, since Xen 4.21.
        xenpci_bar_uc: Defbool,
    }

    /// `libxl_domain_build_info.u.pv`.
    PvInfo {
        /// Older place of [`BuildInfo::kernel`](crate::libxl::BuildInfo::kernel).
        kernel: Option<String>,
        /// Memory beyond the guest's.
        slack_memkb: MemKb,
        /// Older place of [`BuildInfo::bootloader`](crate::libxl::BuildInfo::bootloader).
        bootloader: Option<String>,
        /// Older place of its arguments.
        bootloader_args: Vec<String>,
        /// Older place of [`BuildInfo::cmdline`](crate::libxl::BuildInfo::cmdline).
        cmdline: Option<String>,
        /// Older place of [`BuildInfo::ramdisk`](crate::libxl::BuildInfo::ramdisk).
        ramdisk: Option<String>,
        /// Features the kernel must have.
        features: Option<String>,
        /// The host's memory map rather than a plain one.
        e820_host: Defbool,
    }

    /// `libxl_domain_build_info.u.pvh`.
    PvhInfo {
        /// Run a PV kernel in a Xen in the domain.
        pvshim: Defbool,
        /// Path of that Xen.
        pvshim_path: Option<String>,
        /// Its command line.
        pvshim_cmdline: Option<String>,
        /// What is added to it.
        pvshim_extra: Option<String>,
    }

    /// Graphics card.
    Vga {
        /// Kind.
        kind: VgaKind,
    }

    /// VNC server.
    Vnc {
        /// Whether there is one.
        enable: Defbool,
        /// Address, or address:display.
        listen: Option<String>,
        /// Password.
        passwd: Option<String>,
        /// Display, that is TCP port less 5900.
        display: i32,
        /// Look for a free display from there on.
        findunused: Defbool,
    }

    /// A window on the host.
    Sdl {
        /// Whether there is one.
        enable: Defbool,
        /// With OpenGL.
        opengl: Defbool,
        /// X display.
        display: Option<String>,
        /// Its cookie file.
        xauthority: Option<String>,
    }

    /// SPICE server.
    Spice {
        /// Whether there is one.
        enable: Defbool,
        /// TCP port.
        port: i32,
        /// TCP port with TLS.
        tls_port: i32,
        /// Address.
        host: Option<String>,
        /// Clients need no password.
        disable_ticketing: Defbool,
        /// Password.
        passwd: Option<String>,
        /// The mouse goes through the agent.
        agent_mouse: Defbool,
        /// A channel for the agent.
        vdagent: Defbool,
        /// Shared clipboard.
        clipboard_sharing: Defbool,
        /// How many USB devices of clients.
        usbredirection: i32,
        /// Compression of images.
        image_compression: Option<String>,
        /// Which videos are streamed.
        streaming_video: Option<String>,
    }

    /// Reserved device memory.
    RdmReserve {
        /// Of which devices.
        strategy: RdmStrategy,
        /// What if it cannot be had.
        policy: RdmPolicy,
    }

    /// A string of the SMBIOS tables.
    Smbios {
        /// Which.
        key: Option<SmbiosType>,
        /// The string.
        value: Option<String>,
    }
}
