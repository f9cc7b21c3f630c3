//! Bytes put together one after the other, into a buffer of fixed size.

/// What is to be written does not fit the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The byte that makes the sum of all zero, if it is zero itself so far.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// Bytes in the making.
#[derive(Debug)]
pub struct Bytes<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Bytes<'a> {
    /// None yet; there is room for as many as the buffer has.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them.
    pub fn all(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Those from `start` on, to be changed.
    pub fn tail_mut(&mut self, start: usize) -> &mut [u8] {
        &mut self.buffer[start.min(self.len)..self.len]
    }

    /// Appends.
    ///
    /// # Errors
    /// [`Full`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        let room = self.buffer.get_mut(self.len..end).ok_or(Full)?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends zeros.
    ///
    /// # Errors
    /// [`Full`].
    pub fn zeros(&mut self, count: usize) -> Result<(), Full> {
        (0..count).try_for_each(|_| self.put(&[0]))
    }

    /// Inserts bytes before those from `at` on.
    ///
    /// # Errors
    /// [`Full`].
    pub fn insert(&mut self, at: usize, bytes: &[u8]) -> Result<(), Full> {
        self.put(bytes)?;
        let tail = self.tail_mut(at);
        tail.rotate_right(bytes.len());
        Ok(())
    }

    /// Changes what is there.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if let Some(field) = self.buffer[..self.len].get_mut(at..end) {
            field.copy_from_slice(bytes);
        }
    }

    /// Appends an integer.
    ///
    /// # Errors
    /// [`Full`].
    pub fn u8(&mut self, value: u8) -> Result<(), Full> {
        self.put(&[value])
    }

    /// Appends an integer, lowest byte first.
    ///
    /// # Errors
    /// [`Full`].
    pub fn u16(&mut self, value: u16) -> Result<(), Full> {
        self.put(&value.to_le_bytes())
    }

    /// Appends an integer, lowest byte first.
    ///
    /// # Errors
    /// [`Full`].
    pub fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.put(&value.to_le_bytes())
    }

    /// Appends an integer, lowest byte first.
    ///
    /// # Errors
    /// [`Full`].
    pub fn u64(&mut self, value: u64) -> Result<(), Full> {
        self.put(&value.to_le_bytes())
    }
}
