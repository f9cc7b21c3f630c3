//! Every kind of link for real, in network namespaces of the tests' own.
#![allow(unsafe_code)]

mod common;
mod macvtap;
mod passt;
mod sandbox;
mod sockets;
mod tap;
