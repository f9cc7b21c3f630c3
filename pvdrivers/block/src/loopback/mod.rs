//! Front end and back end in one process, on a [`RamDisk`] or another medium.

mod device;
mod ram;

pub use device::{LoopbackVbd, Pages, Shape, Vbd};
pub use ram::{RamDisk, RamQueue};
