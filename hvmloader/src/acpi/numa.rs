//! Virtual NUMA: which processors and which memory are near each other (ACPI 6.4,
//! 5.2.16 SRAT, 5.2.17 SLIT). Xen keeps what the toolstack has set.

use xen_sys::memory::XenVmemrange;

use super::table;
use crate::apic;
use crate::bytes::{Bytes, Full};
use crate::info::MAX_VCPUS;

/// Nodes a domain has at most.
pub const MAX_NODES: usize = 16;
/// Ranges of memory at most.
pub const MAX_RANGES: usize = 32;

const ENABLED: u32 = 1;

/// The answer of `XENMEM_get_vnumainfo`.
#[derive(Clone, Debug)]
pub struct Numa {
    /// Nodes, at most [`MAX_NODES`].
    pub nodes: usize,
    /// Distances: row after row, `nodes` in each.
    pub distances: [u32; MAX_NODES * MAX_NODES],
    /// Each virtual CPU's node.
    pub node_of: [u32; MAX_VCPUS as usize],
    /// Each node's memory.
    pub ranges: [XenVmemrange; MAX_RANGES],
    /// How many of those there are.
    pub range_count: usize,
}

impl Numa {
    /// Room for an answer.
    pub fn new() -> Self {
        Self {
            nodes: 0,
            distances: [0; MAX_NODES * MAX_NODES],
            node_of: [0; MAX_VCPUS as usize],
            ranges: [XenVmemrange::default(); MAX_RANGES],
            range_count: 0,
        }
    }

    /// Writes the SRAT: the node of each processor and of each range.
    ///
    /// # Errors
    /// [`Full`].
    pub fn srat(&self, vcpus: u32, out: &mut Bytes<'_>) -> Result<(), Full> {
        table(out, *b"SRAT", 3, |out| {
            out.u32(1)?;
            out.u64(0)?;
            for (cpu, node) in (0..vcpus).zip(self.node_of) {
                let [low, high @ ..] = node.to_le_bytes();
                out.put(&[0, 16, low, apic::id_of(cpu)])?;
                out.u32(ENABLED)?;
                out.u8(0)?;
                out.put(&high)?;
                out.u32(0)?;
            }
            for range in self.ranges.iter().take(self.range_count) {
                out.put(&[1, 40])?;
                out.u32(range.nid)?;
                out.u16(0)?;
                out.u64(range.start)?;
                out.u64(range.end.saturating_sub(range.start))?;
                out.u32(0)?;
                out.u32(ENABLED)?;
                out.u64(0)?;
            }
            Ok(())
        })
    }

    /// Writes the SLIT: the distances, a byte each.
    ///
    /// # Errors
    /// [`Full`].
    pub fn slit(&self, out: &mut Bytes<'_>) -> Result<(), Full> {
        table(out, *b"SLIT", 1, |out| {
            out.u64(self.nodes as u64)?;
            let distances = self.distances.iter().take(self.nodes * self.nodes);
            distances
                .into_iter()
                .try_for_each(|distance| out.u8((*distance).min(0xff) as u8))
        })
    }
}

impl Default for Numa {
    fn default() -> Self {
        Self::new()
    }
}
