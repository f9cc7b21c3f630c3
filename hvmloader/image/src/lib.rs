//! The firmware as a file: built from the crate `hvmloader` for the bare machine
//! and packed as the 32-bit ELF file that Xen's domain builder wants.
#![forbid(unsafe_code)]

pub mod narrow;

/// The image. An `xl.cfg` names it, written to a file, as `firmware_override`.
pub const IMAGE: &[u8] = include_bytes!(env!("HVMLOADER_IMAGE"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_what_the_builder_loads_and_small() {
        assert!(IMAGE.len() < 256 << 10, "{} bytes", IMAGE.len());
        assert_eq!(&IMAGE[..7], b"\x7fELF\x01\x01\x01");
        let entry = u32::from_le_bytes(IMAGE[24..28].try_into().unwrap());
        assert_eq!(entry, 0x10_0000);
    }
}
