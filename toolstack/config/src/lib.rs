//! The xl.cfg guest configuration format.
