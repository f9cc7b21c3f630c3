//! A virtual block device at each step of the handshake.

use std::io;
use std::sync::Arc;

use pv_backend::driver::Publish;
use pv_backend::{DeviceError, DeviceId, Driver, Host, Nodes, Reporter};
use pv_ring::{Access, EventChannel, GrantMap};
use pv_stats::Source;

use super::Settings;
use super::journal::{JournalMemory, journal_size};
use super::medium::{Medium, MediumInfo};
use super::nodes::{BackConfig, FrontConfig, QueueConfig, features};
use super::queue::{BlockQueue, MediumQueue, PageOf, QueueParts};
use super::request::Geometry;
use super::stats::{State, VbdStats};
use super::worker::Worker;
use crate::wire::Abi;

/// Opens what the back end's nodes (`params`, `type`, `mode`, ...) name; `None`: an empty drive.
pub type OpenMedium<M> = Box<dyn FnMut(&Nodes) -> Result<Option<M>, DeviceError> + Send>;

/// Makes or finds again the memory that is to outlive a queue's process, of at least so many bytes; by
/// number of the queue. Dropped after an orderly end, it is needed no more.
pub type OpenJournal = Box<dyn FnMut(usize, usize) -> io::Result<JournalMemory> + Send>;

/// Slots of a ring for each of its pages (`__CONST_RING_SIZE`).
const SLOTS_PER_PAGE: usize = 32;

/// The back end of one disk.
pub struct VbdDriver<H: Host, M: Medium> {
    id: DeviceId,
    settings: Settings,
    open_medium: OpenMedium<M>,
    open_journal: Option<OpenJournal>,
    /// From `open` on.
    opened: Option<Opened<M>>,
    stats: Arc<VbdStats>,
    workers: Vec<Worker<H>>,
}

struct Opened<M> {
    config: BackConfig,
    medium: Option<M>,
    /// What the front end was told last.
    info: Option<MediumInfo>,
    reporter: Reporter,
}

impl<M: Medium> Opened<M> {
    /// The medium as it is now and as the guest is to see it.
    fn look(&mut self) {
        self.info = self.medium.as_ref().map(|medium| {
            let looked = medium.refresh();
            self.seen(looked.unwrap_or_else(|error| {
                tracing::warn!("{}: no look at the medium: {error}", self.config.name);
                medium.info()
            }))
        });
    }

    fn seen(&self, mut info: MediumInfo) -> MediumInfo {
        info.readonly |= self.config.readonly;
        let discard = self.config.discard && !info.readonly;
        info.discard = info.discard.filter(|_| discard);
        info
    }
}

impl<H: Host, M: Medium> VbdDriver<H, M> {
    /// A device whose medium `open_medium` opens, at first and whenever its nodes change.
    pub fn new(id: DeviceId, settings: Settings, open_medium: OpenMedium<M>) -> Self {
        Self {
            stats: Arc::new(VbdStats::new(id.devid)),
            id,
            settings,
            open_medium,
            open_journal: None,
            opened: None,
            workers: Vec::new(),
        }
    }

    /// The same in a process that may be killed, and is followed by another that goes on with the
    /// same rings: what is in flight is noted in memory that outlives it.
    #[must_use]
    pub fn with_journals(mut self, open_journal: OpenJournal) -> Self {
        self.open_journal = Some(open_journal);
        self
    }

    /// Memory for a queue's journal. Without any the queue serves all the same, but a kill may cost
    /// the guest its disk.
    fn journal(&mut self, queue: usize, pages: usize) -> Option<JournalMemory> {
        let open_journal = self.open_journal.as_mut()?;
        match open_journal(queue, journal_size(pages * SLOTS_PER_PAGE)) {
            Ok(memory) => Some(memory),
            Err(error) => {
                let (domid, devid) = (self.id.domid, self.id.devid);
                tracing::warn!("vbd {devid} of domain {domid}: no journal: {error}");
                None
            }
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<M>, DeviceError> {
        let unopened = || DeviceError("The device has no back end yet".to_owned());
        self.opened.as_mut().ok_or_else(unopened)
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            medium: self.opened.as_ref().and_then(|opened| opened.info),
            max_indirect_segments: self.settings.max_indirect_segments,
        }
    }

    /// The way to the medium for one more queue.
    fn medium_queue(&self, depth: usize) -> Result<Option<MediumQueue<H>>, DeviceError> {
        let medium = self
            .opened
            .as_ref()
            .and_then(|opened| opened.medium.as_ref());
        let queue = medium.map(|medium| medium.queue(depth)).transpose();
        queue.map_err(|error| DeviceError(format!("The medium cannot be used: {error}")))
    }

    fn start(
        &mut self,
        host: &H,
        front: &FrontConfig,
        index: usize,
        counters: Arc<super::QueueCounters>,
    ) -> Result<(), DeviceError> {
        let domid = self.id.domid;
        let QueueConfig { ring, port } = &front.queues[index];
        let grants = host.grants(domid);
        let grants = grants.map_err(|e| DeviceError(format!("No grants of {domid}: {e}")))?;
        let pages = ring.iter().map(|gref| grants.map(*gref, Access::ReadWrite));
        let pages: Vec<PageOf<H>> = pages
            .collect::<Result<_, _>>()
            .map_err(|error| DeviceError(format!("The ring cannot be mapped: {error}")))?;
        let channel = host.bind(domid, *port);
        let channel = channel
            .map_err(|error| DeviceError(format!("Port {port} cannot be bound: {error}")))?;
        let journal = self.journal(index, pages.len());
        let parts = QueueParts {
            ring: pages,
            abi: front.abi,
            channel,
            grants,
            persistent_grants: match front.persistent {
                true => self.settings.persistent_grants,
                false => 0,
            },
            counters,
        };
        let queue = BlockQueue::<H>::with_journal(parts, journal);
        let mut queue =
            queue.map_err(|error| DeviceError(format!("The ring is unusable: {error}")))?;
        if queue.is_taken_over()
            && let Err(error) = queue.channel().notify()
        {
            return Err(DeviceError(format!("Port {port} does not work: {error}")));
        }
        let medium = self.medium_queue(queue.depth())?;
        queue.set_medium(medium, self.geometry());
        let name = format!("vbd{}.{}-{index}", domid, self.id.devid);
        let reporter = self.opened()?.reporter.clone();
        let worker = Worker::start(name, queue, reporter);
        let worker = worker.map_err(|e| DeviceError(format!("No thread for a queue: {e}")))?;
        self.workers.push(worker);
        Ok(())
    }

    /// The toolstack has put another medium in, or taken it out.
    fn change_medium(&mut self, back: &Nodes, config: BackConfig) -> Result<(), DeviceError> {
        let medium = (self.open_medium)(back)?;
        let opened = self.opened()?;
        opened.medium = medium;
        opened.config = config;
        opened.look();
        let geometry = self.geometry();
        for worker in &self.workers {
            worker.set_medium(self.medium_queue(worker.depth())?, geometry);
        }
        Ok(())
    }

    /// The properties as they are now. The manager writes the state once more with them: that is
    /// what tells a front end to read them again.
    fn properties(&self) -> Publish {
        let opened = self.opened.as_ref();
        opened.map_or_else(Publish::new, |opened| {
            opened.config.properties(opened.info.as_ref())
        })
    }
}

impl<H: Host, M: Medium> Driver<H> for VbdDriver<H, M> {
    fn open(&mut self, back: &Nodes, reporter: Reporter) -> Result<Publish, DeviceError> {
        let config = BackConfig::parse(back);
        let mut opened = Opened {
            medium: (self.open_medium)(back)?,
            config,
            info: None,
            reporter,
        };
        opened.look();
        self.stats.set_name(opened.config.name.clone());
        self.stats.set_state(State::Waiting);
        self.opened = Some(opened);
        let mut nodes = features(&self.settings);
        nodes.extend(self.properties());
        Ok(nodes)
    }

    fn connect(&mut self, host: &H, front: &Nodes) -> Result<Publish, DeviceError> {
        self.disconnect();
        let front = FrontConfig::parse(front, &self.settings)?;
        let opened = self.opened()?;
        opened.look();
        let counters = self.stats.queues(front.queues.len());
        for (index, counters) in counters.into_iter().enumerate() {
            if let Err(error) = self.start(host, &front, index, counters) {
                self.disconnect();
                return Err(error);
            }
        }
        self.stats.set_state(State::Connected);
        tracing::info!(
            "vbd {} of domain {}: {} queue(s), {} ring page(s), {}{}",
            self.id.devid,
            self.id.domid,
            front.queues.len(),
            front.queues[0].ring.len(),
            match front.abi {
                Abi::X86_64 => "64-bit",
                Abi::X86_32 => "32-bit",
            },
            if front.persistent {
                ", persistent grants"
            } else {
                ""
            },
        );
        Ok(self.properties())
    }

    /// Waits for what the medium has in flight: until then it may access the guest's pages.
    fn disconnect(&mut self) {
        for worker in &self.workers {
            worker.stop();
        }
        self.workers.clear();
        self.stats.set_state(State::Closed);
    }

    fn changed(&mut self, back: &Nodes, _front: &Nodes) -> Result<Publish, DeviceError> {
        let config = BackConfig::parse(back);
        let opened = self.opened()?;
        let (before, medium) = (opened.info, &opened.config.medium);
        if config.medium != *medium {
            self.change_medium(back, config)?;
        } else {
            opened.look();
            let geometry = self.geometry();
            if geometry.medium != before {
                for worker in &self.workers {
                    worker.set_geometry(geometry);
                }
            }
        }
        if self.geometry().medium == before {
            return Ok(Publish::new());
        }
        Ok(self.properties())
    }

    fn stats(&self) -> Arc<dyn Source> {
        self.stats.clone()
    }
}
