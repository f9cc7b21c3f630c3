//! To be written.

/// State.
pub struct GrantTable {}

impl GrantTable {
    /// Empty.
    pub const fn new() -> Self {
        Self {}
    }
}
