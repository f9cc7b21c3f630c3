//! The start info page (`struct start_info` of `xen.h`).

use xen_sys::addr::Vaddr;
use xen_sys::xen::{MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, StartInfo};
use zerocopy::FromZeros;

use super::{PvImage, PvSpec};
use crate::error::BuildError;

/// "xen-<version>-<platform>": the version of the interface, which never changed again.
const MAGIC: &[u8] = b"xen-3.0-x86_64";

/// Fills the start info of a laid out domain.
pub(super) fn start_info(
    nr_pages: u64,
    spec: &PvSpec<'_>,
    image: &PvImage,
) -> Result<Box<StartInfo>, BuildError> {
    let layout = &image.layout;
    let mut info = Box::new(StartInfo::new_zeroed());
    fill(&mut info.magic, MAGIC);
    info.nr_pages = nr_pages;
    info.shared_info = spec.shared_info.addr();
    info.flags = spec.flags;
    info.store_mfn = image.xenstore_mfn;
    info.store_evtchn = spec.store_evtchn;
    info.console_mfn = image.console_mfn;
    info.console_evtchn = spec.console_evtchn;
    info.pt_base = layout.page_tables.vaddr();
    info.nr_pt_frames = layout.page_tables.pages;
    info.mfn_list = layout.p2m.vaddr();
    if let Some((initrd, region)) = spec.initrd.zip(layout.initrd) {
        info.mod_len = initrd.len() as u64;
        info.mod_start = match region.mapped_at {
            Some(Vaddr(at)) => at,
            None => {
                info.flags |= SIF_MOD_START_PFN;
                region.pfn.0
            }
        };
    }
    fill(&mut info.cmd_line, cmd_line(spec.cmd_line)?);
    // Only a list outside of the initial mapping needs these: the guest cannot find its tables.
    if layout.p2m_is_outside() {
        info.first_p2m_pfn = layout.p2m.pfn.0;
        info.nr_p2m_frames = layout.p2m.pages + layout.p2m_tables.pages;
    }
    Ok(info)
}

/// A command line that fits with its NUL.
fn cmd_line(line: &[u8]) -> Result<&[u8], BuildError> {
    if let Some(at) = line.iter().position(|b| *b == 0) {
        return Err(BuildError::CommandLineNul { at });
    }
    let (len, max) = (line.len(), MAX_GUEST_CMDLINE - 1);
    if len > max {
        return Err(BuildError::CommandLineTooLong { len, max });
    }
    Ok(line)
}

fn fill(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}
