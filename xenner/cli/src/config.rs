//! From an xl.cfg to a [`DomainSpec`].

use std::path::Path;

use xt_config::effect::Target;
use xt_config::{Diagnostic, DomainType};

use crate::devices::{disk, nic};
use crate::image;
use crate::machine::StartError;
use crate::spec::{Action, DomainSpec, Kernel, MemorySize};

/// The largest configuration file read.
const MAX_CONFIG: u64 = 1 << 20;

/// Of the keys of a specification, those not acted on: they are warned of, like others that xl
/// knows.
pub const IDLE: [&str; 6] = [
    "on_soft_reset",
    "max_grant_frames",
    "max_maptrack_frames",
    "max_grant_version",
    "max_event_channels",
    "serial",
];

/// What the command line sets anyway, so that the file need not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// The name.
    pub name: bool,
    /// The kernel.
    pub kernel: bool,
}

/// Reads the configuration file `path` and then `settings`, each `key=value`, and returns what
/// they ask for, and warnings.
pub fn load(
    path: &Path,
    settings: &[String],
    given: Given,
) -> Result<(DomainSpec, Vec<String>), StartError> {
    let bytes = image::read(path, MAX_CONFIG).map_err(|error| {
        StartError::Config(format!("Cannot read the configuration {path:?}: {error}"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        StartError::Config(format!(
            "The configuration {path:?} is no text: byte {at} is not UTF-8"
        ))
    })?;
    read(&text, &path.display().to_string(), settings, given)
}

/// As [`load`], with the file's text.
fn read(
    text: &str,
    file: &str,
    settings: &[String],
    given: Given,
) -> Result<(DomainSpec, Vec<String>), StartError> {
    let refused = |errors: xt_config::ConfigErrors| StartError::Config(errors.to_string());
    let document = xt_config::parse_with_overrides(text, file, settings).map_err(refused)?;
    let needed = |key: &&str| match *key {
        key if IDLE.contains(&key) => false,
        "name" => !given.name || document.get("name").is_some(),
        "kernel" => !given.kernel || document.get("kernel").is_some(),
        _ => true,
    };
    let keys = xt_config::keys::SPEC_KEYS.iter().copied();
    let acted_on: Vec<_> = keys.filter(needed).collect();
    let checked =
        xt_config::DomainSpec::for_target(&document, &acted_on, Target::Kvm).map_err(refused)?;
    let warnings = checked.warnings.iter().map(Diagnostic::to_string).collect();
    let spec = convert(checked.value).map_err(|error| {
        let key = match error.key {
            "type" if document.get("type").is_none() => "builder",
            key => key,
        };
        let error = document.error_at(key, error.message, error.help);
        StartError::Config(error.to_string())
    })?;
    Ok((spec, warnings))
}

/// A setting that xl knows and xenner cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Unusable {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub help: Option<String>,
}

fn unusable(key: &'static str, message: String) -> Unusable {
    let help = None;
    Unusable { key, message, help }
}

/// Says what `config` asks for in xenner's terms.
///
/// # Errors
/// What xenner cannot do: guests other than PV, devices it has no back end for, a soft reset.
pub fn convert(config: xt_config::DomainSpec) -> Result<DomainSpec, Unusable> {
    if config.domain_type != DomainType::Pv {
        return Err(Unusable {
            key: "type",
            message: format!(
                "xenner runs PV guests only, and this one is {}.",
                config.domain_type
            ),
            help: Some("Set type = \"pv\" if the kernel has Xen PV notes.".to_owned()),
        });
    }
    let mut spec = DomainSpec::new(config.name);
    if let Some(uuid) = config.uuid {
        spec.uuid = uuid;
    }
    if let Some(kernel) = config.kernel {
        spec.kernel = Kernel::File(kernel);
    }
    spec.ramdisk = config.ramdisk;
    spec.cmdline = config.cmdline.unwrap_or_default();
    (spec.memory, spec.maxmem) = (mib(config.memory_mib), mib(config.max_memory_mib));
    (spec.vcpus, spec.maxvcpus) = (config.vcpus, config.max_vcpus);
    spec.cpuid = config.cpuid;
    for disk in &config.disks {
        // Refused here, where the place is known.
        disk::medium(disk).map_err(|message| unusable("disk", message))?;
    }
    spec.devices.disks = config.disks;
    for (place, vif) in (0..).zip(&config.vifs) {
        let card = nic::of_vif(vif, vif.devid.unwrap_or(place));
        let card = card.map_err(|message| unusable("vif", message))?;
        spec.devices.nics.push(card);
    }
    let on = config.on;
    let actions = &mut spec.actions;
    for (field, action, key) in [
        (&mut actions.on_poweroff, on.poweroff, "on_poweroff"),
        (&mut actions.on_reboot, on.reboot, "on_reboot"),
        (&mut actions.on_crash, on.crash, "on_crash"),
        (&mut actions.on_watchdog, on.watchdog, "on_watchdog"),
    ] {
        *field = convert_action(action).ok_or_else(|| {
            let message = format!("{key} can't be soft-reset here.");
            let help = Some("Use restart.".to_owned());
            Unusable { key, message, help }
        })?;
    }
    Ok(spec)
}

/// An amount beyond any limit stays beyond it.
fn mib(amount: u64) -> MemorySize {
    MemorySize::from_pages(amount.saturating_mul(256))
}

fn convert_action(action: xt_config::Action) -> Option<Action> {
    match action {
        xt_config::Action::Destroy => Some(Action::Destroy),
        xt_config::Action::Restart => Some(Action::Restart),
        xt_config::Action::RenameRestart => Some(Action::RenameRestart),
        xt_config::Action::Preserve => Some(Action::Preserve),
        xt_config::Action::CoredumpDestroy => Some(Action::CoredumpDestroy),
        xt_config::Action::CoredumpRestart => Some(Action::CoredumpRestart),
        xt_config::Action::SoftReset => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, given: Given) -> Result<(DomainSpec, Vec<String>), String> {
        read(text, "web.cfg", &[], given).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_acted_on_reaches_the_spec() {
        let text = "name = 'web'\nuuid = '01234567-89ab-cdef-0123-456789abcdef'\ntype = 'pv'\n\
                    kernel = '/k'\nramdisk = '/r'\nroot = '/dev/xvda'\nextra = 'quiet'\n\
                    memory = 128\nmaxmem = 256\nvcpus = 2\nmaxvcpus = 4\n\
                    cpuid = 'host,tm=0'\non_poweroff = 'preserve'\non_reboot = 'destroy'\n\
                    on_crash = 'coredump-restart'\non_watchdog = 'rename-restart'\n";
        let (spec, warnings) = load_text(text, Given::default()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        spec.check().unwrap();
        assert_eq!(spec.name, "web");
        assert_eq!(
            spec.uuid.to_string(),
            "01234567-89ab-cdef-0123-456789abcdef"
        );
        assert_eq!(spec.kernel, Kernel::File("/k".into()));
        assert_eq!(spec.ramdisk, Some("/r".into()));
        assert_eq!(spec.cmdline, "root=/dev/xvda quiet");
        assert_eq!(
            (spec.memory, spec.maxmem),
            (MemorySize::mib(128), MemorySize::mib(256))
        );
        assert_eq!((spec.vcpus, spec.maxvcpus), (2, 4));
        assert_ne!(spec.cpuid, Default::default());
        assert_eq!(spec.actions.on_poweroff, Action::Preserve);
        assert_eq!(spec.actions.on_reboot, Action::Destroy);
        assert_eq!(spec.actions.on_crash, Action::CoredumpRestart);
        assert_eq!(spec.actions.on_watchdog, Action::RenameRestart);
    }

    #[test]
    fn a_known_key_without_effect_is_a_warning_naming_it() {
        let text = "name = 'web'\nkernel = '/k'\nmemory = 64\nvnc = 1\npci = ['0:1']\n";
        let (_, warnings) = load_text(text, Given::default()).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("web.cfg:4:1: Warning: vnc "),
            "{warnings:?}"
        );
        assert!(
            warnings[1].starts_with("web.cfg:5:1: Warning: pci "),
            "{warnings:?}"
        );
    }

    #[test]
    fn disks_and_network_cards_reach_the_spec() {
        let text = "name = 'web'\nkernel = '/k'\nmemory = 64\n\
                    disk = ['/d,raw,xvda,w', '/c,,hdc,cdrom']\n\
                    vif = ['mac=00:16:3e:01:02:03,bridge=br0', '']\n";
        let (spec, warnings) = load_text(text, Given::default()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(spec.devices.vdevs(), ["xvda", "hdc"]);
        assert_eq!(spec.devices.devids(), [0, 1]);
        assert_eq!(spec.devices.nics[0].mac.0, [0, 0x16, 0x3e, 1, 2, 3]);
        spec.check().unwrap();
        let bad = text.replace("/d,raw", "/d,qed");
        let error = load_text(&bad, Given::default()).unwrap_err();
        assert!(
            error.starts_with("web.cfg:4:") && error.contains("xvda"),
            "{error}"
        );
        let bad = text.replace("bridge=br0", "backend=net");
        let error = load_text(&bad, Given::default()).unwrap_err();
        assert!(error.starts_with("web.cfg:5:"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let error = load_text("name = 'web'\n  kernle = '/k'\n", Given::default()).unwrap_err();
        assert!(
            error.contains("web.cfg:2:3: ") && error.contains("kernle"),
            "{error}"
        );
        assert!(
            load_text("name = 'web\n", Given::default())
                .unwrap_err()
                .contains("web.cfg:1:")
        );
    }

    #[test]
    fn what_the_command_line_gives_need_not_be_there() {
        assert!(load_text("memory = 64\n", Given::default()).is_err());
        let (spec, _) = load_text(
            "memory = 64\n",
            Given {
                name: true,
                kernel: true,
            },
        )
        .unwrap();
        assert_eq!(spec.memory, MemorySize::mib(64));
    }

    #[test]
    fn other_kinds_of_guests_are_refused_with_their_place() {
        let error = load_text("name='a'\nkernel='/k'\ntype='hvm'\n", Given::default());
        let error = error.unwrap_err();
        assert!(
            error.starts_with("web.cfg:3:") && error.contains("PV guests only"),
            "{error}"
        );
        let error = load_text(
            "name='a'\nkernel='/k'\non_crash='soft-reset'\n",
            Given::default(),
        );
        assert!(error.unwrap_err().contains("web.cfg:3:"));
    }

    #[test]
    fn idle_keys_are_known_to_the_parser() {
        for key in IDLE {
            assert!(xt_config::keys::SPEC_KEYS.contains(&key), "{key}");
        }
        let acted_on: Vec<&str> = xt_config::effect::acted_on(Target::Kvm).collect();
        for key in xt_config::keys::SPEC_KEYS {
            assert_ne!(IDLE.contains(key), acted_on.contains(key), "{key}");
        }
    }
}
