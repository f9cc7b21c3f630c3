//! The PV console, both ends.
