//! A Xen host: grants, event channels and hypercalls through `/dev/xen`.
