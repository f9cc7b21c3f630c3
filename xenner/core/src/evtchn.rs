//! To be written.

/// State.
pub struct EventChannels {}

impl EventChannels {
    /// Empty.
    pub const fn new() -> Self {
        Self {}
    }
}
