//! What Xen calls itself, and the domain.

/// Answers of `HYPERVISOR_xen_version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// What follows, NUL terminated: ".7" for one.
    pub extra: [u8; 16],
    /// The domain's UUID.
    pub uuid: [u8; 16],
}

impl Version {
    /// What follows the minor number.
    pub fn extra(&self) -> &str {
        let len = self.extra.iter().position(|b| *b == 0);
        let bytes = &self.extra[..len.unwrap_or(self.extra.len())];
        core::str::from_utf8(bytes).unwrap_or("")
    }
}
