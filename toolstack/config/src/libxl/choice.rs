//! The enumerations of libxl that a domain's configuration uses.

use crate::libxl::scalar::enumerations;

enumerations! {
    /// Kinds of domains.
    Type {
        /// None was given; never so in a configuration that was read from an xl.cfg.
        Invalid = "invalid",
        /// Hardware-assisted with a device model.
        Hvm = "hvm",
        /// Paravirtualised.
        Pv = "pv",
        /// Hardware-assisted without a device model.
        Pvh = "pvh",
    }

    /// What to do with a domain that has ended.
    ActionOnShutdown {
        /// Remove it.
        Destroy = "destroy",
        /// Remove it and start it anew.
        Restart = "restart",
        /// Keep it under another name and start it anew.
        RestartRename = "restart_rename",
        /// Keep it as it is.
        Preserve = "preserve",
        /// Write a core dump, then remove it.
        CoredumpDestroy = "coredump_destroy",
        /// Write a core dump, then start it anew.
        CoredumpRestart = "coredump_restart",
        /// Reset Xen's interfaces and let it go on.
        SoftReset = "soft_reset",
    }

    /// How devices are assigned.
    Passthrough {
        /// As the devices of the configuration need it.
        Default = "default",
        /// Not at all.
        Disabled = "disabled",
        /// With whichever page tables fit.
        Enabled = "enabled",
        /// The IOMMU has page tables of its own.
        SyncPt = "sync_pt",
        /// The IOMMU uses those of the CPU.
        SharePt = "share_pt",
    }

    /// What RDTSC does.
    TscMode {
        /// Native where the frequency is right and TSCs agree.
        Default = "default",
        /// Always emulated.
        AlwaysEmulate = "always_emulate",
        /// Never emulated.
        Native = "native",
        /// Native, with TSC_AUX telling the guest of migrations. Gone since Xen 4.15.
        NativeParavirt = "native_paravirt",
    }

    /// What becomes of timer ticks that an HVM guest missed.
    TimerMode {
        /// libxl chooses.
        Unknown = "unknown",
        /// Virtual time stands still while the guest does not run.
        DelayForMissedTicks = "delay_for_missed_ticks",
        /// All are delivered.
        NoDelayForMissedTicks = "no_delay_for_missed_ticks",
        /// None is delivered.
        NoMissedTicksPending = "no_missed_ticks_pending",
        /// One is delivered.
        OneMissedTickPending = "one_missed_tick_pending",
    }

    /// Generations of device models.
    DeviceModelVersion {
        /// libxl chooses.
        Unknown = "unknown",
        /// Xen's old fork of QEMU.
        QemuXenTraditional = "qemu_xen_traditional",
        /// QEMU.
        QemuXen = "qemu_xen",
    }

    /// Firmware of an HVM guest.
    BiosType {
        /// libxl chooses.
        Unknown = "unknown",
        /// Of the old device model.
        Rombios = "rombios",
        /// SeaBIOS.
        Seabios = "seabios",
        /// UEFI.
        Ovmf = "ovmf",
    }

    /// Graphics cards of an HVM guest.
    VgaKind {
        /// libxl chooses.
        Unknown = "unknown",
        /// Cirrus Logic GD5446.
        Cirrus = "cirrus",
        /// VESA.
        Std = "std",
        /// None.
        None = "none",
        /// QXL, for SPICE.
        Qxl = "qxl",
    }

    /// Emulated disk controllers of an HVM guest.
    Hdtype {
        /// IDE.
        Ide = "ide",
        /// AHCI.
        Ahci = "ahci",
    }

    /// Kinds of graphics cards that are passed through.
    GfxPassthruKind {
        /// Found out by the card's vendor and device.
        Default = "default",
        /// Intel's integrated ones.
        Igd = "igd",
    }

    /// A PCI device that Windows' update service knows drivers for.
    VendorDevice {
        /// None.
        None = "none",
        /// That of XenServer.
        Xenserver = "xenserver",
    }

    /// Which devices' reserved memory the guest's memory map heeds.
    RdmStrategy {
        /// Of no device.
        Ignore = "ignore",
        /// Of all devices of the host.
        Host = "host",
    }

    /// What happens when reserved memory cannot be had.
    RdmPolicy {
        /// libxl chooses.
        Invalid = "invalid",
        /// The device is refused.
        Strict = "strict",
        /// A line in the log.
        Relaxed = "relaxed",
    }

    /// Viridian (Hyper-V) interfaces offered to a guest.
    Viridian {
        /// Hypercall MSRs, APIC MSRs, virtual processor index.
        Base = "base",
        /// Frequency MSRs.
        Freq = "freq",
        /// The reference counter.
        TimeRefCount = "time_ref_count",
        /// The reference TSC page.
        ReferenceTsc = "reference_tsc",
        /// TLB flush by hypercall.
        HcallRemoteTlbFlush = "hcall_remote_tlb_flush",
        /// The APIC assist page.
        ApicAssist = "apic_assist",
        /// Crash MSRs.
        CrashCtl = "crash_ctl",
        /// The synthetic interrupt controller.
        Synic = "synic",
        /// Synthetic timers.
        Stimer = "stimer",
        /// IPI by hypercall.
        HcallIpi = "hcall_ipi",
        /// Sets of more than 64 processors.
        ExProcessorMasks = "ex_processor_masks",
        /// More than 64 processors.
        NoVpLimit = "no_vp_limit",
        /// Hot plugging of processors.
        CpuHotplug = "cpu_hotplug",
    }

    /// Whether a guest may change between views of its memory, and who may.
    Altp2mMode {
        /// Nobody.
        Disabled = "disabled",
        /// The guest and tools outside.
        Mixed = "mixed",
        /// Tools outside.
        External = "external",
        /// Tools outside; the guest switches views only.
        Limited = "limited",
    }

    /// Schedulers.
    Scheduler {
        /// That of the domain's CPU pool.
        Unknown = "unknown",
        /// Gone.
        Sedf = "sedf",
        /// Credit.
        Credit = "credit",
        /// Credit2.
        Credit2 = "credit2",
        /// ARINC 653.
        Arinc653 = "arinc653",
        /// RTDS.
        Rtds = "rtds",
        /// None: a CPU for each vCPU.
        Null = "null",
    }

    /// Versions of ARM's interrupt controller.
    GicVersion {
        /// That of the host.
        Default = "default",
        /// GICv2.
        V2 = "v2",
        /// GICv3.
        V3 = "v3",
    }

    /// Emulated UARTs on ARM.
    VuartType {
        /// None.
        Unknown = "unknown",
        /// SBSA.
        SbsaUart = "sbsa_uart",
    }

    /// Trusted execution environments on ARM.
    TeeType {
        /// None.
        None = "none",
        /// OP-TEE.
        Optee = "optee",
        /// Firmware framework, since Xen 4.18.
        Ffa = "ffa",
    }

    /// Largest vector length in bits of ARM's SVE.
    SveType {
        /// No SVE.
        Disabled = "disabled",
        /// That of the hardware.
        Hw = "hw",
        /// 128 bits.
        V128 = "128",
        /// 256 bits.
        V256 = "256",
        /// 384 bits.
        V384 = "384",
        /// 512 bits.
        V512 = "512",
        /// 640 bits.
        V640 = "640",
        /// 768 bits.
        V768 = "768",
        /// 896 bits.
        V896 = "896",
        /// 1024 bits.
        V1024 = "1024",
        /// 1152 bits.
        V1152 = "1152",
        /// 1280 bits.
        V1280 = "1280",
        /// 1408 bits.
        V1408 = "1408",
        /// 1536 bits.
        V1536 = "1536",
        /// 1664 bits.
        V1664 = "1664",
        /// 1792 bits.
        V1792 = "1792",
        /// 1920 bits.
        V1920 = "1920",
        /// 2048 bits.
        V2048 = "2048",
    }

    /// System control interfaces on ARM, since Xen 4.21.
    ArmSciType {
        /// None.
        None = "none",
        /// SCMI over SMC, one agent.
        ScmiSmc = "scmi_smc",
    }

    /// Image formats of disks.
    DiskFormat {
        /// None given.
        Unknown = "unknown",
        /// QEMU's old format.
        Qcow = "qcow",
        /// QEMU's format.
        Qcow2 = "qcow2",
        /// Microsoft's and Citrix' format.
        Vhd = "vhd",
        /// The bytes as they are.
        Raw = "raw",
        /// A drive without medium.
        Empty = "empty",
        /// QEMU's enhanced disk.
        Qed = "qed",
        /// VMware's format. Not a word of libxl's.
        Vmdk = "vmdk",
    }

    /// Back ends of disks.
    DiskBackend {
        /// The toolstack chooses.
        Unknown = "unknown",
        /// The kernel's blkback.
        Phy = "phy",
        /// blktap, gone.
        Tap = "tap",
        /// QEMU.
        Qdisk = "qdisk",
        /// One that the toolstack does not start.
        Standalone = "standalone",
    }

    /// Protocols between guest and disk back end.
    DiskSpecification {
        /// None given.
        Unknown = "unknown",
        /// blkif.
        Xen = "xen",
        /// virtio-blk.
        Virtio = "virtio",
    }

    /// How a virtio device is found.
    VirtioTransport {
        /// None given.
        Unknown = "unknown",
        /// By the device tree.
        Mmio = "mmio",
        /// On a PCI bus, since Xen 4.20.
        Pci = "pci",
    }

    /// How an HVM guest sees a network interface.
    NicKind {
        /// None given.
        Unknown = "unknown",
        /// Emulated and paravirtualised.
        VifIoemu = "vif_ioemu",
        /// Paravirtualised only.
        Vif = "vif",
    }

    /// Back ends of keyboard and mouse.
    VkbBackend {
        /// None given.
        Unknown = "unknown",
        /// QEMU.
        Qemu = "qemu",
        /// A daemon of the back end's domain.
        Linux = "linux",
    }

    /// Kinds of USB controllers.
    UsbctrlType {
        /// By the domain's type.
        Auto = "auto",
        /// Paravirtualised, the kernel's back end.
        Pv = "pv",
        /// Emulated.
        Devicemodel = "devicemodel",
        /// Paravirtualised, QEMU's back end.
        Qusb = "qusb",
    }

    /// Formats of sound samples.
    PcmFormat {
        /// Signed 8 bits.
        S8 = "s8",
        /// Unsigned 8 bits.
        U8 = "u8",
        /// Signed 16 bits, little endian.
        S16Le = "s16_le",
        /// Signed 16 bits, big endian.
        S16Be = "s16_be",
        /// Unsigned 16 bits, little endian.
        U16Le = "u16_le",
        /// Unsigned 16 bits, big endian.
        U16Be = "u16_be",
        /// Signed 24 bits, little endian.
        S24Le = "s24_le",
        /// Signed 24 bits, big endian.
        S24Be = "s24_be",
        /// Unsigned 24 bits, little endian.
        U24Le = "u24_le",
        /// Unsigned 24 bits, big endian.
        U24Be = "u24_be",
        /// Signed 32 bits, little endian.
        S32Le = "s32_le",
        /// Signed 32 bits, big endian.
        S32Be = "s32_be",
        /// Unsigned 32 bits, little endian.
        U32Le = "u32_le",
        /// Unsigned 32 bits, big endian.
        U32Be = "u32_be",
        /// Float of 32 bits, little endian.
        F32Le = "f32_le",
        /// Float of 32 bits, big endian.
        F32Be = "f32_be",
        /// Float of 64 bits, little endian.
        F64Le = "f64_le",
        /// Float of 64 bits, big endian.
        F64Be = "f64_be",
        /// S/PDIF subframes, little endian.
        Iec958SubframeLe = "iec958_subframe_le",
        /// S/PDIF subframes, big endian.
        Iec958SubframeBe = "iec958_subframe_be",
        /// µ-law.
        MuLaw = "mu_law",
        /// A-law.
        ALaw = "a_law",
        /// IMA ADPCM.
        ImaAdpcm = "ima_adpcm",
        /// MPEG.
        Mpeg = "mpeg",
        /// GSM.
        Gsm = "gsm",
    }

    /// Directions of a sound stream.
    StreamType {
        /// Playback.
        P = "p",
        /// Capture.
        C = "c",
    }

    /// Strings in the SMBIOS tables of an HVM guest.
    SmbiosType {
        /// Type 0.
        BiosVendor = "bios_vendor",
        /// Type 0.
        BiosVersion = "bios_version",
        /// Type 1.
        SystemManufacturer = "system_manufacturer",
        /// Type 1.
        SystemProductName = "system_product_name",
        /// Type 1.
        SystemVersion = "system_version",
        /// Type 1.
        SystemSerialNumber = "system_serial_number",
        /// Type 2.
        BaseboardManufacturer = "baseboard_manufacturer",
        /// Type 2.
        BaseboardProductName = "baseboard_product_name",
        /// Type 2.
        BaseboardVersion = "baseboard_version",
        /// Type 2.
        BaseboardSerialNumber = "baseboard_serial_number",
        /// Type 2.
        BaseboardAssetTag = "baseboard_asset_tag",
        /// Type 2.
        BaseboardLocationInChassis = "baseboard_location_in_chassis",
        /// Type 3.
        EnclosureManufacturer = "enclosure_manufacturer",
        /// Type 3.
        EnclosureSerialNumber = "enclosure_serial_number",
        /// Type 3.
        EnclosureAssetTag = "enclosure_asset_tag",
        /// Type 22.
        BatteryManufacturer = "battery_manufacturer",
        /// Type 22.
        BatteryDeviceName = "battery_device_name",
        /// Type 11, up to 99 of them.
        Oem = "oem",
    }
}
