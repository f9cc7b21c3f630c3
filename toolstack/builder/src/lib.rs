//! The Xen domain builder, over any guest memory.
