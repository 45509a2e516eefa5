//! include/estab.h says what the library exports.

use std::path::Path;

#[test]
fn the_header_is_the_librarys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_src(root.join("src/abi.rs"))
        .with_config(config)
        .generate()
        .expect("abi.rs in C")
        .write(&mut made);
    let made = String::from_utf8(made).expect("C is text");
    let header = root.join("include/estab.h");
    if std::env::var_os("ESTAB_WRITE_HEADER").is_some() {
        std::fs::write(&header, &made).expect("include/estab.h");
    }
    let stored = std::fs::read_to_string(&header).unwrap_or_default();
    assert!(
        stored == made,
        "include/estab.h is old: run ESTAB_WRITE_HEADER=1 cargo test -p estab-posix --test header"
    );
}
