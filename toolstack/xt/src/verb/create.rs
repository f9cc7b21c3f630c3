//! `create` and `config-update`

use serde_json::json;
use xt_host::{ConsoleKind, CreateOptions, Created, DomId, Host, HostKind};

use super::console::Attached;
use crate::cli::{Cli, ConfigUpdateArgs, CreateArgs};
use crate::output::{print, print_json};
use crate::status::{Failure, Status};
use crate::{config, supervise};

/// `create`. A dry run needs no host; where there is one, the processors it has are those that count.
pub fn create(
    cli: &Cli,
    arguments: &CreateArgs,
    open: &dyn Fn() -> Result<Box<dyn Host>, Failure>,
) -> Result<Status, Failure> {
    let dry = arguments.dry_run || cli.dry_run;
    let (file, settings) = config::split(&arguments.arguments, arguments.config.as_deref())?;
    if !arguments.quiet {
        eprintln!("Parsing config from {}", file.display());
    }
    let warn = |warnings: &[String]| {
        if !arguments.quiet {
            warnings
                .iter()
                .for_each(|warning| eprintln!("xt: {warning}"));
        }
    };
    if dry {
        let (config, warnings) = config::describe(&file, &settings, open().ok().as_deref())?;
        warn(&warnings);
        let text = config.to_json();
        let text = text.map_err(|error| Failure::plain(error.to_string()))?;
        return print(&(text + "\n"));
    }
    let host = open()?;
    let host = &*host;
    let loaded = config::load(&file, &settings, host)?;
    warn(&loaded.warnings);
    // Not before it is looked after: it could end unseen.
    let held = arguments.console || host.kind() == HostKind::Xen && !arguments.unsupervised;
    let options = CreateOptions {
        paused: arguments.paused || held,
        unsupervised: arguments.unsupervised,
        uncommitted: true,
        source: loaded.source.clone(),
        libxl: loaded.libxl.clone(),
    };
    // Before it can end.
    let changes = match arguments.foreground {
        true => Some(host.changes()?),
        false => None,
    };
    let created = host.create(&loaded.spec, &options);
    let Created { domid, warnings } = created.map_err(|error| loaded.locate(error))?;
    warn(&warnings);
    let console = match prepare(host, domid, arguments, held) {
        Ok(console) => console,
        Err(failure) => {
            // Half a start is none.
            let _ = host.destroy(domid);
            return Err(failure);
        }
    };
    if arguments.json {
        print_json(&json!({"domid": domid.0, "name": loaded.spec.name}))?;
    }
    if let Some(console) = console {
        console.relay()?;
    }
    match changes {
        Some(changes) => supervise::in_foreground(host, domid, changes),
        None => Ok(Status::Success),
    }
}

/// What the domain needs before it may run: somebody who looks after it, somebody at its console.
fn prepare(
    host: &dyn Host,
    domid: DomId,
    arguments: &CreateArgs,
    held: bool,
) -> Result<Option<Attached>, Failure> {
    if !arguments.unsupervised {
        supervise::take_care(host, domid, arguments.foreground)?;
    }
    let console = match arguments.console {
        true => Some(Attached::open(host, domid, ConsoleKind::Any, 0)?),
        false => None,
    };
    if held && !arguments.paused {
        host.unpause(domid)?;
    }
    host.commit(domid)?;
    Ok(console)
}

/// `config-update`
pub fn config_update(host: &dyn Host, arguments: &ConfigUpdateArgs) -> Result<Status, Failure> {
    let domain = host.find(&arguments.domain)?;
    let (file, settings) = config::split(&arguments.arguments, arguments.config.as_deref())?;
    let loaded = config::load(&file, &settings, host)?;
    let domid = DomId(domain.domid);
    host.set_configuration(domid, &loaded.spec, &loaded.libxl, &loaded.source)
        .map_err(|error| loaded.locate(error))?;
    Ok(Status::Success)
}
