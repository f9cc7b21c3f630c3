//! To be written.

/// State.
pub struct Memory {}

impl Memory {
    /// Empty.
    pub const fn new() -> Self {
        Self {}
    }
}
