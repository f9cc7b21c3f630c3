//! What both ends write to xenstore, as the front end sees it.

use pv_xenbus::Text;
use xen_sys::io::blkif::{VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE};
use xen_sys::{EvtchnPort, GrantRef};

use crate::wire::Abi;

/// What the back end offers before the front end makes its rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackFeatures {
    /// Two to this power is the most pages of a ring.
    pub max_ring_page_order: u32,
    /// The most rings.
    pub max_queues: u32,
    /// It keeps pages mapped.
    pub persistent: bool,
}

impl BackFeatures {
    /// From the back end's directory: `get` reads a node that is a number, `None` if there is none.
    pub fn read(mut get: impl FnMut(&str) -> Option<u64>) -> Self {
        let mut small =
            |name, without| get(name).map_or(without, |n| n.min(u32::MAX.into()) as u32);
        Self {
            max_ring_page_order: small("max-ring-page-order", 0),
            max_queues: small("multi-queue-max-queues", 1).max(1),
            persistent: small("feature-persistent", 0) == 1,
        }
    }
}

/// What the disk is and can do, once the back end is connected. Read it again when the back end
/// writes that state again: its size has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskInfo {
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of the smallest unit.
    pub sector_size: u32,
    /// Bytes of the unit it writes without reading first.
    pub physical_sector_size: u32,
    /// It cannot be written.
    pub readonly: bool,
    /// The medium can be taken out.
    pub removable: bool,
    /// A CD-ROM.
    pub cdrom: bool,
    /// Flushes work.
    pub flush: bool,
    /// Barriers work.
    pub barrier: bool,
    /// Discards work, in units of so many bytes.
    pub discard: Option<u32>,
    /// Secure ones too.
    pub discard_secure: bool,
    /// Segments of an indirect request; 0: there are none.
    pub max_indirect_segments: u16,
}

impl DiskInfo {
    /// From the back end's directory.
    pub fn read(mut get: impl FnMut(&str) -> Option<u64>) -> Self {
        let mut number = |name, without| get(name).unwrap_or(without);
        let info = number("info", 0);
        let has = |flag: u32| info & u64::from(flag) != 0;
        let sector_size = number("sector-size", 512);
        let discard = number("feature-discard", 0) == 1;
        let granularity = number("discard-granularity", sector_size);
        let segments = number("feature-max-indirect-segments", 0);
        Self {
            sectors: number("sectors", 0),
            sector_size: sector_size as u32,
            physical_sector_size: number("physical-sector-size", sector_size) as u32,
            readonly: has(VDISK_READONLY),
            removable: has(VDISK_REMOVABLE),
            cdrom: has(VDISK_CDROM),
            flush: number("feature-flush-cache", 0) == 1,
            barrier: number("feature-barrier", 0) == 1,
            discard: discard.then_some(granularity as u32),
            discard_secure: number("discard-secure", 0) == 1,
            max_indirect_segments: segments.min(u16::MAX.into()) as u16,
        }
    }
}

/// Where a queue's ring and port are.
#[derive(Clone, Copy, Debug)]
pub struct QueueNodes<'a> {
    /// The grants of the ring's pages: one, or a power of two of them.
    pub ring: &'a [GrantRef],
    /// The port allocated for the back end's domain.
    pub port: EvtchnPort,
}

/// What the front end tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The layout of its requests.
    pub abi: Abi,
    /// It uses the same grants again and again.
    pub persistent: bool,
    /// Its queues, each with as many pages.
    pub queues: &'a [QueueNodes<'a>],
}

/// Writes the nodes by which the back end finds the rings: `set` writes one, relative to the front
/// end's directory.
///
/// # Errors
/// Those of `set`.
pub fn publish<E>(
    offer: &Offer<'_>,
    mut set: impl FnMut(&str, &str) -> Result<(), E>,
) -> Result<(), E> {
    let mut number = |name: Text<48>, value: u32| {
        let value = text::<16>(format_args!("{value}"));
        set(&name, &value)
    };
    let several = offer.queues.len() > 1;
    let pages = offer.queues.first().map_or(1, |queue| queue.ring.len());
    if several {
        let name = text(format_args!("multi-queue-num-queues"));
        number(name, offer.queues.len() as u32)?;
    }
    if pages > 1 {
        number(text(format_args!("ring-page-order")), pages.ilog2())?;
    }
    for (at, queue) in offer.queues.iter().enumerate() {
        let prefix = match several {
            true => text::<24>(format_args!("queue-{at}/")),
            false => text(format_args!("")),
        };
        let prefix = prefix.as_str();
        for (page, gref) in queue.ring.iter().enumerate() {
            let name = match pages {
                1 => text(format_args!("{prefix}ring-ref")),
                _ => text(format_args!("{prefix}ring-ref{page}")),
            };
            number(name, gref.0)?;
        }
        number(text(format_args!("{prefix}event-channel")), queue.port.0)?;
    }
    number(
        text(format_args!("feature-persistent")),
        offer.persistent.into(),
    )?;
    set("protocol", offer.abi.as_str())
}

/// Names and numbers here are shorter than the room for them.
fn text<const N: usize>(args: core::fmt::Arguments<'_>) -> Text<N> {
    Text::format(args).expect("the room is sized for the longest")
}
