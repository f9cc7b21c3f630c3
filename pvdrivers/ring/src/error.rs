/// Why a ring cannot be used (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The far end's index claims more than the ring can hold: it is broken or hostile. Nothing was
    /// read or written; a back end should close the device.
    #[error(
        "Ring indices out of bounds: the far end is at {theirs}, this end at {ours}, \
         the ring has {size} slots"
    )]
    OutOfBounds {
        /// The far end's index.
        theirs: u32,
        /// This end's index.
        ours: u32,
        /// Bytes or slots of the ring.
        size: u32,
    },
    /// The shared memory is too small for the ring.
    #[error("A ring needs {need} bytes of shared memory, there are {have}")]
    TooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// There is no room: on a front end, wait for responses; on a back end, there is no request
    /// this response could answer.
    #[error("No free slot in the ring")]
    Full,
    /// The former back end was killed between responses: what is left is not what is unanswered.
    #[error("The former back end was killed with some requests answered and others not")]
    Abandoned,
}
