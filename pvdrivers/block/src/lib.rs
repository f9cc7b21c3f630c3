//! Split block devices: front end and back end (`io/blkif.h`).
