//! Shared rings between front ends and back ends.
