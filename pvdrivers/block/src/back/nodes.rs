//! What front end and back end write to xenstore for each other. The front end's is hostile.

use pv_backend::{DeviceError, Nodes};
use xen_sys::io::blkif::{VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE};
use xen_sys::{EvtchnPort, GrantRef};

use super::Settings;
use super::medium::MediumInfo;
use crate::wire::Abi;

/// What the toolstack has written to the back end's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackConfig {
    /// The medium: node `params`, and whatever else says what it is.
    pub(crate) medium: Vec<(String, Vec<u8>)>,
    /// For people: node `dev`.
    pub(crate) name: String,
    pub(crate) readonly: bool,
    pub(crate) cdrom: bool,
    pub(crate) removable: bool,
    pub(crate) discard: bool,
}

impl BackConfig {
    pub(crate) fn parse(nodes: &Nodes) -> Self {
        let is = |name: &str, value: &[u8]| nodes.0.get(name).is_some_and(|is| is == value);
        let medium = ["params", "type", "mode"].into_iter();
        let medium = medium.filter_map(|name| Some((name.to_owned(), nodes.0.get(name)?.clone())));
        let name = nodes.0.get("dev").map_or(&b""[..], Vec::as_slice);
        Self {
            medium: medium.collect(),
            name: String::from_utf8_lossy(name).into_owned(),
            // As Linux' back end: whatever has no w.
            readonly: !nodes.0.get("mode").is_some_and(|mode| mode.contains(&b'w')),
            cdrom: is("device-type", b"cdrom"),
            removable: is("removable", b"1"),
            discard: !is("discard-enable", b"0"),
        }
    }

    /// What the guest is told of the medium, or of there being none.
    pub(crate) fn properties(&self, medium: Option<&MediumInfo>) -> Vec<(String, String)> {
        let mut info = 0;
        for (set, flag) in [
            (self.cdrom, VDISK_CDROM),
            (self.cdrom || self.removable, VDISK_REMOVABLE),
            (medium.is_none_or(|medium| medium.readonly), VDISK_READONLY),
        ] {
            info |= if set { flag } else { 0 };
        }
        let sector_size = medium.map_or(512, |medium| medium.sector_size);
        let physical = medium.map_or(512, |medium| medium.physical_sector_size);
        let sectors = medium.map_or(0, |medium| medium.sectors);
        let flush = medium.is_some_and(|medium| medium.flush);
        let discard = medium.and_then(|medium| medium.discard);
        let mut nodes = vec![
            node("sectors", sectors),
            node("info", info),
            node("sector-size", sector_size),
            node("physical-sector-size", physical),
            node("feature-flush-cache", u8::from(flush)),
            node("feature-barrier", u8::from(flush)),
            node("feature-discard", u8::from(discard.is_some())),
        ];
        if let Some(discard) = discard {
            nodes.extend([
                node("discard-granularity", discard.granularity),
                node("discard-alignment", discard.alignment),
                node("discard-secure", u8::from(discard.secure)),
            ]);
        }
        nodes
    }
}

/// What the front end is told of the back end itself.
pub(crate) fn features(settings: &Settings) -> Vec<(String, String)> {
    let mut nodes = vec![
        node("max-ring-page-order", settings.max_ring_page_order),
        node("multi-queue-max-queues", settings.max_queues),
        node(
            "feature-persistent",
            u8::from(settings.persistent_grants > 0),
        ),
    ];
    if settings.max_indirect_segments > 0 {
        let name = "feature-max-indirect-segments";
        nodes.push(node(name, settings.max_indirect_segments));
    }
    nodes
}

fn node(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// One queue of the front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueConfig {
    pub(crate) ring: Vec<GrantRef>,
    pub(crate) port: EvtchnPort,
}

/// What the front end says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrontConfig {
    pub(crate) abi: Abi,
    pub(crate) persistent: bool,
    pub(crate) queues: Vec<QueueConfig>,
}

impl FrontConfig {
    pub(crate) fn parse(nodes: &Nodes, settings: &Settings) -> Result<Self, DeviceError> {
        let order = number(nodes, "ring-page-order")?;
        if order.is_some_and(|order| order > settings.max_ring_page_order) {
            return Err(refused("ring-page-order", nodes));
        }
        let queues = number(nodes, "multi-queue-num-queues")?.unwrap_or(1);
        if queues == 0 || queues > settings.max_queues {
            return Err(refused("multi-queue-num-queues", nodes));
        }
        let abi = match text(nodes, "protocol") {
            None => Abi::default(),
            Some(name) => Abi::parse(&name).ok_or_else(|| refused("protocol", nodes))?,
        };
        let prefix = |queue| match queues {
            1 => String::new(),
            _ => format!("queue-{queue}/"),
        };
        let queues = (0..queues).map(|queue| QueueConfig::parse(nodes, &prefix(queue), order));
        Ok(Self {
            abi,
            persistent: number(nodes, "feature-persistent")? == Some(1),
            queues: queues.collect::<Result<_, _>>()?,
        })
    }
}

impl QueueConfig {
    fn parse(nodes: &Nodes, prefix: &str, order: Option<u32>) -> Result<Self, DeviceError> {
        let pages = 1 << order.unwrap_or(0);
        let numbered = (0..pages).map(|page| {
            let name = format!("{prefix}ring-ref{page}");
            Ok(number(nodes, &name)?.map(GrantRef))
        });
        let numbered: Option<Vec<_>> = numbered.collect::<Result<_, _>>()?;
        let single = format!("{prefix}ring-ref");
        // One page has either name, several are numbered.
        let ring = match numbered {
            Some(ring) if order.is_some() => ring,
            _ if pages == 1 => match number(nodes, &single)? {
                Some(gref) => vec![GrantRef(gref)],
                None => numbered.ok_or_else(|| refused(&single, nodes))?,
            },
            _ => return Err(refused(&format!("{prefix}ring-ref{}", pages - 1), nodes)),
        };
        let port = format!("{prefix}event-channel");
        let port = number(nodes, &port)?.ok_or_else(|| refused(&port, nodes))?;
        Ok(Self {
            ring,
            port: EvtchnPort(port),
        })
    }
}

/// A node of the guest's as it can be shown to people.
fn text(nodes: &Nodes, name: &str) -> Option<String> {
    let value = nodes.0.get(name)?;
    let shown = &value[..value.len().min(32)];
    Some(shown.escape_ascii().to_string())
}

fn number(nodes: &Nodes, name: &str) -> Result<Option<u32>, DeviceError> {
    let Some(value) = nodes.0.get(name) else {
        return Ok(None);
    };
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(value).ok().filter(|_| digits);
    match parsed.and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(refused(name, nodes)),
    }
}

fn refused(name: &str, nodes: &Nodes) -> DeviceError {
    DeviceError(match text(nodes, name) {
        Some(value) => format!("The front end's node {name} is {value:?}, which cannot be"),
        None => format!("The front end's node {name} is missing"),
    })
}
