//! What is left of a transfer.

use pv_ring::IoVec;

/// Lent memory and where on a file it is to go or to come from. Advances as parts are done.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    iov: Vec<IoVec>,
    first: usize,
    offset: u64,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(offset: u64, iov: impl IntoIterator<Item = IoVec>) -> Self {
        let mut pieces = Self::default();
        pieces.set(offset, iov);
        pieces
    }

    /// Begins anew, in the same vector.
    pub(crate) fn set(&mut self, offset: u64, iov: impl IntoIterator<Item = IoVec>) {
        self.iov.clear();
        self.iov.extend(iov);
        self.iov.retain(|piece| piece.len() > 0);
        self.first = 0;
        self.offset = offset;
        self.left = self.iov.iter().map(|piece| piece.len() as u64).sum();
    }

    pub(crate) fn iov(&self) -> &[IoVec] {
        &self.iov[self.first..]
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// `n` bytes are done.
    pub(crate) fn advance(&mut self, n: usize) {
        let n = n.min(self.left as usize);
        self.offset += n as u64;
        self.left -= n as u64;
        let mut n = n;
        while n > 0 {
            let piece = self.iov[self.first];
            if n < piece.len() {
                self.iov[self.first] = piece.part(n..piece.len());
                return;
            }
            n -= piece.len();
            self.first += 1;
        }
    }

    /// The memory's content.
    ///
    /// # Safety
    /// The pieces are lent to this call and nobody writes to them.
    #[cfg(test)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn copy(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.iov() {
            // SAFETY: mapped by contract, and nobody writes meanwhile.
            bytes.extend((0..piece.len()).map(|i| unsafe { piece.base().add(i).read_volatile() }));
        }
        bytes
    }
}

/// The pieces of `iov` that hold `len` bytes from `start` on.
pub(crate) fn within(iov: &[IoVec], start: u64, len: u64) -> impl Iterator<Item = IoVec> {
    let mut at = 0u64;
    let end = start + len;
    iov.iter().filter_map(move |piece| {
        let (from, to) = (at, at + piece.len() as u64);
        at = to;
        let (begin, stop) = (from.max(start), to.min(end));
        (begin < stop).then(|| piece.part((begin - from) as usize..(stop - from) as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_over_and_within_pieces() {
        let mut memory = [0u8; 100];
        let whole = IoVec::of_bytes(&mut memory);
        let parts = [whole.part(0..10), whole.part(10..10), whole.part(20..50)];
        let mut pieces = Pieces::new(7, parts);
        assert_eq!((pieces.left(), pieces.iov().len()), (40, 2));
        pieces.advance(4);
        assert_eq!(pieces.iov()[0], whole.part(4..10));
        pieces.advance(6);
        assert_eq!(pieces.iov(), [whole.part(20..50)]);
        pieces.advance(29);
        assert_eq!((pieces.offset(), pieces.left()), (46, 1));
        assert_eq!(pieces.iov(), [whole.part(49..50)]);
        pieces.advance(100);
        assert_eq!((pieces.left(), pieces.iov().len()), (0, 0));
    }

    #[test]
    fn a_range_of_pieces() {
        let mut memory = [0u8; 100];
        let whole = IoVec::of_bytes(&mut memory);
        let iov = [whole.part(0..10), whole.part(20..50)];
        let parts: Vec<_> = within(&iov, 5, 10).collect();
        assert_eq!(parts, [whole.part(5..10), whole.part(20..25)]);
        assert_eq!(within(&iov, 40, 10).count(), 0);
    }
}
