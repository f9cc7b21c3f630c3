//! To be written: console and xenstore.
