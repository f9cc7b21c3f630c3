//! Memory, CPUs, scheduling, boot and the other keys that all kinds of domains have.

use crate::cpuid::CpuidSpec;
use crate::diagnostic::SpecError;
use crate::document::Value;
use crate::domain::{Host, affinity, hvm};
use crate::libxl::{
    Altp2mMode, ArmInfo, ArmSci, ArmSciType, Bitmap, BuildInfo, CpuPolicy, DeviceModelVersion,
    DomainConfig, GicVersion, KindInfo, MemKb, PvInfo, PvhInfo, Quota, SchedParams, SveType,
    TeeType, TimerMode, TscMode, Tuning, Type, Unset32, VuartType, X86Info,
};
use crate::reader::Reader;
use crate::spec::cmdline;

/// More vCPUs than any kind of domain can have (HVM 128, PV 8192 in libxl's bitmaps).
const MOST_VCPUS: i64 = 8192;

pub(super) fn read(reader: &mut Reader<'_>, host: &Host, config: &mut DomainConfig) {
    let kind = config.c_info.kind;
    let info = &mut config.b_info;
    cpus_and_memory(reader, host, info);
    affinity::read(reader, host, info);
    limits(reader, host, info);
    clock(reader, kind, info);
    boot(reader, host, kind, info);
    device_model(reader, info);
    info.cpuid = cpuid(reader);
    info.exec_ssid_label = match reader.get("init_seclabel") {
        Some(_) => reader.owned("seclabel"),
        None => None,
    };
    info.blkdev_start = host.defaults.blkdev_start.clone();
    info.disable_migrate = reader.defbool("nomigrate");
    info.acpi = reader.defbool("acpi");
    info.nested_hvm = reader.defbool("nestedhvm");
    info.claim_mode = host.defaults.claim_mode.into();
    info.altp2m = altp2m(reader);
    info.altp2m_count = unset32(reader, "altp2m_count", "views");
    info.vmtrace_buf_kb = reader.number("vmtrace_buf_kb", 0..=i64::from(i32::MAX), "KiB");
    info.vpmu = reader.defbool("vpmu");
    info.tee = reader.libxl_name("tee", TeeType::NAMES).unwrap_or_default();
    info.arch_arm = arm(reader);
    info.arch_x86 = X86Info {
        msr_relaxed: reader.defbool("msr_relaxed"),
    };
    if reader.get("msr_relaxed").is_some() {
        let message = "msr_relaxed is to be removed from Xen.";
        reader.warn(
            "msr_relaxed",
            message,
            Some("Find out which MSR the guest needs.".into()),
        );
    }
    info.trap_unmapped_accesses = reader.defbool("trap_unmapped_accesses");
    info.xenstore_feature_mask = unset32(reader, "xenstore_feature_mask", "as a mask");
    info.xenstore_quota = reader.list("xenstore_quota", quota);
    info.kind = Some(match kind {
        Type::Hvm => KindInfo::Hvm(Box::new(hvm::read(reader))),
        Type::Pvh => KindInfo::Pvh(PvhInfo {
            pvshim: reader.defbool("pvshim"),
            pvshim_path: reader.owned("pvshim_path"),
            pvshim_cmdline: reader.owned("pvshim_cmdline"),
            pvshim_extra: reader.owned("pvshim_extra"),
        }),
        _ => KindInfo::Pv(PvInfo {
            e820_host: reader.defbool("e820_host"),
            ..PvInfo::default()
        }),
    });
    if kind == Type::Hvm {
        info.apic = reader.defbool("apic");
    }
}

fn unset32(reader: &mut Reader<'_>, key: &str, unit: &str) -> Unset32 {
    let number = reader.integer(key, 0..=i64::from(u32::MAX), unit);
    number
        .and_then(|n| u32::try_from(n).ok())
        .map(Unset32)
        .unwrap_or_default()
}

/// xl takes memory for its maximum and the reverse, and so with vCPUs; `vnuma` comes before that.
fn cpus_and_memory(reader: &mut Reader<'_>, host: &Host, info: &mut BuildInfo) {
    info.target_memkb = reader.mebibytes("memory");
    info.max_memkb = reader.mebibytes("maxmem");
    info.shadow_memkb = reader.mebibytes("shadow_memory");
    info.video_memkb = reader.mebibytes("videoram");
    let vcpus: u32 = reader.number("vcpus", 0..=MOST_VCPUS, "CPUs");
    info.max_vcpus = reader.number("maxvcpus", 0..=MOST_VCPUS, "CPUs");
    info.avail_vcpus = Bitmap::below(vcpus);
    affinity::read_vnuma(reader, host, info);
    if info.max_memkb == MemKb::UNSET {
        info.max_memkb = info.target_memkb;
    }
    let vcpus = i32::try_from(vcpus).unwrap_or(i32::MAX);
    if info.max_vcpus == 0 {
        info.max_vcpus = vcpus;
    }
    if info.max_vcpus < vcpus {
        let message = format!(
            "maxvcpus = {} is less than vcpus = {vcpus}.",
            info.max_vcpus
        );
        reader.error(
            "maxvcpus",
            message,
            "Raise maxvcpus, or remove it to make it equal.",
        );
    }
    let (target, most) = (info.target_memkb, info.max_memkb);
    if let (Some(target), Some(most)) = (target.get(), most.get())
        && most < target
    {
        let message = format!(
            "maxmem = {} is less than memory = {}.",
            most / 1024,
            target / 1024
        );
        reader.error(
            "maxmem",
            message,
            "Raise maxmem, or remove it to make it equal.",
        );
    }
}

fn limits(reader: &mut Reader<'_>, host: &Host, info: &mut BuildInfo) {
    let frames = |reader: &mut Reader<'_>, key, default: Option<u32>| {
        let number = reader.integer(key, 0..=i64::from(i32::MAX), "frames");
        let number = number.and_then(|n| u32::try_from(n).ok()).or(default);
        number.map(Unset32).unwrap_or_default()
    };
    let defaults = &host.defaults;
    info.max_grant_frames = frames(reader, "max_grant_frames", defaults.max_grant_frames);
    info.max_maptrack_frames = frames(reader, "max_maptrack_frames", defaults.max_maptrack_frames);
    let version = reader.integer("max_grant_version", 0..=i64::from(i32::MAX), "as version");
    info.max_grant_version = version
        .and_then(|n| i32::try_from(n).ok())
        .map(Tuning)
        .unwrap_or_default();
    info.event_channels = reader.number("max_event_channels", 0..=i64::from(u32::MAX), "channels");
    info.sched_params = SchedParams {
        weight: reader.tuning("cpu_weight", "as weight"),
        cap: reader.tuning("cap", "percent"),
        period: reader.tuning("period", "microseconds"),
        slice: reader.tuning("slice", "microseconds"),
        latency: reader.tuning("latency", "microseconds"),
        extratime: reader.tuning("extratime", "(0 or 1)"),
        ..SchedParams::default()
    };
}

fn clock(reader: &mut Reader<'_>, kind: Type, info: &mut BuildInfo) {
    info.localtime = reader.defbool("localtime");
    let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let offset: i32 = reader.number("rtc_timeoffset", range, "seconds");
    info.rtc_timeoffset = offset.cast_unsigned();
    info.tsc_mode = mode(reader, "tsc_mode", TscMode::NAMES);
    if reader.get("timer_mode").is_some() && kind == Type::Pv {
        let message = "timer_mode is not for PV domains.";
        reader.error(
            "timer_mode",
            message,
            "Remove it: PV domains have no emulated timers.",
        );
        return;
    }
    info.timer_mode = timer_mode(reader);
}

/// All but the first, which is libxl's own.
pub(crate) fn timer_mode(reader: &mut Reader<'_>) -> TimerMode {
    let modes = TimerMode::NAMES.get(1..).unwrap_or_default();
    mode(reader, "timer_mode", modes)
}

/// A name, or, deprecated, its place among the names.
fn mode<T: Copy + Default>(reader: &mut Reader<'_>, key: &str, names: &[(&str, T)]) -> T {
    let Some(number) = reader.get(key).and_then(|value| value.value.integer()) else {
        return reader.libxl_name(key, names).unwrap_or_default();
    };
    let found = usize::try_from(number).ok().and_then(|n| names.get(n));
    match found {
        Some((name, value)) => {
            let message = format!("{key} as a number is deprecated.");
            reader.warn(key, message, Some(format!("Write {key} = \"{name}\"")));
            *value
        }
        None => {
            let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let message = format!("{number} is no value for {key}.");
            reader.error(key, message, &format!("Known: {}.", all.join(", ")));
            T::default()
        }
    }
}

fn altp2m(reader: &mut Reader<'_>) -> Altp2mMode {
    let Some(number) = reader.get("altp2m").and_then(|value| value.value.integer()) else {
        return reader
            .libxl_name("altp2m", Altp2mMode::NAMES)
            .unwrap_or_default();
    };
    let found = usize::try_from(number)
        .ok()
        .and_then(|n| Altp2mMode::NAMES.get(n));
    if found.is_none() {
        let message = format!("{number} is no value for altp2m.");
        reader.error(
            "altp2m",
            message,
            "Known: disabled, mixed, external, limited.",
        );
    }
    found.map(|(_, mode)| *mode).unwrap_or_default()
}

fn boot(reader: &mut Reader<'_>, host: &Host, kind: Type, info: &mut BuildInfo) {
    info.kernel = reader.owned("kernel");
    info.ramdisk = reader.owned("ramdisk");
    info.device_tree = reader.owned("device_tree");
    info.cmdline = cmdline(reader);
    info.bootloader = reader.owned("bootloader");
    info.bootloader_args = bootloader_args(reader);
    info.bootloader_restrict = reader.defbool("bootloader_restrict");
    info.bootloader_user = reader.owned("bootloader_user");
    if kind == Type::Hvm {
        if let Some(kernel) = &info.kernel
            && kernel.rsplit('/').next() == Some("hvmloader")
        {
            let message = "kernel does not choose the firmware of an HVM domain.";
            let help = "Remove it; firmware_override names another hvmloader.";
            reader.warn("kernel", message, Some(help.into()));
            info.kernel = None;
        }
        return;
    }
    if let Some(firmware) = reader.string("firmware") {
        if info.kernel.is_some() {
            let message = "Both kernel and firmware are given.";
            reader.error("firmware", message, "Remove one of the two.");
        } else if ["pvgrub32", "pvgrub64"].contains(&firmware) {
            let directory = &host.defaults.firmware_directory;
            info.kernel = Some(format!("{directory}/{firmware}.bin"));
        } else {
            let message = "PV and PVH domains have two firmwares only: pvgrub32 and pvgrub64.";
            reader.error("firmware", message, "Name a kernel instead: kernel = \"…\"");
        }
    } else if info.kernel.is_none() && info.bootloader.is_none() {
        let help = "Name a kernel image: kernel = \"/boot/vmlinuz\", or a bootloader.";
        reader.error("kernel", "Neither kernel nor bootloader is given.", help);
    }
}

/// A list; a string is cut at its blanks.
fn bootloader_args(reader: &mut Reader<'_>) -> Vec<String> {
    if reader.get("bootloader_args").is_none() || reader.is_list("bootloader_args") {
        return reader.strings("bootloader_args");
    }
    let text = reader.string("bootloader_args").unwrap_or_default();
    let message = "bootloader_args as one string is deprecated.";
    reader.warn(
        "bootloader_args",
        message,
        Some("Write a list of arguments.".into()),
    );
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn device_model(reader: &mut Reader<'_>, info: &mut BuildInfo) {
    if reader.get("device_model").is_some() {
        let help = "device_model_override names another device model.";
        reader.warn(
            "device_model",
            "device_model is ignored.",
            Some(help.into()),
        );
    }
    let versions = [
        (
            "qemu-xen-traditional",
            DeviceModelVersion::QemuXenTraditional,
        ),
        ("qemu-xen", DeviceModelVersion::QemuXen),
    ];
    info.device_model = reader.owned("device_model_override");
    let version = reader.named("device_model_version", &versions);
    if info.device_model.is_some() && version.is_none() {
        let message = "device_model_override comes without device_model_version.";
        let help = "Add device_model_version = \"qemu-xen\"".to_owned();
        reader.warn("device_model_override", message, Some(help));
    }
    info.device_model_version = version.unwrap_or_default();
    info.device_model_stubdomain = reader.defbool("device_model_stubdomain_override");
    info.device_model_ssid_label = reader.owned("device_model_stubdomain_seclabel");
    info.device_model_user = reader.owned("device_model_user");
    info.stubdomain_kernel = reader.owned("stubdomain_kernel");
    info.stubdomain_cmdline = reader.owned("stubdomain_cmdline");
    info.stubdomain_ramdisk = reader.owned("stubdomain_ramdisk");
    info.stubdomain_memkb = reader.mebibytes("stubdomain_memory");
    info.extra = reader.strings("device_model_args");
    info.extra_pv = reader.strings("device_model_args_pv");
    info.extra_hvm = reader.strings("device_model_args_hvm");
    info.dm_restrict = reader.defbool("dm_restrict");
}

fn cpuid(reader: &mut Reader<'_>) -> CpuPolicy {
    let Some(Value::List(_)) = reader.get("cpuid").map(|value| &value.value) else {
        let spec = reader.parsed("cpuid", CpuidSpec::parse_libxl);
        return spec.as_ref().map(CpuPolicy::from).unwrap_or_default();
    };
    let mut spec = CpuidSpec::default();
    reader.list("cpuid", |line| spec.add_xend(line));
    CpuPolicy::from(&spec)
}

fn arm(reader: &mut Reader<'_>) -> ArmInfo {
    ArmInfo {
        gic_version: reader
            .libxl_name("gic_version", GicVersion::NAMES)
            .unwrap_or_default(),
        vuart: reader
            .libxl_name("vuart", VuartType::NAMES)
            .unwrap_or_default(),
        sve_vl: reader.libxl_name("sve", SveType::NAMES).unwrap_or_default(),
        nr_spis: unset32(reader, "nr_spis", "interrupts"),
        arm_sci: reader.parsed("arm_sci", |text| {
            let name = text.strip_prefix("type=").unwrap_or(text);
            let kind = crate::reader::libxl_name_of("arm_sci", name, ArmSciType::NAMES)?;
            Ok(ArmSci { kind })
        }),
    }
}

fn quota(text: &str) -> Result<Quota, SpecError> {
    let pair = crate::domain::pairs::Pair::whole(text)?;
    Ok(Quota {
        name: Some(pair.key.to_owned()),
        val: pair.number()?,
    })
}
