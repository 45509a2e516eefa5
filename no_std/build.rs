//! No C library either: the program brings its own entry point.
fn main() {
    println!("cargo::rustc-link-arg-bins=-nostartfiles");
    println!("cargo::rustc-link-arg-bins=-static");
    println!("cargo::rerun-if-changed=build.rs");
}
