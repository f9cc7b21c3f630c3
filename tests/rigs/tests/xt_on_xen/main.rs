//! `xt` on a real Xen host, beside `xl`.

mod compare;
mod dom0;
mod leftovers;
mod life_cycle;
mod settings;
