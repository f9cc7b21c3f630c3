//! The ring-0 image that runs xenner-core inside the guest.

fn main() {}
