//! `xen_version` (version.h).

use xenner_guests::abi::*;
use xenner_guests::hypercall::{
    Arg, EFAULT, EINVAL, ENOSYS, EPERM, HYPERVISOR, OK, Ret, UNMAPPED, call2,
};
use xenner_guests::report::{eq, see, yes};

fn version(cmd: u32, arg: impl Arg) -> Ret {
    call2(__HYPERVISOR_xen_version, cmd, arg)
}

fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.split(|b| *b == 0).next().unwrap_or(&[]);
    text.len() < bytes.len() && text.iter().all(|b| (32..127).contains(b))
}

pub fn run() {
    let number = version(XENVER_version, 0);
    yes("version.version.major_is_4", number.0 >> 16 == 4);
    texts();
    let mut params = XenPlatformParameters::default();
    eq(
        "version.platform_parameters",
        version(XENVER_platform_parameters, &mut params),
        OK,
    );
    yes(
        "version.platform_parameters.virt_start",
        params.virt_start.0 == HYPERVISOR_VIRT_START,
    );
    features();
    eq("version.pagesize", version(XENVER_pagesize, 0), Ret(4096));
    eq(
        "version.commandline.null",
        version(XENVER_commandline, 0),
        EFAULT,
    );
    let mut id = [0u8; 64];
    eq("version.build_id.null", version(XENVER_build_id, 0), EPERM);
    eq("version.build_id", version(XENVER_build_id, &mut id), EPERM);
    eq("version.unknown", version(11, 0), ENOSYS);
    eq("version.unknown.large", version(u32::MAX, 0), ENOSYS);
    eq(
        "version.bad_pointer",
        version(XENVER_extraversion, UNMAPPED),
        EFAULT,
    );
    eq(
        "version.hypervisor_pointer",
        version(XENVER_extraversion, HYPERVISOR),
        EFAULT,
    );
    eq(
        "version.null_pointer",
        version(XENVER_capabilities, 0),
        EFAULT,
    );
}

fn texts() {
    let mut extra = [0xffu8; XEN_EXTRAVERSION_LEN];
    eq(
        "version.extraversion",
        version(XENVER_extraversion, &mut extra),
        OK,
    );
    yes("version.extraversion.text", is_text(&extra));
    let mut info = XenCompileInfo {
        compiler: [0xff; 64],
        compile_by: [0xff; 16],
        compile_domain: [0xff; 32],
        compile_date: [0xff; 32],
    };
    eq(
        "version.compile_info",
        version(XENVER_compile_info, &mut info),
        OK,
    );
    yes("version.compile_info.compiler", is_text(&info.compiler));
    yes(
        "version.compile_info.compile_date",
        is_text(&info.compile_date),
    );
    let mut caps = [0xffu8; XEN_CAPABILITIES_INFO_LEN];
    eq(
        "version.capabilities",
        version(XENVER_capabilities, &mut caps),
        OK,
    );
    yes("version.capabilities.text", is_text(&caps));
    yes(
        "version.capabilities.pv64",
        caps.windows(15).any(|w| w == b"xen-3.0-x86_64 "),
    );
    let mut changeset = [0xffu8; XEN_CHANGESET_INFO_LEN];
    eq(
        "version.changeset",
        version(XENVER_changeset, &mut changeset),
        OK,
    );
    yes("version.changeset.text", is_text(&changeset));
    let mut handle = [0u8; 16];
    eq(
        "version.guest_handle",
        version(XENVER_guest_handle, &mut handle),
        OK,
    );
    yes(
        "version.guest_handle.not_zero",
        handle.iter().any(|b| *b != 0),
    );
    let mut line = [0xffu8; XEN_COMMANDLINE_LEN];
    eq(
        "version.commandline",
        version(XENVER_commandline, &mut line),
        OK,
    );
    yes(
        "version.commandline.denied",
        line.starts_with(b"<denied>\0"),
    );
}

fn features() {
    let mut features = XenFeatureInfo::default();
    eq(
        "version.get_features",
        version(XENVER_get_features, &mut features),
        OK,
    );
    see(
        "version.get_features.submap",
        format_args!("{:#x}", features.submap),
    );
    features.submap_idx = XENFEAT_NR_SUBMAPS;
    eq(
        "version.get_features.no_such_submap",
        version(XENVER_get_features, &mut features),
        EINVAL,
    );
    eq(
        "version.get_features.bad_pointer",
        version(XENVER_get_features, UNMAPPED),
        EFAULT,
    );
}
