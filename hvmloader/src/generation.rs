//! The VM generation id (Microsoft "Virtual Machine Generation ID"): 16 bytes in
//! memory that change when the domain has been copied or set back.

use pv_xenbus::Text;
use xen_sys::addr::Paddr;
use xen_sys::hvm::HVM_PARAM_VM_GENERATION_ID_ADDR;

use crate::loader::Error;
use crate::machine::{Machine, Store, text};
use crate::ram::Ram;

/// Puts the id that the toolstack has chosen into memory and says where it is;
/// `None` where it has chosen none.
///
/// # Errors
/// When there is no memory for it, or Xen does not take its address.
pub fn publish<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    ram: &mut Ram,
) -> Result<Option<Paddr>, Error> {
    let mut buffer = [0; 64];
    let value = text(store, "platform/generation-id", &mut buffer);
    let Some(id) = value.and_then(parse) else {
        return Ok(None);
    };
    // In the last pages, so that it does not move with the tables' sizes.
    let at = ram.reserve_last(machine, id.len())?;
    machine.write(at, &id);
    machine
        .set_param(HVM_PARAM_VM_GENERATION_ID_ADDR, at.0)
        .map_err(|error| Error::Xen("take the generation id's address", error))?;
    if let Ok(address) = Text::<20>::format(format_args!("{:#x}", at.0)) {
        store.write("hvmloader/generation-id-address", address.as_str());
    }
    Ok(Some(at))
}

/// Two decimal numbers of 64 bits with a colon between, the lower half first
/// (docs/misc/xenstore-paths).
fn parse(value: &str) -> Option<[u8; 16]> {
    let (low, high) = value.split_once(':')?;
    let halves: [u64; 2] = [low.parse().ok()?, high.parse().ok()?];
    let mut id = [0; 16];
    for (bytes, half) in id.chunks_exact_mut(8).zip(halves) {
        bytes.copy_from_slice(&half.to_le_bytes());
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_half_is_first() {
        let id = parse("1:18446744073709551615").unwrap();
        assert_eq!(
            id,
            [
                1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255
            ]
        );
        for wrong in [
            "",
            "1",
            ":",
            "1:",
            "1:2:3",
            "1:18446744073709551616",
            "-1:0",
            "x:y",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
