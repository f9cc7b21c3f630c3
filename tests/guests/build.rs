//! Links the guests as Xen PV kernels when they are built for the bare machine.

fn main() {
    println!("cargo:rerun-if-changed=guest.ld");
    let bare = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    if !bare {
        return;
    }
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for arg in [
        &format!("-T{here}/guest.ld"),
        "--no-pie",
        "--build-id=none",
        "-zmax-page-size=4096",
        "-znognustack",
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
