//! Real Xen and real KVM under QEMU, for tests.
