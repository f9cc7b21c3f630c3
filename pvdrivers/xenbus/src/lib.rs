//! XenBus: the xenstore ring and the device handshake.
