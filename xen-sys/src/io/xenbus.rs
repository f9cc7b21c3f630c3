//! `io/xenbus.h`: states of a split driver's end, written in decimal to the node `state`.
/// No state.
pub const XenbusStateUnknown: u32 = 0;
/// Set by the toolstack.
pub const XenbusStateInitialising: u32 = 1;
/// The back end has published its features.
pub const XenbusStateInitWait: u32 = 2;
/// The front end has published its rings.
pub const XenbusStateInitialised: u32 = 3;
/// In operation.
pub const XenbusStateConnected: u32 = 4;
/// The other end should close.
pub const XenbusStateClosing: u32 = 5;
/// Closed.
pub const XenbusStateClosed: u32 = 6;
/// The device is being reconfigured.
pub const XenbusStateReconfiguring: u32 = 7;
/// The device has been reconfigured.
pub const XenbusStateReconfigured: u32 = 8;
