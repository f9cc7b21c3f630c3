//! Tables of an image that is only read, kept once they were read.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables by number.
#[derive(Debug, Default)]
pub(crate) struct Tables<T>(Mutex<HashMap<usize, Arc<[T]>>>);

impl<T> Tables<T> {
    /// The table; `None` when it has to be loaded first and `wait` does not permit it.
    pub(crate) fn get(
        &self,
        index: usize,
        wait: bool,
        load: impl FnOnce() -> io::Result<Vec<T>>,
    ) -> io::Result<Option<Arc<[T]>>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known().get(&index) {
            return Ok(Some(table.clone()));
        }
        if !wait {
            return Ok(None);
        }
        // Two may do it at once; the lock is not held meanwhile.
        let table: Arc<[T]> = load()?.into();
        known().insert(index, table.clone());
        Ok(Some(table))
    }
}
