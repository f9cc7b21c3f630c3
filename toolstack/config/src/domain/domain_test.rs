use super::*;
use crate::document::parse;
use crate::libxl::Defbool;

fn read(text: &str, host: &Host) -> Checked<DomainConfig> {
    let document = parse(text, "f").unwrap();
    DomainConfig::from_document(&document, host).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn a_domain_without_uuid_gets_a_fresh_one() {
    let uuid = || {
        read("name='a'\nkernel='/k'", &Host::uniform(1))
            .value
            .c_info
            .uuid
            .unwrap()
    };
    assert_ne!(uuid(), uuid());
}

#[test]
fn xl_conf_sets_defaults() {
    let conf = "vif.default.bridge='br'\nvifscript='vs'\nvif.default.backend='be'\n\
                vif.default.gatewaydev='gw'\nclaim_mode=0\nrun_hotplug_scripts=0\n\
                max_grant_frames=10\nmax_maptrack_frames=20\nblkdev_start='xvdq'\n\
                autoballoon='off'";
    let mut host = Host::uniform(2);
    host.defaults = Defaults::from_document(&parse(conf, "xl.conf").unwrap()).unwrap();
    let text = "name='a'\nkernel='/k'\nmax_grant_frames=7\nvif=['','bridge=x']";
    let config = read(text, &host).value;
    let bridges = config.nics.iter().map(|nic| nic.bridge.as_deref().unwrap());
    assert_eq!(bridges.collect::<Vec<_>>(), ["br", "x"]);
    let nic = &config.nics[0];
    let texts = [&nic.script, &nic.backend_domname, &nic.gatewaydev];
    assert_eq!(texts.map(|t| t.as_deref().unwrap()), ["vs", "be", "gw"]);
    assert_eq!(config.b_info.max_grant_frames.get(), Some(7));
    assert_eq!(config.b_info.max_maptrack_frames.get(), Some(20));
    assert_eq!(config.b_info.claim_mode, Defbool(Some(false)));
    assert_eq!(config.c_info.run_hotplug_scripts, Defbool(Some(false)));
    assert_eq!(config.b_info.blkdev_start.as_deref(), Some("xvdq"));
    let wrong = parse("max_grant_frames='many'", "xl.conf").unwrap();
    let error = Defaults::from_document(&wrong).unwrap_err().to_string();
    assert!(error.starts_with("xl.conf:1:18: "), "{error}");
}

/// xl 4.17 cannot say: these came later.
#[test]
fn keys_of_later_releases() {
    let text = "name='a'\ntype='hvm'\nbootloader_restrict=1\nbootloader_user='u'\n\
                smbios=['bios_vendor=Me, Inc','oem=1']\nsve='512'\nhvm_pirq=1\nnr_spis=8\n\
                virtio=['type=virtio,device22,transport=mmio,grant_usage=1,backend=b']\n\
                llc_colors=['0-2','5']\naltp2m_count=4\narm_sci='type=scmi_smc'\n\
                trap_unmapped_accesses=0\nxenpci_bar_uc=0\nxenstore_feature_mask=3\n\
                xenstore_quota=['nodes=100']";
    let json = read(text, &Host::uniform(1)).value.to_json().unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let (info, hvm) = (&json["b_info"], &json["b_info"]["type.hvm"]);
    assert_eq!(info["bootloader_restrict"], "True");
    assert_eq!(info["bootloader_user"], "u");
    assert_eq!(hvm["smbios"][0]["key"], "bios_vendor");
    assert_eq!(hvm["smbios"][0]["value"], "Me, Inc");
    assert_eq!(info["arch_arm"]["sve_vl"], "512");
    assert_eq!(info["arch_arm"]["nr_spis"], 8);
    assert_eq!(info["arch_arm"]["arm_sci"]["type"], "scmi_smc");
    assert_eq!(hvm["pirq"], "True");
    assert_eq!(json["virtios"][0]["type"], "virtio,device22");
    assert_eq!(json["virtios"][0]["transport"], "mmio");
    assert_eq!(json["virtios"][0]["grant_usage"], "True");
    assert_eq!(info["llc_colors"], serde_json::json!([0, 1, 2, 5]));
    assert_eq!(info["altp2m_count"], 4);
    assert_eq!(info["trap_unmapped_accesses"], "False");
    assert_eq!(hvm["xenpci_bar_uc"], "False");
    assert_eq!(info["xenstore_feature_mask"], 3);
    assert_eq!(
        info["xenstore_quota"][0],
        serde_json::json!({"name": "nodes", "val": 100})
    );
}

#[test]
fn old_forms_are_warned_of() {
    for (line, message) in [
        ("builder='generic'\nvif2=['']", "vif2 is ignored"),
        ("device_model='x'", "device_model is ignored"),
        ("tsc_mode=1", "tsc_mode as a number is deprecated"),
        (
            "bootloader_args='a b'",
            "bootloader_args as one string is deprecated",
        ),
        (
            "cmdline='a'\nextra='b'",
            "extra is ignored in favour of cmdline",
        ),
        (
            "device_model_override='/q'",
            "comes without device_model_version",
        ),
        ("msr_relaxed=1", "to be removed"),
    ] {
        let text = format!("name='a'\nkernel='/k'\n{line}");
        let warnings = read(&text, &Host::uniform(1)).warnings;
        assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
        assert!(
            warnings[0].message.contains(message),
            "{line}: {warnings:?}"
        );
    }
    let hvm = "name='a'\ntype='hvm'\nkernel='/x/hvmloader'\naltp2mhvm=1\nbios_path_override='/b'";
    assert_eq!(read(hvm, &Host::uniform(1)).warnings.len(), 3);
}

#[test]
fn all_that_is_wrong_is_told_in_the_order_of_the_text() {
    let text = "name='a'\nkernel='/k'\nvif=['mac=x']\nirqs=['y']\nmemory='z'\nfoo=1";
    let document = parse(text, "f").unwrap();
    let errors = DomainConfig::from_document(&document, &Host::uniform(1)).unwrap_err();
    let lines = errors
        .errors
        .iter()
        .map(|e| e.location.as_ref().unwrap().line);
    assert_eq!(lines.collect::<Vec<_>>(), [3, 4, 5, 6]);
}
