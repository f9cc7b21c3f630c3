//! What to do next about a device, from what both ends and the toolstack say now.

use pv_xenbus::XenbusState::{
    self, Closed, Closing, Connected, Initialised, Initialising, Reconfigured, Reconfiguring,
    Unknown,
};
use pv_xenbus::state::{BackStep, back_step};

/// Where everybody stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// What we have said last.
    pub own: XenbusState,
    /// What our state's node holds: something else if the toolstack wrote it since.
    pub node: XenbusState,
    /// The toolstack wants the device to stay.
    pub online: bool,
    /// The front end's state.
    pub front: XenbusState,
    /// We have closed with the front end in this state: nothing opens again before it moves.
    pub closed_at: Option<XenbusState>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    /// The toolstack has removed the device and made it anew.
    Renew,
    /// Publish, then `InitWait`.
    Open,
    /// Map, then `Connected`.
    Connect,
    /// Say `Closing` and serve on.
    Closing,
    /// Unmap, then `Closed`.
    Close,
}

/// Whether a front end may still use its rings.
pub(super) fn is_live(front: XenbusState) -> bool {
    matches!(
        front,
        Initialised | Connected | Closing | Reconfiguring | Reconfigured
    )
}

pub(super) fn decide(view: &View) -> Step {
    let View {
        own, node, front, ..
    } = *view;
    let held = view.closed_at == Some(front);
    let close = if own == Closed {
        Step::Stay
    } else {
        Step::Close
    };
    match node {
        Initialising if !matches!(own, Unknown | Initialising) => return Step::Renew,
        Closed if own != Closed => return Step::Close,
        Closing if !matches!(own, Closing | Closed) => {
            return if is_live(front) {
                Step::Closing
            } else {
                Step::Close
            };
        }
        _ => {}
    }
    // A front end that closed and opened again before we looked. One that we wait for to close may
    // still be on its way to `Connected`.
    let unseen = matches!(
        (own, front),
        (Closed, Initialised | Connected) | (Closing, Initialised)
    );
    let own = if unseen && !held && view.online {
        Unknown
    } else {
        own
    };
    match back_step(own, front) {
        BackStep::Publish if held => Step::Stay,
        BackStep::Publish if !view.online => close,
        BackStep::Publish => Step::Open,
        BackStep::Connect => Step::Connect,
        BackStep::Closing => Step::Closing,
        BackStep::Disconnect => Step::Close,
        BackStep::Remove => close,
        BackStep::Stay if !view.online && !is_live(front) => close,
        BackStep::Stay => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pv_xenbus::XenbusState::InitWait;

    fn view(own: XenbusState, front: XenbusState) -> View {
        View {
            own,
            node: own,
            online: true,
            front,
            closed_at: None,
        }
    }

    #[test]
    fn detaching_waits_for_a_front_end_at_work_only() {
        let asked = |own, front| {
            decide(&View {
                node: Closing,
                online: false,
                ..view(own, front)
            })
        };
        assert_eq!(asked(Connected, Connected), Step::Closing);
        assert_eq!(asked(Closing, Connected), Step::Stay);
        assert_eq!(asked(Closing, Initialised), Step::Stay);
        assert_eq!(asked(Closing, Closed), Step::Close);
        for front in [Unknown, Initialising, InitWait, Closed] {
            assert_eq!(asked(InitWait, front), Step::Close, "{front}");
        }
        let after = View {
            online: false,
            ..view(Closed, Initialising)
        };
        assert_eq!(decide(&after), Step::Stay, "what is detached stays closed");
    }

    #[test]
    fn what_we_closed_waits_for_the_front_end_to_move() {
        let failed = View {
            closed_at: Some(Connected),
            ..view(Closing, Connected)
        };
        assert_eq!(decide(&failed), Step::Stay);
        for front in [Initialising, Initialised] {
            assert_eq!(decide(&View { front, ..failed }), Step::Open, "{front}");
        }
    }

    #[test]
    fn a_device_made_anew_begins_anew() {
        let made = View {
            node: Initialising,
            ..view(Connected, Initialising)
        };
        assert_eq!(decide(&made), Step::Renew);
    }
}
