//! Compiles the glue to lwIP where its headers are installed (Debian: liblwip-dev).

fn main() {
    println!("cargo:rustc-check-cfg=cfg(lwip)");
    println!("cargo:rerun-if-changed=src/subjects/lwip.c");
    let include = "/usr/include/lwip";
    println!("cargo:rerun-if-changed={include}/lwip/tcp.h");
    if std::path::Path::new(include).join("lwip/tcp.h").exists() {
        cc::Build::new()
            .file("src/subjects/lwip.c")
            .include(include)
            .compile("peers_lwip");
        println!("cargo:rustc-link-lib=lwip");
        println!("cargo:rustc-cfg=lwip");
    }
}
