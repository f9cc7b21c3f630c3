//! `io/protocols.h`: value of the front end's node `protocol`.
/// 32-bit x86 structures.
pub const XEN_IO_PROTO_ABI_X86_32: &str = "x86_32-abi";
/// 64-bit x86 structures.
pub const XEN_IO_PROTO_ABI_X86_64: &str = "x86_64-abi";
/// Arm structures.
pub const XEN_IO_PROTO_ABI_ARM: &str = "arm-abi";
/// The structures of this crate.
pub const XEN_IO_PROTO_ABI_NATIVE: &str = XEN_IO_PROTO_ABI_X86_64;
