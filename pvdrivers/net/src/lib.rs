//! Split network cards: front end and back end (`io/netif.h`).
