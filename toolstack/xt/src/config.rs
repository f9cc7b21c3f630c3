//! Configuration files, up to what a host is asked to create.

use std::io::Read;
use std::path::{Path, PathBuf};

use xt_config::effect::Target;
use xt_config::libxl::{Bitmap, DomainConfig, KindInfo};
use xt_config::{ConfigErrors, Diagnostic, Document, DomainSpec};
use xt_host::{Host, HostError, HostKind};

use crate::status::{Failure, Status};

/// The largest configuration file read.
const MAX_CONFIG: u64 = 1 << 20;

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it asks for.
    pub spec: DomainSpec,
    /// The same in libxl's terms, every key of `xl` included.
    pub libxl: DomainConfig,
    /// The file's text with the settings of the command line as lines of their own: what `xl` keeps.
    pub source: String,
    /// What was odd.
    pub warnings: Vec<String>,
    document: Document,
}

impl Loaded {
    /// A host's refusal, with the place in the file that it is about.
    pub fn locate(&self, error: HostError) -> Failure {
        match error {
            HostError::Key { key, message, help } => {
                let error = self.document.error_at(key, message, help);
                Failure::plain(error.to_string())
            }
            HostError::NotHere { .. } => error.into(),
            error => Failure::new(Status::NotCreated, error.chain()),
        }
    }
}

/// Tells the arguments of `create` apart as `xl` does: those with `=` are settings, one may be the
/// file.
///
/// # Errors
/// No file, or two.
pub fn split(
    arguments: &[String],
    option: Option<&Path>,
) -> Result<(PathBuf, Vec<String>), Failure> {
    let mut file = option.map(Path::to_owned);
    let mut settings = Vec::new();
    for argument in arguments {
        let is_setting = argument.contains('=');
        if file.is_none() && !is_setting {
            file = Some(argument.into());
        } else if is_setting {
            settings.push(argument.clone());
        } else {
            let message = format!("{argument:?} is neither KEY=VALUE nor the only configuration");
            return Err(Failure::usage(message));
        }
    }
    let missing = || {
        let message = "No configuration file is given; xt help create tells how";
        Failure::new(Status::NoConfig, message)
    };
    Ok((file.ok_or_else(missing)?, settings))
}

/// Reads `path` (`-` is standard input) and then `settings`, for that host.
///
/// # Errors
/// The file cannot be read, or something in it is wrong.
pub fn load(path: &Path, settings: &[String], host: &dyn Host) -> Result<Loaded, Failure> {
    let (file, machine) = (path.display().to_string(), machine(Some(host)));
    parse(&read(path)?, &file, settings, host.kind(), &machine)
}

/// What `create -n` shows: every key in libxl's terms, whatever this host can do, and what was odd.
///
/// # Errors
/// As of [`load`].
pub fn describe(
    path: &Path,
    settings: &[String],
    host: Option<&dyn Host>,
) -> Result<(DomainConfig, Vec<String>), Failure> {
    let file = path.display().to_string();
    let document = xt_config::parse_with_overrides(&read(path)?, &file, settings);
    let checked =
        document.and_then(|document| DomainConfig::from_document(&document, &machine(host)));
    let checked = checked.map_err(|errors| Failure::plain(errors.to_string()))?;
    let warnings = checked.warnings.iter().map(Diagnostic::to_string);
    Ok((checked.value, warnings.collect()))
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let message = format!("Cannot read the configuration {path:?}: {error}");
        Failure::new(Status::NotCreated, message)
    };
    let bytes = match path == Path::new("-") {
        true => {
            let mut bytes = Vec::new();
            let mut input = std::io::stdin().lock().take(MAX_CONFIG);
            input.read_to_end(&mut bytes).map(|_| bytes)
        }
        false => xenner::image::read(path, MAX_CONFIG),
    };
    let bytes = bytes.map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(&format!("byte {at} is not UTF-8"))
    })
}

/// The machine as far as a configuration needs to know it. Dom0 has not all of its processors, but
/// its hypervisor knows them.
fn machine(host: Option<&dyn Host>) -> xt_config::domain::Host {
    let Some(info) = host.and_then(|host| host.info().ok()) else {
        let processors = std::thread::available_parallelism();
        return xt_config::domain::Host::uniform(processors.map_or(1, |count| count.get() as u32));
    };
    let mut machine = xt_config::domain::Host::uniform(info.max_cpu_id + 1);
    if info.topology.is_empty() {
        return machine;
    }
    let mut nodes = vec![Bitmap::default(); info.nr_nodes as usize];
    for (cpu, (_, _, node)) in (0..).zip(&info.topology) {
        if let Some(cpus) = nodes.get_mut(*node as usize) {
            cpus.0.insert(cpu);
        }
    }
    machine.nodes = nodes;
    machine
}

fn parse(
    text: &str,
    file: &str,
    settings: &[String],
    host: HostKind,
    machine: &xt_config::domain::Host,
) -> Result<Loaded, Failure> {
    let refused = |errors: ConfigErrors| Failure::plain(errors.to_string());
    let document = xt_config::parse_with_overrides(text, file, settings).map_err(refused)?;
    let libxl = DomainConfig::from_document(&document, machine).map_err(refused)?;
    let (target, idle): (_, &[&str]) = match host {
        HostKind::Kvm => (Target::Kvm, &xenner::config::IDLE),
        HostKind::Xen => (Target::of(&document), &[]),
    };
    let hvm = match target {
        Target::XenHvm => xt_config::HVM_KEYS,
        _ => &[],
    };
    let keys = xt_config::keys::SPEC_KEYS.iter().chain(hvm).copied();
    let acted_on: Vec<&str> = keys.filter(|key| !idle.contains(key)).collect();
    let checked = DomainSpec::for_target(&document, &acted_on, target).map_err(refused)?;
    let mut spec = checked.value;
    // Both must tell of the same domain.
    spec.uuid = spec.uuid.or(libxl.value.c_info.uuid);
    if let (Some(hvm), Some(KindInfo::Hvm(info))) = (&mut spec.hvm, &libxl.value.b_info.kind) {
        hvm.info = (**info).clone();
    }
    let mut source = text.to_owned();
    for setting in settings {
        if !source.is_empty() && !source.ends_with('\n') {
            source.push('\n');
        }
        source.push_str(setting);
        source.push('\n');
    }
    Ok(Loaded {
        spec,
        libxl: libxl.value,
        source,
        warnings: checked.warnings.iter().map(Diagnostic::to_string).collect(),
        document,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, settings: &[String], host: HostKind) -> Result<Loaded, Failure> {
        super::parse(text, "web.cfg", settings, host, &machine(None))
    }

    const WEB: &str = "name = 'web'\nkernel = '/k'\nmemory = 64\n";

    #[test]
    fn settings_are_told_from_the_file() {
        let list = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let given = |words: &[&str]| split(&list(words), None);
        let (file, settings) = given(&["web.cfg", "memory=64", "vcpus=2"]).unwrap();
        assert_eq!(file, Path::new("web.cfg"));
        assert_eq!(settings, ["memory=64", "vcpus=2"]);
        let (file, settings) = given(&["memory=64", "web.cfg"]).unwrap();
        assert_eq!((file, settings), ("web.cfg".into(), list(&["memory=64"])));
        let (file, settings) = split(&list(&["a=1"]), Some(Path::new("x"))).unwrap();
        assert_eq!((file, settings), ("x".into(), list(&["a=1"])));
        assert_eq!(given(&[]).unwrap_err().status, Status::NoConfig);
        assert_eq!(given(&["a=1"]).unwrap_err().status, Status::NoConfig);
        assert_eq!(
            given(&["web.cfg", "bad"]).unwrap_err().status,
            Status::Usage
        );
    }

    #[test]
    fn settings_win_and_are_kept() {
        let settings = ["memory=128".to_owned()];
        let loaded = parse(WEB, &settings, HostKind::Kvm).unwrap();
        assert_eq!(loaded.spec.memory_mib, 128);
        assert_eq!(loaded.source, WEB.to_owned() + "memory=128\n");
    }

    #[test]
    fn errors_have_a_place() {
        let error = parse("name = 'a'\nmemory = [\n", &[], HostKind::Kvm).unwrap_err();
        assert_eq!(error.status, Status::Failed);
        assert!(error.message.starts_with("web.cfg:"), "{error}");
        let text = WEB.to_owned() + "type = 'pvh'\n";
        let loaded = parse(&text, &[], HostKind::Kvm).unwrap();
        let refusal = HostError::Key {
            key: "type",
            message: "no".into(),
            help: None,
        };
        let failure = loaded.locate(refusal);
        assert!(failure.message.starts_with("web.cfg:4:"), "{failure}");
    }

    #[test]
    fn what_a_host_does_not_act_on_is_said() {
        let text = WEB.to_owned() + "max_grant_frames = 64\n";
        let of = |host| parse(&text, &[], host).unwrap().warnings;
        assert_eq!(of(HostKind::Xen).len(), 0);
        let warnings = of(HostKind::Kvm);
        assert!(warnings[0].contains("max_grant_frames"), "{warnings:?}");
    }
}
