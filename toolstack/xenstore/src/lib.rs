//! Xenstore: wire protocol, store, server and client.
