//! What lies in a slot of the ring, for 64-bit and 32-bit front ends.
//!
//! The compilers of the two align a 64-bit number differently: the 32-bit layouts of all requests
//! are the 64-bit ones without the four bytes of padding before `id`, and the response lacks the
//! four at its end. So one conversion serves every kind of request.

use pv_ring::{FrontRing, RingError, SharedPage};
use xen_sys::io::blkif::{BlkifRequest, BlkifResponse};
use xen_sys::io::protocols::{XEN_IO_PROTO_ABI_X86_32, XEN_IO_PROTO_ABI_X86_64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a sector in every number of the interface, whatever `sector-size` says.
pub const SECTOR: u64 = 512;
/// Segments in a page of an indirect request.
pub const SEGMENTS_PER_INDIRECT_PAGE: usize = 512;
/// The largest `ring-page-order` Linux' drivers know: 16 pages.
pub const MAX_RING_PAGE_ORDER: u32 = 4;

/// How the front end lays out its structures: node `protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Abi {
    /// `x86_64-abi`, also without the node.
    #[default]
    X86_64,
    /// `x86_32-abi`.
    X86_32,
}

impl Abi {
    /// From the node's value; `None` for one that is not known.
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            XEN_IO_PROTO_ABI_X86_64 => Some(Self::X86_64),
            XEN_IO_PROTO_ABI_X86_32 => Some(Self::X86_32),
            _ => None,
        }
    }

    /// The node's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => XEN_IO_PROTO_ABI_X86_64,
            Self::X86_32 => XEN_IO_PROTO_ABI_X86_32,
        }
    }
}

/// `blkif_x86_32_request`, 108 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request32 {
    head: [u8; 4],
    rest: [u32; 26],
}
const _: () = assert!(size_of::<Request32>() == 108);

impl From<&Request32> for BlkifRequest {
    fn from(request: &Request32) -> Self {
        let mut wide = Self::new_zeroed();
        let bytes = wide.as_mut_bytes();
        bytes[..4].copy_from_slice(&request.head);
        bytes[8..].copy_from_slice(request.rest.as_bytes());
        wide
    }
}

impl From<&BlkifRequest> for Request32 {
    fn from(request: &BlkifRequest) -> Self {
        let mut narrow = Self::new_zeroed();
        let bytes = request.as_bytes();
        narrow.head.copy_from_slice(&bytes[..4]);
        narrow.rest.as_mut_bytes().copy_from_slice(&bytes[8..]);
        narrow
    }
}

/// `blkif_x86_32_response`, 12 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response32([u32; 3]);

impl From<&BlkifResponse> for Response32 {
    fn from(response: &BlkifResponse) -> Self {
        let mut narrow = Self([0; 3]);
        let bytes = response.as_bytes();
        narrow.as_mut_bytes().copy_from_slice(&bytes[..12]);
        narrow
    }
}

impl From<&Response32> for BlkifResponse {
    fn from(response: &Response32) -> Self {
        let mut wide = Self::new_zeroed();
        wide.as_mut_bytes()[..12].copy_from_slice(response.as_bytes());
        wide
    }
}

/// A request of another kind than reads and writes in the slot: its layout begins at the slot's
/// start.
pub fn view<T: FromBytes>(request: &BlkifRequest) -> T {
    const { assert!(size_of::<T>() <= size_of::<BlkifRequest>()) };
    T::read_from_bytes(&request.as_bytes()[..size_of::<T>()]).expect("as long as the type")
}

/// A slot with a request of another kind.
pub fn slot<T: IntoBytes + Immutable>(request: &T) -> BlkifRequest {
    let mut slot = BlkifRequest::new_zeroed();
    slot.as_mut_bytes()[..size_of::<T>()].copy_from_slice(request.as_bytes());
    slot
}

/// The front end's side of a ring of either layout.
#[derive(Debug)]
pub(crate) enum FrontSlots<P> {
    X86_64(FrontRing<P, BlkifRequest, BlkifResponse>),
    X86_32(FrontRing<P, Request32, Response32>),
}

/// Calls the same method of whichever ring it is.
macro_rules! each {
    ($ring:expr, $inner:ident => $call:expr) => {
        match $ring {
            Self::X86_64($inner) => $call,
            Self::X86_32($inner) => $call,
        }
    };
}

impl<P: SharedPage> FrontSlots<P> {
    pub(crate) fn init(page: P, abi: Abi) -> Result<Self, RingError> {
        Ok(match abi {
            Abi::X86_64 => Self::X86_64(FrontRing::init(page)?),
            Abi::X86_32 => Self::X86_32(FrontRing::init(page)?),
        })
    }

    pub(crate) fn slots(&self) -> u32 {
        each!(self, ring => ring.slots())
    }

    pub(crate) fn free(&self) -> u32 {
        each!(self, ring => ring.free())
    }

    pub(crate) fn publish(&mut self) -> bool {
        each!(self, ring => ring.publish())
    }

    pub(crate) fn final_check(&mut self) -> Result<bool, RingError> {
        each!(self, ring => ring.final_check())
    }

    pub(crate) fn push(&mut self, request: &BlkifRequest) -> Result<(), RingError> {
        match self {
            Self::X86_64(ring) => ring.push(request),
            Self::X86_32(ring) => ring.push(&request.into()),
        }
    }

    pub(crate) fn pop(&mut self) -> Result<Option<BlkifResponse>, RingError> {
        Ok(match self {
            Self::X86_64(ring) => ring.pop()?,
            Self::X86_32(ring) => ring.pop()?.as_ref().map(BlkifResponse::from),
        })
    }
}

/// The back end's side of a ring of either layout.
#[cfg(feature = "back")]
#[derive(Debug)]
pub(crate) enum BackSlots<P> {
    X86_64(pv_ring::BackRing<P, BlkifRequest, BlkifResponse>),
    X86_32(pv_ring::BackRing<P, Request32, Response32>),
}

#[cfg(feature = "back")]
impl<P: SharedPage> BackSlots<P> {
    /// As `BackRing::attach_knowing`.
    pub(crate) fn attach(
        page: P,
        abi: Abi,
        known: impl FnOnce(u32, u32) -> Option<u32>,
    ) -> Result<Self, RingError> {
        Ok(match abi {
            Abi::X86_64 => Self::X86_64(pv_ring::BackRing::attach_knowing(page, known)?),
            Abi::X86_32 => Self::X86_32(pv_ring::BackRing::attach_knowing(page, known)?),
        })
    }

    pub(crate) fn set_tag(&self, tag: u32) {
        each!(self, ring => ring.set_tag(tag));
    }

    pub(crate) fn taken(&self) -> u32 {
        each!(self, ring => ring.taken())
    }

    pub(crate) fn answered(&self) -> u32 {
        each!(self, ring => ring.answered())
    }

    pub(crate) fn slots(&self) -> u32 {
        each!(self, ring => ring.slots())
    }

    pub(crate) fn in_flight(&self) -> u32 {
        each!(self, ring => ring.in_flight())
    }

    pub(crate) fn publish(&mut self) -> bool {
        each!(self, ring => ring.publish())
    }

    pub(crate) fn final_check(&mut self) -> Result<bool, RingError> {
        each!(self, ring => ring.final_check())
    }

    pub(crate) fn push(&mut self, response: &BlkifResponse) -> Result<(), RingError> {
        match self {
            Self::X86_64(ring) => ring.push(response),
            Self::X86_32(ring) => ring.push(&response.into()),
        }
    }

    pub(crate) fn pop(&mut self) -> Result<Option<BlkifRequest>, RingError> {
        Ok(match self {
            Self::X86_64(ring) => ring.pop()?,
            Self::X86_32(ring) => ring.pop()?.as_ref().map(BlkifRequest::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_sys::GrantRef;
    use xen_sys::io::blkif::{BlkifRequestDiscard, BlkifRequestIndirect};

    /// Offsets as a 32-bit compiler lays the structures out.
    #[test]
    fn a_32_bit_request_lacks_the_padding_before_id() {
        let mut narrow = Request32::new_zeroed();
        for (at, byte) in narrow.as_mut_bytes().iter_mut().enumerate() {
            *byte = at as u8;
        }
        let number = |at: u8| u64::from_le_bytes(std::array::from_fn(|n| at + n as u8));
        let wide = BlkifRequest::from(&narrow);
        assert_eq!((wide.operation, wide.nr_segments), (0, 1));
        assert_eq!((wide.id, wide.sector_number), (number(4), number(12)));
        assert_eq!(wide.seg[0].gref, GrantRef(number(20) as u32));
        assert_eq!(wide.seg[10].last_sect, 20 + 10 * 8 + 5);
        let discard: BlkifRequestDiscard = view(&wide);
        assert_eq!(discard.nr_sectors, number(20));
        let indirect: BlkifRequestIndirect = view(&wide);
        assert_eq!(indirect.handle, number(20) as u16);
        assert_eq!(indirect.indirect_grefs[0], GrantRef(number(24) as u32));
        assert_eq!(Request32::from(&wide).as_bytes(), narrow.as_bytes());
    }

    #[test]
    fn a_response_survives_both_ways() {
        let response = BlkifResponse {
            id: 0x0102_0304_0506_0708,
            operation: 6,
            status: -2,
            ..Default::default()
        };
        let narrow = Response32::from(&response);
        assert_eq!(narrow.as_bytes().len(), 12);
        assert_eq!(narrow.as_bytes()[8], 6);
        assert_eq!(narrow.as_bytes()[10..], (-2i16).to_le_bytes());
        assert_eq!(BlkifResponse::from(&narrow), response);
    }
}
