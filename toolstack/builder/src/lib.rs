//! The Xen domain builder, over any guest memory.
//!
//! It turns a kernel image, an initrd and a command line into a guest memory and the values of the
//! first vCPU's registers. The same code serves a Xen host, where guest memory is mapped through
//! privcmd, and a KVM host, where it is the process's own: see [`GuestMemory`].
//!
//! ```text
//! file --image--> ELF --elf, notes--> PvKernel --pv--> GuestMemory + PvImage
//! ```
//!
//! Begin with [`KernelImage::parse`], go on with [`ElfImage::parse`] and [`PvKernel::new`], and
//! end with [`PvKernel::build`].
//!
//! Kernel images are foreign: whatever is in one, this crate neither panics nor allocates without
//! bound, and [`BuildError`] says what is wrong, where, and how to mend it.

#![deny(unsafe_code)]

pub mod cache;
pub mod elf;
pub mod error;
pub mod hvm;
pub mod image;
mod load;
pub mod memory;
pub mod notes;
pub mod pv;
pub mod pvh;
pub mod symbols;
#[cfg(test)]
mod testing;

pub use cache::PayloadCache;
pub use elf::ElfImage;
pub use error::{BuildError, ErrorKind};
pub use hvm::{HvmImage, HvmLoader, HvmSpec};
pub use image::KernelImage;
pub use memory::{GuestMemory, MemoryError, OwnMemory};
pub use notes::XenNotes;
pub use pv::{PvImage, PvKernel, PvSpec};
pub use pvh::{PvhImage, PvhKernel, PvhSpec};
pub use symbols::SymbolTable;
