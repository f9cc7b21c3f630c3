//! Starting the process of a domain.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use xen_sys::DomId;
use xenner::config::convert;
use xenner::spec::Action;
use xenner::status::Status;
use xt_config::DomainSpec;
use xt_host::{CreateOptions, HostError, Result};

use crate::KvmHost;

/// What a domain was made from, in its process's `origin`.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The specification.
    pub spec: DomainSpec,
    /// The text it is from.
    pub source: String,
}

impl KvmHost {
    pub(crate) fn start(&self, spec: &DomainSpec, options: &CreateOptions) -> Result<DomId> {
        let origin = Origin {
            spec: spec.clone(),
            source: options.source.clone(),
        };
        let mut wanted = convert(spec.clone()).map_err(|error| HostError::Key {
            key: error.key,
            message: error.message,
            help: error.help,
        })?;
        wanted.origin = json!(origin);
        if options.unsupervised {
            let on = &mut wanted.actions;
            for action in [
                &mut on.on_poweroff,
                &mut on.on_reboot,
                &mut on.on_crash,
                &mut on.on_watchdog,
            ] {
                *action = Action::Preserve;
            }
        }
        let refused = |error: xenner::spec::SpecError| HostError::Config(error.to_string());
        wanted.check().map_err(refused)?;
        let mut command = Command::new(&self.program);
        command.arg("--run-dir").arg(self.base.path());
        command.args(["run", "--detach", "--spec"]);
        if options.paused {
            command.arg("--paused");
        }
        let output = feed(&mut command, &json!(wanted).to_string()).map_err(|error| {
            HostError::Unusable(format!(
                "Cannot run {:?}, which domains on KVM run in: {error}; install it beside xt or in PATH",
                self.program
            ))
        })?;
        self.verdict(&wanted.name, &output)
    }

    fn verdict(&self, name: &str, output: &Output) -> Result<DomId> {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("xenner: "))
            .collect();
        if output.status.success() {
            for line in lines {
                eprintln!("xt: {line}");
            }
            let ended = || {
                let text = format!("Domain {name} ended as soon as it had started.");
                HostError::because(text)
            };
            return self.id_of(name).map(DomId).ok_or_else(ended);
        }
        let text = match lines.is_empty() {
            true => said.trim().to_owned(),
            false => lines.join("\n"),
        };
        let is = |status: Status| output.status.code() == Some(status.code().into());
        Err(match () {
            () if is(Status::NameInUse) => HostError::NameInUse {
                name: name.to_owned(),
            },
            () if is(Status::Config) || is(Status::Image) => HostError::Config(text),
            () if is(Status::Host) => HostError::Unusable(text),
            () if is(Status::Resources) => HostError::Resources(text),
            () => HostError::because(text),
        })
    }
}

/// Runs a command with `input` on its standard input.
fn feed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read all says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
