//! The states of a split driver (`io/xenbus.h`) and the steps of its handshake.
//!
//! Each end writes its own state, in decimal, to the node `state` of its directory and watches the
//! other's. [`back_step`] and [`front_step`] say what an end has to do when either changes; the end
//! does it and then writes the state named there.

use core::fmt;

use xen_sys::io::xenbus;

/// State of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XenbusState {
    /// No node, or nonsense in it: the device is gone.
    Unknown,
    /// Set up by the toolstack.
    Initialising,
    /// The back end has published its features.
    InitWait,
    /// The front end has published its rings.
    Initialised,
    /// In operation.
    Connected,
    /// Closing; the other end should too.
    Closing,
    /// Closed.
    Closed,
    /// The device changes its configuration.
    Reconfiguring,
    /// The configuration has changed.
    Reconfigured,
}

impl XenbusState {
    /// From the value of a `state` node; whatever is no state is [`XenbusState::Unknown`].
    pub fn parse(value: &[u8]) -> Self {
        let number = core::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        match number {
            Some(xenbus::XenbusStateInitialising) => Self::Initialising,
            Some(xenbus::XenbusStateInitWait) => Self::InitWait,
            Some(xenbus::XenbusStateInitialised) => Self::Initialised,
            Some(xenbus::XenbusStateConnected) => Self::Connected,
            Some(xenbus::XenbusStateClosing) => Self::Closing,
            Some(xenbus::XenbusStateClosed) => Self::Closed,
            Some(xenbus::XenbusStateReconfiguring) => Self::Reconfiguring,
            Some(xenbus::XenbusStateReconfigured) => Self::Reconfigured,
            _ => Self::Unknown,
        }
    }

    /// The value for a `state` node.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "0",
            Self::Initialising => "1",
            Self::InitWait => "2",
            Self::Initialised => "3",
            Self::Connected => "4",
            Self::Closing => "5",
            Self::Closed => "6",
            Self::Reconfiguring => "7",
            Self::Reconfigured => "8",
        }
    }
}

impl fmt::Display for XenbusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.as_str())
    }
}

/// What a back end does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackStep {
    /// Nothing.
    Stay,
    /// Unmap what a former life of the front end left mapped, publish the features, then write
    /// `InitWait`.
    Publish,
    /// Read the front end's rings and ports, map them, then write `Connected`.
    Connect,
    /// Write `Closing`, and go on serving: a disk in use is written to until its front end says
    /// `Closed`.
    Closing,
    /// Unmap what is mapped, then write `Closed`.
    Disconnect,
    /// Unmap what is mapped and forget the device.
    Remove,
}

/// The back end's next step. A front end that starts anew (kexec, driver reload) is served anew,
/// whether it has closed before or died without a word.
pub fn back_step(own: XenbusState, front: XenbusState) -> BackStep {
    use XenbusState::{
        Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured,
        Reconfiguring, Unknown,
    };
    match (front, own) {
        (Initialising, InitWait) => BackStep::Stay,
        (Initialising, _) => BackStep::Publish,
        // A front end that was faster than we were: features first all the same.
        (Initialised | Connected, Unknown | Initialising) => BackStep::Publish,
        (Initialised | Connected, InitWait | Initialised) => BackStep::Connect,
        (Closing, Closing | Closed) => BackStep::Stay,
        (Closing, _) => BackStep::Closing,
        (Closed, Closed) => BackStep::Stay,
        (Closed, _) => BackStep::Disconnect,
        (Unknown, _) => BackStep::Remove,
        (InitWait | Initialised | Connected | Reconfiguring | Reconfigured, _) => BackStep::Stay,
    }
}

/// What a front end does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontStep {
    /// Nothing.
    Stay,
    /// Read the features, publish rings and ports, then write `Initialised` (block) or `Connected`
    /// (network, where nothing remains to be read).
    Publish,
    /// Read the back end's properties, then write `Connected`.
    Connect,
    /// Release rings and grants, then write `Closed`.
    Disconnect,
}

/// The front end's next step.
pub fn front_step(own: XenbusState, back: XenbusState) -> FrontStep {
    use XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};
    match (back, own) {
        (InitWait, Unknown | Initialising) => FrontStep::Publish,
        (Connected, Initialised) => FrontStep::Connect,
        (Closing | Closed, Unknown | Initialising | Closed) => FrontStep::Stay,
        (Closing | Closed, _) => FrontStep::Disconnect,
        _ => FrontStep::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [XenbusState; 9] = [
        XenbusState::Unknown,
        XenbusState::Initialising,
        XenbusState::InitWait,
        XenbusState::Initialised,
        XenbusState::Connected,
        XenbusState::Closing,
        XenbusState::Closed,
        XenbusState::Reconfiguring,
        XenbusState::Reconfigured,
    ];

    #[test]
    fn node_values_round_trip() {
        for state in ALL {
            assert_eq!(XenbusState::parse(state.as_str().as_bytes()), state);
        }
        for nonsense in [&b""[..], b"9", b"-1", b"4x", b"\xff", b"99999999999"] {
            assert_eq!(XenbusState::parse(nonsense), XenbusState::Unknown);
        }
    }

    /// Lets both ends step until neither moves; `published` is what the front end writes then.
    fn settle(
        mut back: XenbusState,
        mut front: XenbusState,
        published: XenbusState,
    ) -> (XenbusState, XenbusState) {
        for _ in 0..10 {
            let (back_next, front_next) = (back_step(back, front), front_step(front, back));
            back = match back_next {
                BackStep::Stay => back,
                BackStep::Publish => XenbusState::InitWait,
                BackStep::Connect => XenbusState::Connected,
                BackStep::Closing => XenbusState::Closing,
                BackStep::Disconnect => XenbusState::Closed,
                BackStep::Remove => return (XenbusState::Unknown, front),
            };
            front = match front_next {
                FrontStep::Stay => front,
                FrontStep::Publish => published,
                FrontStep::Connect => XenbusState::Connected,
                FrontStep::Disconnect => XenbusState::Closed,
            };
            if (back_next, front_next) == (BackStep::Stay, FrontStep::Stay) {
                return (back, front);
            }
        }
        panic!("no end: back {back}, front {front}");
    }

    #[test]
    fn both_ends_connect() {
        use XenbusState::{Connected, Initialised, Initialising};
        for published in [Initialised, Connected] {
            let ends = settle(Initialising, Initialising, published);
            assert_eq!(ends, (Connected, Connected));
        }
    }

    #[test]
    fn both_ends_close_and_open_again() {
        use XenbusState::{Closed, Closing, Connected, Initialised, Initialising};
        assert_eq!(
            settle(Closing, Connected, Initialised),
            (Closed, Closed),
            "back end closes"
        );
        let (back, _) = settle(Connected, Closed, Initialised);
        assert_eq!(back, Closed, "front end closes");
        assert_eq!(
            settle(back, Initialising, Initialised),
            (Connected, Connected)
        );
    }

    #[test]
    fn a_front_end_that_died_and_starts_anew_is_served_anew() {
        use XenbusState::{Connected, Initialised, Initialising};
        let ends = settle(Connected, Initialising, Initialised);
        assert_eq!(ends, (Connected, Connected));
    }

    #[test]
    fn a_front_end_that_is_gone_is_removed() {
        assert_eq!(
            back_step(XenbusState::Connected, XenbusState::Unknown),
            BackStep::Remove
        );
    }

    #[test]
    fn from_any_pair_the_ends_come_to_rest() {
        for back in ALL {
            for front in ALL {
                settle(back, front, XenbusState::Initialised);
            }
        }
    }
}
