//! Links the image where Xen's domain builder puts it.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        for argument in [
            &format!("-T{here}/link.ld"),
            "--no-pie",
            "--build-id=none",
            "-zmax-page-size=4096",
            "-znognustack",
        ] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
