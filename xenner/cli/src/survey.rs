//! All running domains at one moment, for those who show more than one.

use std::thread;
use std::time::{Duration, Instant};

use crate::control::client::{ClientError, Connection};
use crate::control::{Command, Info};
use crate::machine::Stats;
use crate::rundir::{Base, RunDirError};

/// How long a domain may take for each answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many domains are asked at a time.
const AT_ONCE: usize = 16;

/// What was seen of a domain.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Its name.
    pub name: String,
    /// When its counters came.
    pub at: Instant,
    /// What it is; `None` if it did not answer.
    pub info: Option<Info>,
    /// Its counters; `None` if it did not answer, or is being started or ended just now.
    pub stats: Option<Stats>,
    /// Why anything is missing.
    pub trouble: Option<String>,
}

/// Asks every running domain, in the order of their names. One that does not answer holds up the
/// others by a few seconds at most; one that has ended meanwhile is left out.
pub fn survey(base: &Base) -> Result<Vec<Sighting>, RunDirError> {
    let names = base.names()?;
    let mut seen = Vec::new();
    for some in names.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter()
                .map(|name| scope.spawn(move || look(base, name)))
                .collect();
            for asked in asking {
                match asked.join() {
                    Ok(sighting) => seen.extend(sighting),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    Ok(seen)
}

/// Asks the domain `name`; `None` if there is none.
fn look(base: &Base, name: &str) -> Option<Sighting> {
    let mut sighting = Sighting {
        name: name.to_owned(),
        at: Instant::now(),
        info: None,
        stats: None,
        trouble: None,
    };
    match ask(base, &mut sighting) {
        Ok(()) => {}
        Err(ClientError::NoSuchDomain { .. }) => return None,
        Err(error) => sighting.trouble = Some(error.to_string()),
    }
    Some(sighting)
}

fn ask(base: &Base, sighting: &mut Sighting) -> Result<(), ClientError> {
    let mut connection = Connection::open_within(base, &sighting.name, PATIENCE)?;
    let info = connection.call(Command::Info, &[], Some(PATIENCE))?;
    sighting.info = Some(info);
    let stats = connection.call(Command::Stats, &[], Some(PATIENCE))?;
    sighting.at = Instant::now();
    sighting.stats = Some(stats);
    Ok(())
}
