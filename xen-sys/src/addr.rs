//! Newtypes for frame numbers, addresses and the interface's small numbers.
//!
//! A number in one of these types is labelled, not checked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($ty:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $ty);

        impl From<$ty> for $name {
            fn from(raw: $ty) -> Self {
                Self(raw)
            }
        }

        impl From<$name> for $ty {
            fn from(value: $name) -> $ty {
                value.0
            }
        }
    };
}

newtype!(
    /// Machine frame number: what page table entries of a PV guest hold.
    Mfn(u64)
);
newtype!(
    /// Pseudo-physical frame number: the PV guest's own contiguous numbering.
    Pfn(u64)
);
newtype!(
    /// Guest frame number: an MFN for PV guests, a guest-physical frame for translated ones.
    Gfn(u64)
);
newtype!(
    /// Machine address.
    Maddr(u64)
);
newtype!(
    /// Pseudo-physical or guest-physical address.
    Paddr(u64)
);
newtype!(
    /// Guest virtual (linear) address.
    Vaddr(u64)
);
newtype!(
    /// `XEN_GUEST_HANDLE(x)`: guest virtual address of an `x`, or of an array of them.
    GuestHandle(u64)
);
newtype!(
    /// `domid_t`: domain number, or one of `DOMID_*`.
    DomId(u16)
);
newtype!(
    /// `evtchn_port_t`: a domain's event channel port; 0 is never one.
    EvtchnPort(u32)
);
newtype!(
    /// `grant_ref_t`: index into the granter's grant table.
    GrantRef(u32)
);

macro_rules! frame {
    ($frame:ident, $addr:ident) => {
        impl $frame {
            /// Address of the frame's first byte.
            pub const fn addr(self) -> $addr {
                $addr(self.0 << PAGE_SHIFT)
            }
        }

        impl $addr {
            /// The frame that holds this address.
            pub const fn frame(self) -> $frame {
                $frame(self.0 >> PAGE_SHIFT)
            }

            /// Offset of this address in its page, below [`PAGE_SIZE`].
            pub const fn page_offset(self) -> usize {
                self.0 as usize & (PAGE_SIZE - 1)
            }
        }
    };
}

frame!(Mfn, Maddr);
frame!(Pfn, Paddr);

impl Maddr {
    /// The address `bytes` further on, wrapping.
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Vaddr {
    /// The address `bytes` further on, wrapping as the CPU would.
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Offset of this address in its page, below [`PAGE_SIZE`].
    pub const fn page_offset(self) -> usize {
        self.0 as usize & (PAGE_SIZE - 1)
    }

    /// Bits 47 to 63 are all equal (4-level paging).
    pub const fn is_canonical(self) -> bool {
        ((self.0 << 16) as i64 >> 16) as u64 == self.0
    }
}

impl GuestHandle {
    /// The null handle.
    pub const NULL: Self = Self(0);

    /// Whether the handle is null.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address it holds.
    pub const fn vaddr(self) -> Vaddr {
        Vaddr(self.0)
    }
}

macro_rules! display {
    ($($name:ident $fmt:literal),*) => {
        $(impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, $fmt, self.0)
            }
        })*
    };
}

display!(
    Mfn "{:#x}", Pfn "{:#x}", Gfn "{:#x}", Maddr "{:#x}", Paddr "{:#x}", Vaddr "{:#x}",
    GuestHandle "{:#x}", DomId "{}", EvtchnPort "{}", GrantRef "{}"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_addresses_convert() {
        assert_eq!(Mfn(0x12).addr(), Maddr(0x12000));
        assert_eq!(Paddr(0x12fff).frame(), Pfn(0x12));
        assert_eq!(Maddr(0x12fff).page_offset(), 0xfff);
    }

    #[test]
    fn canonical_is_sign_extended_bit_47() {
        assert!(Vaddr(0x7fff_ffff_ffff).is_canonical());
        assert!(!Vaddr(0x8000_0000_0000).is_canonical());
        assert!(Vaddr(0xffff_8000_0000_0000).is_canonical());
        assert!(!Vaddr(0xffff_7fff_ffff_ffff).is_canonical());
    }
}
